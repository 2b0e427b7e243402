"""What became of a request, as metrics count it and events tell it: a closed list."""

import enum
from typing import Final


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
