"""Consumes queues whose messages are to be handled in order, by one worker at a time.

Such a queue has a single active consumer: the broker gives messages to one consumer, and to the
next when that is gone. To cancel a consumer, as others are when a worker stops, would make the next
one active while the first still has messages in hand, and so the order would be lost. A queue whose
consumer goes with its channel takes back first what that had in hand, each message in its old
place, and then looks for the next. So each queue of this kind has a channel of its own, which is
closed when what was begun has been settled; until then, what comes is not touched.

**Shares.** The worker that comes first is the active one everywhere, and those that come later only
stand by. So each looks from time to time how many queues of a vendor it is given messages from, and
how many workers there are. Of those beyond its share it lets go in the same way, and stands by for
them: the next in line has them then. Of a queue with a single active consumer the broker counts
that one alone; the vendor's own queue tells how many workers there are.
"""

import asyncio
import contextlib
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import aiormq
import msgspec

from bridge.dialects.partitions import own_queue
from bridge.rabbitmq.connection import Connection
from bridge.rabbitmq.consuming import ConsumeLane
from bridge.rabbitmq.losses import LOST, losses_as_errors
from bridge.telemetry.logs import get_logger
from bridge.transport import Properties, Subscription, TopologyError, Verdict

log = get_logger("bridge.rabbitmq")

SHARE_EVERY: Final = 5.0
"""Seconds between two looks at the shares, on average."""
LET_GO_WITHIN: Final = 30.0
"""Seconds in which what is in hand of a queue must have been settled, to let go of it. Handlers
take up to 20 s."""

Consume = Callable[
    [Sequence[Subscription], type[ConsumeLane]],
    Awaitable[tuple[aiormq.abc.AbstractChannel, ConsumeLane]],
]


class InOrderLane(ConsumeLane):
    """A channel whose last deliveries are left to it, to go back when it is closed."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """As :class:`~bridge.rabbitmq.consuming.ConsumeLane`."""
        super().__init__(*arguments, **options)
        self._left = 0
        self._kept = 0
        """Of those, the ones that were never handed on."""
        self._leaving = False
        self.idle = asyncio.Event()
        """Set when nothing is at work, while it lets go."""

    def let_go(self) -> None:
        """Hand on nothing more."""
        self._leaving = self.hold = self.draining = True
        if not self.unsettled:
            self.idle.set()

    def stay(self) -> None:
        """Take that back."""
        self._leaving = self.draining = False
        self._left -= self._kept
        self._kept = 0
        self.release()

    @property
    def unsettled(self) -> int:
        """Deliveries that are at work: what is left to the channel waits for nothing."""
        return super().unsettled - self._left

    def on_deliver(
        self,
        consumer_tag: bytes,
        delivery_tag: int,
        redelivered: bool,
        exchange: str,
        routing_key: str,
        properties: Properties | None,
        body: bytes,
    ) -> None:
        super().on_deliver(
            consumer_tag, delivery_tag, redelivered, exchange, routing_key, properties, body
        )
        if self._leaving and properties is not None:
            self._left += 1
            self._kept += 1

    def finish(self, tag: int, verdict: Verdict | None) -> None:
        """As the lane of others does, but for what is left."""
        if verdict is Verdict.LEAVE:
            self._left += 1
        else:
            super().finish(tag, verdict)
        if self._leaving and not self.unsettled:
            self.idle.set()

    def release(self) -> None:
        """As the lane of others does, unless nothing more is to be handed on."""
        if not self._leaving:
            super().release()


class _Queue(msgspec.Struct, eq=False):
    """One of these queues, and how it is consumed."""

    subscription: Subscription
    channel: aiormq.abc.AbstractChannel
    lane: ConsumeLane
    received: int = 0
    """Deliveries at the last look."""


class InOrder:
    """The channels of such queues, until they have been left."""

    def __init__(self, lanes: list[ConsumeLane], end: Callable[[str], None]) -> None:
        """`lanes`: all those of the session, in which the present ones are kept.

        `end`: called with the reason if a queue that was let go of cannot be consumed again.
        """
        self._lanes = lanes
        self._end = end
        self._open: list[_Queue] = []
        self._sharing: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    async def consume(
        self, connection: Connection, subscriptions: Sequence[Subscription], consume: Consume
    ) -> None:
        """From those that are in order. `consume`: does it, on a channel of its own."""
        self._connection = connection
        self._consume = consume
        for each in subscriptions:
            if each.in_order:
                self._open.append(_Queue(each, *await consume([each], InOrderLane)))
        if self._open:
            self._sharing = asyncio.create_task(self._share(), name="dtbridge-shares")

    def stop(self) -> None:
        """Let go of nothing more.

        What is asked of the broker just now is not cancelled: the library would close the channel
        a second time, and the broker the connection.
        """
        self._stopping.set()

    async def leave(self) -> None:
        """Close the channels on which nothing is at work any more: the worker is to stop."""
        self.stop()
        if self._sharing is not None:
            await asyncio.wait((self._sharing,))
        for each in tuple(self._open):
            if not each.lane.unsettled:
                self._open.remove(each)
                await self._close(each)

    async def _close(self, queue: _Queue) -> None:
        self._connection.outbox.flush()  # acknowledgements go before the end of the channel
        queue.lane.close()
        await queue.channel.close()
        self._connection.protocol.unregister(queue.channel.number)

    async def _share(self) -> None:
        with contextlib.suppress(*LOST), losses_as_errors():
            try:
                await self._keep_shares()
            except TopologyError as error:
                self._end(str(error))  # the next session says what is missing, and tries again

    async def _keep_shares(self) -> None:
        while not await self._stops_within(SHARE_EVERY * random.uniform(0.5, 1.5)):
            vendors: dict[str, list[_Queue]] = {}
            for each in self._open:
                vendors.setdefault(own_queue(each.subscription.queue), []).append(each)
            for vendor, queues in vendors.items():
                active = [each for each in queues if each.lane.received > each.received]
                for each in queues:
                    each.received = each.lane.received
                if len(active) > 1:
                    share = math.ceil(len(queues) / await self._workers(vendor))
                    await asyncio.gather(*map(self._let_go, active[share:]))

    async def _stops_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        return self._stopping.is_set()

    async def _workers(self, queue: str) -> int:
        """How many consume the vendor's own queue, this one included."""
        channel = await self._connection.channel(confirms=False)
        declared = await channel.queue_declare(queue, passive=True)
        await channel.close()
        return max(1, declared.consumer_count or 0)

    async def _let_go(self, queue: _Queue) -> None:
        """Settle what is in hand, have others be given the rest, and stand by."""
        lane = queue.lane
        if not isinstance(lane, InOrderLane) or lane.hold:
            return
        lane.let_go()
        waiting = [asyncio.create_task(each.wait()) for each in (lane.idle, self._stopping)]
        try:
            await asyncio.wait(waiting, timeout=LET_GO_WITHIN, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
        if self._stopping.is_set():
            return  # all will be left
        if not lane.idle.is_set():
            lane.stay()
            return
        self._open.remove(queue)
        await self._close(queue)
        name = queue.subscription.queue
        log.info("stands by", queue=name, reason="other workers have no share of its vendor")
        again = await self._consume([queue.subscription], InOrderLane)
        self._open.append(_Queue(queue.subscription, *again))
        self._lanes.remove(lane)
