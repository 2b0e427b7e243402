"""What a worker did in a test: each try of each request, told so that a person can follow it."""

from collections.abc import Iterable, Sequence

import msgspec

from bridge.dead_letters.letter import DeadLetter
from bridge.dialects.copies import vendor_and_message
from bridge.request.incoming import Request
from bridge.request.outcome import Dropped, Failure, Late, Outcome, Reply, RetryLater
from bridge.telemetry.lines import escaped

SHOWN = 20
"""Tries and dead letters that a failed assertion tells of: the last ones."""
_TEXT = 200
"""Characters of an answer, or of an error, that are told."""


class Try(msgspec.Struct, frozen=True, kw_only=True):
    """One time that a handler was given a request, or that it was answered without one."""

    station_id: str
    vendor_id: str
    """As the station spelled it; empty if the payload does not say."""
    message_id: str
    """Likewise."""
    ocpp_message_id: str | None
    attempt: int
    """1 for the first try."""
    redelivered: bool
    """Whether the broker had delivered it before."""
    outcome: Outcome
    """What became of it: :class:`~bridge.request.outcome.Reply`,
    :class:`~bridge.request.outcome.RetryLater`, :class:`~bridge.request.outcome.Failure`, …"""
    correlation_id: str | None
    error: BaseException | None = None
    """What the handler raised, with its traceback, if that is why it failed or is tried again."""

    @property
    def retried_after(self) -> float | None:
        """Seconds until the next try; None: there is none."""
        return self.outcome.after if isinstance(self.outcome, RetryLater) else None

    def __str__(self) -> str:
        what = f"{self.vendor_id}/{self.message_id}" if self.message_id else self.vendor_id
        again = ", redelivered" if self.redelivered else ""
        told = f"{self.station_id} {what}, try {self.attempt}{again}: {_told(self.outcome)}"
        return escaped(told)


def try_of(request: Request, outcome: Outcome) -> Try:
    """What there is to tell of a request when it has its outcome."""
    vendor_id, message_id = vendor_and_message(request)
    raised = outcome.raised if isinstance(outcome, Failure | RetryLater) else None
    return Try(
        station_id=request.station_id,
        vendor_id=vendor_id,
        message_id=message_id,
        ocpp_message_id=request.ocpp_message_id,
        attempt=request.attempt,
        redelivered=request.redelivered,
        outcome=outcome,
        correlation_id=request.source.properties.correlation_id,
        error=None if raised is None else raised.error,
    )


def _told(outcome: Outcome) -> str:
    match outcome:
        case Reply(body):
            return f"answered {_short(body.decode(errors='replace'))}"
        case RetryLater(after, error):
            return f"to be tried again after {after:g} s ({_short(error)})"
        case Failure(body, reason, error):
            unanswered = "" if body is not None else ", and nobody waited for an answer"
            return f"{reason.value} ({_short(error)}){unanswered}"
        case Late():
            return "handled, but its deadline had passed: no answer"
        case Dropped():
            return "its deadline had passed: dropped"
    return repr(outcome)


def _short(text: str) -> str:
    return text if len(text) <= _TEXT else f"{text[:_TEXT]}…"


def story(tries: Sequence[Try], letters: Sequence[DeadLetter]) -> str:
    """All that happened, for whoever reads why a test failed."""
    parts = [_list("What the worker did", [str(each) for each in tries])]
    parts.append(_list("Dead letters", [told_letter(letter) for letter in letters]))
    return "\n".join(parts)


def _list(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return f"{title}: nothing" if title.startswith("What") else f"{title}: none"
    left_out = len(lines) - SHOWN
    first = [f"  … {left_out} earlier ones"] if left_out > 0 else []
    shown: Iterable[str] = (f"  - {line}" for line in lines[-SHOWN:])
    return "\n".join((f"{title}:", *first, *shown))


def told_letter(letter: DeadLetter) -> str:
    """A dead letter in one line."""
    what = f"{letter.vendor}/{letter.message}" if letter.message else letter.vendor
    tries = "" if letter.attempts is None else f", try {letter.attempts}"
    return escaped(
        f"{letter.station} {what}{tries}: {letter.reason or 'no reason'} ({_short(letter.error)})"
    )
