"""One at a time, for each of very many.

A station may have one CALL outstanding in each direction (OCPP-J 1.6 §4.1.1, 2.0.1 §4.1.2). A lock
for each station would be 100,000 locks; a turn is an entry in a table while somebody has it, and
nothing otherwise.
"""

from collections.abc import Hashable
from typing import Protocol


class Waiter(Protocol):
    """Whoever waits for a turn."""

    def on_turn(self) -> bool:
        """The turn has come. Returns whether it is kept, until :meth:`Turns.give`.

        False: it is not needed any more, and is the next one's. Must not raise.
        """


class Turns:
    """Turns by key, first come, first served."""

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken: dict[Hashable, dict[Waiter, None] | None] = {}
        """Each key whose turn somebody has, with those that wait for it, in order; None: nobody."""

    def __len__(self) -> int:
        """Keys whose turn somebody has."""
        return len(self._taken)

    def take(self, key: Hashable, waiter: Waiter) -> bool:
        """Whether the turn is free, and the caller's from now on.

        If not, `waiter` is told when it has come, unless it is withdrawn before.
        """
        taken = self._taken
        if key not in taken:
            taken[key] = None
            return True
        waiting = taken[key]
        if waiting is None:
            waiting = taken[key] = {}
        waiting[waiter] = None
        return False

    def withdraw(self, key: Hashable, waiter: Waiter) -> None:
        """It waits no longer, if it did."""
        waiting = self._taken.get(key)
        if waiting is not None:
            waiting.pop(waiter, None)

    def is_wanted(self, key: Hashable) -> bool:
        """Whether somebody waits for a turn."""
        return bool(self._taken.get(key))

    def give(self, key: Hashable) -> None:
        """Pass the turn on to the one that has waited longest."""
        taken = self._taken
        while waiting := taken[key]:
            waiter = next(iter(waiting))
            del waiting[waiter]
            if waiter.on_turn():
                return
        del taken[key]
