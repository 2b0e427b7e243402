"""A line for each request: what became of it, and how long that took.

Off, it costs nothing: the intakes of a worker with an access log are of another class, and there is
one more step in their chains. A payload is not written unless its vendor is named.
"""

import time
from collections.abc import Iterable
from typing import Any, Final

from bridge.request.chain import Dispatch
from bridge.request.failures import Facts
from bridge.request.incoming import Request
from bridge.request.outcome import Outcome, Settle
from bridge.request.telling import answer_of, outcome_word, status_of
from bridge.routing.router import fold
from bridge.telemetry.handled import HANDLED
from bridge.telemetry.logs import get_logger
from bridge.worker.intake import Intake
from bridge.worker.shared_queue import Part

log = get_logger("bridge.access")

LONGEST: Final = 2_048
"""Bytes of a payload that are written."""


class AccessLog:
    """Writes the lines of one worker."""

    def __init__(self, *, every: bool = True, payloads_of: Iterable[str] = ()) -> None:
        """`every`: write a line for each request; otherwise for those of `payloads_of` alone.

        `payloads_of`: vendors whose payloads are written, too.
        """
        self._every = every
        self._payloads_of = {fold(vendor_id) for vendor_id in payloads_of}

    def write(
        self,
        request: Request,
        outcome: Outcome,
        *,
        handled_in: float | None,
        answered_in: float | None,
    ) -> None:
        """Write the line of a request that has its outcome. Both times are seconds."""
        facts = Facts(request)
        shown = fold(facts.vendor_id) in self._payloads_of
        if not (shown or self._every):
            return
        answer = answer_of(outcome)
        status, code = status_of(answer)
        pairs: dict[str, Any] = {
            "outcome": outcome_word(outcome),
            "status": status,
            "error_code": code,
            "handler_ms": _milliseconds(handled_in),
            "answer_ms": _milliseconds(answered_in),
            "attempt": request.attempt,
        }
        if shown:
            pairs["payload"] = _shown(request.body)
            pairs["answer"] = None if answer is None else _shown(answer)
        token = HANDLED.set(facts)
        try:
            log.info("request", **{key: value for key, value in pairs.items() if value is not None})
        finally:
            HANDLED.reset(token)


class Timed:
    """The step of a chain before the handlers: measures how long each takes."""

    def __init__(self) -> None:
        self.next: Dispatch
        """Where requests go: see :func:`~bridge.request.chain.chain`."""
        self.settle: Settle
        """Whom it tells each outcome."""
        self._began: dict[Request, float] = {}
        self.took: dict[Request, float] = {}
        """Seconds; whoever reads it takes it out."""

    def dispatch(self, request: Request) -> None:
        """Pass a request on. Never raises."""
        self._began[request] = time.monotonic()
        self.next(request)

    def settled(self, request: Request, outcome: Outcome) -> None:
        """Pass an outcome on."""
        began = self._began.pop(request, None)
        if began is not None:
            self.took[request] = time.monotonic() - began
        self.settle(request, outcome)


class _Watched(Intake):
    """An intake that has a line written for each request."""

    access_log: AccessLog
    """Set by whoever makes it, and so is the other."""
    timed: Timed

    def take(self, request: Request) -> None:
        request.arrived = time.monotonic()
        super().take(request)

    def settled(self, request: Request, outcome: Outcome) -> None:
        self.access_log.write(
            request,
            outcome,
            handled_in=self.timed.took.pop(request, None),
            answered_in=None if request.arrived is None else time.monotonic() - request.arrived,
        )
        super().settled(request, outcome)


class WatchedIntake(_Watched):
    """As :class:`~bridge.worker.intake.Intake`."""


class WatchedPart(_Watched, Part):
    """As :class:`~bridge.worker.shared_queue.Part`."""


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _shown(payload: bytes) -> str:
    text = payload[:LONGEST].decode("utf-8", "backslashreplace")
    left_out = len(payload) - LONGEST
    return text if left_out <= 0 else f"{text} … and {left_out:,} bytes more"
