"""Bounds what one cause can write into the log, however often it strikes.

What is logged for requests is as much as requests come. So each cause is told at length a few times
a minute, in short a few times more, and after that counted alone; the count is told when the minute
is over.
"""

import enum
import time
from collections.abc import Callable, Hashable
from typing import Final

WINDOW: Final = 60.0
"""Seconds."""
FULL: Final = 5
"""Records of one cause in so long that say everything: those with a traceback."""
SHORT: Final = 100
"""Records of one cause in so long, in all."""
KEPT: Final = 256
"""Causes that are kept apart. Beyond that they count as one: there must be a bound."""

_OTHERS: Final = "others"


class Telling(enum.Enum):
    """How a record is written."""

    FULL = "full"
    SHORT = "short"
    """Without what makes it long, and with the count."""
    NOT_AT_ALL = "not at all"


class _Cause:
    __slots__ = ("count", "ends")

    def __init__(self, ends: float) -> None:
        self.ends = ends
        self.count = 0


class Storms:
    """The causes of the last minute, and how often each struck."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: in seconds."""
        self._clock = clock
        self._causes: dict[Hashable, _Cause] = {}

    def strike(self, cause: Hashable) -> tuple[Telling, int]:
        """How this one is told, and how many of its cause there have been in this minute."""
        now = self._clock()
        known = self._causes.get(cause)
        if known is None:
            if len(self._causes) >= KEPT:
                self._forget_quiet(now)
            if len(self._causes) >= KEPT:
                cause = _OTHERS
            known = self._causes.setdefault(cause, _Cause(now + WINDOW))
        if known.ends <= now and known.count <= SHORT:  # others wait for their count to be told
            known.ends, known.count = now + WINDOW, 0
        known.count += 1
        if known.count <= FULL:
            return Telling.FULL, known.count
        return (Telling.SHORT if known.count <= SHORT else Telling.NOT_AT_ALL), known.count

    def untold(self, *, over: bool = False) -> list[tuple[Hashable, int]]:
        """Causes whose minute is over, with how many records were not written, and forget them.

        `over`: take the minute of all of them for over.
        """
        now = self._clock()
        found = []
        for cause, known in tuple(self._causes.items()):
            if over or known.ends <= now:
                del self._causes[cause]
                if known.count > SHORT:
                    found.append((cause, known.count - SHORT))
        return found

    def _forget_quiet(self, now: float) -> None:
        for cause, known in tuple(self._causes.items()):
            if known.ends <= now and known.count <= SHORT:
                del self._causes[cause]
