"""One life of the connections to RabbitMQ.

A session is two connections: one consumes, one publishes. The broker stops reading from a
connection that publishes while an alarm is on, and acknowledgements must still get through. When
either of them ends, or a channel or a consumer on them does, the session ends as a whole, with a
reason: its deliveries are void, and the broker delivers them again.
:class:`~bridge.rabbitmq.transport.RabbitTransport` then opens the next session, to the next host of
its list, after a pause with full jitter.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

import aiormq
from yarl import URL

from bridge.dialects.topology import Mode, Topology
from bridge.rabbitmq.binding import BindLane, private_queue
from bridge.rabbitmq.careful import KNOWN_SIZE, Sizes, refusal
from bridge.rabbitmq.connection import Connection, open_connection
from bridge.rabbitmq.consumers import Consumers
from bridge.rabbitmq.consuming import ConsumeLane
from bridge.rabbitmq.declaring import bind, see_to
from bridge.rabbitmq.delivery import Confirmable, Pending
from bridge.rabbitmq.direct import DIRECT, DirectConnection, DirectReplies
from bridge.rabbitmq.in_order import InOrder
from bridge.rabbitmq.losses import LOST, losses_as_errors, missing_exchange, retrieve
from bridge.rabbitmq.outbox import Outbox
from bridge.rabbitmq.pausing import Pauses, PauseWatch
from bridge.rabbitmq.publishing import PublishLane
from bridge.rabbitmq.renewal import renew
from bridge.rabbitmq.watch import Watch
from bridge.telemetry.logs import get_logger
from bridge.transport import Confirm, Publishing, Subscription, TopologyError, TransportError

log = get_logger("bridge.rabbitmq")

OPEN_TIMEOUT: Final = 30.0
"""Seconds for topology and consumers once a session has connected, before another host is tried. A
broker itself waits as long for what a quorum queue, or the other nodes, do not answer."""
OPEN_TIMEOUT_PER_QUEUE: Final = 1.0
"""Seconds more for each queue. A healthy broker declares, binds and consumes one in some
milliseconds."""

LAST_WORDS: Final = 0.5
"""Seconds that whoever waits for an answer has, after the end of a connection, to be told why."""
REFUSED_PAUSE: Final = 0.25
"""Seconds from a refused publishing to the next channel. An election among the replicas of a queue
takes about as long."""


class Session:
    """Two open connections with their lanes, from :meth:`open` to :attr:`ended`."""

    lane_type: type[ConsumeLane] = ConsumeLane

    # These exist once the session has connected:
    _publishing: Connection
    _consuming: Connection
    url: URL
    """Where it goes."""
    _consume_channel: aiormq.abc.AbstractChannel
    consume_lane: ConsumeLane
    """For requests and replies."""
    publish_lane: PublishLane
    """The one in use."""

    def __init__(
        self,
        name: str,
        on_blocked: Callable[[str | None], None],
        on_returned: Callable[[], None],
        on_refused: Callable[[], None] | None = None,
        time_confirm: Callable[[float], None] | None = None,
        pauses: Pauses | None = None,
    ) -> None:
        """`name`: begins the names of the connections. Host and process follow it.

        `on_blocked` is called when the broker blocks publishing, with its reason, and with None
        when it no longer does; `on_returned` for each publishing that no queue took, `on_refused`
        when the broker refuses some; `time_confirm` as
        :meth:`~bridge.transport.Transport.time_confirms` asks for it. `pauses`: what is paused;
        None: nothing ever is.
        """
        self._name = f"{name}@{socket.gethostname()}:{os.getpid()}"
        self._on_blocked = on_blocked
        self._on_returned = on_returned
        self._on_refused = on_refused
        self._time_confirm = time_confirm
        self._connections: list[Connection] = []
        """Those that are open."""
        self._outboxes: tuple[Outbox, ...] = ()
        self._watch: Watch | None = None
        self._lanes: list[ConsumeLane] = []
        """:attr:`consume_lane`; and one for requests that wait for their next try, if their queue
        is to be consumed."""
        self._publish_channels: dict[PublishLane, aiormq.abc.AbstractChannel] = {}
        """The one in use is the last; those before it wait for their confirms."""
        self._proven = KNOWN_SIZE
        """Bytes of a body that the broker is known to take."""
        self._sizes = Sizes(self._open_sizes_lane, self._end_by_publishing, self._prove)
        self._sizes_lane: PublishLane | None = None
        self._direct_replies = DirectReplies(self._open_direct_lane, self.end)
        self._consumers = Consumers()
        self._pause_watch = (
            None if pauses is None else PauseWatch(pauses, self._consumers, self.end)
        )
        self._in_order = InOrder(self._lanes, self.end)
        self._settled = asyncio.Event()
        """Acknowledgements have been sent while draining."""
        self._renewal: asyncio.Task[None] | None = None
        self._missing_exchange: str | None = None
        """The exchange whose absence has ended the session."""
        self.bind_lane: BindLane | None = None
        """Where private queues are bound by keys. None: no subscription asks for it."""
        self.blocked = False
        """The broker takes no publishings."""
        self.opened = asyncio.Event()
        """Set by whoever opened it, who has then taken it over."""
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """The reason."""
        self.reply_queue: str | None = None
        self.lenient = False
        """Take queues whose arguments have changed as they are: to consume from them is better than
        not to. Set it before the session is opened."""
        self.missing: frozenset[str] = frozenset()
        """Exchanges of the topology that do not exist."""

    async def open(
        self,
        url: URL,
        topology: Topology | None,
        subscriptions: Sequence[Subscription],
        connect_timeout: float,
    ) -> None:
        """Connect, see to the topology, consume.

        `connect_timeout`: seconds for each connection. Raises what the libraries raise, and
        TopologyError.
        """
        starting = asyncio.create_task(self._start(url, topology, subscriptions, connect_timeout))
        starting.add_done_callback(retrieve)
        try:
            await asyncio.wait((starting, self.ended), return_when=asyncio.FIRST_COMPLETED)
            # Mostly, whoever waits for an answer is told of a connection's end too, and in better
            # words; but not always.
            await asyncio.wait((starting,), timeout=LAST_WORDS)
            if not starting.done():
                raise ConnectionError(self.ended.result())
            starting.result()
        finally:
            starting.cancel()

    async def _start(
        self,
        url: URL,
        topology: Topology | None,
        subscriptions: Sequence[Subscription],
        connect_timeout: float,
    ) -> None:
        self.url = url
        self._publishing = await self._connect(url, "publish", connect_timeout)
        self._consuming = await self._connect(url, "consume", connect_timeout)
        self._watch = watch = Watch(
            self._consuming,
            self._publishing,
            consume_lanes=self._lanes,
            publish_lanes=self._publish_channels.keys(),
            is_blocked=lambda: self.blocked,
            end=self.end,
            steps=lambda: self._consumers.steps,
        )
        watch.start()
        async with asyncio.timeout(OPEN_TIMEOUT + OPEN_TIMEOUT_PER_QUEUE * len(subscriptions)):
            await self._set_up(topology, subscriptions, watch)
        if not self.ended.done():
            watch.start_audit()

    async def _connect(self, url: URL, purpose: str, connect_timeout: float) -> Connection:
        connection = await open_connection(url, f"{self._name} {purpose}", self, connect_timeout)
        self._connections.append(connection)
        return connection

    async def _set_up(
        self, topology: Topology | None, subscriptions: Sequence[Subscription], watch: Watch
    ) -> None:
        if topology is not None:
            connection = self._publishing.connection
            self.missing = await see_to(connection, topology, lenient=self.lenient)
        self.publish_lane = await self._open_publish_lane()
        self._outboxes = (self._consuming.outbox, self._publishing.outbox)
        if self._pause_watch is not None:
            await self._pause_watch.open(self._publishing, self._consuming)
        self._consume_channel, self.consume_lane = await self._consume(
            [each for each in subscriptions if not each.waits and not each.in_order]
        )
        await self._in_order.consume(self._consuming, subscriptions, self._consume)
        waiting = [each for each in subscriptions if each.waits]
        if present := await self._present(waiting, topology, watch):
            await self._consume(present)
        if self._pause_watch is not None:
            self._pause_watch.start()

    async def _open_publish_lane(self) -> PublishLane:
        lane = await self._open_lane(
            lambda reason: self._publishing_ended(lane, reason),
            on_refused=self._refused,
            aside=self._aside,
            time_confirm=self._time_confirm,
        )
        lane.proven = self._proven
        return lane

    async def _open_lane(self, on_end: Callable[[str], None], **more: Any) -> PublishLane:
        channel = await self._publishing.channel(confirms=True)
        lane = PublishLane(
            channel.number,
            self._publishing.outbox,
            self._publishing.encoder,
            on_end=on_end,
            on_returned=self._on_returned,
            **more,
        )
        self._publishing.protocol.register(channel.number, lane)
        self._publish_channels[lane] = channel
        return lane

    def _aside(self, publishing: Publishing, waiting: Confirmable) -> bool:
        """Try it alone, unless it is known that the broker takes it."""
        direct = publishing.routing_key.startswith(DIRECT) and not publishing.mandatory
        if direct and self._direct_replies.takes(publishing, waiting):
            return True
        large = len(publishing.body) > self.publish_lane.proven
        return large and self._sizes.takes(publishing, waiting)

    def _prove(self, size: int) -> None:
        self._proven = max(self._proven, size)
        if self.publish_lane.proven >= 0:
            self.publish_lane.proven = self._proven

    async def _open_sizes_lane(self, on_end: Callable[[str], None]) -> PublishLane:
        if self._sizes_lane is not None:  # the broker has closed it
            self._publish_channels.pop(self._sizes_lane, None)
        self._sizes_lane = await self._open_lane(on_end, on_refused=lambda: None)
        return self._sizes_lane

    async def _open_direct_lane(self, on_end: Callable[[str], None]) -> PublishLane:
        name = f"{self._name} reply"
        connection, lane = await DirectConnection(on_end, self.on_blocked).open(
            self.url, name, self._on_returned
        )
        self._connections = [*self._connections[:2], connection]
        return lane

    def _refused(self) -> None:
        """Publish on another channel from now on.

        A channel that meets a quorum queue while this has no leader is refused for good, long after
        there is a new one (seen on RabbitMQ 3.10, of queues with overflow reject-publish).
        """
        if self._on_refused is not None:
            self._on_refused()
        self._renew(REFUSED_PAUSE)

    def _renew(self, pause: float) -> None:
        if not self.ended.done() and (self._renewal is None or self._renewal.done()):
            self._renewal = asyncio.create_task(self._renew_publish_lane(pause))

    async def _renew_publish_lane(self, pause: float) -> None:
        await asyncio.sleep(pause)
        with contextlib.suppress(*LOST, TransportError), losses_as_errors():
            self.publish_lane = await self._open_publish_lane()
            for consuming in self._lanes:
                consuming.replies = self.publish_lane
            for lane, channel in list(self._publish_channels.items()):
                in_use = lane is self.publish_lane or lane is self._sizes_lane
                if not in_use and not lane.unconfirmed:
                    del self._publish_channels[lane]
                    await channel.close()
                    self._publishing.protocol.unregister(channel.number)

    async def _present(
        self, subscriptions: Sequence[Subscription], topology: Topology | None, watch: Watch
    ) -> Sequence[Subscription]:
        """Those whose queue exists."""
        if topology is not None and topology.mode is not Mode.NONE:
            return subscriptions  # just seen to
        return [each for each in subscriptions if await watch.look_at(each.queue) is not None]

    async def _consume(
        self, subscriptions: Sequence[Subscription], lane_type: type[ConsumeLane] | None = None
    ) -> tuple[aiormq.abc.AbstractChannel, ConsumeLane]:
        """From these queues, on a channel of their own."""
        channel, outbox = await self._consuming.channel(confirms=False), self._consuming.outbox
        lane = (lane_type or self.lane_type)(
            channel.number, outbox, self.publish_lane, on_end=self.end, on_settled=self._settled.set
        )
        lane.hold = self.blocked  # since before
        self._lanes.append(lane)
        self._consuming.protocol.register(channel.number, lane)
        prefetch = -1
        for subscription in subscriptions:
            if subscription.prefetch != prefetch:
                prefetch = subscription.prefetch
                await channel.basic_qos(prefetch_count=prefetch)
            if subscription.queue:
                await self._consume_from(channel, lane, subscription.queue, subscription)
                continue
            count = subscription.queues if subscription.exchange else 1
            length = subscription.max_length
            queues = [await private_queue(channel, length) for _ in range(count)]
            for queue in queues:
                for binding in subscription.bindings:
                    await bind(channel, queue, binding)
                await self._consume_from(channel, lane, queue, subscription)
            if subscription.exchange:
                await self._open_bind_lane(subscription.exchange, queues)
            else:
                self.reply_queue = queues[0]
        return channel, lane

    async def _consume_from(
        self,
        channel: aiormq.abc.AbstractChannel,
        lane: ConsumeLane,
        queue: str,
        subscription: Subscription,
    ) -> None:
        consumer = self._consumers.add(channel, lane, queue, subscription)
        if self._pause_watch is None or not self._pause_watch.holds(subscription.pause_key):
            await self._consumers.start(consumer)

    @property
    def consumes(self) -> bool:
        """Whether deliveries may have come, even if it is not quite open yet."""
        return bool(self._lanes)

    @property
    def unsettled(self) -> int:
        """Deliveries that the broker still waits for."""
        return sum(lane.unsettled for lane in self._lanes)

    async def _open_bind_lane(self, exchange: str, queues: Sequence[str]) -> None:
        """Raises TopologyError if there is no such exchange.

        Else the first key that is bound to it would end each session.
        """
        channel = await self._consuming.channel(confirms=False)
        try:
            await channel.exchange_declare(exchange, passive=True)
        except aiormq.exceptions.AMQPChannelError as error:
            raise TopologyError(
                f"exchange {exchange!r} cannot be bound to: {error.args[0]}"
            ) from error
        self.bind_lane = BindLane(
            channel.number, self._consuming.outbox, exchange, queues, on_end=self.end
        )
        self._consuming.protocol.register(channel.number, self.bind_lane)

    def publish(self, publishing: Publishing, on_confirm: Callable[[Confirm], None]) -> None:
        """Send it. `on_confirm` is called once. Raises ValueError for what AMQP cannot carry."""

        def confirmed(confirm: Confirm) -> None:
            nowhere = confirm is Confirm.LOST and publishing.exchange == self._missing_exchange
            on_confirm(Confirm.RETURNED if nowhere else confirm)

        self.publish_lane.publish(publishing, Pending(publishing, confirmed))

    def _publishing_ended(self, lane: PublishLane, reason: str) -> None:
        """The broker has closed a channel.

        It has refused one publishing for good, and does not say which: one of those on their way.
        So each of them is tried again, alone.
        """
        if refusal(reason) is None:
            self._end_by_publishing(reason)
            return
        log.warning("publishing channel closed", reason=reason, unconfirmed=lane.unconfirmed)
        self._publish_channels.pop(lane, None)
        for waiting in lane.hand_over():
            if waiting.publishing is not None:
                self._sizes.add(waiting.publishing, waiting)
        if lane is self.publish_lane:
            self._renew(0.0)

    def _end_by_publishing(self, reason: str) -> None:
        """A publishing to an exchange that does not exist ends its channel.

        No queue took it, and none would the next time: that publishing is returned.
        """
        self._missing_exchange = missing_exchange(reason) or self._missing_exchange
        self.end(reason)

    async def cancel_consumers(self) -> None:
        """Have the broker send no more requests."""
        if self._watch is not None:
            self._watch.stop_audit()
        if self._pause_watch is not None:
            await self._pause_watch.finish()
        await self._consumers.stop_requests(self.ended)

    async def ping(self, timeout: float) -> None:
        """As :meth:`~bridge.rabbitmq.watch.Watch.ping`."""
        if self._watch is not None:
            await self._watch.ping(timeout)

    async def settled(self) -> None:
        """Wait until every delivery is settled and its acknowledgement on its way, or the end."""
        for lane in self._lanes:
            lane.draining = True
        await self._in_order.leave()
        while self.unsettled and not self.ended.done():
            self._settled.clear()
            await self.until(self._settled)
            await self._in_order.leave()
        for outbox in self._outboxes:
            outbox.flush()

    async def until(self, event: asyncio.Event) -> None:
        """Wait for something, or for the end."""
        happened = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait((happened, self.ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            happened.cancel()

    async def renew(self, urls: Sequence[URL]) -> None:
        """Go on with the password that `urls` have now for this host and user. Never raises."""
        self.url = await renew(tuple(self._connections), self.url, urls)

    def end(self, reason: str) -> None:
        """Its life is over. The first reason counts."""
        if not self.ended.done():
            self.ended.set_result(reason)

    def void(self) -> None:
        """From now on, settling and publishing do nothing."""
        self.end("closed")
        self._in_order.stop()
        if self._watch is not None:
            self._watch.stop()
        if self._renewal is not None:
            self._renewal.cancel()
        for lane in self._lanes:
            lane.close()
        for publishing in self._publish_channels:
            publishing.close()
        self._sizes.close()
        self._direct_replies.close()
        if self._pause_watch is not None:
            self._pause_watch.stop()

    async def close(self) -> None:
        """End it in order, so that the broker has read every frame sent before."""
        self.void()
        for connection in reversed(self._connections):
            await connection.close()

    async def abandon(self) -> None:
        """Leave connections that are lost. Whoever hangs at their other end is not waited for."""
        self.void()
        for connection in self._connections:
            connection.abort()
        await self.close()

    # As a listener of its connections:

    def on_ended(self, reason: str) -> None:
        self.end(reason if self._watch is None else reason + self._watch.excuse())

    def on_blocked(self, reason: str | None) -> None:
        self.blocked = reason is not None
        if self.blocked and self._pause_watch is not None:
            self._pause_watch.wait_no_more()
        self.on_paused()
        self._on_blocked(reason)

    def on_paused(self) -> None:
        """Start no handler whose reply could not be sent: what waits is bounded by the prefetch."""
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
