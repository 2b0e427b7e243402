"""The dead-letter queue of a RabbitMQ: read it and leave it as it is, replay some of it, purge some of it.

There is no way to look at a queue: a message is read by taking it, and giving it back. So everything here takes messages
one by one, settles those that are done, and at the end gives all others back at once, to where they were. If the process
dies before, the broker does that for it. What is read is bounded by what was in the queue at the start, so it ends while
more arrives.

Messages are read by the bridge's own lanes, because aiormq gives up the channel at a header it cannot read, and
here is where such messages end; and published by them, because aiormq finds out which publishing was returned by its
``message_id``, which two dead letters may share: it would take one for safe that is not.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Final

import aio_pika
import aiormq
import msgspec
from yarl import URL

from bridge.dead_letters.letter import DeadLetter, read, replayed
from bridge.dialects.topology import Topology
from bridge.rabbitmq.connection import CONNECT_TIMEOUT
from bridge.rabbitmq.consuming import ConsumeLane
from bridge.rabbitmq.delivery import LaneDelivery
from bridge.rabbitmq.frames.writing import encode_nack
from bridge.rabbitmq.losses import explain, losses_as_errors
from bridge.rabbitmq.session import Session
from bridge.rabbitmq.urls import printable
from bridge.telemetry.logs import get_logger
from bridge.transport import (
    BrokerUnreachable,
    Confirm,
    Delivery,
    Properties,
    Publishing,
    Subscription,
    TopologyError,
    TransportError,
    Verdict,
)

log = get_logger("bridge.dead_letters")

WINDOW: Final = 500
"""Messages that one consumer takes without settling any; for more there is another consumer. A single one could not have
them all: RabbitMQ gives a consumer of a quorum queue no more than 2,000."""
IN_FLIGHT: Final = 200
"""Publishings of a replay that wait for their confirm."""
SILENCE: Final = 1.0
"""Seconds without a delivery after which the broker is asked whether there is anything left."""
TOGETHER: Final = 32
"""Messages given back with one Basic.Nack. A quorum queue of RabbitMQ 3 puts as many back in their order (an Erlang map of
up to 32 is sorted), more of them in none."""
AT_ONCE: Final = 16
"""So many of these at a time: of more than 32 that wait, the broker makes one."""
IN_ORDER_FOR: Final = 3.0
"""Seconds to do so. The rest is given back at once: a classic queue keeps any order, but is slow with many small portions."""
GIVEN_BACK_WITHIN: Final = 5.0
"""Seconds to wait until what was given back is there again for others."""
PATIENCE: Final = 15
"""So many silences while there is something left, and the broker is given up."""

_LOST: Final = (aio_pika.exceptions.AMQPError, OSError, asyncio.TimeoutError, RuntimeError)

Choice = Callable[[DeadLetter], bool]
Progress = Callable[[int], None]
"""Told how many messages have been read so far."""


class _ReadingLane(ConsumeLane):
    """Hands on every message. A worker's lane rejects what has unreadable properties; here that would be the end of it."""

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
            consumer_tag,
            delivery_tag,
            redelivered,
            exchange,
            routing_key,
            properties or Properties(),
            body,
        )


class _ReadingSession(Session):
    """A session that consumes one queue, through as many consumers as it takes."""

    lane_type = _ReadingLane

    def __init__(self, queue: str) -> None:
        super().__init__("dtbridge dead", self._say_blocked, lambda: None)
        self._queue = queue
        self._arrived: deque[Delivery] = deque()
        self._taken: dict[int, None] = {}
        """Delivery tags not settled, in their order."""
        self._something = asyncio.Event()
        self.consumers = 0

    async def open(
        self,
        url: URL,
        topology: Topology | None,
        subscriptions: Sequence[Subscription],
        connect_timeout: float,
    ) -> None:
        await super().open(url, topology, subscriptions, connect_timeout)
        await self._consume_channel.basic_qos(prefetch_count=WINDOW)

    async def ready(self) -> int:
        """Messages in the queue that nobody has taken. Raises TopologyError if there is no such queue."""
        try:
            declared = await self._consume_channel.queue_declare(self._queue, passive=True)
        except (
            aiormq.exceptions.ChannelNotFoundEntity,
            aiormq.exceptions.ChannelAccessRefused,
        ) as error:
            raise TopologyError(f"queue {self._queue!r} cannot be read: {error.args[0]}") from error
        return int(declared.message_count or 0)

    async def add_consumer(self) -> None:
        """Take up to :data:`WINDOW` messages more."""
        tag = f"dtbridge-dead-{self.consumers}"
        self.consume_lane.subscribe(tag, Subscription(self._queue, WINDOW, self._take))
        try:
            await self._consume_channel.basic_consume(self._queue, _never, consumer_tag=tag)
        except (
            aiormq.exceptions.ChannelNotFoundEntity,
            aiormq.exceptions.ChannelAccessRefused,
        ) as error:
            raise TopologyError(f"queue {self._queue!r} cannot be read: {error.args[0]}") from error
        self._consumers.append((self._consume_channel, tag))
        self.consumers += 1

    def _take(self, delivery: Delivery) -> None:
        assert isinstance(delivery, LaneDelivery)  # noqa: S101 - that is what lanes make
        self._taken[delivery.tag] = None
        self._arrived.append(delivery)
        self._something.set()

    @property
    def waiting(self) -> int:
        """Messages taken and not yet read."""
        return len(self._arrived)

    @property
    def taken(self) -> int:
        """Messages taken and not settled."""
        return len(self._taken)

    def forget(self, delivery: Delivery) -> None:
        """Take it out of the queue for good."""
        assert isinstance(delivery, LaneDelivery)  # noqa: S101 - that is what lanes make
        del self._taken[delivery.tag]
        delivery.settle(Verdict.ACK)

    async def next(self) -> Delivery | None:
        """The next message; None after a silence. Raises TransportError when the connection has ended."""
        if not self._arrived:
            self._something.clear()
            if not self.ended.done():
                with contextlib.suppress(asyncio.TimeoutError):
                    async with asyncio.timeout(SILENCE):
                        await self._something.wait()
        if self.ended.done():
            raise TransportError(
                f"the connection ended ({self.ended.result()}); everything not yet done is still there"
            )
        return self._arrived.popleft() if self._arrived else None

    async def has_exchange(self, name: str) -> bool:
        """Publishing to one that is not there would end the session."""
        assert self._publishing.connection is not None  # noqa: S101 - open() made it
        channel = self._publishing.connection.channel(publisher_confirms=False)
        await channel.initialize()
        underlay = await channel.get_underlay_channel()
        try:
            await underlay.exchange_declare(name, passive=True)
        except (aiormq.exceptions.ChannelNotFoundEntity, aiormq.exceptions.ChannelAccessRefused):
            return False
        await channel.close()
        return True

    async def give_back(self) -> None:
        """Return to the queue what has been taken and not settled.

        By Basic.Nack and not by closing the connection: RabbitMQ 4.3 counts the latter against the delivery limit of a
        queue that has one, and a person who looks must not wear out what they look at.
        """
        await self.cancel_consumers()  # whatever was sent before has arrived
        if self.ended.done():
            return
        self.consume_lane.draining = True
        outbox = self._consuming.outbox
        outbox.flush()  # the acknowledgements; they must be read first
        tags = list(self._taken)
        if not tags:
            return
        there = await self.ready()
        in_order_until = asyncio.get_running_loop().time() + IN_ORDER_FOR
        given = 0
        while given < len(tags):
            in_order = asyncio.get_running_loop().time() < in_order_until
            portion = tags[given : given + TOGETHER * AT_ONCE] if in_order else tags[given:]
            step = TOGETHER if in_order else len(portion)
            for last in (*range(step, len(portion), step), len(portion)):
                outbox.add(
                    encode_nack(
                        self._consume_channel.number, portion[last - 1], multiple=True, requeue=True
                    )
                )
            given += len(portion)
            await self._are_ready(there + given)

    async def _are_ready(self, count: int) -> None:
        """Wait until so many are in the queue: the broker does not say when it has taken something back, and the next
        command may follow at once. Not for ever, since somebody else may take them.
        """
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + GIVEN_BACK_WITHIN
        while await self.ready() < count and loop.time() < give_up_at:  # noqa: ASYNC110 - the broker sends no event
            await asyncio.sleep(0.005)

    def end(self, reason: str) -> None:
        super().end(reason)
        self._something.set()
        for lane, _ in self._publish_channels:
            lane.close()  # what waits for a confirm is lost, and must hear of it

    def _say_blocked(self, reason: str | None) -> None:
        if reason is None:
            log.warning("the broker takes publishings again")
        else:
            log.warning("the broker takes no publishings; waiting", reason=reason)


async def _never(_: object) -> None:
    """aiormq's callback for deliveries; the lane takes them all before it sees one."""


class DeadQueue:
    """A dead-letter queue that is being read."""

    def __init__(self, session: _ReadingSession, count: int) -> None:
        self._session = session
        self.count = count
        """Messages in it at the start. No more are read."""

    async def deliveries(self) -> AsyncIterator[Delivery]:
        """What is in the queue, oldest first; at the end or before everything not :meth:`forgotten <forget>` goes back.

        Raises :class:`~bridge.transport.TransportError` when the connection ends.
        """
        silences = 0
        for _ in range(self.count):
            if (
                self._session.taken >= self._session.consumers * WINDOW
                and not self._session.waiting
            ):
                await self._session.add_consumer()
            while (delivery := await self._session.next()) is None:
                # Some have expired, or somebody else has taken them.
                if not await self._session.ready():
                    return
                silences += not self._session.blocked
                if silences >= PATIENCE:
                    raise TransportError(
                        "the broker delivers no more of the queue, and says there is more"
                    )
            yield delivery

    def forget(self, delivery: Delivery) -> None:
        """Take it out of the queue for good."""
        self._session.forget(delivery)

    async def has_exchange(self, name: str) -> bool:
        """Whether the broker has an exchange that messages can be published to."""
        return not name or await self._session.has_exchange(name)

    def publish(self, publishing: Publishing, on_confirm: Callable[[Confirm], None]) -> None:
        """Send. Raises ValueError for what AMQP cannot carry."""
        self._session.publish(publishing, on_confirm)


@contextlib.asynccontextmanager
async def open_dead_queue(
    urls: Sequence[URL], queue: str, connect_timeout: float = CONNECT_TIMEOUT
) -> AsyncIterator[DeadQueue]:
    """The queue, for as long as the block lasts; leaving it gives back what was taken and not forgotten.

    `urls`: the broker's hosts, each tried once, for `connect_timeout` seconds. Raises
    :class:`~bridge.transport.BrokerUnreachable` or :class:`~bridge.transport.TopologyError` (there is no such queue), and
    later :class:`~bridge.transport.TransportError` when the connection ends.
    """
    session = await _open(urls, queue, connect_timeout)
    try:
        with losses_as_errors():
            yield DeadQueue(session, await session.ready())
            await session.give_back()
    except _LOST as error:
        if isinstance(error, RuntimeError) and not session.ended.done():
            raise  # not aiormq's way to say that the connection is closed
        raise TransportError(
            f"the connection ended ({explain(error)}); everything not yet done is still there"
        ) from error
    finally:
        await session.close()


async def _open(urls: Sequence[URL], queue: str, connect_timeout: float) -> _ReadingSession:
    for number, url in enumerate(urls, 1):
        session = _ReadingSession(queue)
        try:
            with losses_as_errors():
                await session.open(url, None, (), connect_timeout)
        except BaseException as error:
            await session.abandon()
            if not isinstance(error, _LOST):
                raise
            if number == len(urls):
                raise BrokerUnreachable(
                    f"no broker at {printable(url)}: {explain(error)}"
                ) from error
        else:
            return session
    raise BrokerUnreachable("no broker URL is given")


# ---- what is done with it ----


async def find(
    queue: DeadQueue, wanted: Choice, progress: Progress
) -> AsyncGenerator[tuple[Delivery, DeadLetter]]:
    """The dead letters that are wanted, oldest first, each with its delivery."""
    seen = 0
    async for delivery in queue.deliveries():
        letter = read(delivery)
        seen += 1
        progress(seen)
        if wanted(letter):
            yield delivery, letter


async def purge(
    queue: DeadQueue, wanted: Choice, progress: Progress, limit: int | None = None
) -> int:
    """Delete the oldest `limit` dead letters that are wanted. Returns how many were deleted."""
    done = 0
    if limit == 0:
        return done
    async with contextlib.aclosing(find(queue, wanted, progress)) as found:
        async for delivery, _ in found:
            queue.forget(delivery)
            done += 1
            if done == limit:
                break
    return done


class Replayed(msgspec.Struct):
    """What became of a replay. Whatever was not replayed is still in the dead-letter queue."""

    replayed: int = 0
    """Published again, confirmed by the broker, and taken out of the dead-letter queue."""
    unroutable: int = 0
    """The exchange is gone, or no queue takes what is published there."""
    refused: int = 0
    """The broker said no: a queue is full."""
    impossible: int = 0
    """They do not say where they came from, or hold what cannot be published."""

    @property
    def left(self) -> int:
        """Wanted and not replayed."""
        return self.unroutable + self.refused + self.impossible


async def replay(
    queue: DeadQueue, wanted: Choice, progress: Progress, limit: int | None = None
) -> Replayed:
    """Publish the oldest `limit` dead letters that are wanted to where they came from.

    Each leaves the dead-letter queue only when the broker has confirmed its publishing and no return came before; a
    process that dies in between leaves it in both places. Raises :class:`~bridge.transport.TransportError` when the
    connection ends.
    """
    return await _Replay(queue).run(wanted, progress, limit)


class _Replay:
    """One run of :func:`replay`."""

    def __init__(self, queue: DeadQueue) -> None:
        self._queue = queue
        self._result = Replayed()
        self._exchanges: dict[str, bool] = {}
        self._in_flight: set[tuple[str, str | None]] = set()
        self._landed = asyncio.Event()
        self._lost = False

    async def run(self, wanted: Choice, progress: Progress, limit: int | None) -> Replayed:
        tried = 0
        if limit == 0:
            return self._result
        async with contextlib.aclosing(find(self._queue, wanted, progress)) as found:
            async for delivery, letter in found:
                await self._send(delivery, letter)
                tried += 1
                if tried == limit:
                    break
        await self._room(lambda: not self._in_flight)
        return self._result

    async def _send(self, delivery: Delivery, letter: DeadLetter) -> None:
        publishing = replayed(delivery, letter)
        if publishing is None:
            self._result.impossible += 1
            return
        if not await self._knows(publishing.exchange):
            self._result.unroutable += 1
            return
        # A return is known by these two; were there two alike on their way, it could be taken for the other's.
        mark = publishing.routing_key, publishing.properties.correlation_id
        await self._room(lambda: len(self._in_flight) < IN_FLIGHT and mark not in self._in_flight)
        self._in_flight.add(mark)
        try:
            self._queue.publish(publishing, lambda confirm: self._land(mark, delivery, confirm))
        except ValueError:
            self._in_flight.discard(mark)
            self._result.impossible += 1

    def _land(self, mark: tuple[str, str | None], delivery: Delivery, confirm: Confirm) -> None:
        self._in_flight.discard(mark)
        match confirm:
            case Confirm.CONFIRMED:
                self._queue.forget(delivery)
                self._result.replayed += 1
            case Confirm.RETURNED:
                self._result.unroutable += 1
            case Confirm.REFUSED:
                self._result.refused += 1
            case Confirm.LOST:
                self._lost = True
        self._landed.set()

    async def _room(self, there_is: Callable[[], bool]) -> None:
        while not self._lost and not there_is():
            self._landed.clear()
            await self._landed.wait()
        if self._lost:
            raise TransportError(
                f"the connection ended after {self._result.replayed} replayed; everything else is still there"
            )

    async def _knows(self, exchange: str) -> bool:
        if exchange not in self._exchanges:
            self._exchanges[exchange] = await self._queue.has_exchange(exchange)
        return self._exchanges[exchange]


def choice(takes: Callable[[DeadLetter, datetime], bool]) -> Choice:
    """A filter at this moment: ages are counted to the start, not to when a message is read."""
    now = datetime.now(UTC)
    return lambda letter: takes(letter, now)
