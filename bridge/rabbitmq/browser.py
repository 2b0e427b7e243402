"""Reads a queue and leaves it as it was, but for what is forgotten on purpose.

There is no way to look at a queue: a message is read by taking it and giving it back. So messages
are taken one by one, and at the end all that are not forgotten go back at once, to where they were.
If the process dies before, the broker does that for it. What is read is bounded by what was in the
queue at the start, so it ends while more arrives.

Messages are read by a lane of the bridge, because aiormq gives up the channel at a header that it
cannot read, and a dead-letter queue is where such messages end. They are published by a lane too,
because aiormq knows a returned publishing by its ``message_id``: two messages may share that, and
it would take one for safe that is not.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, cast

import aiormq
from yarl import URL

from bridge.dialects.topology import Topology
from bridge.rabbitmq.connection import CONNECT_TIMEOUT, never_called
from bridge.rabbitmq.consuming import ConsumeLane
from bridge.rabbitmq.delivery import LaneDelivery
from bridge.rabbitmq.frames.writing import encode_nack
from bridge.rabbitmq.losses import LOST, explain, losses_as_errors, telling
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

log = get_logger("bridge.rabbitmq.browser")

WINDOW: Final = 500
"""Messages that one consumer takes without settling any; for more there is another consumer. A
single one could not have them all: RabbitMQ gives a consumer of a quorum queue no more than
2,000."""
SILENCE: Final = 1.0
"""Seconds without a delivery after which the broker is asked whether there is anything left."""
PATIENCE: Final = 15
"""After so many silences, with something left in the queue, the broker is given up."""
TOGETHER: Final = 32
"""Messages given back with one Basic.Nack. A quorum queue of RabbitMQ 3 puts back as many in their
order (an Erlang map of up to 32 is sorted), and more of them in none."""
AT_ONCE: Final = 16
"""So many Basic.Nack at a time. If more than 32 wait, the broker makes one of them."""
IN_ORDER_FOR: Final = 3.0
"""Seconds to give back in order. The rest goes back at once: a classic queue keeps any order, but
is slow with many small portions."""
GIVEN_BACK_WITHIN: Final = 5.0
"""Seconds to wait until what was given back can be taken by others."""


class BrowsingLane(ConsumeLane):
    """Hands on every message.

    A worker's lane rejects a message whose properties cannot be read, which here would be the end
    of it.
    """

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


class _BrowsingSession(Session):
    """A session that consumes one queue, through as many consumers as it takes."""

    lane_type = BrowsingLane

    def __init__(self, name: str, queue: str) -> None:
        super().__init__(name, self._say_blocked, lambda: None)
        self._queue = queue
        self._arrived: deque[Delivery] = deque()
        """Messages taken and not yet read."""
        self._taken: dict[int, None] = {}
        """Delivery tags of messages taken and not settled, in their order."""
        self._something = asyncio.Event()
        """A message has arrived, or the session has ended."""
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
        """Messages in the queue that nobody has taken.

        Raises TopologyError if the queue cannot be read, for example because it does not exist.
        """
        try:
            declared = await self._consume_channel.queue_declare(self._queue, passive=True)
        except aiormq.exceptions.AMQPChannelError as error:
            raise TopologyError(f"queue {self._queue!r} cannot be read: {error.args[0]}") from error
        return int(declared.message_count or 0)

    async def add_consumer(self) -> None:
        """Take up to :data:`WINDOW` messages more."""
        tag = f"{self._name.replace(' ', '-')}-{self.consumers}"
        subscription = Subscription(self._queue, WINDOW, self._take)
        self.consume_lane.subscribe(tag, subscription)
        try:
            await self._consume_channel.basic_consume(self._queue, never_called, consumer_tag=tag)
        except aiormq.exceptions.AMQPChannelError as error:
            raise TopologyError(f"queue {self._queue!r} cannot be read: {error.args[0]}") from error
        lane = self.consume_lane
        self._consumers.add(self._consume_channel, lane, self._queue, subscription).tag = tag
        self.consumers += 1

    def _take(self, delivery: Delivery) -> None:
        self._taken[_tag(delivery)] = None
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
        del self._taken[_tag(delivery)]
        delivery.settle(Verdict.ACK)

    async def next(self) -> Delivery | None:
        """The next message; None after a silence.

        Raises TransportError when the connection has ended.
        """
        if not self._arrived:
            self._something.clear()
            if not self.ended.done():
                with contextlib.suppress(asyncio.TimeoutError):
                    async with asyncio.timeout(SILENCE):
                        await self._something.wait()
        if self.ended.done():
            raise TransportError(
                f"the connection ended ({self.ended.result()}); "
                "everything not yet done is still there"
            )
        return self._arrived.popleft() if self._arrived else None

    async def has_exchange(self, name: str) -> bool:
        """Whether there is one: publishing to one that does not exist would end the session."""
        channel = await self._publishing.channel(confirms=False)
        try:
            await channel.exchange_declare(name, passive=True)
        except (aiormq.exceptions.ChannelNotFoundEntity, aiormq.exceptions.ChannelAccessRefused):
            return False
        except ValueError:  # pamqp's word for a name that no exchange can have
            await channel.close()
            return False
        await channel.close()
        return True

    async def give_back(self) -> None:
        """Return to the queue what has been taken and not settled.

        By Basic.Nack and not by closing the connection: RabbitMQ 4.3 counts the latter against the
        delivery limit of a queue that has one, and who looks must not wear out what they look at.
        """
        await self.cancel_consumers()  # whatever was sent before has arrived
        if self.ended.done():
            return
        self.consume_lane.draining = True
        outbox = self._consuming.outbox
        outbox.flush()  # the acknowledgements, which must be read first
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
                tag = portion[last - 1]
                outbox.add(
                    encode_nack(self._consume_channel.number, tag, multiple=True, requeue=True)
                )
            given += len(portion)
            await self._are_ready(there + given)

    async def _are_ready(self, count: int) -> None:
        """Wait until so many messages are in the queue, but not for ever: others may take some.

        The broker does not say when it has put something back, and the next command may follow at
        once.
        """
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + GIVEN_BACK_WITHIN
        while True:
            if await self.ready() >= count or loop.time() >= give_up_at:
                return
            await asyncio.sleep(0.005)

    def end(self, reason: str) -> None:
        super().end(reason)
        self._something.set()
        for lane in self._publish_channels:
            lane.close()  # what waits for a confirm is lost, and must hear of it
        self._sizes.close()

    def _say_blocked(self, reason: str | None) -> None:
        if reason is None:
            log.warning("the broker takes publishings again")
        else:
            log.warning("the broker takes no publishings; waiting", reason=reason)


def _tag(delivery: Delivery) -> int:
    """Its delivery tag: lanes make no deliveries without."""
    return cast(LaneDelivery, delivery).tag


class Browser:
    """A queue that is being read. Made by :func:`browse`."""

    def __init__(self, session: _BrowsingSession, count: int) -> None:
        self._session = session
        self.count = count
        """Messages in it at the start. No more are read."""

    async def deliveries(self) -> AsyncIterator[Delivery]:
        """What is in the queue, oldest first. Ends with the queue, or earlier if it is left.

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
        """Send it. `on_confirm` is called once. Raises ValueError for what AMQP cannot carry."""
        self._session.publish(publishing, on_confirm)


@contextlib.asynccontextmanager
async def browse(
    urls: Sequence[URL], queue: str, name: str, connect_timeout: float = CONNECT_TIMEOUT
) -> AsyncIterator[Browser]:
    """The queue, for as long as the block lasts. Leaving it gives back what was not forgotten.

    `urls`: the broker's hosts, each tried once, for `connect_timeout` seconds. `name`: begins the
    names of the connections. Raises :class:`~bridge.transport.BrokerUnreachable` or
    :class:`~bridge.transport.TopologyError` (there is no such queue), and later
    :class:`~bridge.transport.TransportError` when the connection ends.
    """
    session = await _open(urls, queue, name, connect_timeout)
    try:
        with losses_as_errors():
            yield Browser(session, await session.ready())
            await session.give_back()
    except LOST as error:
        if isinstance(error, RuntimeError) and not session.ended.done():
            raise  # not aiormq's way to say that the connection is closed
        raise TransportError(
            f"the connection ended ({explain(error)}); everything not yet done is still there"
        ) from error
    finally:
        await session.close()


async def _open(
    urls: Sequence[URL], queue: str, name: str, connect_timeout: float
) -> _BrowsingSession:
    worst: tuple[int, URL, BaseException] | None = None
    for url in urls:
        session = _BrowsingSession(name, queue)
        try:
            with losses_as_errors():
                await session.open(url, None, (), connect_timeout)
        except BaseException as error:
            await session.abandon()
            if not isinstance(error, LOST):
                raise
            if worst is None or telling(error) >= worst[0]:
                worst = telling(error), url, error
        else:
            return session
    if worst is None:
        raise BrokerUnreachable("no broker URL is given")
    _, url, reason = worst
    raise BrokerUnreachable(f"no broker at {printable(url)}: {explain(reason)}") from reason
