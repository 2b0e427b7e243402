"""Requests between two tries: taken from their delay queue, held until the pause is over, and sent back to their vendor's.

The queue could do all of this alone: it has a message TTL, and ``datatransfer`` as its dead-letter exchange. It does if no worker
takes the request (:data:`~bridge.request.retry.GRACE` later), but RabbitMQ cannot be relied upon to do it soon when a node dies. What its
dead-letter worker could not hand over at once, since the vendor's queue had no leader in that moment, it keeps for three
minutes at least (``dead_letter_worker_publisher_confirm_timeout``), which is longer than any station waits; and up to 3.10, 3.11.22
and 3.12.4 it hands over nothing at all until the dead node is back (rabbitmq-server #9221).

So a worker consumes the delay queues as well. What it holds is not acknowledged before its way back is confirmed, and goes
to another worker if this one dies.
"""

import asyncio
from typing import Final

from bridge.dialects.copies import after_pause, pause_left
from bridge.dialects.names import Names
from bridge.transport import Delivery, Subscription, Verdict

PREFETCH: Final = 200
"""Requests that a worker holds of one delay queue. In a queue all wait equally long, so the first to come are the first to go,
and nothing is late because others stand before it."""
DRAIN_PAUSE: Final = 0.1
"""Seconds before a request goes back that came when the worker had been asked to stop: the broker cancels the consumers
within this time, else the same request would come again at once."""


class WaitingRoom:
    """One delay queue."""

    def __init__(self, delay: float, names: Names) -> None:
        """`delay`: the seconds that requests wait there, one of :data:`~bridge.request.retry.DELAYS`."""
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
        """The connection is gone: the broker delivers everything again, here or elsewhere."""
        for timer in self._held:
            timer.cancel()
        self._held.clear()

    def give_back(self) -> None:
        """The worker is to stop: let others hold what waits here."""
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
        delivery.settle(Verdict.ACK, None, after_pause(delivery, self._names))
