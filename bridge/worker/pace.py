"""How long handling takes."""

from typing import Final

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
