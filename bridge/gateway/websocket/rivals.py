"""Two peers with the id of one station, each of which ends the other's connection by its own.

The newest connection of a station wins, because an older one is often dead. So two peers that share
an id would replace each other as fast as they can connect. After a few times in quick succession,
the next one has to wait until the present one has had the station for a while.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from msgspec import Struct

CALM: Final = 60.0
"""Seconds. What is replaced later than that has been a connection like any other."""

FREE: Final = 3
"""Replacements in quick succession without a pause: a station on a bad link connects again and
again, too."""

FIRST_PAUSE: Final = 0.5
"""Seconds that a connection has the station before it is replaced once more. They double each
time."""

LONGEST_PAUSE: Final = 10.0
"""Seconds. It must be less than CALM, and less than a station waits for an answer."""

WAITING: Final = 4
"""Connections of one station that wait for their turn; one more is closed at once."""


class _Fight(Struct):
    """Replacements of one station's connections in quick succession."""

    count: int
    since: float
    """When the present connection took over, by the clock of the event loop."""


class Rivals:
    """Says when a new connection of a station may replace the one that it has."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        """`clock`: seconds; None: that of the running event loop."""
        self._clock = asyncio.get_running_loop().time if clock is None else clock
        self._fights: dict[str, _Fight] = {}
        """Only of stations that are connected."""
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._closed = False

    def pause(self, station_id: str) -> float:
        """Seconds until the station's connection may be replaced; 0 or less: now."""
        fight = self._fights.get(station_id)
        if fight is None or self._closed or fight.count < FREE:
            return 0.0
        held = self._clock() - fight.since
        return 0.0 if held >= CALM else _pause_after(fight.count) - held

    async def turn(self, station_id: str, gone: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Wait until a new connection may take over. False: it may not, or is `gone` meanwhile."""
        if self.pause(station_id) <= 0:
            return True
        if len(self._waiting.get(station_id, ())) >= WAITING:
            return False
        end = asyncio.create_task(gone())
        try:
            while (pause := self.pause(station_id)) > 0 and not end.done():
                await self._wait(station_id, end, pause)
            return not end.done()
        finally:
            end.cancel()
            await asyncio.gather(end, return_exceptions=True)

    async def _wait(self, station_id: str, end: "asyncio.Task[None]", pause: float) -> None:
        free = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(station_id, set())
        waiting.add(free)
        try:
            await asyncio.wait({free, end}, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.discard(free)
            if not waiting and self._waiting.get(station_id) is waiting:
                del self._waiting[station_id]

    def replaced(self, station_id: str) -> bool:
        """A connection has taken over from another. True: this is the beginning of a fight."""
        now = self._clock()
        fight = self._fights.get(station_id)
        if fight is None or now - fight.since >= CALM:
            self._fights[station_id] = _Fight(1, now)
            return False
        fight.count, fight.since = fight.count + 1, now
        return fight.count == FREE

    def left(self, station_id: str) -> None:
        """The station has no connection any more: whoever waits may have it now."""
        self._fights.pop(station_id, None)
        self._wake(self._waiting.get(station_id, ()))

    def close(self) -> None:
        """Nobody waits any more: the gateway stops."""
        self._closed = True
        for waiting in self._waiting.values():
            self._wake(waiting)

    @staticmethod
    def _wake(waiting: "set[asyncio.Future[None]] | tuple[()]") -> None:
        for free in waiting:
            if not free.done():
                free.set_result(None)


def _pause_after(count: int) -> float:
    doublings = min(count - FREE, 16)
    return min(FIRST_PAUSE * 2.0**doublings, LONGEST_PAUSE)
