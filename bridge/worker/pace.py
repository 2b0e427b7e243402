"""How long handling takes, and how often it may begin."""

import math
from typing import Final

from bridge.telemetry import ticks

SMOOTHING: Final = 1 / 8
"""How much one measurement of how long handling takes changes the mean."""
SPREAD: Final = 1 / 4
"""How much one measurement changes the mean deviation."""
FADING: Final = 0.95
"""What remains of both after each request that was not begun: otherwise one bad spell would keep
every later request out."""


class Pace:
    """How long handling takes while an intake is busy.

    Smoothed as TCP smooths its round-trip times (RFC 6298 §2).
    """

    __slots__ = ("_deviation", "_mean")

    def __init__(self) -> None:
        self._mean = 0.0
        self._deviation = 0.0

    @property
    def needed(self) -> float:
        """Seconds in which almost every request is handled."""
        return self._mean + 2 * self._deviation

    def took(self, seconds: float) -> None:
        """Count one request that was handled in so many seconds."""
        self._deviation += SPREAD * (abs(seconds - self._mean) - self._deviation)
        self._mean += SMOOTHING * (seconds - self._mean)

    def fade(self) -> None:
        """Count one request that was not begun."""
        self._mean *= FADING
        self._deviation *= FADING


BURST: Final = 0.1
"""Seconds whose allowance may be used at once, by whoever has not used it before."""


class Rate:
    """So many a second, and a small burst: a token bucket.

    It is kept as one time, that at which the bucket would be full again (the "virtual scheduling"
    of ITU-T I.371, Annex A), by the monotonic clock.
    """

    __slots__ = ("_full_at", "_interval", "_slack", "per_second")

    def __init__(self, per_second: float) -> None:
        """`per_second`: above 0; it need not be whole. At least one may always be had at once."""
        self.per_second = per_second
        self._interval = 1.0 / per_second
        self._slack = max(0.0, BURST - self._interval)
        self._full_at = 0.0

    def take(self) -> float:
        """Take one. Returns 0.0, or the seconds until there is one: then none was taken."""
        now = ticks.now()
        early = self._full_at - self._slack - now
        if early > 0.0:
            return early
        self._full_at = max(self._full_at, now) + self._interval
        return 0.0


AHEAD: Final = 5.0
"""Seconds' worth of a rate that an intake takes from its queue. The rest stays there, for other
workers, and where it expires in time; and handlers that take so long still run at their rate."""


def in_hand(rate: Rate) -> int:
    """Requests that are worth having in hand at that rate."""
    return max(1, math.ceil(AHEAD * rate.per_second))
