"""The names of direct reply-to, RabbitMQ's pseudo-queue for replies."""

import base64
import re
from typing import Final

DIRECT_REPLY_TO: Final = "amq.rabbitmq.reply-to"

_DIRECT: Final = re.compile(
    r"amq\.rabbitmq\.reply-to\.([A-Za-z0-9+/]+={0,2})\.[A-Za-z0-9+/]+={0,2}"
)


def is_direct_reply_to(name: str) -> bool:
    """Whether RabbitMQ can read a name of direct reply-to.

    Such a name is a process identifier in Erlang's external term format and a key, both in base64.
    RabbitMQ decodes the identifier, and a forged one that it cannot decode ends the publisher's
    connection with 541 INTERNAL_ERROR (seen on 3.10).
    """
    match = _DIRECT.fullmatch(name)
    if match is None:
        return False
    try:
        term = base64.b64decode(match[1], validate=True)
    except ValueError:
        return False
    # 131, the tag of a pid (88, older: 103), its node as an atom, and three numbers of 4, 4 and
    # 4 bytes (older: 1).
    if len(term) < 5 or term[0] != 131 or term[1] not in {88, 103}:
        return False
    numbers = 12 if term[1] == 88 else 9
    match term[2]:
        case 119 | 115:  # an atom with a short length
            return len(term) == 4 + term[3] + numbers
        case 118 | 100:
            return len(term) == 5 + int.from_bytes(term[3:5]) + numbers
        case _:
            return False
