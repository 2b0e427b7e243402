"""Exchanges and queues of the contract: declared, verified, or taken for granted.

``datatransfer`` (direct) ─ key of the vendor ─→ ``datatransfer.<key>`` ─ rejected, expired, delivery limit ─→ ``datatransfer.dead``
        └─ no such key ─→ ``datatransfer.unrouted`` ─→ ``datatransfer.unknown-vendor``
"""

import enum
from collections.abc import Mapping, Sequence
from typing import Any, Final

import aio_pika
import aiormq
import msgspec

from bridge.contract import Names, vendor_key
from bridge.retry import DELAYS, GRACE, milliseconds
from bridge.transport import TopologyError


class Mode(enum.StrEnum):
    """What to do about the topology when a connection opens."""

    DECLARE = "declare"
    """Create what is missing. Needs the permission to configure."""
    VERIFY = "verify"
    """Fail if something is missing."""
    NONE = "none"
    """Trust whoever set it up."""


class QueueType(enum.StrEnum):
    """How the vendors' queues are kept."""

    QUORUM = "quorum"
    """Replicated; survives the loss of a node, and counts deliveries."""
    CLASSIC = "classic"
    """On one node. Without a delivery limit: a request that kills its worker comes back for ever."""


DELIVERY_LIMIT: Final = 20
"""Redeliveries before a request counts as poison and is dead-lettered. RabbitMQ's own default since 4.0; not smaller,
because a worker that dies counts against everything it had in hand, not only against the request that killed it."""

DISCONNECTED_MS: Final = 5_000
"""Milliseconds after which requests go to other workers that were in the hands of one connected to a node of the broker that is
gone. RabbitMQ did so at once up to 4.2; from 4.3 on it waits a minute for the node to come back, which is longer than
stations wait. Older versions take no notice of the argument; it is declared on all of them, since a queue's arguments must
not differ after an upgrade."""

DEAD_TTL_MS: Final = 14 * 24 * 3600 * 1000
"""Milliseconds a dead letter is kept: two weeks, time for a person to look."""
DEAD_LENGTH: Final = 1_000_000
"""Dead letters kept; beyond it the oldest go."""
UNLIMITED: Final = 1_000_000
"""Delivery limit of queues whose messages are looked at or held and given back: each time is a delivery. RabbitMQ 4 drops a
message of a quorum queue after 20 unless told otherwise; "no limit" is -1 there, which 3.x refuses or takes for 0. And
only with a limit does a quorum queue put back in its place what is given back."""


_AT_LEAST_ONCE: Final = {
    # Without these two a quorum queue falls back silently to dead-lettering at most once.
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
    "x-consumer-disconnected-timeout": DISCONNECTED_MS,
}
"""Arguments of the quorum queues in which requests lie."""


class Topology(msgspec.Struct, frozen=True):
    """What a worker needs."""

    names: Names
    vendor_ids: Sequence[str]
    mode: Mode = Mode.DECLARE
    queue_type: QueueType = QueueType.QUORUM

    @property
    def queue_arguments(self) -> dict[str, Any]:
        """Of the queues that hold requests."""
        arguments: dict[str, Any] = {
            "x-queue-type": self.queue_type.value,
            "x-dead-letter-exchange": self.names.dead,
        }
        if self.queue_type is QueueType.QUORUM:
            arguments |= _AT_LEAST_ONCE | {"x-delivery-limit": DELIVERY_LIMIT}
        return arguments

    @property
    def dead_arguments(self) -> dict[str, Any]:
        """Of the dead-letter queue: bounded by age and length, for expired requests land there too."""
        arguments: dict[str, Any] = {
            "x-queue-type": self.queue_type.value,
            "x-message-ttl": DEAD_TTL_MS,
            "x-max-length": DEAD_LENGTH,
        }
        if self.queue_type is QueueType.QUORUM:
            arguments["x-delivery-limit"] = UNLIMITED
        return arguments

    def retry_arguments(self, delay: float) -> dict[str, Any]:
        """Of the queue in which requests wait `delay` seconds; those no worker takes, the broker sends back to their vendor's."""
        arguments: dict[str, Any] = {
            "x-queue-type": self.queue_type.value,
            "x-message-ttl": milliseconds(delay + GRACE),
            "x-dead-letter-exchange": self.names.requests,
        }
        if self.queue_type is QueueType.QUORUM:
            arguments |= _AT_LEAST_ONCE | {"x-delivery-limit": UNLIMITED}
        return arguments

    async def missing(self, connection: aio_pika.abc.AbstractConnection) -> frozenset[str]:
        """The exchanges for retries and dead letters that are not there: only if nobody sees to them (mode none)."""
        if self.mode is not Mode.NONE:
            return frozenset()
        missing = set()
        for name in (self.names.dead, *map(self.names.retry, DELAYS)):
            try:
                async with _Declaring(connection) as channel:
                    await _exchange(channel, name, "", passive=True)
            except TopologyError:
                missing.add(name)
        return frozenset(missing)

    async def check_delivery_limits(self, connection: aio_pika.abc.AbstractConnection) -> list[str]:
        """Sentences about queues on which a request that kills its worker might come back for ever.

        AMQP cannot ask for a queue's arguments, only declare it again and see whether the broker objects; so a limit set by
        a policy is not seen, and without the permission to configure nothing is. In mode declare `ensure` has done it.
        """
        if self.queue_type is QueueType.CLASSIC:
            return ["classic queues have no delivery limit: a request that kills its worker comes back for ever"]
        warnings = []
        if self.mode is not Mode.DECLARE:
            for queue in (self.names.unknown_vendor, *map(self.names.vendor_queue, self.vendor_ids)):
                try:
                    async with _Declaring(connection) as channel:
                        await channel.queue_declare(queue, durable=True, passive=True)
                        await channel.queue_declare(queue, durable=True, arguments=self.queue_arguments)
                except aiormq.exceptions.ChannelPreconditionFailed as error:
                    warnings.append(f"queue {queue!r} is not what the bridge would declare: {_reason(error)}")
                except _REFUSALS:
                    continue  # not there, or no permission: nothing can be said
        return warnings

    async def ensure(self, connection: aio_pika.abc.AbstractConnection) -> None:
        """Raises :class:`TopologyError` with a sentence that names what does not fit."""
        if self.mode is Mode.NONE:
            return
        passive = self.mode is Mode.VERIFY
        async with _Declaring(connection) as channel:
            names = self.names
            await _exchange(channel, names.unrouted, "fanout", passive=passive)
            await _exchange(channel, names.requests, "direct", {"alternate-exchange": names.unrouted}, passive=passive)
            await _exchange(channel, names.dead, "fanout", passive=passive)
            await _exchange(channel, names.stations, "direct", passive=passive)
            await _queue(channel, names.dead, self.dead_arguments, names.dead, "", passive=passive)
            for delay in DELAYS:
                await _exchange(channel, names.retry(delay), "fanout", passive=passive)
                await _queue(
                    channel, names.retry(delay), self.retry_arguments(delay), names.retry(delay), "", passive=passive
                )
            arguments = self.queue_arguments
            await _queue(channel, names.unknown_vendor, arguments, names.unrouted, "", passive=passive)
            for vendor_id in self.vendor_ids:
                queue = names.vendor_queue(vendor_id)
                await _queue(channel, queue, arguments, names.requests, vendor_key(vendor_id), passive=passive)


class _Declaring:
    """A channel for declarations; a broker that refuses one closes it, with a reason worth telling."""

    def __init__(self, connection: aio_pika.abc.AbstractConnection) -> None:
        self._channel = connection.channel(publisher_confirms=False)

    async def __aenter__(self) -> aiormq.abc.AbstractChannel:
        await self._channel.initialize()
        return await self._channel.get_underlay_channel()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if kind is None:
            await self._channel.close()


_REFUSALS: Final = (
    aiormq.exceptions.ChannelNotFoundEntity,
    aiormq.exceptions.ChannelPreconditionFailed,
    aiormq.exceptions.ChannelAccessRefused,
    aiormq.exceptions.ChannelLockedResource,
)


async def _exchange(
    channel: aiormq.abc.AbstractChannel,
    name: str,
    kind: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    passive: bool,
) -> None:
    try:
        await channel.exchange_declare(
            name, exchange_type=kind, durable=True, passive=passive, arguments=dict(arguments or {})
        )
    except _REFUSALS as error:
        raise TopologyError(f"exchange {name!r}: {_reason(error)}") from error


async def _queue(
    channel: aiormq.abc.AbstractChannel,
    name: str,
    arguments: Mapping[str, Any],
    exchange: str,
    routing_key: str,
    *,
    passive: bool,
) -> None:
    try:
        await channel.queue_declare(name, durable=True, passive=passive, arguments=dict(arguments))
        if not passive:
            await channel.queue_bind(name, exchange, routing_key)
    except _REFUSALS as error:
        raise TopologyError(f"queue {name!r}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    return str(error.args[0] if error.args else error).strip()
