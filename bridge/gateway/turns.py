"""One at a time, for each of very many.

A station may have one CALL outstanding in each direction (OCPP-J 1.6 §4.1.1, 2.0.1 §4.1.2). A lock
for each station would be 100,000 locks; a turn is an entry in a table while somebody has it, and
nothing otherwise.
"""

import asyncio
from collections.abc import Hashable


class Turns:
    """Turns by key, first come, first served."""

    def __init__(self) -> None:
        self._taken: dict[Hashable, dict[asyncio.Future[bool], None] | None] = {}
        """Each key whose turn somebody has, with those that wait for it, in order; None: nobody."""

    def __len__(self) -> int:
        """Keys whose turn somebody has."""
        return len(self._taken)

    async def take(self, key: Hashable, timeout: float) -> bool:
        """Wait for the turn, at most `timeout` seconds.

        True: it is the caller's, until :meth:`give`. False: it did not come in time.
        """
        if key not in self._taken:
            self._taken[key] = None
            return True
        waiting = self._taken[key]
        if waiting is None:
            waiting = self._taken[key] = {}
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        waiting[turn] = None
        timer = loop.call_later(timeout, _give_up, turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result():
                self.give(key)  # it had just become the caller's
            raise
        finally:
            timer.cancel()
            waiting.pop(turn, None)

    def give(self, key: Hashable) -> None:
        """Pass the turn on to the one that has waited longest."""
        waiting = self._taken[key]
        while waiting:
            turn = next(iter(waiting))
            del waiting[turn]
            if not turn.done():
                turn.set_result(True)
                return
        del self._taken[key]


def _give_up(turn: "asyncio.Future[bool]") -> None:
    if not turn.done():
        turn.set_result(False)
