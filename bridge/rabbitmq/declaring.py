"""Makes or checks a topology at a broker.

What a :class:`~bridge.dialects.topology.Topology` says is declared, looked for or trusted, as its
mode says. AMQP cannot list what is there: to look for an exchange or a queue is to declare it
passively, and a refusal ends the channel (AMQP 0-9-1 §1.6.2.1, §1.7.2.1).
"""

from collections.abc import Sequence
from typing import Final

import aio_pika
import aiormq

from bridge.dialects.topology import (
    Exchange,
    Mode,
    Purpose,
    Queue,
    QueueBinding,
    QueueType,
    Topology,
)
from bridge.transport import Binding, TopologyError

_REFUSALS: Final = (
    aiormq.exceptions.ChannelNotFoundEntity,
    aiormq.exceptions.ChannelPreconditionFailed,
    aiormq.exceptions.ChannelAccessRefused,
    aiormq.exceptions.ChannelLockedResource,
)

_CLASSIC: Final = (
    "classic queues have no delivery limit: a request that kills its worker comes back for ever"
)


async def ensure(connection: aio_pika.abc.AbstractConnection, topology: Topology) -> None:
    """Declare the topology, or verify it; nothing in mode none.

    To verify is to see that all is there, and that exchanges are what the bridge would declare, as
    far as the user's permissions let one ask.

    An exchange that does not outlive its broker takes its bindings with it, so they are made again
    in mode verify, too. That needs the permission to write to the queue and to read from the
    exchange, not to configure.

    Raises :class:`~bridge.transport.TopologyError` with a sentence that names what does not fit.
    """
    if topology.mode is Mode.NONE:
        return
    passive = topology.mode is Mode.VERIFY
    transient = {exchange.name for exchange in topology.exchanges if not exchange.durable}
    async with _Declaring(connection) as channel:
        for part in topology.parts:
            match part:
                case Exchange():
                    await _exchange(channel, part, passive=passive or part.predeclared)
                case Queue():
                    await _queue(channel, part, passive=passive)
                case QueueBinding():
                    if not passive or part.exchange in transient:
                        await bind(channel, part.queue, part)
    if passive:
        await _compare(connection, topology.exchanges)


async def _compare(
    connection: aio_pika.abc.AbstractConnection, exchanges: Sequence[Exchange]
) -> None:
    """Whether exchanges that are there have the kind, durability and arguments that they must have.

    To ask for a thing is not to compare it: a broker compares only what is declared (AMQP 0-9-1
    §1.6.2.1, passive). That takes the permission to configure, and changes nothing where it is
    granted. Without it nothing can be said.
    """
    for exchange in exchanges:
        if not exchange.predeclared:
            try:
                async with _Declaring(connection) as channel:
                    await _exchange(channel, exchange, passive=False)
            except TopologyError as error:
                if not isinstance(error.__cause__, aiormq.exceptions.ChannelAccessRefused):
                    raise


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


async def check_delivery_limits(
    connection: aio_pika.abc.AbstractConnection, topology: Topology
) -> list[str]:
    """Sentences about queues on which a request that kills its worker might come back for ever.

    AMQP cannot ask for a queue's arguments, only declare the queue again and see whether the broker
    objects. So a limit that a policy sets is not seen, and without the permission to configure
    nothing is. In mode declare, :func:`ensure` has checked them already.
    """
    if any(_keeps_poison(queue) for queue in topology.request_queues):
        return [_CLASSIC]
    if topology.mode is Mode.DECLARE:
        return []
    warnings = []
    for queue in topology.request_queues:
        try:
            async with _Declaring(connection) as channel:
                await _declare(channel, queue, passive=True)
                await _declare(channel, queue, passive=False)
        except aiormq.exceptions.ChannelPreconditionFailed as error:
            warnings.append(
                f"queue {queue.name!r} is not what the bridge would declare: {_reason(error)}"
            )
        except _REFUSALS:
            continue  # not there, or no permission: nothing can be said
    return warnings


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
