"""Publishings out, confirms in."""

from collections.abc import Callable
from typing import Final

from bridge.compiled import fields
from bridge.rabbitmq.delivery import Confirmable
from bridge.rabbitmq.frames.ids import ProtocolError
from bridge.rabbitmq.frames.writing import Encoder
from bridge.rabbitmq.outbox import LARGE, Outbox
from bridge.telemetry import ticks
from bridge.transport import Confirm, Properties, Publishing

fields.check((Publishing,))

_CONFIRMED: Final = Confirm.CONFIRMED
"""Once, because a member of an Enum is looked up at each use."""
_DIRECT: Final = "amq.rabbitmq.reply-to."
"""How the names of direct reply-to begin."""
_ANY_SIZE: Final = 2**62


class PublishLane:
    """A channel in confirm mode. Nobody else publishes on it, so it counts as the broker does.

    It is the sink of its channel's frames (:class:`~bridge.rabbitmq.frames.reading.ContentSink`).
    """

    def __init__(
        self,
        channel: int,
        outbox: Outbox,
        encoder: Encoder,
        *,
        on_end: Callable[[str], None],
        on_returned: Callable[[], None],
        on_refused: Callable[[], None],
        aside: Callable[[Publishing, Confirmable], bool] | None = None,
        time_confirm: Callable[[float], None] | None = None,
    ) -> None:
        """`outbox` and `encoder`: the connection's.

        `on_end` is called with the reason when the broker closes the channel, `on_returned` at each
        Basic.Return, `on_refused` at each Basic.Nack. `aside` is asked for each publishing larger
        than :attr:`proven` or to direct reply-to: whether it takes that one, to try it elsewhere.
        `time_confirm` is told how long a publishing has waited for its confirm, in seconds.
        """
        self._channel = channel
        self._outbox = outbox
        self._encoder = encoder
        self._on_end = on_end
        self._on_returned = on_returned
        self._on_refused = on_refused
        self._aside = aside
        self._time_confirm = time_confirm
        self._timed = _ANY_SIZE if time_confirm is None else 0
        """The publishing that is timed; 0: the next one will be. One at a time costs next to
        nothing, and there is one for each round trip to the broker."""
        self._timed_at = 0.0
        self.proven = _ANY_SIZE
        """Bytes of a body that the broker is known to take. Below 0, all go aside."""
        self._sequence = 0
        """Publishings so far. The broker counts them too, and confirms by that number."""
        self._lowest = 1
        """No publishing below this number is pending."""
        self._pending: dict[int, Confirmable] = {}
        """Publishings without their confirm, by number."""
        self._returned: set[int] = set()
        """Pending ones that were returned."""
        self._closed = False

    @property
    def unconfirmed(self) -> int:
        """Publishings whose confirm is still to come."""
        return len(self._pending)

    @property
    def confirmed(self) -> int:
        """Publishings that have had theirs."""
        return self._sequence - len(self._pending)

    def publish(self, publishing: Publishing, waiting: Confirmable) -> bool:
        """Send it. `waiting.confirmed` or `waiting.impossible` is called once.

        Returns False if it was not sent here, and may prove impossible. Raises ValueError for what
        AMQP cannot carry; then nothing is sent.
        """
        if self._closed:
            waiting.confirmed(Confirm.LOST)
            return True
        if (
            len(publishing.body) > self.proven
            or (not publishing.mandatory and publishing.routing_key.startswith(_DIRECT))
        ) and self._goes_aside(publishing, waiting):
            return False
        outbox = self._outbox
        if len(publishing.body) < LARGE:
            outbox.parts.append(self._encoder.publish(self._channel, publishing))
            if not outbox.due:
                outbox.ask()
        else:
            outbox.add_large(self._encoder.publish_large(self._channel, publishing))
        self._sequence += 1
        self._pending[self._sequence] = waiting
        if not self._timed:
            self._timed = self._sequence
            self._timed_at = ticks.now()
        return True

    def _goes_aside(self, publishing: Publishing, waiting: Confirmable) -> bool:
        return self._aside is not None and self._aside(publishing, waiting)

    def on_confirm(self, delivery_tag: int, multiple: bool, ok: bool) -> None:
        if delivery_tag > self._sequence:
            raise ProtocolError(
                f"a confirm of publishing {delivery_tag}, and {self._sequence} were sent"
            )
        confirm = _CONFIRMED
        if not ok:
            confirm = Confirm.REFUSED
            self._on_refused()
        first = self._lowest if multiple else delivery_tag
        if first <= self._timed <= delivery_tag:
            self._timed = 0
            if ok and self._time_confirm is not None:
                self._time_confirm(ticks.now() - self._timed_at)
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
        self,
        reply_code: int,
        reply_text: str,
        exchange: str,
        routing_key: str,
        properties: Properties | None,
    ) -> None:
        """A return names no number, but comes right before its confirm.

        So it is that of the first pending publishing that looks like it.
        """
        self._on_returned()
        correlation_id = properties.correlation_id if properties else None
        for number, waiting in self._pending.items():
            publishing = waiting.publishing
            if (
                publishing is not None
                and publishing.mandatory
                and publishing.exchange == exchange
                and publishing.routing_key == routing_key
                and (publishing.correlation_id or publishing.properties.correlation_id)
                == correlation_id
                and number not in self._returned
            ):
                self._returned.add(number)
                return

    def on_deliver(self, *_: object) -> None:
        raise ProtocolError("Basic.Deliver on a channel that does not consume")

    def on_cancel(self, consumer_tag: bytes) -> None:
        raise ProtocolError("Basic.Cancel on a channel that does not consume")

    def on_channel_close(self, reply_code: int, reply_text: str) -> None:
        self._on_end(f"the broker closed the publishing channel: {reply_code} {reply_text}")

    def on_other(self, method: int, arguments: bytes) -> bool:
        return False

    def hand_over(self) -> list[Confirmable]:
        """What is not confirmed, in its order. The channel is gone: it must be published anew.

        What comes from now on goes aside.
        """
        self.proven = -1
        pending, self._pending = self._pending, {}
        return list(pending.values())

    def close(self) -> None:
        """The connection is gone. What is not confirmed is lost: it may have arrived or not."""
        self._closed = True
        pending, self._pending = self._pending, {}
        for waiting in pending.values():
            waiting.confirmed(Confirm.LOST)
