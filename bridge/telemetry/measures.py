"""What is counted and measured, as values: counting is cheap, and nothing is made of it until read.

Numbers lie in arrays of fixed size, which the compiled module reads and writes in C. They may be
read from another thread while they are counted: each number is whole, and a number that belongs to
two is counted in one place. None of them can grow with what stations send.
"""

from collections.abc import Sequence
from typing import Final

SECONDS: Final = (
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    20.0,
    30.0,
    60.0,
)
"""Upper bounds of durations. A handler that waits for nothing takes microseconds; 20 s and 30 s are
what CSMSs and stations wait."""

MOST: Final = 24
"""Bounds of a histogram, and kinds of a tally, at most: the size of the arrays."""


def _zeros() -> list[int]:
    return [0] * (MOST + 1)


class Histogram:
    """How many durations there were up to each of a few bounds, and what they add up to."""

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        """`bounds`: seconds, ascending, at most :data:`MOST`. Raises ValueError otherwise."""
        if not 0 < len(bounds) <= MOST or list(bounds) != sorted(set(bounds)):
            raise ValueError(f"bounds are 1 to {MOST} numbers that ascend, not {bounds}")
        self.bounds = tuple(bounds)
        self._size = len(bounds)
        self._bounds = [*bounds, *[0.0] * (MOST - len(bounds))]
        self._counts = _zeros()
        self.sum = 0.0
        """Seconds, in all."""

    def observe(self, seconds: float) -> None:
        """Count a duration."""
        at = 0
        while at < self._size and seconds > self._bounds[at]:
            at += 1
        self._counts[at] += 1
        self.sum += seconds

    @property
    def counts(self) -> list[int]:
        """Durations up to each bound and above the one before; the last: above all bounds."""
        return list(self._counts)[: self._size + 1]

    @property
    def count(self) -> int:
        """Durations."""
        return sum(self.counts)


class Tally:
    """How often each kind of a closed list has come, and how long it took."""

    def __init__(self, labels: tuple[str, ...], kinds: Sequence[str]) -> None:
        """`labels`: what it is the tally of. `kinds`: at most :data:`MOST`, else ValueError."""
        if len(kinds) > MOST:
            raise ValueError(f"{len(kinds)} kinds, and a tally has {MOST} at most")
        self.labels = labels
        self.kinds = tuple(kinds)
        self._size = len(kinds)
        self._counts = _zeros()
        self.seconds = Histogram()

    def count(self, kind: int) -> None:
        """Count one. `kind`: its place in the list. Raises IndexError for one that is not there."""
        if not 0 <= kind < self._size:
            raise IndexError("no such kind")
        self._counts[kind] += 1

    @property
    def counts(self) -> dict[str, int]:
        """How often each kind has come."""
        return dict(zip(self.kinds, list(self._counts), strict=False))
