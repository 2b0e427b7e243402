"""A line for each request: what became of it, and how long that took.

A payload is not written unless its vendor is named.
"""

import time
from collections.abc import Iterable
from typing import Any, Final

from bridge.request.failures import Facts
from bridge.request.incoming import Request
from bridge.request.outcome import Outcome
from bridge.request.telling import answer_of, status_of
from bridge.routing.router import fold
from bridge.telemetry.handled import HANDLED
from bridge.telemetry.logs import get_logger
from bridge.telemetry.outcomes import KINDS

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

    def settled(self, request: Request, outcome: Outcome, counted: int) -> None:
        """Write the line of a request that has its outcome.

        `counted`: the :class:`~bridge.telemetry.outcomes.Counted` of that.
        """
        facts = Facts(request)
        shown = fold(facts.vendor_id) in self._payloads_of
        if not (shown or self._every):
            return
        ended = time.monotonic() if request.ended is None else request.ended
        answer = answer_of(outcome)
        status, code = status_of(answer)
        pairs: dict[str, Any] = {
            "outcome": KINDS[counted],
            "status": status,
            "error_code": code,
            "waited_ms": _waited(request),
            "handler_ms": _milliseconds(request.begun, ended),
            "answer_ms": _milliseconds(request.arrived, ended),
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


def _waited(request: Request) -> float | None:
    """From the delivery until the handler was called: for others, for the store, for a thread."""
    return None if request.begun is None else _milliseconds(request.arrived, request.begun)


def _milliseconds(began: float | None, ended: float) -> float | None:
    return None if began is None else round((ended - began) * 1000, 3)


def _shown(payload: bytes) -> str:
    text = payload[:LONGEST].decode("utf-8", "backslashreplace")
    left_out = len(payload) - LONGEST
    return text if left_out <= 0 else f"{text} … and {left_out:,} bytes more"
