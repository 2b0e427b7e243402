"""One life of the connections to RabbitMQ, and the supervisor that starts the next.

A session is two connections: one consumes, one publishes, because the broker stops reading from a connection that publishes
while an alarm is on, and acknowledgements must still get through. When either of them ends, or a channel or a consumer
on them does, the session ends as a whole, with a reason: its deliveries are void, the broker delivers them again.
:class:`RabbitTransport` then opens the next session, to the next host of its list, after a pause with full jitter.
"""

import asyncio
import contextlib
import itertools
import math
import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import aio_pika
import aiormq
import structlog
from yarl import URL

from bridge.broker.bindings import Bindings, BindLane, BindReader
from bridge.broker.frames import ContentReader
from bridge.broker.lane import ConsumeLane, LaneProtocol, LaneTransportFactory, Outbox, Pending, PublishLane
from bridge.broker.topology import Mode, Topology, bind
from bridge.transport import (
    BrokerUnreachable,
    Confirm,
    Publishing,
    State,
    StateListener,
    Subscription,
    TopologyError,
    TransportError,
)

log = structlog.get_logger("bridge.broker")

HEARTBEAT: Final = 10
"""Seconds between heartbeats: a dead peer is noticed within 20 to 30 s. RabbitMQ advises 5 to 20."""
_HEARTBEAT_MAX: Final = 65_535
"""Seconds; a short integer in Connection.Tune (AMQP 0-9-1 §1.4.2.6)."""
CONNECT_TIMEOUT: Final = 10.0
"""Seconds for TCP, TLS and login to one host."""
START_TIMEOUT: Final = 15.0
"""Seconds that a process tries to reach a broker when it starts, before it gives up."""
BACK_OFF_FIRST: Final = 0.1
"""Seconds: the longest pause before the first attempt to reconnect; doubled for each one after it."""
BACK_OFF_LONGEST: Final = 4.0
"""Seconds: the longest pause between attempts. A fleet that comes back must not arrive all at once, nor be late: within 5 s of
a broker's return, every worker consumes again."""

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
CLOSE_TIMEOUT: Final = 5.0
"""Seconds for the farewells of an orderly close; a broker that hangs does not answer them."""

_NOT_ALLOWED: Final = " 530 "
"""The reply code for a virtual host that is not there, or not for this user (AMQP 0-9-1 §1.2)."""
_NO_EXCHANGE: Final = re.compile("404 NOT_FOUND - no exchange '(.+)' in vhost")

NO_LIMIT: Final = 131_072
"""Bytes of a frame when the broker names no limit (0): RabbitMQ's default."""

_LOST: Final = (
    aio_pika.exceptions.AMQPError,
    aiormq.exceptions.AMQPError,
    OSError,
    asyncio.TimeoutError,
    RuntimeError,  # aiormq: "connection closed" while something waits for it
)


@contextlib.contextmanager
def losses_as_errors() -> Iterator[None]:
    """What is awaited within tells a lost connection by an error, ConnectionError at worst, and a cancellation by CancelledError.

    aiormq does not always: whoever waits for the broker's answer when the connection is lost may be "cancelled", or get a bare
    Exception, and a task that nobody wanted to stop would end without a word. A real cancellation it swallows at certain
    moments of connecting.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - it is for coroutines
    cancellations = task.cancelling()
    try:
        yield
    except BaseException as error:
        if task.cancelling() > cancellations:
            raise asyncio.CancelledError from error
        if isinstance(error, asyncio.CancelledError) or type(error) is Exception:
            raise ConnectionError("the connection was lost") from error
        raise
    if task.cancelling() > cancellations:
        raise asyncio.CancelledError


def _see(task: "asyncio.Task[None]") -> None:
    """Whoever started it may have gone before it failed."""
    if not task.cancelled():
        task.exception()


def back_off(failures: int) -> float:
    """Seconds to wait after that many failures in a row: anything up to the doubled limit ("full jitter")."""
    return random.uniform(0, min(BACK_OFF_LONGEST, BACK_OFF_FIRST * 2.0 ** min(failures, 16)))  # noqa: S311 - jitter


def printable(url: URL) -> str:
    """A URL without its password and options, for people."""
    shown = url.with_query(None)
    return str(shown.with_password("***") if shown.password else shown)


def parse_urls(texts: Sequence[str]) -> list[URL]:
    """Broker URLs, checked. Raises ValueError with a sentence for one that is none."""
    urls = []
    for text in texts:
        try:
            url = URL(text)
        except ValueError as error:
            raise ValueError(f"{text!r} is not a URL: {error}") from None
        if url.scheme not in {"amqp", "amqps"} or not url.host:
            raise ValueError(
                f"{text!r} is not a broker URL: expected amqp://user:password@host:5672/vhost or amqps://…"
            )
        heartbeat = url.query.get("heartbeat", str(HEARTBEAT))
        if not heartbeat.isdecimal() or int(heartbeat) > _HEARTBEAT_MAX:
            raise ValueError(
                f"heartbeat={heartbeat} of {printable(url)} is not a number of seconds up to {_HEARTBEAT_MAX}"
            )
        urls.append(url)
    if not urls:
        raise ValueError("no broker URL is given")
    return urls


class _Link:
    """One of the two connections."""

    def __init__(self, session: "Session", name: str) -> None:
        self._session = session
        self.name = name
        self.factory = LaneTransportFactory(self)
        self.connection: aio_pika.Connection | None = None

    async def open(self, url: URL, timeout: float) -> None:  # noqa: ASYNC109 - the library's own, which names what it waited for
        heartbeat = url.query.get("heartbeat", str(HEARTBEAT))
        self.connection = connection = aio_pika.Connection(url.update_query(heartbeat=heartbeat, name=self.name))
        connection.kwargs["transport_factory"] = self.factory
        try:
            await connection.connect(timeout=timeout)
        except aiormq.exceptions.InvalidFrameError as error:
            # The broker's words on the virtual host: the library reads Connection.Close in place of OpenOk as a broken frame.
            reason = self.factory.protocol and self.factory.protocol._reason  # noqa: SLF001 - its other half
            raise aiormq.exceptions.ConnectionClosed(reason or error) from error
        self.protocol.heartbeat = float(heartbeat) or math.inf
        self.protocol.limit_frames(self.frame_max)

    @property
    def protocol(self) -> LaneProtocol:
        assert self.factory.protocol is not None  # noqa: S101 - set when the connection opened
        return self.factory.protocol

    @property
    def outbox(self) -> Outbox:
        assert self.protocol.outbox is not None  # noqa: S101 - as above
        return self.protocol.outbox

    @property
    def frame_max(self) -> int:
        assert self.connection is not None  # noqa: S101 - as above
        assert self.connection.transport is not None  # noqa: S101 - as above
        return self.connection.transport.connection.connection_tune.frame_max or NO_LIMIT

    async def channel(self, *, confirms: bool) -> aiormq.abc.AbstractChannel:
        assert self.connection is not None  # noqa: S101 - as above
        channel = self.connection.channel(publisher_confirms=confirms)
        await channel.initialize()
        return await channel.get_underlay_channel()

    async def close(self) -> None:
        if self.connection is not None:
            with contextlib.suppress(*_LOST), losses_as_errors():
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await self.connection.close()
        self.abort()

    def abort(self) -> None:
        """Drop the socket, without farewells."""
        if self.factory.protocol is not None:
            self.factory.protocol.abort()

    @property
    def silent_for(self) -> float:
        """Heartbeat intervals since the last byte from the broker."""
        return (asyncio.get_running_loop().time() - self.protocol.received_at) / self.protocol.heartbeat

    # What the protocol tells:

    def on_blocked(self, reason: str | None) -> None:
        self._session.on_blocked(reason)

    def on_ended(self, reason: str) -> None:
        self._session.end(f"{self.name}: {reason}")

    def before_turn(self) -> None:
        self._session.before_turn()

    def after_turn(self) -> None:
        self._session.after_turn()


class Session:
    """Two open connections with their lanes, from :meth:`open` to :attr:`ended`."""

    lane_type: type[ConsumeLane] = ConsumeLane

    def __init__(self, name: str, on_blocked: Callable[[str | None], None], on_returned: Callable[[], None]) -> None:
        self._consuming = _Link(self, f"{name} consume")
        self._publishing = _Link(self, f"{name} publish")
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
        self, url: URL, topology: Topology | None, subscriptions: Sequence[Subscription], connect_timeout: float
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
        self, url: URL, topology: Topology | None, subscriptions: Sequence[Subscription], connect_timeout: float
    ) -> None:
        await self._publishing.open(url, connect_timeout)
        await self._consuming.open(url, connect_timeout)
        self._watch()
        async with asyncio.timeout(OPEN_TIMEOUT + OPEN_TIMEOUT_PER_QUEUE * len(subscriptions)):
            await self._set_up(topology, subscriptions)

    async def _set_up(self, topology: Topology | None, subscriptions: Sequence[Subscription]) -> None:
        if topology is not None:
            assert self._publishing.connection is not None  # noqa: S101 - just opened
            await topology.ensure(self._publishing.connection)
            self.missing = await topology.missing(self._publishing.connection)
            for warning in await topology.check_delivery_limits(self._publishing.connection):
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
        self.publish_lane = lane = PublishLane(channel.number, self._publishing.outbox, self._publishing.frame_max)
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
        with contextlib.suppress(*_LOST), losses_as_errors():
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
                self.end(f"{link.name}: no sign of life from the broker for {SILENCE * link.protocol.heartbeat:g} s")
                return
        heartbeat = self._consuming.protocol.heartbeat
        if self._without_confirm() > SILENCE * heartbeat:
            self.end(f"{self._publishing.name}: the broker has confirmed nothing for {SILENCE * heartbeat:g} s")
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
        with contextlib.suppress(*_LOST), losses_as_errors():
            while not self.ended.done():
                await asyncio.sleep(AUDIT)
                for number, lane in enumerate(self._lanes):
                    quiet, last[number] = lane.received == last[number] and not lane.unsettled, lane.received
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
            declared = await self._audit_channel.queue_declare(queue, passive=True, timeout=CLOSE_TIMEOUT)
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

    async def _consume(self, subscriptions: Sequence[Subscription]) -> tuple[aiormq.abc.AbstractChannel, ConsumeLane]:
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
        self, channel: aiormq.abc.AbstractChannel, lane: ConsumeLane, queue: str, subscription: Subscription
    ) -> None:
        tag = f"dtbridge-{next(self._numbers)}"
        lane.subscribe(tag, subscription)
        try:
            await channel.basic_consume(queue, _never, no_ack=subscription.no_ack, consumer_tag=tag)
        except (aiormq.exceptions.ChannelNotFoundEntity, aiormq.exceptions.ChannelAccessRefused) as error:
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
        except (aiormq.exceptions.ChannelNotFoundEntity, aiormq.exceptions.ChannelAccessRefused) as error:
            raise TopologyError(f"exchange {exchange!r} cannot be bound to: {error.args[0]}") from error
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


class RabbitTransport:
    """RabbitMQ behind the seam of :mod:`bridge.transport`: one session after the other, until closed."""

    def __init__(
        self,
        urls: Sequence[URL],
        *,
        name: str = "dtbridge",
        topology: Topology | None = None,
        start_timeout: float = START_TIMEOUT,
    ) -> None:
        """`urls`: the broker's hosts, tried in turn. `name`: shown in the broker's list of connections."""
        self._urls = list(urls)
        self._name = name
        self._topology = topology
        self._start_timeout = start_timeout
        # Every host gets its turn before a start is given up, one that swallows what is sent to it included.
        self._connect_timeout = min(CONNECT_TIMEOUT, max(1.0, start_timeout / len(self._urls)))
        self._next_url = 0
        self._subscriptions: Sequence[Subscription] = ()
        self._session: Session | None = None
        self._opening: Session | None = None
        """The one that is being opened just now."""
        self._bindings = Bindings()
        self._supervisor: asyncio.Task[None] | None = None
        self._on_state: StateListener = lambda *_: None
        self._state = State.CONNECTING
        self._farewells: set[asyncio.Task[None]] = set()
        self.sessions = 0
        """Sessions opened so far."""
        self.returned = 0

    @property
    def state(self) -> State:
        return self._state

    @property
    def reply_queue(self) -> str | None:
        return None if self._session is None else self._session.reply_queue

    def lacks(self, exchange: str) -> bool:
        return self._session is not None and exchange in self._session.missing

    def _enter(self, state: State, reason: str) -> None:
        self._state = state
        self._on_state(state, reason)

    async def start(self, subscriptions: Sequence[Subscription], on_state: StateListener) -> None:
        self._subscriptions = subscriptions
        self._on_state = on_state
        session = await self._first_session()
        self._supervisor = asyncio.create_task(self._supervise(session), name="dtbridge-supervisor")

    async def _first_session(self) -> Session:
        """Be patient with a broker that is still starting, but tell a person who mistyped its URL."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._start_timeout
        failures = 0
        while True:
            url = self._urls[self._next_url]
            try:
                return await self._open(url)
            except _LOST as error:
                failures += 1
                out_of_time = loop.time() >= give_up_at and failures >= len(self._urls)
                if out_of_time or _is_refusal(error):
                    raise BrokerUnreachable(f"no broker at {printable(url)}: {explain(error)}") from error
                await asyncio.sleep(back_off(failures))

    async def _open(self, url: URL) -> Session:
        self._next_url = (self._next_url + 1) % len(self._urls)
        self._enter(State.CONNECTING, f"to {printable(url)}")
        self._opening = session = Session(self._name, self._blocked, self._count_returned)
        try:
            with losses_as_errors():
                await session.open(url, self._topology, self._subscriptions, self._connect_timeout)
        except BaseException:
            self._abandon(session)
            raise
        self._next_url = self._urls.index(url)  # stay with a host that works
        self._session = session
        self.sessions += 1
        session.opened.set()
        try:
            await self._restore_bindings(session, url)
        except BaseException:
            self._lose(session)
            raise
        if self._state is not State.DRAINING:
            requests = sum(not each.waits for each in self._subscriptions)
            self._enter(State.CONSUMING, f"from {requests} queues at {printable(url)}")
            if session.blocked:  # since before
                self._blocked("an alarm")
        return session

    async def _restore_bindings(self, session: Session, url: URL) -> None:
        """Raises ConnectionError if the session ends meanwhile."""
        if session.bind_lane is None or self._state is State.DRAINING:
            return
        restored = asyncio.Event()
        self._bindings.restore(session.bind_lane, restored.set)
        if restored.is_set():
            return
        self._enter(State.CONNECTING, f"binding {len(self._bindings):,} keys at {printable(url)}")
        await session.until(restored)
        if session.ended.done():
            raise ConnectionError(session.ended.result())

    def _lose(self, session: Session) -> None:
        self._session = None
        self._bindings.lost()
        self._abandon(session)

    async def _supervise(self, session: Session) -> None:
        while True:
            reason = await session.ended
            if self._state is State.DRAINING:
                return
            self._lose(session)
            self._enter(State.CONNECTING, reason)
            self._next_url = (self._next_url + 1) % len(self._urls)
            session = await self._next_session()

    async def _next_session(self) -> Session:
        failures = 0
        while True:
            await asyncio.sleep(back_off(failures))
            url = self._urls[self._next_url]
            try:
                return await self._open(url)
            except (*_LOST, TransportError) as error:
                failures += 1
                log.warning("broker unreachable", url=printable(url), error=explain(error), failures=failures)
            except Exception:
                failures += 1
                log.exception("no session", url=printable(url), failures=failures)

    def _abandon(self, session: Session) -> None:
        """Make its deliveries void now, and let the libraries tidy up on their own time."""
        session.void()
        farewell = asyncio.create_task(session.abandon())
        self._farewells.add(farewell)
        farewell.add_done_callback(self._farewells.discard)

    def _count_returned(self) -> None:
        self.returned += 1

    def _blocked(self, reason: str | None) -> None:
        if self._state is State.CONSUMING and reason is not None:
            self._enter(State.BLOCKED, f"the broker blocks publishing: {reason}")
        elif self._state is State.BLOCKED and reason is None:
            self._enter(State.CONSUMING, "the broker takes publishings again")

    def publish(self, publishing: Publishing, on_confirm: Callable[[Confirm], None]) -> None:
        if self._session is None:
            on_confirm(Confirm.LOST)
        else:
            self._session.publish(publishing, on_confirm)

    def bind(self, routing_key: str, on_done: Callable[[], None]) -> None:
        self._bindings.bind(routing_key, on_done)

    def unbind(self, routing_key: str, on_done: Callable[[], None]) -> None:
        self._bindings.unbind(routing_key, on_done)

    async def drain(self, timeout: float) -> int:  # noqa: ASYNC109 - a bound for the broker side, not for the caller
        self._enter(State.DRAINING, f"at most {timeout:g} s")
        session = self._session or self._opening
        if session is None or not session.consumes:
            await self._bindings.stop()
            return 0
        with contextlib.suppress(*_LOST), losses_as_errors():  # asyncio.TimeoutError is one of them
            async with asyncio.timeout(timeout):
                await self._bindings.stop()
                await session.until(session.opened)
                await session.cancel_consumers()
                await session.settled()
        return 0 if session.ended.done() else session.unsettled

    async def close(self) -> None:
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait((self._supervisor,))
        if self._session is not None:
            await self._session.close()
            self._session = None
        self._bindings.lost()
        await self._bindings.stop()
        if self._farewells:
            await asyncio.wait(self._farewells)
        self._enter(State.STOPPED, "closed")


def _is_refusal(error: BaseException) -> bool:
    """The broker is there and will not have us: trying again does not help."""
    return isinstance(
        error,
        aiormq.exceptions.AuthenticationError
        | aiormq.exceptions.ProbableAuthenticationError
        | aiormq.exceptions.ConnectionNotAllowed
        | aiormq.exceptions.IncompatibleProtocolError,
    ) or (isinstance(error, aiormq.exceptions.ConnectionClosed) and _NOT_ALLOWED in str(error))


def explain(error: BaseException) -> str:
    """An error of the libraries in words."""
    match error:
        case aiormq.exceptions.ProbableAuthenticationError():
            return "it refused the user name or password"
        case asyncio.TimeoutError():
            return "it does not answer"
    return str(error) or type(error).__name__
