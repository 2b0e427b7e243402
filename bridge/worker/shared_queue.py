"""A queue that all vendors share, of a gateway that does not route by vendor.

    delivery → request → its vendor's part → …

With a queue for each vendor the broker keeps them apart: what a slow vendor cannot take waits in
its own queue. In a shared queue it would fill up what the worker may have in hand, and no other
vendor's requests would come through. So each vendor has a share (:class:`Part`), and the shares
together are no more than the whole. One more request of a vendor that has its share in hand goes
round by a delay queue, which lets the others behind it through. Each round is longer than the one
before, and when no time is left for another the request is answered.

So it is while the vendor is paused, whether it has anything in hand or not: to stop consuming would
stop the others.

A message in such a queue that is not a request is kept as a dead letter, with the reason.
"""

import time
from collections.abc import Mapping
from typing import Final

from bridge.dialects.dialect import Dialect, Foreign
from bridge.dialects.names import read_vendor_id
from bridge.ocpp import DEFAULT_VERSION
from bridge.request.incoming import Request
from bridge.request.outcome import Failure, Reason, RetryLater, overloaded
from bridge.request.retry import DELAYS, nearest
from bridge.routing.router import fold
from bridge.telemetry.counts import WorkerCounts
from bridge.telemetry.logs import get_logger
from bridge.telemetry.outcomes import Counted
from bridge.transport import Delivery
from bridge.worker.intake import Intake
from bridge.worker.room import LARGE

log = get_logger("bridge.worker")

SHARED_PREFETCH: Final = 2_000
"""Deliveries of one shared queue in hand at most: RabbitMQ gives a consumer of a quorum queue no
more. Nine vendors that all hang hold 200 of them each, and the tenth still gets its own through."""

FIRST_ROUND: Final = DELAYS[1]
"""Seconds of the first round. Short: a vendor that has its share in hand is mostly just busy."""
GROWTH: Final = 0.5
"""The length of each further round, as a part of the time since the first: in 20 s a request goes
round a dozen times, not eighty."""

QUIET: Final = 1.0
"""Seconds between two log lines about foreign messages: a flood of them must not flood the log."""


class Part(Intake):
    """One vendor's requests in the queues that all vendors share. Its `prefetch` is its share."""

    EXPIRED_BY_BROKER = False
    """A gateway's own message does not say what the broker's dead letter leaves out, and the dead
    letters of a classic queue are not confirmed."""

    def take(self, request: Request) -> None:
        """Handle a request now or when a handler of this vendor has finished, or put it off."""
        if self.paused or self.in_hand >= self.prefetch:
            self._put_off(request)
        else:
            super().take(request)

    def refuse(self, request: Request, error: Foreign) -> None:
        """Keep, with the reason, a message that is not a request."""
        if error.answer is not None:
            self._counts.replied += 1
        failure = Failure(None, Reason.FOREIGN, error.reason)
        if self._told is not None:
            self._told(request, failure, Counted.FOREIGN)
        self._keep(request, failure, error.answer)
        self.ledger.settled(request, Counted.FOREIGN)

    def _put_back(self, request: Request) -> None:
        """Given back to the queue that others' requests come from, it would come again at once."""
        self._put_off(request)

    def _put_off(self, request: Request) -> None:
        now = time.time()
        age = 0.0 if request.first_try is None else now - request.first_try
        delay = nearest(max(FIRST_ROUND, age * GROWTH))
        if request.deadline is not None and now + delay >= request.deadline:
            if len(request.body) > LARGE:
                self._room.hold(len(request.body))
            self._running += 1  # as if it had begun: it is settled like all others
            others = f"{self.prefetch} others of its vendor were in hand"
            text = f"{'its vendor was paused' if self.paused else others} all the time"
            self.settled(request, overloaded(request, text))
            return
        self._counts.put_off += 1
        self.ledger.settled(request, Counted.PUT_OFF)
        why = "its vendor is paused" if self.paused else "its vendor has its share in hand"
        self._try_again(request, RetryLater(delay, why, counts=False))


class Sorter:
    """Reads the deliveries of a shared queue and gives each to its vendor's part."""

    def __init__(
        self, dialect: Dialect, parts: Mapping[str, Part], rest: Part, counts: WorkerCounts
    ) -> None:
        """`parts`: by vendorId in lower case (:func:`~bridge.routing.router.fold`).

        `rest`: takes the requests of all other vendors, which nobody handles.
        """
        self._dialect = dialect
        self._parts = parts
        self._rest = rest
        self._counts = counts
        self._quiet_until = 0.0

    def on_delivery(self, delivery: Delivery) -> None:
        """Take a delivery."""
        self._counts.received += 1
        try:
            request = self._dialect.request(delivery)
        except Foreign as error:
            self._refuse(delivery, error)
            return
        part = self._parts.get(fold(read_vendor_id(request.body)), self._rest)
        part.ledger.arrived(request)
        part.take(request)

    def on_impossible(self, delivery: Delivery, reason: str) -> None:
        """As :meth:`~bridge.worker.intake.Intake.on_impossible`."""
        try:
            request = self._dialect.request(delivery)
        except Foreign as error:  # it has had its answer, such as it was
            self._refuse(delivery, error)
            return
        part = self._parts.get(fold(read_vendor_id(request.body)), self._rest)
        part.answer_impossible(request, reason)

    def _refuse(self, delivery: Delivery, error: Foreign) -> None:
        self._counts.foreign += 1
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET
            key, size = ascii(delivery.routing_key), len(delivery.body)
            log.warning(
                "foreign message",
                reason=error.reason,
                routing_key=key,
                size=size,
                so_far=self._counts.foreign,
            )
        nobodys = Request(
            body=delivery.body,
            station_id="",
            version=DEFAULT_VERSION,
            ocpp_message_id=None,
            deadline=None,
            attempt=1,
            redelivered=delivery.redelivered,
            reply_wanted=False,
            fault=error.reason,
            source=delivery,
        )
        self._rest.ledger.arrived(nobodys)
        self._rest.refuse(nobodys, error)
