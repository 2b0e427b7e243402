"""What each kind of user needs at the broker, and nothing more, as values.

RabbitMQ knows three rights, each a regular expression over the names of exchanges and queues: to
configure (declare and delete), to write (publish to an exchange, bind a queue) and to read (consume
from a queue, bind to an exchange) (https://www.rabbitmq.com/docs/access-control). An exchange and a
queue of one name share their rights, and the default exchange is ``amq.default``. It does not look
at routing keys, but of topic exchanges: of the bridge's, that is the one for events.

``docs/contract.md`` has these patterns, ``deploy/make_secrets.py`` gives them to its accounts, and
tests hold both to this module. They are for the native dialect.
"""

import enum
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from bridge.dialects.names import Names


class Role(enum.StrEnum):
    """A kind of user."""

    WORKER = "worker"
    """A worker that declares nothing but a private queue: in mode verify or none."""
    WORKER_DECLARING = "worker-declaring"
    """A worker that declares its exchanges and queues."""
    GATEWAY = "gateway"
    """A gateway that declares nothing but private queues: in mode verify or none."""
    GATEWAY_DECLARING = "gateway-declaring"
    """A gateway that declares the exchanges that it uses. It may delete them as well, and listen to
    the requests of other gateways."""
    CLIENT = "client"
    """Whoever asks workers and stations, as the CSMS does."""
    OPERATOR = "operator"
    """Whoever looks after it all: dead letters, events, topology."""
    PAUSER = "pauser"
    """Whoever pauses vendors and resumes them."""
    LISTENER = "listener"
    """Whoever listens to events."""
    DEAD_READER = "dead-reader"
    """Whoever looks at dead letters, and purges them."""
    DEAD_REPLAYER = "dead-replayer"
    """Whoever replays dead letters."""
    MONITOR = "monitor"
    """Whoever looks at queues by the management API: an autoscaler, a dashboard."""


TAGS: Final[Mapping[Role, tuple[str, ...]]] = {
    Role.OPERATOR: ("monitoring",),
    Role.MONITOR: ("monitoring",),
}
"""For the management API, which shows what others do: all other users need none."""


class Permissions(msgspec.Struct, frozen=True):
    """Three patterns, in the order in which ``rabbitmqctl set_permissions`` takes them."""

    configure: str
    write: str
    read: str

    def __iter__(self) -> Any:
        return iter((self.configure, self.write, self.read))


NOTHING: Final = "^$"
_PRIVATE: Final = r"amq\.gen-.*"
"""Queues that the broker named. They are exclusive, so nobody else consumes them."""
_DEFAULT: Final = r"amq\.default"


def permissions(role: Role, names: Names | None = None) -> Permissions:
    """What a user of this role needs. `names`: of exchanges and queues; None: the usual ones."""
    p = (names or Names()).prefix.replace(".", r"\.")
    ours = rf"{p}(?!\.replies\.)"  # replies are the business of whoever waits for them
    match role:
        case Role.WORKER:
            return Permissions(
                rf"^{p}-control\..*$",
                rf"^({_DEFAULT}|{p}(\.(dead|events|unrouted|retry\..*)|-paused|-control\..*)?)$",
                rf"^{p}(-control(\..*)?|\.(?!(dead|events|stations|unrouted)$|replies\.).*)$",
            )
        case Role.WORKER_DECLARING:
            return Permissions(
                rf"^{ours}([.-].*)?$", rf"^({_DEFAULT}|{ours}([.-].*)?)$", rf"^{ours}([.-].*)?$"
            )
        case Role.GATEWAY:
            return Permissions(
                rf"^{_PRIVATE}$",
                rf"^({_PRIVATE}|{_DEFAULT}|{p}(\.unrouted)?)$",
                rf"^({_PRIVATE}|{p}\.stations)$",
            )
        case Role.GATEWAY_DECLARING:
            return Permissions(
                rf"^({_PRIVATE}|{p}(\.unrouted|\.stations)?)$",
                rf"^({_PRIVATE}|{_DEFAULT}|{p}(\.unrouted)?)$",
                rf"^({_PRIVATE}|{p}(\.stations)?)$",
            )
        case Role.CLIENT:
            return Permissions(rf"^{_PRIVATE}$", rf"^{p}(\.stations)?$", rf"^{_PRIVATE}$")
        case Role.OPERATOR:
            # What a migration makes has a colon in its name.
            all_ours = rf"{ours}([.:-].*)?"
            return Permissions(
                rf"^({_PRIVATE}|{all_ours})$",
                rf"^({_PRIVATE}|{_DEFAULT}|{all_ours})$",
                rf"^({_PRIVATE}|{all_ours})$",
            )
        case Role.PAUSER:
            # How many consumers a queue has says whether the workers have heard.
            return Permissions(
                NOTHING, rf"^{p}-(paused|control)$", rf"^{p}(-paused|\.(?!replies\.).*)$"
            )
        case Role.LISTENER:
            return Permissions(rf"^{_PRIVATE}$", rf"^{_PRIVATE}$", rf"^({_PRIVATE}|{p}\.events)$")
        case Role.DEAD_READER:
            return Permissions(NOTHING, NOTHING, rf"^{p}\.dead$")
        case Role.DEAD_REPLAYER:
            return Permissions(NOTHING, rf"^({_DEFAULT}|{p})$", rf"^{p}\.dead$")
        case Role.MONITOR:
            return Permissions(NOTHING, NOTHING, NOTHING)


def permission_definitions(
    users: Iterable[tuple[str, Role]], vhost: str, names: Names | None = None
) -> list[dict[str, str]]:
    """The part ``permissions`` of RabbitMQ's definitions, for users that exist, by name and role.

    Topic permissions are left out: without any, a user may do with events what the others allow.
    """
    made = []
    for user, role in users:
        configure, write, read = permissions(role, names)
        made.append(
            {"user": user, "vhost": vhost, "configure": configure, "write": write, "read": read}
        )
    return made
