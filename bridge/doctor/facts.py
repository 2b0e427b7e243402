"""What is known of a worker's surroundings, as values. What is None, could not be known."""

from typing import Literal

import msgspec

from bridge.dialects.partitions import Partitions
from bridge.dialects.topology import Mode, QueueType, Topology
from bridge.rabbitmq.management import LiveQueue, Node, Overview
from bridge.rabbitmq.probing import BrokerSeen


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """This process and the machine that it runs on."""

    python: tuple[int, int, int]
    implementation: str
    platform: str
    libraries: dict[str, str]
    """Version of each library that the bridge stands on; empty: not installed."""
    optional: dict[str, str]
    """Likewise, of those that an extra brings."""
    uvloop: bool
    """Whether it can be imported."""
    compiled: int
    """Modules of the hot path that run compiled."""
    plain: dict[str, str]
    """Modules that were compiled and run as plain Python, and why."""
    pure: bool
    """Whether ``DTBRIDGE_PURE`` asks for plain Python."""
    files: tuple[int, int] | None
    """Limits of open files, soft and hard."""
    clock_synchronised: bool | None
    """Whether the kernel's clock is kept by NTP or alike."""


class Vendors(msgspec.Struct, frozen=True):
    """What the routers handle."""

    handlers: dict[str, int] = {}
    """vendorId → handlers."""
    error: str = ""
    """Why they cannot be loaded."""
    partitions: dict[str, Partitions] = {}
    """vendorId → its partitions, of those that have more than one queue."""


class ManagementSeen(msgspec.Struct, frozen=True):
    """What the management API tells."""

    url: str
    """Without the password."""
    overview: Overview
    nodes: tuple[Node, ...] | None
    """None: this user may not see them."""
    queues: dict[str, LiveQueue]
    """By name: those whose names begin with the prefix, and those of the dialect."""
    unheard: int = 0
    """Events that no listener took. The broker counts them among what no queue took."""


class Certificate(msgspec.Struct, frozen=True):
    """A certificate, and how long it is valid."""

    what: str
    """Whose it is: ``the broker host:5671``, ``certfile=worker.pem``."""
    days: float | None = None
    """Until it expires; negative: since. None: it could not be read."""
    not_yet: float = 0.0
    """Days until it begins to be valid; 0 or less: it is."""
    error: str = ""


class StoreSeen(msgspec.Struct, frozen=True, kw_only=True):
    """The store of replies, if it is a Redis."""

    error: str = ""
    """Why it cannot be used."""
    version: str = ""
    seconds: float = 0.0
    """For one call: the middle one of several."""
    used: int = 0
    """Bytes of memory."""
    limit: int = 0
    """``maxmemory``; 0: none."""
    policy: str = ""
    """``maxmemory-policy``."""
    evicted: int = 0
    """Keys, since it was started."""
    persistence: str = ""
    """``aof``, ``rdb``, both or neither."""
    role: str = ""
    """``master`` takes writes, ``slave`` does not."""


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the checks look at."""

    plan: Topology
    """What there should be."""
    mode: Mode
    """What the worker does about it when it connects."""
    queue_type: QueueType
    prefix: str
    unknown_vendor: str
    """The queue of requests that no vendor's queue takes; empty in a dialect that has none."""
    dead: str
    """The queue of dead letters."""
    heartbeat: int
    """Seconds; 0: none."""
    verified: bool
    """Whether certificates of the broker are checked; True without TLS as well."""
    machine: Machine
    vendors: Vendors | None
    """None: no routers were given."""
    broker: BrokerSeen
    paused: dict[str, str] = {}
    """vendorId → queue, of the vendors of the routers that are paused."""
    broker_error: str = ""
    """What went wrong after it had been reached."""
    management: ManagementSeen | None = None
    management_error: str = ""
    certificates: tuple[Certificate, ...] = ()
    store: StoreSeen | None = None
    """None: the store needs no server."""
    store_kind: Literal["memory", "none", "redis"] = "memory"

    @property
    def version(self) -> tuple[int, int, int] | None:
        """The broker's."""
        host = self.broker.host
        return None if host is None else parse_version(host.version)


def parse_version(text: str) -> tuple[int, int, int] | None:
    """A version as numbers; what follows them (``-rc.1``) does not count. None: it has none."""
    numbers = []
    for part in text.split(".")[:3]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits[:9]))
    if len(numbers) < 2:
        return None
    return numbers[0], numbers[1], numbers[2] if len(numbers) > 2 else 0
