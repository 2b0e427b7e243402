"""The time-outs of very many things, with one timer for all of them.

A timer of the event loop costs more than all else that a gateway does for a message; a place in a
wheel costs next to nothing, and to take it back even less. It is coarse in exchange: what waits in
a wheel is never told early, and at most :data:`TICK` seconds late.
"""

import asyncio
import math
from typing import Final

from bridge.request.outcome import describe_error
from bridge.telemetry.logs import get_logger

log = get_logger("bridge.request")

TICK: Final = 0.05
"""Seconds between two looks at the wheel."""


class Timed:
    """What can wait in a wheel. It is in one wheel at a time, and there once."""

    __slots__ = ("slot",)

    def __init__(self) -> None:
        self.slot: dict[Timed, None] | None = None
        """Those that are told together with it; None: it does not wait."""

    @property
    def waits(self) -> bool:
        """Whether it is in a wheel."""
        return self.slot is not None

    def out_of_time(self) -> None:
        """Its time is over. It is in no wheel any more."""
        raise NotImplementedError


class Wheel:
    """Tells each thing when its time is over. It has a timer only while something waits."""

    __slots__ = ("_due", "_loop", "_slots", "_tick", "_timer", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None, tick: float = TICK) -> None:
        """`loop`: None: the one that runs. `tick`: seconds.

        Raises RuntimeError without a loop.
        """
        self._loop = loop or asyncio.get_running_loop()
        self._tick = tick
        self._slots: dict[int, dict[Timed, None]] = {}
        """What waits, by the number of the tick that ends its time."""
        self._due = 0
        """The tick that was looked at last."""
        self._timer: asyncio.TimerHandle | None = None
        self._waiting = 0

    def __len__(self) -> int:
        """How many things wait."""
        return self._waiting

    def add(self, timed: Timed, seconds: float) -> None:
        """Tell `timed` after so many seconds: not earlier, and at most a tick later.

        It must not wait already.
        """
        now = self._loop.time()
        if self._timer is None:
            self._due = math.floor(now / self._tick)
            self._wake()
        number = max(self._due + 1, math.ceil((now + seconds) / self._tick))
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = {}
        slot[timed] = None
        timed.slot = slot
        self._waiting += 1

    def remove(self, timed: Timed) -> None:
        """Forget `timed`, if it waits."""
        slot = timed.slot
        if slot is not None:
            timed.slot = None
            self._waiting -= 1
            del slot[timed]

    def close(self) -> None:
        """Forget everything."""
        for slot in self._slots.values():
            for timed in slot:
                timed.slot = None
        self._slots.clear()
        self._waiting = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        self._timer = self._loop.call_at((self._due + 1) * self._tick, self._turn)

    def _turn(self) -> None:
        """Tell all whose time is over."""
        now = math.floor(self._loop.time() / self._tick)
        while self._due < now and self._slots:
            self._due += 1
            slot = self._slots.pop(self._due, None)
            if slot:
                self._tell(slot)
        self._due = max(self._due, now)
        if self._slots:
            self._wake()
        else:
            self._timer = None

    def _tell(self, slot: dict[Timed, None]) -> None:
        while slot:
            timed, _ = slot.popitem()
            timed.slot = None
            self._waiting -= 1
            try:
                timed.out_of_time()
            except Exception as error:
                # A fault of ours. It costs this one, and not the time-outs of all others.
                log.exception("a time-out failed", error=describe_error(error))
