"""Exchanges and queues of the contract: declared, verified, or taken for granted.

``datatransfer`` (direct) ─ key of the vendor ─→ ``datatransfer.<key>`` ─ rejected, expired, delivery limit ─→ ``datatransfer.dead``
        └─ no such key ─→ ``datatransfer.unrouted`` ─→ ``datatransfer.unknown-vendor``

A dialect whose gateway does not route by vendor has the gateway's exchange and its own shared queues in place of the first two lines.
"""

import enum
from collections.abc import Sequence
from typing import Any, Final

import aio_pika
import aiormq
import msgspec

from bridge.dialects.dialect import GatewayExchange, SharedQueue
from bridge.dialects.names import Names, vendor_key
from bridge.rabbitmq.declaring import (
    _REFUSALS,
    _Declaring,
    _exchange,
    _gateway_exchanges,
    _queue,
    _reason,
    bind,
)
from bridge.request.retry import DELAYS, GRACE, milliseconds
from bridge.transport import Binding, TopologyError


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
    exchange: GatewayExchange | None = None
    """Of a gateway that speaks another dialect."""
    shared: Sequence[SharedQueue] = ()
    """The queues of all vendors that are bound to it."""

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
            "x-dead-letter-exchange": self.names.after_retry,
        }
        if self.queue_type is QueueType.QUORUM:
            arguments |= _AT_LEAST_ONCE | {"x-delivery-limit": UNLIMITED}
        return arguments

    def shared_arguments(self, queue: SharedQueue) -> dict[str, Any]:
        """Of a queue that all vendors share."""
        arguments = self.queue_arguments
        if not queue.replicated:
            arguments = {
                "x-queue-type": QueueType.CLASSIC.value,
                "x-dead-letter-exchange": self.names.dead,
            }
        if queue.message_ttl is not None:
            arguments["x-message-ttl"] = milliseconds(queue.message_ttl)
        return arguments

    @property
    def _request_queues(self) -> dict[str, dict[str, Any]]:
        """Those that hold requests, with their arguments."""
        if self.shared:
            return {queue.name: self.shared_arguments(queue) for queue in self.shared}
        names = (self.names.unknown_vendor, *map(self.names.vendor_queue, self.vendor_ids))
        return dict.fromkeys(names, self.queue_arguments)

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
        ends_by_age = bool(self.shared) and all(
            queue.message_ttl is not None for queue in self.shared
        )
        if self.queue_type is QueueType.CLASSIC and not ends_by_age:
            return [
                "classic queues have no delivery limit: a request that kills its worker comes back for ever"
            ]
        warnings = []
        if self.mode is not Mode.DECLARE:
            for queue, arguments in self._request_queues.items():
                try:
                    async with _Declaring(connection) as channel:
                        await channel.queue_declare(queue, durable=True, passive=True)
                        await channel.queue_declare(queue, durable=True, arguments=arguments)
                except aiormq.exceptions.ChannelPreconditionFailed as error:
                    warnings.append(
                        f"queue {queue!r} is not what the bridge would declare: {_reason(error)}"
                    )
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
            await self._ensure_exchanges(channel, passive=passive)
            await _exchange(channel, names.dead, "fanout", passive=passive)
            await _queue(
                channel, names.dead, self.dead_arguments, Binding(names.dead), passive=passive
            )
            for delay in DELAYS:
                retry = names.retry(delay)
                await _exchange(channel, retry, "fanout", passive=passive)
                await _queue(
                    channel, retry, self.retry_arguments(delay), Binding(retry), passive=passive
                )
            if self.exchange is None:
                await self._ensure_vendors(channel, passive=passive)
            else:
                await self._ensure_shared(channel, self.exchange, passive=passive)

    async def _ensure_exchanges(
        self, channel: aiormq.abc.AbstractChannel, *, passive: bool
    ) -> None:
        """Those that gateways publish to."""
        theirs = self.exchange
        if theirs is not None:
            known = theirs.name.startswith("amq.")  # the broker's own: nobody declares those
            await _exchange(
                channel, theirs.name, theirs.kind, durable=theirs.durable, passive=passive or known
            )
            return
        await _gateway_exchanges(channel, self.names, passive=passive)

    async def _ensure_vendors(self, channel: aiormq.abc.AbstractChannel, *, passive: bool) -> None:
        names, arguments = self.names, self.queue_arguments
        await _queue(
            channel, names.unknown_vendor, arguments, Binding(names.unrouted), passive=passive
        )
        for vendor_id in self.vendor_ids:
            binding = Binding(names.requests, vendor_key(vendor_id))
            await _queue(
                channel, names.vendor_queue(vendor_id), arguments, binding, passive=passive
            )

    async def _ensure_shared(
        self, channel: aiormq.abc.AbstractChannel, exchange: GatewayExchange, *, passive: bool
    ) -> None:
        """An exchange that does not outlive its broker takes its bindings with it: they are made anew in any mode. That
        needs the permission to write to the queue and to read from the exchange, not to configure.
        """
        for queue in self.shared:
            await _queue(
                channel, queue.name, self.shared_arguments(queue), queue.binding, passive=passive
            )
            if passive and not exchange.durable:
                await bind(channel, queue.name, queue.binding)


class GatewayTopology(Topology, frozen=True):
    """What a gateway needs: the exchanges that it publishes and binds to. The queues are the workers' business.

    A gateway may be there before the first worker: its requests are then returned, instead of ending its connection.
    """

    vendor_ids: Sequence[str] = ()

    async def ensure(self, connection: aio_pika.abc.AbstractConnection) -> None:
        """Raises :class:`TopologyError`, as above."""
        if self.mode is not Mode.NONE:
            async with _Declaring(connection) as channel:
                await _gateway_exchanges(channel, self.names, passive=self.mode is Mode.VERIFY)

    async def missing(self, connection: aio_pika.abc.AbstractConnection) -> frozenset[str]:
        """None: it publishes no retries and no dead letters."""
        return frozenset()

    async def check_delivery_limits(self, connection: aio_pika.abc.AbstractConnection) -> list[str]:
        """None: it consumes from its own queues alone."""
        return []
