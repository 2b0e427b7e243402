"""What to do next about what went wrong outside of a command."""

from typing import Final

from bridge.dialects.permissions import Role
from bridge.transport import BrokerUnreachable, TransportError

_REFUSED: Final = "ACCESS_REFUSED"
"""In the broker's words, where the user lacks a right (AMQP 0-9-1 §1.2, reply code 403)."""


def with_advice(
    error: TransportError, role: Role | None = None, *, declaring: Role | None = None
) -> str:
    """The error's sentence, and what to do, where that is known.

    `role`: whose rights the command needs. `declaring`: whose it needs if it is to declare, as it
    was just now.
    """
    if isinstance(error, BrokerUnreachable):
        return (
            f"{error}; --amqp-url says where the broker is, and `dtbridge doctor` what is wrong "
            "there"
        )
    if _REFUSED not in str(error) or role is None:
        return str(error)
    grants = "`dtbridge topology export … --user {}=NAME` grants them"
    if declaring is not None:
        return (
            f"{error}; a user with the rights of the role {role} declares nothing: start with "
            "--topology verify, when `dtbridge topology apply` or an import has made what is "
            f"needed. To declare, it needs those of {declaring}: {grants.format(declaring)}"
        )
    return f"{error}; the user needs the rights of the role {role}: {grants.format(role)}"
