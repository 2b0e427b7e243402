"""Which exchanges, queues and bindings there must be, as values.

A :class:`Topology` is a plan: it compares, it prints, and it does nothing by itself.
:mod:`bridge.rabbitmq.declaring` makes or checks it at a broker, and
:meth:`~bridge.testing.memory_broker.MemoryBroker.declare` makes it in memory. In the native
dialect a worker needs::

    datatransfer (direct) ── key of the vendor ──→ datatransfer.<key>
        └── no such key ──→ datatransfer.unrouted ──→ datatransfer.unknown-vendor
    datatransfer.retry.<ms> ──→ a queue of that name ── time is over ──→ datatransfer
    datatransfer.dead ──→ a queue of that name
    datatransfer.stations (direct): gateways bind their own queues to it
    datatransfer.events (topic): whoever listens binds a queue to it; only where events are on
    datatransfer-paused (direct) ── key of a paused vendor ──→ a queue of that name
    datatransfer-control (fanout): workers bind private queues to it

A vendor may have several queues (:mod:`bridge.dialects.partitions`). Queues of requests send what
is rejected, has expired or was delivered too often to ``datatransfer.dead``. In a dialect whose
gateway does not route by vendor, the gateway's exchange and the dialect's shared queues take the
place of the first two lines, and of the last.
"""

import enum
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from bridge.dialects.dialect import Dialect, SharedQueue
from bridge.dialects.headers import STATION_ID
from bridge.dialects.names import Names, vendor_key
from bridge.dialects.partitions import HASH_HEADER, KIND, MARKER, ONE_QUEUE, WEIGHT, Partitions
from bridge.request.retry import DELAYS, GRACE, milliseconds
from bridge.transport import Binding


class Mode(enum.StrEnum):
    """What to do about the topology when a connection opens."""

    DECLARE = "declare"
    """Create what is missing. Needs the permission to configure."""
    VERIFY = "verify"
    """Fail if something is missing."""
    NONE = "none"
    """Trust whoever set it up."""


class QueueType(enum.StrEnum):
    """How queues are kept."""

    QUORUM = "quorum"
    """Replicated; survives the loss of a node, and counts deliveries."""
    CLASSIC = "classic"
    """On one node. No delivery limit: a request that kills its worker comes back for ever."""


class Purpose(enum.StrEnum):
    """What goes through an exchange, or lies in a queue."""

    REQUESTS = "requests"
    """Requests of stations, on their way to a worker."""
    STATIONS = "stations"
    """Requests of the CSMS, on their way to a station."""
    RETRY = "retry"
    """Requests that wait for their next try."""
    DEAD = "dead-letters"
    """Requests that were given up."""
    EVENTS = "events"
    """What became of requests. Workers do without it if it is not there."""
    CONTROL = "control"
    """Which vendors are paused. Workers do without it as well: nothing is paused then."""


DELIVERY_LIMIT: Final = 20
"""Redeliveries before a request counts as poison and is dead-lettered. RabbitMQ's own default since
4.0. Not smaller: a worker that dies counts against all requests it had in hand, not only against
the one that killed it."""

DISCONNECTED_MS: Final = 5_000
"""Milliseconds that RabbitMQ waits for a node that is gone, before the requests in the hands of
workers connected to it go to other workers. Up to 4.2 it did not wait at all; from 4.3 on it waits
a minute, which is longer than stations wait. Older versions ignore the argument. It is declared on
all of them, because a queue's arguments must not differ after an upgrade."""

DEAD_TTL_MS: Final = 14 * 24 * 3600 * 1000
"""Milliseconds that a dead letter is kept: two weeks, time for a person to look."""
DEAD_LENGTH: Final = 1_000_000
"""Dead letters kept; beyond it the oldest go."""
UNLIMITED: Final = 1_000_000
"""Delivery limit of queues whose messages are looked at, or held and given back: each time is a
delivery. RabbitMQ 4 drops a message of a quorum queue after 20 unless told otherwise. "No limit" is
-1 there, which 3.x refuses or takes for 0. And only a quorum queue with a limit puts back in its
place what is given back."""

ASKED_TTL_MS: Final = 60_000
"""Milliseconds that an answered question whether a vendor is paused stays in its queue."""

_AT_LEAST_ONCE: Final = {
    # Without the first two, a quorum queue silently dead-letters at most once.
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
    "x-consumer-disconnected-timeout": DISCONNECTED_MS,
}
"""Arguments of the quorum queues that hold requests."""


class Exchange(msgspec.Struct, frozen=True):
    """An exchange."""

    name: str
    kind: str
    """``direct``, ``fanout``, ``topic``, ``headers`` or ``x-consistent-hash``."""
    purpose: Purpose
    durable: bool = True
    arguments: dict[str, Any] = {}

    @property
    def predeclared(self) -> bool:
        """Whether it is the broker's own, which nobody else may declare (AMQP 0-9-1 §3.1.3)."""
        return self.name.startswith("amq.")


class Queue(msgspec.Struct, frozen=True):
    """A queue. All are durable."""

    name: str
    purpose: Purpose
    arguments: dict[str, Any]


class QueueBinding(Binding, frozen=True, kw_only=True):
    """A binding, and the queue that it leads to."""

    queue: str

    @property
    def guard(self) -> str:
        """As :attr:`ExchangeBinding.guard`."""
        return self.queue


class ExchangeBinding(Binding, frozen=True, kw_only=True):
    """A binding, and the exchange that it leads to."""

    to: str
    guard: str
    """The queue that says whether it may be made. If that is there with other arguments, requests
    go another way, and with this one as well each would be handled twice."""


Part = Exchange | Queue | QueueBinding | ExchangeBinding


class Topology(msgspec.Struct, frozen=True):
    """What there must be, and what is done about it when a connection opens."""

    parts: tuple[Part, ...]
    """In the order in which they are declared: each after the parts that it refers to."""
    mode: Mode = Mode.DECLARE

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        return tuple(part for part in self.parts if isinstance(part, Exchange))

    @property
    def queues(self) -> tuple[Queue, ...]:
        return tuple(part for part in self.parts if isinstance(part, Queue))

    @property
    def bindings(self) -> tuple[QueueBinding, ...]:
        return tuple(part for part in self.parts if isinstance(part, QueueBinding))

    @property
    def ways(self) -> tuple[ExchangeBinding, ...]:
        """The bindings of exchanges to exchanges."""
        return tuple(part for part in self.parts if isinstance(part, ExchangeBinding))

    @property
    def events(self) -> Exchange | None:
        """Where events are published; None: nowhere."""
        return next((each for each in self.exchanges if each.purpose is Purpose.EVENTS), None)

    @property
    def control(self) -> tuple[Exchange | Queue, ...]:
        """What pausing a vendor needs; nothing: none can be paused."""
        parts: list[Exchange | Queue] = [*self.exchanges, *self.queues]
        return tuple(part for part in parts if part.purpose is Purpose.CONTROL)

    @property
    def needed(self) -> "Topology":
        """Without what a worker can do without."""
        optional = {Purpose.EVENTS, Purpose.CONTROL}
        parts = (
            part
            for part in self.parts
            if isinstance(part, QueueBinding | ExchangeBinding) or part.purpose not in optional
        )
        return Topology(tuple(parts), self.mode)

    @property
    def request_queues(self) -> tuple[Queue, ...]:
        """The queues that workers take requests from."""
        return tuple(queue for queue in self.queues if queue.purpose is Purpose.REQUESTS)


def type_of(queue: Queue) -> QueueType:
    """Which type a queue is to be."""
    return QueueType(queue.arguments["x-queue-type"])


def of_other_type(queue: Queue) -> Queue:
    """The same queue as the bridge declares it where its options ask for the other type."""
    if type_of(queue) is QueueType.CLASSIC:
        arguments = queue.arguments | {"x-queue-type": QueueType.QUORUM.value}
        if queue.purpose is not Purpose.DEAD:
            arguments |= _AT_LEAST_ONCE
        arguments["x-delivery-limit"] = delivery_limit(queue.purpose)
    else:
        arguments = {
            name: value
            for name, value in queue.arguments.items()
            if name not in {*_AT_LEAST_ONCE, "x-delivery-limit"}
        } | {"x-queue-type": QueueType.CLASSIC.value}
    return Queue(queue.name, queue.purpose, arguments)


def delivery_limit(purpose: Purpose) -> int:
    """Of a quorum queue."""
    return DELIVERY_LIMIT if purpose is Purpose.REQUESTS else UNLIMITED


def worker_topology(
    dialect: Dialect,
    vendor_ids: Sequence[str] = (),
    mode: Mode = Mode.DECLARE,
    queue_type: QueueType = QueueType.QUORUM,
    *,
    events: bool = False,
    partitions: Mapping[str, Partitions] | None = None,
) -> Topology:
    """What a worker needs.

    `vendor_ids`: the vendors that it has handlers for; a dialect with shared queues does not ask.
    `queue_type`: of all queues but those that a dialect wants classic. `events`: whether it
    publishes events. `partitions`: by vendorId, of those that have more than one queue; for the
    native dialect.
    """
    names = dialect.names
    if dialect.exchange is None:
        exchanges = _exchanges(names)
        if mode is not Mode.DECLARE:
            # It makes that one for others, and RabbitMQ 4.3 shows it only to who may use it.
            exchanges = (each for each in exchanges if each.purpose is not Purpose.STATIONS)
        queues = _vendor_queues(names, vendor_ids, queue_type, partitions or {})
    else:
        theirs = dialect.exchange
        own = Exchange(theirs.name, theirs.kind, Purpose.REQUESTS, durable=theirs.durable)
        exchanges = iter([own])
        queues = _shared_queues(names, dialect.queues, queue_type)
    dead_letters, retries = _dead_letters(names, queue_type), _retries(names, queue_type)
    told = (Exchange(names.events, "topic", Purpose.EVENTS),) if events else ()
    control = control_parts(names)
    return Topology((*exchanges, *dead_letters, *retries, *queues, *control, *told), mode)


def gateway_topology(names: Names, mode: Mode = Mode.DECLARE) -> Topology:
    """What a gateway needs: the exchanges that it publishes and binds to.

    The queues are the workers' business. A gateway may start before the first worker: then its
    requests are returned to it. Without the exchanges, publishing would end its connection.
    """
    return Topology(tuple(_exchanges(names)), mode)


def control_parts(names: Names) -> tuple[Exchange | Queue, ...]:
    """What pausing a vendor needs.

    The queue is a quorum queue whatever the others are: a classic one takes its bindings with it
    while its node is away, and no vendor would be paused. It holds nothing that is of use.
    """
    arguments = {
        "x-queue-type": QueueType.QUORUM.value,
        "x-max-length": 1,
        "x-message-ttl": ASKED_TTL_MS,
    }
    return (
        Exchange(names.paused, "direct", Purpose.CONTROL),
        Exchange(names.control, "fanout", Purpose.CONTROL),
        Queue(names.paused, Purpose.CONTROL, arguments),
    )


def _exchanges(names: Names) -> Iterator[Exchange]:
    alternate = {"alternate-exchange": names.unrouted}
    yield Exchange(names.unrouted, "fanout", Purpose.REQUESTS)
    yield Exchange(names.requests, "direct", Purpose.REQUESTS, arguments=alternate)
    yield Exchange(names.stations, "direct", Purpose.STATIONS)


def _dead_letters(names: Names, queue_type: QueueType) -> Iterator[Part]:
    """Bounded by age and length, because expired requests come here as well."""
    arguments: dict[str, Any] = {
        "x-queue-type": queue_type.value,
        "x-message-ttl": DEAD_TTL_MS,
        "x-max-length": DEAD_LENGTH,
    }
    if queue_type is QueueType.QUORUM:
        arguments["x-delivery-limit"] = UNLIMITED
    yield Exchange(names.dead, "fanout", Purpose.DEAD)
    yield Queue(names.dead, Purpose.DEAD, arguments)
    yield QueueBinding(names.dead, queue=names.dead)


def _retries(names: Names, queue_type: QueueType) -> Iterator[Part]:
    """One queue for each delay. What no worker takes in time, the broker sends on by itself."""
    for delay in DELAYS:
        name = names.retry(delay)
        arguments = _arguments(queue_type, names.after_retry, UNLIMITED)
        arguments["x-message-ttl"] = milliseconds(delay + GRACE)
        yield Exchange(name, "fanout", Purpose.RETRY)
        yield Queue(name, Purpose.RETRY, arguments)
        yield QueueBinding(name, queue=name)


def _vendor_queues(
    names: Names,
    vendor_ids: Sequence[str],
    queue_type: QueueType,
    partitions: Mapping[str, Partitions],
) -> Iterator[Part]:
    arguments = _arguments(queue_type, names.dead, DELIVERY_LIMIT)
    yield Queue(names.unknown_vendor, Purpose.REQUESTS, arguments)
    yield QueueBinding(names.unrouted, queue=names.unknown_vendor)
    for vendor_id in vendor_ids:
        queue = names.vendor_queue(vendor_id)
        spread = partitions.get(vendor_id, ONE_QUEUE)
        if spread.label:
            yield from _partitions(names, queue, vendor_key(vendor_id), spread, arguments)
        else:
            yield Queue(queue, Purpose.REQUESTS, arguments)
            yield QueueBinding(names.requests, vendor_key(vendor_id), queue=queue)


def _partitions(
    names: Names, queue: str, key: str, spread: Partitions, arguments: dict[str, Any]
) -> Iterator[Part]:
    """Of one vendor. The exchange comes first: where the broker does not know it, nothing is left.

    The binding comes last, because the vendor's own queue guards it.
    """
    exchange = spread.exchange(queue)
    # Without a queue behind it, requests are those of an unknown vendor, and not lost.
    by_station = {HASH_HEADER: STATION_ID, "alternate-exchange": names.unrouted}
    yield Exchange(exchange, KIND, Purpose.REQUESTS, arguments=by_station)
    arguments = arguments | {MARKER: f"{key}:{spread.label}"}
    yield Queue(queue, Purpose.REQUESTS, arguments)
    if spread.ordered:
        arguments = arguments | {"x-single-active-consumer": True}
    for partition in spread.queues(queue):
        yield Queue(partition, Purpose.REQUESTS, arguments)
        yield QueueBinding(exchange, WEIGHT, queue=partition)
    yield ExchangeBinding(names.requests, key, to=exchange, guard=queue)


def _shared_queues(
    names: Names, queues: Sequence[SharedQueue], queue_type: QueueType
) -> Iterator[Part]:
    for queue in queues:
        kept = queue_type if queue.replicated else QueueType.CLASSIC
        arguments = _arguments(kept, names.dead, DELIVERY_LIMIT)
        if queue.message_ttl is not None:
            arguments["x-message-ttl"] = milliseconds(queue.message_ttl)
        bound = queue.binding
        yield Queue(queue.name, Purpose.REQUESTS, arguments)
        yield QueueBinding(bound.exchange, bound.routing_key, bound.arguments, queue=queue.name)


def _arguments(queue_type: QueueType, dead_letter_exchange: str, limit: int) -> dict[str, Any]:
    """Of a queue that holds requests. A classic queue has no delivery limit."""
    arguments: dict[str, Any] = {
        "x-queue-type": queue_type.value,
        "x-dead-letter-exchange": dead_letter_exchange,
    }
    if queue_type is QueueType.QUORUM:
        arguments |= _AT_LEAST_ONCE | {"x-delivery-limit": limit}
    return arguments
