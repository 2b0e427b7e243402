"""One at a time, for each of very many.

A station may have one CALL outstanding in each direction (OCPP-J 1.6 §4.1.1, 2.0.1 §4.1.2). A lock
for each station would be 100,000 locks; a turn is an entry in a table while somebody has it, and
nothing otherwise.
"""

import asyncio
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

    def take_or_wait(self, key: Hashable, waiter: Waiter) -> bool:
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

    async def take(self, key: Hashable, timeout: float) -> bool:
        """Wait for the turn, at most `timeout` seconds.

        True: it is the caller's, until :meth:`give`. False: it did not come in time.
        """
        loop = asyncio.get_running_loop()
        turn = _Turn(loop=loop)
        if self.take_or_wait(key, turn):
            return True
        timer = loop.call_later(timeout, turn.give_up)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result():
                self.give(key)  # it had just become the caller's
            raise
        finally:
            timer.cancel()
            self.withdraw(key, turn)


class _Turn(asyncio.Future[bool]):
    """Waits for a turn on behalf of a coroutine."""

    def on_turn(self) -> bool:
        if self.done():
            return False
        self.set_result(True)
        return True

    def give_up(self) -> None:
        if not self.done():
            self.set_result(False)
