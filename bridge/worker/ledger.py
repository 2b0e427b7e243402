"""What is counted of the requests of one queue, or of one vendor's share of a shared queue.

A request is counted when it arrives, and once more when it is settled: under the vendor and message
of the handler that it went to, as their router spells them. Where none was found, or none was
looked for, that is the vendor of the queue, and the message :data:`OTHER`. So the labels are those
of the routers, whatever stations send.

The clock is read three times for a request: when it arrives, when its handler begins and when that
ends.
"""

import os
import time
from collections.abc import Callable, Iterable
from typing import Final

from bridge.compiled import fields
from bridge.dialects.headers import FIRST_TRY
from bridge.ocpp.errors import encodable
from bridge.request.incoming import Request
from bridge.routing.catalogue import catalogue
from bridge.routing.handler import Handler
from bridge.routing.router import Router
from bridge.telemetry import ticks
from bridge.telemetry.measures import Histogram, Tally
from bridge.telemetry.outcomes import ANSWERED, KINDS
from bridge.transport import Delivery, Properties

fields.check((Delivery, Properties, Request))

OTHER: Final = "other"
"""The label of a vendor or message that no router names."""

LAG: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
"""Upper bounds for the time in a queue, which AMQP's timestamps give in whole seconds."""

_ANSWERED: Final = ANSWERED


def wanted() -> bool:
    """Whether requests are counted. ``DTBRIDGE_BENCH_UNCOUNTED=1`` is for the benchmark alone.

    It measures a worker that does not count beside one that does. Asked when a worker is made.
    """
    return os.environ.get("DTBRIDGE_BENCH_UNCOUNTED") != "1"


def labels(
    routers: Iterable[Router], bound: Callable[[Handler], Handler] = lambda handler: handler
) -> dict[Handler, tuple[str, str]]:
    """Vendor and message of each handler, as the routers spell them.

    `bound`: what a worker calls in place of a handler.
    """
    found = {}
    for router in routers:
        (vendor,) = catalogue([router])
        for message, (_, handler) in zip(vendor.messages, router.handlers(), strict=True):
            found[bound(handler)] = encodable(vendor.vendor_id), encodable(message.message)
    return found


def tallies(
    routers: Iterable[Router], bound: Callable[[Handler], Handler] = lambda handler: handler
) -> dict[Handler, Tally]:
    """A tally for each handler that the routers name, under vendor and message as they spell it.

    `bound`: as of :func:`labels`.
    """
    return {handler: Tally(named, KINDS) for handler, named in labels(routers, bound).items()}


class Ledger:
    """What is counted of the requests that come one way."""

    def __init__(self, vendor: str = OTHER, *, counts: bool = True) -> None:
        """`vendor`: as its router spells it. `counts`: see :func:`wanted`."""
        self.vendor = encodable(vendor)
        self.tally = Tally((self.vendor, OTHER), KINDS)
        """Of requests that have no handler."""
        self.answers = Histogram()
        """From a delivery to its answer, in seconds."""
        self.lag = Histogram(LAG)
        """From the time that a message names to its first delivery, in seconds. A copy of a request
        that was delivered before is none."""
        self.received = 0
        """Deliveries."""
        self.redelivered = 0
        """Those of them that had been delivered before."""
        self.dead: dict[str, int] = {}
        """Dead letters, by reason."""
        self.unsent: dict[str, int] = {}
        """Answers that were not sent, by cause."""
        self._counts = counts

    def arrived(self, request: Request) -> None:
        """Count a delivery."""
        if not self._counts:
            return
        request.arrived = ticks.now()
        self.received += 1
        if request.redelivered:
            self.redelivered += 1
        delivery = request.source
        properties = delivery.properties
        if properties.timestamp is not None:
            self._arrived_after(request, properties, properties.timestamp)

    def _arrived_after(self, request: Request, properties: Properties, timestamp: int) -> None:
        if request.attempt != 1 or request.redelivered:
            return
        headers = properties.headers
        if headers is None or FIRST_TRY not in headers:  # as after a pause that is no try
            seconds = time.time() - timestamp
            self.lag.observe(max(0.0, seconds))

    def settled(self, request: Request, counted: int) -> None:
        """Count a request under its outcome, a :class:`~bridge.telemetry.outcomes.Counted`."""
        if not self._counts:
            return
        tally: Tally = self.tally if request.tally is None else request.tally
        tally.count(counted)
        if request.arrived is None:
            return
        arrived: float = request.arrived
        ended: float = ticks.now() if request.ended is None else request.ended
        if request.begun is not None:
            begun: float = request.begun
            tally.seconds.observe(ended - begun)
        if counted <= _ANSWERED:
            self.answers.observe(ended - arrived)

    def dead_lettered(self, reason: str) -> None:
        """Count a dead letter. `reason`: of a closed list."""
        self.dead[reason] = self.dead.get(reason, 0) + 1

    def not_sent(self, cause: str) -> None:
        """Count an answer that was not sent. `cause`: of a closed list."""
        self.unsent[cause] = self.unsent.get(cause, 0) + 1
