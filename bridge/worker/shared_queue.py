"""A queue that all vendors share, of a gateway that does not route by vendor: delivery → request → its vendor's part.

With a queue for each vendor the broker keeps them apart: what a slow vendor cannot take waits in its own queue. Here it would fill what
the worker may have in hand of the queue they share, and no other vendor's requests would come through any more. So each vendor
has a share of that (:class:`Part`), and the shares together are no more than the whole: one more request of a vendor that has
its share in hand is sent round by a delay queue, and the others behind it come. Each round is longer than the one before, and
when there is no time for another the request is answered.

What comes into such a queue and is no request at all is kept as a dead letter, with the reason.
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
from bridge.transport import Delivery
from bridge.worker.intake import Intake

log = get_logger("bridge.worker")

SHARED_PREFETCH: Final = 2_000
"""Deliveries in hand of one shared queue at most: RabbitMQ gives a consumer of a quorum queue no more. Nine vendors that all hang
hold 200 each of them, and the tenth still gets its own through."""

FIRST_ROUND: Final = DELAYS[1]
"""Seconds of the first round: short, since a vendor that has its share in hand is mostly just busy."""
GROWTH: Final = 0.5
"""The length of each further round, as a part of the time since the first: so a request goes round a dozen times in 20 s, and
not eighty times."""

QUIET: Final = 1.0
"""Seconds between two log lines about foreign messages: a flood of them must not be one of the log."""


class Part(Intake):
    """The requests of one vendor in the queues that all vendors share. Its `prefetch` is its share."""

    EXPIRED_BY_BROKER = False
    """A gateway's own messages do not say what the broker's story lacks, and a classic queue's dead letters are not confirmed."""

    def take(self, request: Request) -> None:
        """Handle a request now, or when a handler of this vendor has finished; or have it come again later."""
        if self.in_hand >= self.prefetch:
            self._put_off(request)
        else:
            super().take(request)

    def refuse(self, request: Request, error: Foreign) -> None:
        """Keep what is no request, with the reason."""
        if error.answer is not None:
            self._counts.replied += 1
        self._keep(request, Failure(None, Reason.FOREIGN, error.reason), error.answer)

    def _put_off(self, request: Request) -> None:
        now = time.time()
        age = 0.0 if request.first_try is None else now - request.first_try
        delay = nearest(max(FIRST_ROUND, age * GROWTH))
        if request.deadline is not None and now + delay >= request.deadline:
            self._counts.overloaded += 1
            self._running += 1  # as if it had begun: it is settled like all others
            self._settle(
                request,
                overloaded(
                    request, f"{self.prefetch} others of its vendor were in hand all the time"
                ),
            )
            return
        self._counts.put_off += 1
        self._try_again(
            request, RetryLater(delay, "its vendor has its share in hand", counts=False)
        )


class Sorter:
    """Reads the deliveries of a shared queue and gives each to its vendor's part."""

    def __init__(
        self, dialect: Dialect, parts: Mapping[str, Part], rest: Part, counts: WorkerCounts
    ) -> None:
        """`parts`: by vendorId in lower case (:func:`~bridge.routing.router.fold`). `rest`: for the vendors that nobody handles."""
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
        self._parts.get(fold(read_vendor_id(request.body)), self._rest).take(request)

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
            delivery.body,
            "",
            DEFAULT_VERSION,
            None,
            None,
            1,
            delivery.redelivered,
            False,
            error.reason,
            delivery,
        )
        self._rest.refuse(nobodys, error)
