"""Makes or checks a topology at a broker.

What a :class:`~bridge.dialects.topology.Topology` says is declared, looked for or trusted, as its
mode says. AMQP cannot list what is there: to look for an exchange or a queue is to declare it
passively, and a refusal ends the channel (AMQP 0-9-1 §1.6.2.1, §1.7.2.1).
"""

import re
from collections import deque
from collections.abc import Sequence
from typing import Final

import aio_pika
import aiormq
import msgspec

from bridge.dialects.topology import (
    Exchange,
    ExchangeBinding,
    Mode,
    Part,
    Purpose,
    Queue,
    QueueBinding,
    QueueType,
    Topology,
    of_other_type,
    type_of,
)
from bridge.rabbitmq.losses import plugin_missing
from bridge.telemetry.logs import get_logger
from bridge.transport import Binding, TopologyError

log = get_logger("bridge.rabbitmq")

_REFUSALS: Final = (
    aiormq.exceptions.ChannelNotFoundEntity,
    aiormq.exceptions.ChannelPreconditionFailed,
    aiormq.exceptions.ChannelAccessRefused,
    aiormq.exceptions.ChannelLockedResource,
)

_CLASSIC: Final = (
    "classic queues have no delivery limit: a request that kills its worker comes back for ever"
)


NAMED: Final = 50
"""Names in one sentence."""

_ADVICE: Final = (
    "`dtbridge topology migrate`, with the same routers and options, gives queues these arguments "
    "without losing a message, and the mode verify takes them as they are"
)
_MAKES: Final = (
    "`dtbridge topology apply`, with the same routers and options, makes what is missing, and "
    "`dtbridge topology plan` shows it"
)
_TAKEN: Final = "queues are taken as they are"
_OF_OTHER_TYPE: Final = re.compile(
    "inequivalent arg '(?:x-queue-type' |x-(?:dead-letter-strategy|delivery-limit|"
    "consumer-disconnected-timeout)' .*received none but current is)"
)
"""The broker's words for a queue of the other type: only a quorum queue has these arguments."""


async def see_to(
    connection: aio_pika.abc.AbstractConnection, topology: Topology, *, lenient: bool = False
) -> frozenset[str]:
    """As :func:`ensure`, with warnings for whoever runs it.

    Returns those of the topology's exchanges that do not exist.
    """
    if other := await ensure(connection, topology, lenient=lenient):
        log.warning(_TAKEN, reason=other)
    absent = await missing(connection, topology)
    found = await otherwise(connection, topology)
    if found.sentence:
        # Who lets them be as they are, mostly has some of them migrated.
        (log.info if found.is_stronger else log.warning)(_TAKEN, reason=found.sentence)
    if any(_keeps_poison(queue) for queue in found.as_they_are(topology.request_queues)):
        log.warning("delivery limit", warning=_CLASSIC)
    return absent


async def ensure(
    connection: aio_pika.abc.AbstractConnection, topology: Topology, *, lenient: bool = False
) -> str:
    """Declare the topology, or verify it; nothing in mode none.

    To verify is to see that all is there, and that exchanges are what the bridge would declare, as
    far as the user's permissions let one ask.

    An exchange that does not outlive its broker takes its bindings with it, so they are made again
    in mode verify, too. That needs the permission to write to the queue and to read from the
    exchange, not to configure.

    `lenient`: take queues with other arguments as they are, and return a sentence that names them;
    otherwise the sentence is empty. Raises :class:`~bridge.transport.TopologyError` with a sentence
    that names everything that does not fit.
    """
    if topology.mode is Mode.NONE:
        return ""
    passive = topology.mode is Mode.VERIFY
    refused = await refusals(connection, topology.parts, passive=passive)
    if passive:
        absent = [part for part, _ in refused]
        there = [each for each in topology.exchanges if each not in absent]
        refused += await _compare(connection, there)
    if refused and not (lenient and all(_has_other_arguments(*each) for each in refused)):
        raise TopologyError(await _told(connection, refused)) from refused[0][1].__cause__
    return await _told(connection, refused)


Refusals = list[tuple[Part, TopologyError]]


async def refusals(
    connection: aio_pika.abc.AbstractConnection, parts: Sequence[Part], *, passive: bool
) -> Refusals:
    """Declare all the parts, or look for them, and return those that the broker refuses.

    A binding is not tried whose exchange or queue is not there, and none of a queue that has other
    arguments: whoever gave it those has seen to its bindings, and with ours a request may come
    twice. Raises :class:`~bridge.transport.TopologyError` where a plugin is missing.
    """
    refused: Refusals = []
    left = deque(parts)
    absent: set[tuple[type, str]] = set()
    different: set[str] = set()
    transient = {part.name for part in parts if isinstance(part, Exchange) and not part.durable}
    while left:
        try:
            async with _Declaring(connection) as channel:
                while left:
                    part = left.popleft()
                    if isinstance(part, Exchange | Queue):
                        await _make(channel, part, passive=passive)
                    elif not {(Exchange, part.exchange), _end_of(part)} & absent and (
                        part.guard not in different and (not passive or part.exchange in transient)
                    ):
                        await _bind(channel, part)
        except TopologyError as error:
            if missing := plugin_missing(error):
                raise TopologyError(missing) from error  # and declare nothing that is behind it
            refused.append((part, error))
            if isinstance(part, Queue) and _has_other_arguments(part, error):
                different.add(part.name)
            elif isinstance(part, Exchange | Queue):
                absent.add((type(part), part.name))
    return refused


def _end_of(binding: QueueBinding | ExchangeBinding) -> tuple[type, str]:
    """Where a binding leads."""
    if isinstance(binding, QueueBinding):
        return Queue, binding.queue
    return Exchange, binding.to


async def _make(
    channel: aiormq.abc.AbstractChannel, part: Exchange | Queue, *, passive: bool
) -> None:
    if isinstance(part, Queue):
        await _queue(channel, part, passive=passive)
    else:
        await _exchange(channel, part, passive=passive or part.predeclared)


def _has_other_arguments(part: Part, error: TopologyError) -> bool:
    """Whether a queue is there, and is only not what the bridge would declare."""
    cause = error.__cause__
    return isinstance(part, Queue) and isinstance(
        cause, aiormq.exceptions.ChannelPreconditionFailed
    )


async def _told(connection: aio_pika.abc.AbstractConnection, refused: Refusals) -> str:
    """A sentence about everything that was refused; empty if nothing was."""
    other = await _of_other_type(connection, refused)
    told = _sentences(refused, other, [*map(_to_start, QueueType)], _ADVICE)
    if any(_could_be_made(*each) for each in refused):
        told.append(_MAKES)
    return "; ".join(told)


def _could_be_made(part: Part, error: TopologyError) -> bool:
    """Whether it is missing, and no foreign gateway's own."""
    if not isinstance(error.__cause__, aiormq.exceptions.ChannelNotFoundEntity):
        return False
    return not (isinstance(part, Exchange) and part.predeclared)


def _sentences(
    refused: Refusals, other: frozenset[str], by_type: Sequence[str], otherwise: str
) -> list[str]:
    """Queues of the other type; and of the rest, one refusal of each kind in the broker's words.

    More than :data:`NAMED` names are counted. `other`: the queues that are of the other type.
    `by_type`: what to do about those that are to be quorum, and to be classic; `otherwise`: about
    other arguments.
    """
    told = []
    for wanted, advice in zip(QueueType, by_type, strict=True):
        names = [
            part.name
            for part, _ in refused
            if isinstance(part, Queue) and part.name in other and type_of(part) is wanted
        ]
        if names:
            are = "queue {} is" if len(names) == 1 else "queues {} are"
            told.append(
                f"{are.format(_names(list(map(repr, names))))} {_other(wanted)}, and the options "
                f"say {wanted}{advice}"
            )
    rest = [each for each in refused if getattr(each[0], "name", "") not in other]
    alike: dict[tuple[type, type], list[tuple[Part, TopologyError]]] = {}
    for part, error in rest:
        alike.setdefault((type(part), type(error.__cause__)), []).append((part, error))
    for (_, first), *others in alike.values():
        more = f"; likewise {_names([_name(part) for part, _ in others])}" if others else ""
        told.append(f"{first}{more}")
    if otherwise and any(_has_other_arguments(*each) for each in rest):
        told.append(otherwise)
    return told


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _other(queue_type: QueueType) -> QueueType:
    return QueueType.CLASSIC if queue_type is QueueType.QUORUM else QueueType.QUORUM


def _to_start(wanted: QueueType) -> str:
    """How workers start where queues are of the other type. What is quorum is best left so."""
    how = (
        f"start with queue type {_other(wanted)}, or in topology mode verify while some are "
        "quorum and some classic"
    )
    if wanted is QueueType.CLASSIC:
        return f": {how}"
    return (
        ": `dtbridge topology migrate`, with the same routers and options, makes that so without "
        f"losing a message; until then, {how}"
    )


async def _of_other_type(
    connection: aio_pika.abc.AbstractConnection, refused: Refusals
) -> frozenset[str]:
    """The names of those queues that are what other options would declare.

    A broker does not tell a queue's type, but it objects to nothing that is as it was declared.
    """
    queues = [
        (part, error)
        for part, error in refused
        if isinstance(part, Queue) and _has_other_arguments(part, error)
    ]
    turned = [of_other_type(queue) for queue, _ in queues]
    still = {_name(part) for part, _ in await refusals(connection, turned, passive=False)}
    return frozenset(
        queue.name
        for queue, error in queues
        if _name(queue) not in still or _OF_OTHER_TYPE.search(str(error))
    )


def _name(part: Part) -> str:
    match part:
        case QueueBinding():
            return f"{part.queue!r} and {part.exchange!r}"
        case ExchangeBinding():
            return f"{part.to!r} and {part.exchange!r}"
        case Queue() | Exchange():
            return repr(part.name)


async def _compare(
    connection: aio_pika.abc.AbstractConnection, exchanges: Sequence[Exchange]
) -> Refusals:
    """Exchanges that are there and have another kind, durability or arguments than they must have.

    To ask for a thing is not to compare it: a broker compares only what is declared (AMQP 0-9-1
    §1.6.2.1, passive). That takes the permission to configure, and changes nothing where it is
    granted. Without it nothing can be said.
    """
    own = [each for each in exchanges if not each.predeclared]
    return [
        (part, error)
        for part, error in await refusals(connection, own, passive=False)
        if not isinstance(error.__cause__, aiormq.exceptions.ChannelAccessRefused)
    ]


async def missing(
    connection: aio_pika.abc.AbstractConnection, topology: Topology
) -> frozenset[str]:
    """The exchanges for retries and dead letters that are not there.

    Only mode none looks: in the others :func:`ensure` has seen to it that they are there.
    """
    if topology.mode is not Mode.NONE:
        return frozenset()
    absent = set()
    for exchange in topology.exchanges:
        if exchange.purpose in {Purpose.RETRY, Purpose.DEAD}:
            try:
                async with _Declaring(connection) as channel:
                    await _exchange(channel, exchange, passive=True)
            except TopologyError:
                absent.add(exchange.name)
    return frozenset(absent)


class Otherwise(msgspec.Struct, frozen=True):
    """Queues of requests that are not what the bridge would declare, and are taken so."""

    sentence: str = ""
    """What they are; empty: there are none, or it is not known."""
    other: frozenset[str] = frozenset()
    """Names of those that are of the other type."""
    is_stronger: bool = False
    """All of them are quorum, and the options say classic."""

    def as_they_are(self, queues: Sequence[Queue]) -> list[Queue]:
        """Queues with the type that they have."""
        return [of_other_type(each) if each.name in self.other else each for each in queues]


async def otherwise(connection: aio_pika.abc.AbstractConnection, topology: Topology) -> Otherwise:
    """Look whether queues of requests are what the bridge would declare, where nobody insists.

    AMQP cannot ask for a queue's arguments, only declare the queue again and see whether the broker
    objects. So what a policy sets is not seen, and without the permission to configure nothing is.
    In mode declare, :func:`ensure` has seen to it.
    """
    if topology.mode is Mode.DECLARE:
        return Otherwise()
    wanted = topology.request_queues
    absent = {_name(part) for part, _ in await refusals(connection, wanted, passive=True)}
    there = [queue for queue in wanted if _name(queue) not in absent]
    refused = [
        each
        for each in await refusals(connection, there, passive=False)
        if _has_other_arguments(*each)  # without the permission, nothing can be said
    ]
    if not refused:
        return Otherwise()
    other = await _of_other_type(connection, refused)
    stronger = all(
        part.name in other and type_of(part) is QueueType.CLASSIC
        for part, _ in refused
        if isinstance(part, Queue)
    )
    return Otherwise("; ".join(_sentences(refused, other, ("", ""), "")), other, stronger)


def _keeps_poison(queue: Queue) -> bool:
    """Whether neither a delivery limit nor age ends a request in this queue."""
    arguments = queue.arguments
    return arguments["x-queue-type"] == QueueType.CLASSIC.value and "x-message-ttl" not in arguments


class _Declaring:
    """A channel for declarations. If the broker refuses one it closes the channel and says why."""

    def __init__(self, connection: aio_pika.abc.AbstractConnection) -> None:
        self._channel = connection.channel(publisher_confirms=False)

    async def __aenter__(self) -> aiormq.abc.AbstractChannel:
        await self._channel.initialize()
        return await self._channel.get_underlay_channel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        if kind is None:
            await self._channel.close()


async def _exchange(
    channel: aiormq.abc.AbstractChannel, exchange: Exchange, *, passive: bool
) -> None:
    try:
        await channel.exchange_declare(
            exchange.name,
            exchange_type=exchange.kind,
            durable=exchange.durable,
            passive=passive,
            arguments=exchange.arguments,
        )
    except _REFUSALS as error:
        raise TopologyError(f"exchange {exchange.name!r}: {_reason(error)}") from error


async def _queue(channel: aiormq.abc.AbstractChannel, queue: Queue, *, passive: bool) -> None:
    try:
        await _declare(channel, queue, passive=passive)
    except _REFUSALS as error:
        raise TopologyError(f"queue {queue.name!r}: {_reason(error)}") from error


async def _declare(channel: aiormq.abc.AbstractChannel, queue: Queue, *, passive: bool) -> None:
    await channel.queue_declare(
        queue.name, durable=True, passive=passive, arguments=queue.arguments
    )


async def _bind(
    channel: aiormq.abc.AbstractChannel, binding: QueueBinding | ExchangeBinding
) -> None:
    if isinstance(binding, QueueBinding):
        await bind(channel, binding.queue, binding)
        return
    try:
        await channel.exchange_bind(
            binding.to, binding.exchange, binding.routing_key, arguments=binding.arguments
        )
    except _REFUSALS as error:
        raise TopologyError(
            f"exchanges {binding.to!r} and {binding.exchange!r}: {_reason(error)}"
        ) from error


async def bind(channel: aiormq.abc.AbstractChannel, queue: str, binding: Binding) -> None:
    """Bind a queue. Raises :class:`~bridge.transport.TopologyError`."""
    try:
        await channel.queue_bind(
            queue, binding.exchange, binding.routing_key, arguments=binding.arguments
        )
    except _REFUSALS as error:
        raise TopologyError(
            f"queue {queue!r} and exchange {binding.exchange!r}: {_reason(error)}"
        ) from error


def _reason(error: BaseException) -> str:
    return str(error.args[0] if error.args else error).strip()
