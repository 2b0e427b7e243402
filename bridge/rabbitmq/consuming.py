"""Deliveries in, acknowledgements out.

aio-pika makes a connection, and keeps login, TLS, heartbeats, channels, topology and the
registration of consumers. Its socket ends in a :class:`~bridge.rabbitmq.socket.LaneProtocol`,
though: the frames of a channel registered there go straight to its lane, all others on to
aio-pika's own reader.

:class:`ConsumeLane` is a channel that receives. It hands each message to its subscription as a
:class:`~bridge.rabbitmq.delivery.LaneDelivery` and sends the acknowledgements.
:class:`~bridge.rabbitmq.publishing.PublishLane` is a channel that sends, and matches the broker's
confirms. They live on two connections, because the broker stops reading from one that publishes too
much. Settling a delivery spans both:

    ConsumeLane.on_deliver → LaneDelivery.settle → PublishLane.publish
    → PublishLane.on_confirm → LaneDelivery.confirmed → ConsumeLane.finish

What one turn of the event loop produces for a connection is written at once, at the end of the
turn, by the connection's :class:`~bridge.rabbitmq.outbox.Outbox`.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from bridge.compiled import fields
from bridge.rabbitmq.delivery import LaneDelivery
from bridge.rabbitmq.frames.ids import ProtocolError
from bridge.rabbitmq.frames.writing import encode_ack, encode_nack
from bridge.rabbitmq.outbox import Outbox
from bridge.rabbitmq.publishing import PublishLane
from bridge.transport import Properties, Subscription, Verdict

fields.check((Subscription,))

_ACK: Final = Verdict.ACK

REFUSED_PAUSE: Final = 1.0
"""Seconds before a delivery goes back whose reply or copy the broker refused (a full queue)."""


class ConsumeLane:
    """A channel that receives. Keeps account of what is unsettled, and acks in few frames.

    Delivery tags count up from 1. All up to the *floor* are finished. Of those above it, the
    finished ones are either *ahead* (their ack is due) or *alone* (already settled by a frame of
    their own). At the end of a turn one Ack with ``multiple`` says everything up to the floor, and
    each one ahead gets an ack of its own. So an unfinished delivery holds back no other, and is
    never covered by another's ack.

    It is the sink of its channel's frames (:class:`~bridge.rabbitmq.frames.reading.ContentSink`).
    """

    def __init__(
        self,
        channel: int,
        outbox: Outbox,
        replies: PublishLane,
        *,
        on_end: Callable[[str], None],
        on_settled: Callable[[], None],
    ) -> None:
        """`outbox`: the connection's. `replies`: the lane for replies and copies.

        `on_end` is called with the reason when the broker ends a consumer or the channel.
        `on_settled` is called while :attr:`draining`, when acknowledgements have been sent.
        """
        self._channel = channel
        self._outbox = outbox
        self._on_end = on_end
        self._on_settled = on_settled
        self.replies = replies
        self._subscriptions: dict[bytes, Subscription] = {}
        """By consumer tag."""
        self._last = 0
        """The highest delivery tag received."""
        self._floor = 0
        self._ack_to = 0
        """The tag that the next Ack with ``multiple`` names; 0: none is due. The broker must still
        wait for it: an Ack of an unknown tag closes the channel."""
        self._due = 0
        """Finished deliveries whose acknowledgement has not been sent."""
        self._together = 50
        """As soon as so many are due they are acknowledged: at most a quarter of the smallest
        prefetch, so that the broker never waits for them."""
        self._ahead: set[int] = set()
        self._alone: set[int] = set()
        self._held: deque[tuple[Subscription, LaneDelivery]] = deque()
        self._closed = False
        self.hold = False
        """Keep deliveries back: replies could not be sent. At most the prefetch of each queue
        gathers here."""
        self.draining = False
        """Acknowledge at once: nothing more comes."""
        outbox.add_source(self._acknowledge)

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
        """The queues that are consumed, but for private ones."""
        return [
            subscription.queue
            for subscription in self._subscriptions.values()
            if subscription.queue
        ]

    def subscribe(self, consumer_tag: str, subscription: Subscription) -> None:
        """Call it before Basic.Consume: the first delivery may overtake its ConsumeOk."""
        self._subscriptions[consumer_tag.encode()] = subscription
        if subscription.prefetch:
            self._together = min(self._together, max(1, subscription.prefetch // 4))

    def unsubscribe(self, consumer_tag: str) -> None:
        """Call it after Basic.CancelOk: nothing comes any more."""
        self._subscriptions.pop(consumer_tag.encode(), None)

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
        if self._closed:  # what comes until the broker has closed the channel goes back to it
            return
        subscription = self._subscriptions.get(consumer_tag)
        if subscription is None:
            raise ProtocolError("Basic.Deliver for a consumer that was never started")
        if delivery_tag != self._last + 1:
            raise ProtocolError(f"delivery tag {delivery_tag} after {self._last}")
        self._last = delivery_tag
        if subscription.no_ack:
            self._finish_alone(delivery_tag)
        if properties is None:
            # Its headers cannot be read, so nobody knows whom to answer. Rejected, it goes to the
            # dead-letter queue.
            if not subscription.no_ack:
                self.finish(delivery_tag, Verdict.REJECT)
            return
        delivery = LaneDelivery(
            exchange,
            routing_key,
            redelivered,
            properties,
            body,
            delivery_tag,
            self,
            subscription.on_impossible,
        )
        if subscription.no_ack:
            delivery.verdict = Verdict.ACK
        if self.hold:
            self._held.append((subscription, delivery))
        else:
            subscription.on_delivery(delivery)

    def release(self) -> None:
        """Hand on what was held back: replies can be sent again."""
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
            self._outbox.add(
                encode_nack(
                    self._channel, tag, multiple=False, requeue=verdict is not Verdict.REJECT
                )
            )
            self._finish_alone(tag)

    def requeue(self, tag: int) -> None:
        """Have the broker deliver it again, after a pause.

        The broker has just refused the reply, and would refuse it again at once.
        """
        if not self._closed:
            self._outbox.loop.call_later(REFUSED_PAUSE, self.finish, tag, Verdict.REQUEUE)

    def _finish_alone(self, tag: int) -> None:
        self._alone.add(tag)
        if tag == self._floor + 1:
            self._climb()

    def _climb(self) -> None:
        """Raise the floor over every finished delivery that now lies right above it."""
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
        """Say what is finished.

        Not yet if a confirm is still to come: its turn will say more in the same frame.
        """
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
        if self.draining:
            self._on_settled()

    def on_confirm(self, delivery_tag: int, multiple: bool, ok: bool) -> None:
        raise ProtocolError("a confirm on a channel that does not publish")

    def on_return(self, *_: object) -> None:
        raise ProtocolError("Basic.Return on a channel that does not publish")

    def on_cancel(self, consumer_tag: bytes) -> None:
        subscription = self._subscriptions.get(consumer_tag)
        name = subscription.queue if subscription else consumer_tag.decode("utf-8", "replace")
        # RabbitMQ 4.3 and later also do this at a consumer_timeout; earlier ones close the channel.
        self._on_end(
            f"the broker cancelled the consumer of {name!r}: "
            "it was deleted or moved, or a delivery took too long"
        )

    def on_channel_close(self, reply_code: int, reply_text: str) -> None:
        self._on_end(f"the broker closed the consuming channel: {reply_code} {reply_text}")

    def on_other(self, method: int, arguments: bytes) -> bool:
        return False

    def close(self) -> None:
        """The channel is gone: unsettled deliveries are void. The broker delivers them again."""
        self._closed = True
        self._held.clear()
        self._outbox.remove_source(self._acknowledge)
