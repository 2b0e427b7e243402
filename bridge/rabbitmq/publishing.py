"""Publishings out, confirms in."""

from collections.abc import Callable
from typing import Final

from bridge.compiled import fields
from bridge.rabbitmq.delivery import Confirmable
from bridge.rabbitmq.frames import writing
from bridge.rabbitmq.frames.ids import FrameError
from bridge.rabbitmq.outbox import Outbox
from bridge.transport import Confirm, Properties, Publishing

fields.check((Publishing,))

_CONFIRMED: Final = Confirm.CONFIRMED
"""By itself: a member of an Enum is looked up at each use."""


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
        outbox.parts.append(writing.encode_publish(self._channel, publishing, self._frame_max))
        if not outbox.due:
            outbox.ask()
        self._sequence += 1
        self._pending[self._sequence] = waiting

    def on_confirm(self, delivery_tag: int, multiple: bool, ok: bool) -> None:
        if delivery_tag > self._sequence:
            raise FrameError(
                f"a confirm of publishing {delivery_tag}, and {self._sequence} were sent"
            )
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
        self,
        reply_code: int,
        reply_text: str,
        exchange: str,
        routing_key: str,
        properties: Properties | None,
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
                and (publishing.correlation_id or publishing.properties.correlation_id)
                == correlation_id
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


def _ignore(_: str) -> None: ...


def _ignore_all() -> None: ...
