"""A delivery and its way back: confirmed, then acked. See :mod:`bridge.rabbitmq.consuming`."""

from collections.abc import Callable
from typing import Protocol

from bridge.telemetry.logs import get_logger
from bridge.transport import Confirm, Delivery, Properties, Publishing, Verdict

log = get_logger("bridge.rabbitmq")

_NO_PROPERTIES = Properties()


class Confirmable(Protocol):
    """Waits for a publishing's confirm."""

    publishing: Publishing | None

    def confirmed(self, confirm: Confirm) -> None:
        """The publishing's fate. Either this is called, or :meth:`impossible`, and once."""

    def impossible(self, reason: str) -> None:
        """The broker will never take it."""


class Publishes(Protocol):
    """What a delivery needs of the lane that takes its reply."""

    def publish(self, publishing: Publishing, waiting: Confirmable) -> bool:
        """As :meth:`~bridge.rabbitmq.publishing.PublishLane.publish`."""


class Settles(Protocol):
    """What a delivery needs of the lane it came by."""

    @property
    def replies(self) -> Publishes:
        """Where replies and copies are published."""

    def finish(self, tag: int, verdict: Verdict | None) -> None:
        """Give the broker its verdict."""

    def requeue(self, tag: int) -> None:
        """Have the broker deliver it again, after a pause."""


class LaneDelivery(Delivery, eq=False, gc=False):
    """A delivery that knows the way back."""

    tag: int
    """The delivery tag."""
    lane: Settles
    """The lane it came by."""
    on_impossible: Callable[[Delivery, str], None] | None
    """Its subscription's."""
    verdict: Verdict | None = None
    """Set when it is settled."""
    publishing: Publishing | None = None
    """Its reply, which waits for its confirm."""
    is_impossible: bool = False
    """The broker has refused its reply for good: there is one more, and then none."""

    def settle(
        self, verdict: Verdict, reply: Publishing | None = None, copy: Publishing | None = None
    ) -> None:
        if self.verdict is not None:
            raise RuntimeError(
                f"a delivery is settled once, and this one was already: {self.verdict}"
            )
        if copy is not None:
            self._settle_after(copy, verdict, reply)
            return
        self.verdict = verdict
        if reply is None:
            self.lane.finish(self.tag, verdict)
        else:
            self.publishing = reply
            try:
                sent = self.lane.replies.publish(reply, self)
            except ValueError:  # nothing was sent: the delivery can still be settled
                self.verdict = self.publishing = None
                raise
            if sent:
                # Many more come before the confirm does. What this one brought is no longer needed,
                # so its memory is used again for them, while it is still in the processor's cache.
                self.properties = _NO_PROPERTIES
                self.body = b""

    def _settle_after(self, copy: Publishing, verdict: Verdict, reply: Publishing | None) -> None:
        def arrived(confirm: Confirm) -> None:
            self.verdict = None
            if confirm is Confirm.CONFIRMED:
                self._settle_at_last(verdict, reply)
            elif confirm is Confirm.IMPOSSIBLE:
                self._settle_at_last(Verdict.REJECT, reply)
            else:
                self.verdict = verdict
                self.lane.requeue(self.tag)

        self.verdict = verdict  # it cannot be settled again meanwhile
        try:
            self.lane.replies.publish(copy, Pending(copy, arrived))
        except ValueError:
            self.verdict = None
            raise

    def _settle_at_last(self, verdict: Verdict, reply: Publishing | None) -> None:
        """Settle it, without its reply if that cannot be written."""
        try:
            self.settle(verdict, reply)
        except ValueError as error:
            log.warning("answer not sent", reason=str(error))
            self.settle(verdict)

    def impossible(self, reason: str) -> None:
        """Whoever has handled it may settle it once more, with another reply."""
        verdict, self.verdict, self.publishing = self.verdict, None, None
        whole = self.properties is not _NO_PROPERTIES
        if whole and self.on_impossible is not None and not self.is_impossible:
            self.is_impossible = True
            self.on_impossible(self, reason)
        else:
            self.verdict = verdict
            self.lane.finish(self.tag, verdict)

    def confirmed(self, confirm: Confirm) -> None:
        """The reply's fate.

        A reply queue that is gone is no reason to handle the request again; a refusal is.
        """
        if confirm is Confirm.CONFIRMED or confirm is Confirm.RETURNED:
            self.lane.finish(self.tag, self.verdict)
        else:
            self.lane.requeue(self.tag)


class Pending:
    """A publishing on its way, and the callback that is told its confirm."""

    __slots__ = ("confirmed", "publishing")

    def __init__(self, publishing: Publishing, callback: Callable[[Confirm], None]) -> None:
        self.publishing: Publishing | None = publishing
        self.confirmed = callback

    def impossible(self, reason: str) -> None:
        """The broker will never take it."""
        self.confirmed(Confirm.IMPOSSIBLE)
