"""The hot path: deliveries in, publishings out, confirms back, acknowledgements out.

A connection is made by aio-pika, which keeps login, TLS, heartbeats, channels, topology and consumer registration. Its
socket, though, ends in :class:`LaneProtocol`: the frames of a channel registered here go straight to its lane, all
others on to aio-pika's own reader.

:class:`ConsumeLane` is a channel that receives. It hands each message to its subscription as a :class:`LaneDelivery`
and sends the acknowledgements. :class:`PublishLane` is a channel that sends, and matches the broker's confirms. They live
on two connections, because the broker stops reading from one that publishes too much; settling a delivery spans both:

    ConsumeLane.on_deliver → LaneDelivery.settle → PublishLane.publish → PublishLane.on_confirm → ConsumeLane.finish

What one turn of the event loop produces for a connection is written at once, at its end, by the connection's
:class:`Outbox`: at 200 messages a turn that is one system call in place of 200.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

import aiormq
import structlog
from yarl import URL

from bridge.compiled import fields
from bridge.rabbitmq.delivery import Confirmable, LaneDelivery
from bridge.rabbitmq.frames import reading as frames
from bridge.rabbitmq.frames.reading import (
    HEARTBEAT_FRAME,
    ContentReader,
    FrameError,
    FrameStream,
    encode_ack,
    encode_nack,
)
from bridge.transport import Confirm, Properties, Publishing, Subscription, Verdict

log = structlog.get_logger("bridge.rabbitmq")

fields.check((Publishing, Subscription))

_ACK: Final = Verdict.ACK
_CONFIRMED: Final = Confirm.CONFIRMED
"""By themselves: a member of an Enum is looked up at each use."""

REFUSED_PAUSE: Final = 1.0
"""Seconds before a delivery goes back whose reply or copy the broker refused (a full queue)."""

WRITE_BUFFER: Final = 1024 * 1024
"""Bytes that wait for the socket before handlers are held back. A turn's worth of replies must not flicker over it."""


class Outbox:
    """What one connection still has to send, joined into one write per turn of the loop."""

    __slots__ = ("_transport", "before_flush", "due", "loop", "on_paused", "parts", "paused")

    def __init__(self, transport: asyncio.WriteTransport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self.loop = loop
        self.parts: list[bytes] = []
        self.due = False
        """A flush is on its way: nobody else needs to ask for one."""
        self.paused = False
        """The socket takes no more for now: the broker or the network is slow."""
        self.on_paused: Callable[[], None] = _ignore_all
        """Called when :attr:`paused` has changed."""
        self.before_flush: Callable[[], None] | None = None
        """Adds what is cheaper said once per turn: the acknowledgements."""

    def add(self, frames: bytes) -> None:
        """Send whole frames at the end of this turn."""
        self.parts.append(frames)
        if not self.due:
            self.ask()

    def ask(self) -> None:
        """Have :meth:`flush` called at the end of this turn."""
        if not self.due:
            self.due = True
            self.loop.call_soon(self.flush)

    def flush(self) -> None:
        if self.before_flush is not None:
            self.due = True  # what it adds goes out below, not in a turn of its own
            self.before_flush()
        self.due = False
        parts = self.parts
        if parts:
            self.parts = []
            if not self._transport.is_closing():
                self._transport.write(parts[0] if len(parts) == 1 else b"".join(parts))


class ConnectionListener(Protocol):
    """Who a protocol tells of its connection's fate."""

    def on_blocked(self, reason: str | None) -> None:
        """The broker blocks publishing (its reason), or does no longer (None)."""

    def on_ended(self, reason: str) -> None:
        """The connection is gone. Called once."""

    def before_turn(self) -> None:
        """Bytes arrived and are about to be read."""

    def after_turn(self) -> None:
        """They have been read: flush what they led to."""


class LaneProtocol(asyncio.StreamReaderProtocol):
    """aio-pika's socket, with the frames of the lanes taken out."""

    def __init__(
        self, reader: asyncio.StreamReader, loop: asyncio.AbstractEventLoop, listener: ConnectionListener
    ) -> None:
        super().__init__(reader, loop=loop)
        self._lane_loop = loop
        self._listener = listener
        self._stream = FrameStream(self)
        self._greeted = False
        self._fed_at = self.received_at = loop.time()
        self._reason = ""
        self._socket: asyncio.WriteTransport | None = None
        self.outbox: Outbox | None = None
        self.heartbeat = 10.0
        """Seconds. aiormq takes a connection for stuck if its reader sees no frame for three of them."""

    @property
    def readers(self) -> dict[int, ContentReader]:
        return self._stream.readers

    def limit_frames(self, frame_max: int) -> None:
        """Take over the frame size that was negotiated, in bytes."""
        self._stream.limit(frame_max)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        socket = cast(asyncio.WriteTransport, transport)  # uvloop's is one by its methods, not by its class
        socket.set_write_buffer_limits(high=WRITE_BUFFER, low=WRITE_BUFFER // 4)
        self._socket = socket
        self.outbox = Outbox(socket, self._lane_loop)

    def data_received(self, data: bytes) -> None:
        if not self._greeted:
            self._greeted = True
            if data.startswith(b"AMQP"):  # a broker of another protocol version: the library has the words for it
                super().data_received(data)
                return
        self._listener.before_turn()
        try:
            self._stream.feed(data)
        except FrameError as error:
            self.abort(f"the broker sent a broken frame: {error}")
        except (
            Exception
        ) as error:  # a fault of ours: what follows in these bytes is lost, so nothing after it can be trusted
            log.exception("a delivery could not be taken")
            self.abort(f"a delivery could not be taken: {type(error).__name__}")
        finally:
            self._listener.after_turn()
        self.received_at = now = self._lane_loop.time()
        # A busy broker sends no heartbeats, and a reader that sees no frame believes the connection is stuck.
        if now - self._fed_at > self.heartbeat / 2 and self._stream.readers:
            self.on_frame(HEARTBEAT_FRAME)

    def abort(self, reason: str = "") -> None:
        """Drop the connection without a word to the broker."""
        self._reason = self._reason or reason
        if self._socket is not None:
            self._socket.abort()

    def on_frame(self, frame: bytes) -> None:
        self._fed_at = self._lane_loop.time()
        super().data_received(frame)

    def on_connection_close(self, reply_code: int, reply_text: str) -> None:
        self._reason = f"the broker closed the connection: {reply_code} {reply_text}"

    def on_blocked(self, reason: str | None) -> None:
        self._listener.on_blocked(reason)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.outbox is not None:
            self.outbox.paused = True
            self.outbox.on_paused()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.outbox is not None:
            self.outbox.paused = False
            self.outbox.on_paused()

    def eof_received(self) -> bool:
        """The broker has closed its half: so do we, at once."""
        super().eof_received()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._listener.on_ended(
            self._reason or (f"the connection was lost: {exc}" if exc else "the connection was closed")
        )


class LaneTransportFactory(aiormq.connection.TransportFactory):
    """Gives aiormq a socket that ends in a :class:`LaneProtocol`."""

    def __init__(self, listener: ConnectionListener) -> None:
        self._listener = listener
        self.protocol: LaneProtocol | None = None

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """`kwargs`: aiormq's ``ssl_context_provider``, which makes the TLS context that the URL's options ask for."""
        loop = asyncio.get_running_loop()
        tls = await kwargs["ssl_context_provider"].get_context() if url.scheme == "amqps" else None
        reader = asyncio.StreamReader(loop=loop)
        protocol = LaneProtocol(reader, loop, self._listener)
        transport, _ = await loop.create_connection(lambda: protocol, str(url.host), int(url.port or 0), ssl=tls)
        self.protocol = protocol
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


class PublishLane:
    """A channel in confirm mode that nobody else publishes on, so that it can count along with the broker."""

    def __init__(self, channel: int, outbox: Outbox, frame_max: int) -> None:
        self._channel = channel
        self._frame_max = frame_max
        self._outbox = outbox
        self._sequence = 0
        """Publishings so far. The broker counts them too, and confirms by that number."""
        self._lowest = 1
        self._pending: dict[int, Confirmable] = {}
        self._returned: set[int] = set()
        self._closed = False
        self.on_end: Callable[[str], None] = _ignore
        self.on_returned: Callable[[], None] = _ignore_all
        self.on_refused: Callable[[], None] = _ignore_all

    @property
    def unconfirmed(self) -> int:
        """Publishings whose confirm is still to come."""
        return len(self._pending)

    @property
    def confirmed(self) -> int:
        """Publishings that have theirs."""
        return self._sequence - len(self._pending)

    def publish(self, publishing: Publishing, waiting: Confirmable) -> None:
        """Send; `waiting.confirmed` is called once. Raises ValueError for what AMQP cannot carry (nothing is sent)."""
        if self._closed:
            waiting.confirmed(Confirm.LOST)
            return
        outbox = self._outbox
        outbox.parts.append(frames.encode_publish(self._channel, publishing, self._frame_max))
        if not outbox.due:
            outbox.ask()
        self._sequence += 1
        self._pending[self._sequence] = waiting

    def on_confirm(self, delivery_tag: int, multiple: bool, ok: bool) -> None:
        if delivery_tag > self._sequence:
            raise FrameError(f"a confirm of publishing {delivery_tag}, and {self._sequence} were sent")
        confirm = _CONFIRMED
        if not ok:
            confirm = Confirm.REFUSED
            self.on_refused()
        first = self._lowest if multiple else delivery_tag
        if first <= self._lowest:
            self._lowest = delivery_tag + 1
        take = self._pending.pop
        for number in range(first, delivery_tag + 1):
            waiting = take(number, None)
            if waiting is None:
                continue
            if self._returned and number in self._returned:
                self._returned.discard(number)
                waiting.confirmed(Confirm.RETURNED)
            else:
                waiting.confirmed(confirm)

    def on_return(
        self, reply_code: int, reply_text: str, exchange: str, routing_key: str, properties: Properties | None
    ) -> None:
        """A return names no number, but it comes right before its confirm: it is the first pending one that looks like it."""
        self.on_returned()
        correlation_id = properties.correlation_id if properties else None
        for number, waiting in self._pending.items():
            publishing = waiting.publishing
            if (
                publishing is not None
                and publishing.mandatory
                and publishing.exchange == exchange
                and publishing.routing_key == routing_key
                and (publishing.correlation_id or publishing.properties.correlation_id) == correlation_id
                and number not in self._returned
            ):
                self._returned.add(number)
                return

    def on_deliver(self, *_: object) -> None:
        raise FrameError("Basic.Deliver on a channel that does not consume")

    def on_cancel(self, consumer_tag: bytes) -> None:
        raise FrameError("Basic.Cancel on a channel that does not consume")

    def on_channel_close(self, reply_code: int, reply_text: str) -> None:
        self.on_end(f"the broker closed the publishing channel: {reply_code} {reply_text}")

    def close(self) -> None:
        """The connection is gone: what is not confirmed may or may not have arrived."""
        self._closed = True
        pending, self._pending = self._pending, {}
        for waiting in pending.values():
            waiting.confirmed(Confirm.LOST)


class ConsumeLane:
    """A channel that receives. Keeps the book of what is unsettled, and acknowledges in as few frames as is safe.

    Delivery tags count up from 1. All up to the *floor* are finished; of those above it, the finished ones are either
    *ahead* (their ack is due) or *alone* (already settled by a frame of their own). At the end of a turn one Ack with
    ``multiple`` says everything up to the floor, and each one ahead gets an ack of its own, so that an unfinished delivery
    holds back nobody else's and is never covered by it.
    """

    def __init__(self, channel: int, outbox: Outbox, replies: PublishLane) -> None:
        self._channel = channel
        self._outbox = outbox
        outbox.before_flush = _both(outbox.before_flush, self._acknowledge)
        self.replies = replies
        self._subscriptions: dict[bytes, Subscription] = {}
        self._last = 0
        """The highest delivery tag received."""
        self._floor = 0
        self._ack_to = 0
        """The tag that the next Ack with ``multiple`` names; 0: none is due. Always one that is unsettled at the broker."""
        self._due = 0
        """Finished deliveries whose acknowledgement has not been sent."""
        self._together = 50
        """So many of them are acknowledged at once at the latest: a quarter of the smallest prefetch, so that the broker
        never waits for them."""
        self._ahead: set[int] = set()
        self._alone: set[int] = set()
        self._held: deque[tuple[Subscription, LaneDelivery]] = deque()
        self._closed = False
        self.hold = False
        """Keep deliveries back: replies could not be sent. At most the prefetch of each queue gathers here."""
        self.on_end: Callable[[str], None] = _ignore
        self.draining = False
        """Acknowledge at once: nothing more comes."""
        self.on_settled: Callable[[], None] = _ignore_all

    @property
    def unsettled(self) -> int:
        """Deliveries that the broker still waits for."""
        return self._last - self._floor - len(self._ahead) - len(self._alone)

    @property
    def received(self) -> int:
        """Deliveries so far."""
        return self._last

    @property
    def queues(self) -> list[str]:
        """Those with a name of their own that are consumed with acknowledgements."""
        return [subscription.queue for subscription in self._subscriptions.values() if subscription.queue]

    def subscribe(self, consumer_tag: str, subscription: Subscription) -> None:
        """Before Basic.Consume: the first delivery may overtake its ConsumeOk."""
        self._subscriptions[consumer_tag.encode()] = subscription
        if subscription.prefetch:
            self._together = min(self._together, max(1, subscription.prefetch // 4))

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
        subscription = self._subscriptions.get(consumer_tag)
        if subscription is None:
            raise FrameError("Basic.Deliver for a consumer that was never started")
        if delivery_tag != self._last + 1:
            raise FrameError(f"delivery tag {delivery_tag} after {self._last}")
        if self._closed:
            return
        self._last = delivery_tag
        if subscription.no_ack:
            self._finish_alone(delivery_tag)
        if properties is None:
            # Its headers cannot be read, so neither can whom to answer. The broker keeps it in the dead-letter queue.
            if not subscription.no_ack:
                self.finish(delivery_tag, Verdict.REJECT)
            return
        delivery = LaneDelivery(exchange, routing_key, redelivered, properties, body, delivery_tag, self)
        if subscription.no_ack:
            delivery.verdict = Verdict.ACK
        if self.hold:
            self._held.append((subscription, delivery))
        else:
            subscription.on_delivery(delivery)

    def release(self) -> None:
        """Replies can be sent again: hand on what was held back."""
        self.hold = False
        while self._held and not self.hold:
            subscription, delivery = self._held.popleft()
            subscription.on_delivery(delivery)

    def finish(self, tag: int, verdict: Verdict | None) -> None:
        """Give the broker its verdict on a delivery, at the end of this turn."""
        if self._closed:
            return
        if verdict is _ACK:
            if tag == self._floor + 1:
                self._floor = self._ack_to = tag
                if self._ahead or self._alone:
                    self._climb()
            else:
                self._ahead.add(tag)
            self._due += 1
            if not self._outbox.due:
                self._outbox.ask()
        else:
            self._outbox.add(encode_nack(self._channel, tag, multiple=False, requeue=verdict is Verdict.REQUEUE))
            self._finish_alone(tag)

    def requeue(self, tag: int) -> None:
        """Have the broker deliver it again, after a pause: what it has just refused it would refuse again at once."""
        if not self._closed:
            self._outbox.loop.call_later(REFUSED_PAUSE, self.finish, tag, Verdict.REQUEUE)

    def _finish_alone(self, tag: int) -> None:
        self._alone.add(tag)
        if tag == self._floor + 1:
            self._climb()

    def _climb(self) -> None:
        """Raise the floor over everything finished that now lies right above it."""
        tag = self._floor + 1
        while True:
            if tag in self._ahead:
                self._ahead.discard(tag)
                self._ack_to = tag
            elif tag in self._alone:
                self._alone.discard(tag)
            else:
                break
            tag += 1
        self._floor = tag - 1

    def _acknowledge(self) -> None:
        """Say what is finished; or later, if a confirm is still to come whose turn can say it with more to one frame."""
        if self._due < self._together and self.replies.unconfirmed and not self.draining:
            return
        self._due = 0
        if self._ack_to:
            self._outbox.add(encode_ack(self._channel, self._ack_to, multiple=True))
            self._ack_to = 0
        if self._ahead:
            for tag in self._ahead:
                self._outbox.add(encode_ack(self._channel, tag, multiple=False))
            self._alone |= self._ahead
            self._ahead.clear()
        self.on_settled()

    def on_confirm(self, delivery_tag: int, multiple: bool, ok: bool) -> None:
        raise FrameError("a confirm on a channel that does not publish")

    def on_return(self, *_: object) -> None:
        raise FrameError("Basic.Return on a channel that does not publish")

    def on_cancel(self, consumer_tag: bytes) -> None:
        subscription = self._subscriptions.get(consumer_tag)
        name = subscription.queue if subscription else consumer_tag.decode("utf-8", "replace")
        # RabbitMQ 4.3 and later also do so where earlier ones close the channel: consumer_timeout.
        self.on_end(
            f"the broker cancelled the consumer of {name!r}: it was deleted or moved, or a delivery took too long"
        )

    def on_channel_close(self, reply_code: int, reply_text: str) -> None:
        self.on_end(f"the broker closed the consuming channel: {reply_code} {reply_text}")

    def close(self) -> None:
        """The connection is gone: every delivery that is not settled is void, the broker delivers it again."""
        self._closed = True
        self._held.clear()


def _both(first: Callable[[], None] | None, second: Callable[[], None]) -> Callable[[], None]:
    """One call for two channels of a connection; for a single one, no more than its own."""
    if first is None:
        return second

    def both() -> None:
        first()
        second()

    return both


def _ignore(_: str) -> None: ...


def _ignore_all() -> None: ...
