"""How an outcome is counted: one of a closed list, for each delivery of a request exactly one.

An answer says itself what it is, so nothing has to travel beside it: the bridge writes its answers
with the status first, and one byte of it tells them apart.
"""

import enum
from typing import Final

from bridge.compiled import fields
from bridge.request.outcome import Dropped, Failure, Kind, Late, Outcome, Reason, Reply, RetryLater

fields.check((Reply,))


class Counted(enum.IntEnum):
    """What became of one delivery of a request. Those up to :data:`ANSWERED` were answered."""

    ACCEPTED = 0
    """The handler's answer has this status."""
    REJECTED = 1
    """The handler's answer has this status, or the data did not fit its type."""
    UNKNOWN_MESSAGE = 2
    """Nobody handles that message of the vendor, or the handler said so."""
    UNKNOWN_VENDOR = 3
    """Nobody handles the vendor, or the handler said so."""
    CALL_ERROR = 4
    """A CALLERROR that the payload deserved, or the handler has chosen. Nothing failed."""
    ABSORBED = 5
    """A repetition: it was given the answer of the first delivery, and no handler ran."""
    FAILED = 6
    """The handler raised, or returned what cannot be sent. Dead-lettered, as the next three."""
    TIMED_OUT = 7
    """The handler took longer than it may."""
    RETRIES_EXHAUSTED = 8
    """The handler asked for another try, and there was none left, or no time for it."""
    OVERLOADED = 9
    """It was not begun, because no time was left to handle it."""
    EXPIRED = 10
    """Its deadline had passed: nobody waits. Dead-lettered, as the next two."""
    BROKEN = 11
    """It cannot be read, and nobody waits to be told so."""
    FOREIGN = 12
    """It was no request, in a queue that all vendors share."""
    LATE = 13
    """It was handled, and its deadline passed meanwhile. No answer."""
    DROPPED = 14
    """Its deadline had passed, and expired requests are dropped. No answer."""
    RETRIED = 15
    """The handler asked for another try, which comes later. No answer yet."""
    PUT_OFF = 16
    """It comes again later without having been tried: its vendor has its share of a shared queue in
    hand, or another worker is handling it."""


KINDS: Final = tuple(counted.name.lower() for counted in Counted)
"""In their order, as metrics name them."""
ANSWERED: Final = Counted.OVERLOADED.value

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
