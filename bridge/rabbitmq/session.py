"""One life of the connections to RabbitMQ.

A session is two connections: one consumes, one publishes, because the broker stops reading from a connection that publishes
while an alarm is on, and acknowledgements must still get through. When either of them ends, or a channel or a consumer
on them does, the session ends as a whole, with a reason: its deliveries are void, the broker delivers them again.
:class:`~bridge.rabbitmq.transport.RabbitTransport` then opens the next session, to the next host of its list, after a pause with full jitter.
"""

import asyncio
import contextlib
import itertools
import math
import re
from collections.abc import Callable, Sequence
from typing import Final

import aiormq
from yarl import URL

from bridge.dialects.topology import Mode, Topology
from bridge.rabbitmq.binding import BindLane, BindReader
from bridge.rabbitmq.connection import CLOSE_TIMEOUT, Link
from bridge.rabbitmq.consuming import ConsumeLane
from bridge.rabbitmq.declaring import bind, check_delivery_limits, ensure, missing
from bridge.rabbitmq.delivery import Pending
from bridge.rabbitmq.frames.reading import ContentReader
from bridge.rabbitmq.losses import LOST, losses_as_errors
from bridge.rabbitmq.outbox import Outbox
from bridge.rabbitmq.publishing import PublishLane
from bridge.telemetry.logs import get_logger
from bridge.transport import Confirm, Publishing, Subscription, TopologyError

log = get_logger("bridge.rabbitmq")

OPEN_TIMEOUT: Final = 30.0
"""Seconds for topology and consumers of a session that has connected, before another host is tried: as long as a broker itself
waits for what a quorum queue, or the other nodes, do not answer."""
OPEN_TIMEOUT_PER_QUEUE: Final = 1.0
"""Seconds more for each queue; declared, bound and consumed in some milliseconds by a broker that is well."""

LAST_WORDS: Final = 0.5
"""Seconds from the end of a connection until nobody is to be told more about it."""
SILENCE: Final = 2.0
"""Heartbeats without a byte from the broker after which a connection is dead: it sends one each half interval."""
REFUSED_PAUSE: Final = 0.25
"""Seconds from a refused publishing to the next channel: an election among the replicas of a queue takes about as long."""
AUDIT: Final = 30.0
"""Seconds between two looks at whether the broker still knows our consumers."""
_NO_EXCHANGE: Final = re.compile("404 NOT_FOUND - no exchange '(.+)' in vhost")


def _see(task: "asyncio.Task[None]") -> None:
    """Whoever started it may have gone before it failed."""
    if not task.cancelled():
        task.exception()


class Session:
    """Two open connections with their lanes, from :meth:`open` to :attr:`ended`."""

    lane_type: type[ConsumeLane] = ConsumeLane

    def __init__(
        self, name: str, on_blocked: Callable[[str | None], None], on_returned: Callable[[], None]
    ) -> None:
        self._consuming = Link(self, f"{name} consume")
        self._publishing = Link(self, f"{name} publish")
        self._on_blocked = on_blocked
        self._on_returned = on_returned
        self._watchdog: asyncio.TimerHandle | None = None
        self._outboxes: tuple[Outbox, ...] = ()
        self._consumers: list[tuple[aiormq.abc.AbstractChannel, str]] = []
        """Each with its channel and its tag, but for those of replies, which are wanted to the end."""
        self._numbers = itertools.count(1)
        """Of consumer tags."""
        self._publish_channels: list[tuple[PublishLane, aiormq.abc.AbstractChannel]] = []
        """The one in use is the last; those before it wait for their confirms."""
        self._renewal: asyncio.Task[None] | None = None
        self._audit: asyncio.Task[None] | None = None
        self._audit_channel: aiormq.abc.AbstractChannel | None = None
        self._confirmed = -1
        """Publishings confirmed when last looked at."""
        self._confirmed_at = 0.0
        """When they were more than the time before, or none was waited for; by the loop's clock."""
        self._missing_exchange: str | None = None
        self.bind_lane: BindLane | None = None
        """Where private queues are bound by keys; None: no subscription asks for it."""
        self.blocked = False
        self.opened = asyncio.Event()
        """Set by who opened it and has taken it over."""
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """The reason."""
        self.reply_queue: str | None = None
        self.missing: frozenset[str] = frozenset()
        """Exchanges of the contract that are not there."""
        self.publish_lane: PublishLane
        self.consume_lane: ConsumeLane
        """For requests and replies."""
        self._consume_channel: aiormq.abc.AbstractChannel
        self._lanes: list[ConsumeLane] = []
        """That one; and one for requests that wait for their next try, if any are to be consumed."""

    async def open(
        self,
        url: URL,
        topology: Topology | None,
        subscriptions: Sequence[Subscription],
        connect_timeout: float,
    ) -> None:
        """Connect, see to the topology, consume. Raises what the libraries raise, and TopologyError."""
        starting = asyncio.create_task(self._start(url, topology, subscriptions, connect_timeout))
        starting.add_done_callback(_see)
        try:
            await asyncio.wait((starting, self.ended), return_when=asyncio.FIRST_COMPLETED)
            # What ends a connection is told to whoever waits for an answer as well, and in better words; but not always.
            await asyncio.wait((starting,), timeout=LAST_WORDS)
            if not starting.done():
                raise ConnectionError(self.ended.result())
            starting.result()
        finally:
            starting.cancel()
        self._audit = asyncio.create_task(self._keep_auditing())

    async def _start(
        self,
        url: URL,
        topology: Topology | None,
        subscriptions: Sequence[Subscription],
        connect_timeout: float,
    ) -> None:
        await self._publishing.open(url, connect_timeout)
        await self._consuming.open(url, connect_timeout)
        self._watch()
        async with asyncio.timeout(OPEN_TIMEOUT + OPEN_TIMEOUT_PER_QUEUE * len(subscriptions)):
            await self._set_up(topology, subscriptions)

    async def _set_up(
        self, topology: Topology | None, subscriptions: Sequence[Subscription]
    ) -> None:
        if topology is not None:
            assert self._publishing.connection is not None  # noqa: S101 - just opened
            await ensure(self._publishing.connection, topology)
            self.missing = await missing(self._publishing.connection, topology)
            for warning in await check_delivery_limits(self._publishing.connection, topology):
                log.warning("delivery limit", warning=warning)
        await self._open_publish_lane()
        self._outboxes = (self._consuming.outbox, self._publishing.outbox)
        self._publishing.outbox.on_paused = self._adjust_hold
        self._consume_channel, self.consume_lane = await self._consume(
            [each for each in subscriptions if not each.waits]
        )
        if waiting := await self._present([each for each in subscriptions if each.waits], topology):
            await self._consume(waiting)

    async def _open_publish_lane(self) -> None:
        channel = await self._publishing.channel(confirms=True)
        self.publish_lane = lane = PublishLane(
            channel.number, self._publishing.outbox, self._publishing.frame_max
        )
        lane.on_end = self._publishing_ended
        lane.on_returned = self._on_returned
        lane.on_refused = self._refused
        self._publishing.protocol.readers[channel.number] = ContentReader(lane, channel.number)
        self._publish_channels.append((lane, channel))

    def _refused(self) -> None:
        """Publish on another channel from now on.

        One that meets a quorum queue while this has no leader is refused for good, long after there is a new one (seen
        on RabbitMQ 3.10, of queues with overflow reject-publish).
        """
        if not self.ended.done() and (self._renewal is None or self._renewal.done()):
            self._renewal = asyncio.create_task(self._renew_publish_lane())

    async def _renew_publish_lane(self) -> None:
        await asyncio.sleep(REFUSED_PAUSE)
        with contextlib.suppress(*LOST), losses_as_errors():
            await self._open_publish_lane()
            for consuming in self._lanes:
                consuming.replies = self.publish_lane
            for lane, channel in self._publish_channels[:-1]:
                if not lane.unconfirmed:
                    self._publish_channels.remove((lane, channel))
                    await channel.close()
                    self._publishing.protocol.readers.pop(channel.number, None)

    def _watch(self) -> None:
        """See to it that a peer is noticed which is gone without a word (a dead host, a black hole), or cut off from its cluster."""
        for link in (self._consuming, self._publishing):
            if link.silent_for > SILENCE:
                self.end(
                    f"{link.name}: no sign of life from the broker for {SILENCE * link.protocol.heartbeat:g} s"
                )
                return
        heartbeat = self._consuming.protocol.heartbeat
        if self._without_confirm() > SILENCE * heartbeat:
            self.end(
                f"{self._publishing.name}: the broker has confirmed nothing for {SILENCE * heartbeat:g} s"
            )
            return
        if heartbeat < math.inf:
            self._watchdog = asyncio.get_running_loop().call_later(heartbeat / 2, self._watch)

    def _without_confirm(self) -> float:
        """Seconds in which publishings have waited for confirms and none at all has come.

        A node that has lost its majority goes on living, and takes what it can neither keep nor pass on: RabbitMQ 4.3 has no
        partition handling that would stop it.
        """
        now = asyncio.get_running_loop().time()
        confirmed = sum(lane.confirmed for lane, _ in self._publish_channels)
        waiting = any(lane.unconfirmed for lane, _ in self._publish_channels)
        if confirmed != self._confirmed or not waiting or self.blocked:
            self._confirmed, self._confirmed_at = confirmed, now
        return now - self._confirmed_at

    async def _keep_auditing(self) -> None:
        """Notice "connected but not consuming": a consumer that the broker has forgotten, without a word to us.

        It has when a queue of ours has no consumer at all; or when messages wait and none has come in between two looks,
        although nothing is in hand. A broker that has nothing to say of a queue has lost touch with it.
        """
        last = [-1] * len(self._lanes)
        with contextlib.suppress(*LOST), losses_as_errors():
            while not self.ended.done():
                await asyncio.sleep(AUDIT)
                for number, lane in enumerate(self._lanes):
                    quiet, last[number] = (
                        lane.received == last[number] and not lane.unsettled,
                        lane.received,
                    )
                    for queue in lane.queues:
                        try:
                            found = await self._look_at(queue)
                        except TimeoutError:
                            self.end(f"not consuming: the broker says nothing of queue {queue!r}")
                            return
                        if found is not None and (found[1] == 0 or (quiet and found[0] > 0)):
                            waiting, consumers = found
                            self.end(
                                f"not consuming: queue {queue!r} has {consumers} consumers "
                                f"and {waiting} messages waiting"
                            )
                            return

    async def _look_at(self, queue: str) -> tuple[int, int] | None:
        """Messages ready and consumers of a queue; None: it cannot be asked, or is not there."""
        if self._audit_channel is None or self._audit_channel.is_closed:
            # Of the connection that goes on being read while an alarm is on.
            self._audit_channel = await self._consuming.channel(confirms=False)
        try:
            declared = await self._audit_channel.queue_declare(
                queue, passive=True, timeout=CLOSE_TIMEOUT
            )
        except aiormq.exceptions.AMQPChannelError:
            return None
        return declared.message_count or 0, declared.consumer_count or 0

    async def _present(
        self, subscriptions: Sequence[Subscription], topology: Topology | None
    ) -> Sequence[Subscription]:
        """Those whose queue is there."""
        if topology is not None and topology.mode is not Mode.NONE:
            return subscriptions  # just seen to
        return [each for each in subscriptions if await self._look_at(each.queue) is not None]

    async def _consume(
        self, subscriptions: Sequence[Subscription]
    ) -> tuple[aiormq.abc.AbstractChannel, ConsumeLane]:
        """From these queues, on a channel of their own."""
        channel = await self._consuming.channel(confirms=False)
        lane = self.lane_type(channel.number, self._consuming.outbox, self.publish_lane)
        lane.on_end = self.end
        self._lanes.append(lane)
        self._consuming.protocol.readers[channel.number] = ContentReader(lane, channel.number)
        prefetch = -1
        for subscription in subscriptions:
            if subscription.prefetch != prefetch:
                prefetch = subscription.prefetch
                await channel.basic_qos(prefetch_count=prefetch)
            if subscription.queue:
                await self._consume_from(channel, lane, subscription.queue, subscription)
                continue
            count = subscription.queues if subscription.exchange else 1
            queues = [await self._private_queue(channel) for _ in range(count)]
            for queue in queues:
                for binding in subscription.bindings:
                    await bind(channel, queue, binding)
                await self._consume_from(channel, lane, queue, subscription)
            if subscription.exchange:
                await self._open_bind_lane(subscription.exchange, queues)
            else:
                self.reply_queue = queues[0]
        return channel, lane

    async def _private_queue(self, channel: aiormq.abc.AbstractChannel) -> str:
        declared = await channel.queue_declare("", exclusive=True, auto_delete=True)
        return str(declared.queue)

    async def _consume_from(
        self,
        channel: aiormq.abc.AbstractChannel,
        lane: ConsumeLane,
        queue: str,
        subscription: Subscription,
    ) -> None:
        tag = f"dtbridge-{next(self._numbers)}"
        lane.subscribe(tag, subscription)
        try:
            await channel.basic_consume(queue, _never, no_ack=subscription.no_ack, consumer_tag=tag)
        except (
            aiormq.exceptions.ChannelNotFoundEntity,
            aiormq.exceptions.ChannelAccessRefused,
        ) as error:
            raise TopologyError(f"queue {queue!r} cannot be consumed: {error.args[0]}") from error
        if subscription.queue or subscription.exchange:
            self._consumers.append((channel, tag))

    @property
    def consumes(self) -> bool:
        """Deliveries may have come, even if it is not quite open yet."""
        return bool(self._lanes)

    @property
    def unsettled(self) -> int:
        """Deliveries that the broker still waits for."""
        return sum(lane.unsettled for lane in self._lanes)

    async def _open_bind_lane(self, exchange: str, queues: Sequence[str]) -> None:
        """An exchange that is not there would end each session at its first key: better told now."""
        channel = await self._consuming.channel(confirms=False)
        try:
            await channel.exchange_declare(exchange, passive=True)
        except (
            aiormq.exceptions.ChannelNotFoundEntity,
            aiormq.exceptions.ChannelAccessRefused,
        ) as error:
            raise TopologyError(
                f"exchange {exchange!r} cannot be bound to: {error.args[0]}"
            ) from error
        self.bind_lane = lane = BindLane(channel.number, self._consuming.outbox, exchange, queues)
        lane.on_end = self.end
        self._consuming.protocol.readers[channel.number] = BindReader(lane, channel.number)

    def publish(self, publishing: Publishing, on_confirm: Callable[[Confirm], None]) -> None:
        def confirmed(confirm: Confirm) -> None:
            nowhere = confirm is Confirm.LOST and publishing.exchange == self._missing_exchange
            on_confirm(Confirm.RETURNED if nowhere else confirm)

        self.publish_lane.publish(publishing, Pending(publishing, confirmed))

    def _publishing_ended(self, reason: str) -> None:
        """A publishing to an exchange that is not there ends its channel; no queue took it, and none would the next time."""
        missing = _NO_EXCHANGE.search(reason)
        if missing is not None:
            self._missing_exchange = missing[1]
        self.end(reason)

    async def cancel_consumers(self) -> None:
        """Have the broker send no more requests. It deletes private queues with their last consumer, and so their bindings."""
        if self._audit is not None:
            self._audit.cancel()
        for channel, tag in self._consumers:
            if self.ended.done():
                return
            await channel.basic_cancel(tag)

    async def settled(self) -> None:
        """Wait until no delivery is unsettled and the acknowledgements are on their way, or the session has ended."""
        done = asyncio.Event()
        for lane in self._lanes:
            lane.on_settled = done.set
            lane.draining = True
        while self.unsettled and not self.ended.done():
            done.clear()
            await self.until(done)
        for outbox in self._outboxes:
            outbox.flush()

    async def until(self, event: asyncio.Event) -> None:
        """Wait for something, or for the end."""
        happened = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait((happened, self.ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            happened.cancel()

    def end(self, reason: str) -> None:
        """Its life is over; the first reason counts."""
        if not self.ended.done():
            self.ended.set_result(reason)

    def void(self) -> None:
        """From now on settling and publishing do nothing."""
        self.end("closed")
        if self._watchdog is not None:
            self._watchdog.cancel()
        if self._audit is not None:
            self._audit.cancel()
        if self._renewal is not None:
            self._renewal.cancel()
        for lane in self._lanes:
            lane.close()
        for publishing, _ in self._publish_channels:
            publishing.close()

    async def close(self) -> None:
        """Orderly, so that the broker has read every frame sent before."""
        self.void()
        await self._consuming.close()
        await self._publishing.close()

    async def abandon(self) -> None:
        """Leave connections that are lost: whoever hangs at their other end is not waited for."""
        self.void()
        self._consuming.abort()
        self._publishing.abort()
        await self._consuming.close()
        await self._publishing.close()

    def on_blocked(self, reason: str | None) -> None:
        self.blocked = reason is not None
        self._adjust_hold()
        self._on_blocked(reason)

    def _adjust_hold(self) -> None:
        """Start no handler whose reply could not be sent: what waits stays bounded by the prefetch."""
        if not self._outboxes:
            return
        hold = self.blocked or self._publishing.outbox.paused
        for lane in self._lanes:
            if hold:
                lane.hold = True
            elif lane.hold:
                lane.release()

    def before_turn(self) -> None:
        for outbox in self._outboxes:
            outbox.due = True

    def after_turn(self) -> None:
        for outbox in self._outboxes:
            outbox.flush()


async def _never(_: object) -> None:
    """aiormq's callback for deliveries; the lane takes them all before it sees one."""
