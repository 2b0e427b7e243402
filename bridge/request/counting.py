"""How an outcome is counted: one of a closed list, for each delivery of a request exactly one.

An answer says itself what it is, so nothing has to travel beside it: the bridge writes its answers
with the status first, and one byte of it tells them apart.
"""

from typing import Final

from bridge.compiled import fields
from bridge.request.outcome import Dropped, Failure, Kind, Late, Outcome, Reason, Reply, RetryLater
from bridge.telemetry.outcomes import Counted

fields.check((Reply,))


# Names of their own: a member of an Enum is looked up at each use.
_ERROR_KIND: Final = Kind.CALL_ERROR
_ACCEPTED: Final = Counted.ACCEPTED.value
_REJECTED: Final = Counted.REJECTED.value
_UNKNOWN_MESSAGE: Final = Counted.UNKNOWN_MESSAGE.value
_UNKNOWN_VENDOR: Final = Counted.UNKNOWN_VENDOR.value
_CALL_ERROR: Final = Counted.CALL_ERROR.value

_STATUS: Final = len(b'{"status":"')
"""Where the status begins."""
_UNKNOWN: Final = _STATUS + len(b"Unknown")
"""Where one that is unknown says what is."""

_BY_REASON: Final = {
    Reason.FAILED: Counted.FAILED.value,
    Reason.TIMED_OUT: Counted.TIMED_OUT.value,
    Reason.RETRIES_EXHAUSTED: Counted.RETRIES_EXHAUSTED.value,
    Reason.OVERLOADED: Counted.OVERLOADED.value,
    Reason.EXPIRED: Counted.EXPIRED.value,
    Reason.BROKEN: Counted.BROKEN.value,
    Reason.FOREIGN: Counted.FOREIGN.value,
}


def of_reply(reply: Reply) -> int:
    """The :class:`Counted` of an answer."""
    if reply.kind is _ERROR_KIND:
        return _CALL_ERROR
    body = reply.body
    if len(body) <= _UNKNOWN or body[_STATUS] == 0x41:  # A
        return _ACCEPTED
    if body[_STATUS] == 0x52:  # R
        return _REJECTED
    return _UNKNOWN_MESSAGE if body[_UNKNOWN] == 0x4D else _UNKNOWN_VENDOR  # M


def of_other(outcome: Outcome) -> int:
    """The :class:`Counted` of an outcome that is no answer."""
    match outcome:
        case Failure():
            return _BY_REASON[outcome.reason]
        case RetryLater():
            return (Counted.RETRIED if outcome.counts else Counted.PUT_OFF).value
        case Late():
            return Counted.LATE.value
        case Dropped():
            return Counted.DROPPED.value
    raise TypeError(f"a worker has no {type(outcome).__name__}")
