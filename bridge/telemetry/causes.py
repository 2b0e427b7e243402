"""One log line for each cause, however often it strikes."""

from typing import Final

KEPT: Final = 32
"""Causes that are told at most. They come from outside, so there must be a bound."""


class Causes:
    """The causes of one kind of refusal that have been told."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def is_new(self, cause: str) -> bool:
        """Whether it is to be told now: it has not been, and there have not been too many."""
        if cause in self._told or len(self._told) >= KEPT:
            return False
        self._told.add(cause)
        return True
