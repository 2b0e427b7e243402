"""Requests between two tries: a worker takes them from a delay queue, and sends them back in time.

The queue could do this alone: it has a message TTL, and ``datatransfer`` as its dead-letter
exchange. So it does if no worker has taken a request (:data:`~bridge.request.retry.GRACE` later).
But RabbitMQ cannot be relied upon to do it soon when a node dies. A message that its dead-letter
worker could not hand over at once, because the vendor's queue had no leader at that moment, it
keeps for at least three minutes (``dead_letter_worker_publisher_confirm_timeout``), which is longer
than any station waits. And up to 3.10, 3.11.22 and 3.12.4 it hands over nothing at all until the
dead node is back (rabbitmq-server #9221).

So workers consume the delay queues as well. A worker acknowledges a request that it holds only when
the copy on its way back is confirmed; if the worker dies, another one is given it.
"""

import asyncio
from typing import Final

from bridge.dialects.copies import after_pause, may_be_rejected, pause_left
from bridge.dialects.names import Names
from bridge.telemetry.logs import get_logger
from bridge.transport import Delivery, Subscription, Verdict

log = get_logger("bridge.worker")

PREFETCH: Final = 200
"""Requests of one delay queue that a worker holds at most. All wait equally long, so the first to
come are the first to go, and none is late because others stand before it."""
DRAIN_PAUSE: Final = 0.1
"""Seconds before a request goes back that came after the worker was asked to stop. Within this time
the broker has cancelled the consumer; given back at once, the request would come again at once."""


class DelayQueue:
    """One delay queue, and the requests of it that this worker holds."""

    def __init__(self, delay: float, names: Names) -> None:
        """`delay`: seconds that requests wait, one of :data:`~bridge.request.retry.DELAYS`."""
        self.queue = names.retry(delay)
        self._delay = delay
        self._names = names
        self._held: dict[asyncio.TimerHandle, Delivery] = {}
        self._draining = False

    @property
    def subscription(self) -> Subscription:
        return Subscription(self.queue, PREFETCH, self.on_delivery, waits=True)

    @property
    def waiting(self) -> int:
        """Requests held here."""
        return len(self._held)

    def on_delivery(self, delivery: Delivery) -> None:
        """Hold a request until its pause is over."""
        if self._draining:
            self._hold(delivery, DRAIN_PAUSE)
        elif (left := pause_left(delivery, self._delay)) > 0:
            self._hold(delivery, left)
        else:
            self._send_back(delivery)

    def void(self) -> None:
        """Forget all: the connection is gone, and the broker delivers them again."""
        for timer in self._held:
            timer.cancel()
        self._held.clear()

    def give_back(self) -> None:
        """Requeue all, for other workers to hold: this one is to stop."""
        self._draining = True
        held, self._held = self._held, {}
        for timer, delivery in held.items():
            timer.cancel()
            delivery.settle(Verdict.REQUEUE)

    def _hold(self, delivery: Delivery, seconds: float) -> None:
        def end() -> None:
            del self._held[timer]
            if self._draining:
                delivery.settle(Verdict.REQUEUE)
            else:
                self._send_back(delivery)

        timer = asyncio.get_running_loop().call_later(seconds, end)
        self._held[timer] = delivery

    def _send_back(self, delivery: Delivery) -> None:
        try:
            delivery.settle(Verdict.ACK, None, after_pause(delivery, self._names))
        except ValueError as error:  # no copy of it can be written
            self._have_it_sent_back(delivery, str(error))

    def _have_it_sent_back(self, delivery: Delivery, reason: str) -> None:
        """Leave it to the broker, which sends what is rejected the same way.

        What the broker could not bear is dropped: no worker can have put it there.
        """
        bearable = may_be_rejected(delivery)
        if not bearable:
            log.warning("forged request dropped", queue=self.queue, reason=reason)
        delivery.settle(Verdict.REJECT if bearable else Verdict.ACK)
