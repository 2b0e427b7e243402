"""A clock that a test moves: time-outs, pauses and deadlines pass without anybody waiting for them.

The clock goes on by itself, as any clock does, so what has nothing to do with it works as ever. A
test moves it forward besides. What moves is :func:`time.time`, :func:`time.monotonic`, the same in
nanoseconds, and with them the timers of asyncio's event loop. :class:`datetime.datetime` and the
rate of a router do not: they ask the system. Nothing is touched before it is moved for the first
time.

It goes from timer to timer, and lets everybody who was waiting for one do their work, before it
goes on to the next; meanwhile it stands still. So a pause of 5 s that follows a time-out of 30 s
ends after exactly 35 s, and not together with it.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

T = TypeVar("T")

PATIENCE: Final = 0.01
"""Seconds of real time that threads and sockets are given while somebody is at work, before the
clock moves."""
TURNS: Final = 1_000
"""Turns of the event loop after which one that never comes to rest is taken for one that has: a
task that polls has something to do in every turn."""
SLACK: Final = 1e-6
"""Seconds by which a sum of pauses may be off, in floating point."""

_MOVED: Final = ("time", "monotonic", "time_ns", "monotonic_ns")
"""The functions of the module time that are moved."""


class Clock:
    """The clock of a :class:`~bridge.testing.TestBridge`."""

    def __init__(self, busy: Callable[[], bool] = lambda: False) -> None:
        """`busy`: whether somebody is at work whom the event loop may know nothing of."""
        self._busy = busy
        self._moved = 0.0
        self._stood_still = 0.0
        """Seconds of real time that have passed while it was being moved, and do not count."""
        self._held: dict[str, Any] = {}
        """What its functions show while it is being moved, but for the move."""
        self._originals: dict[str, Callable[[], Any]] = {}
        self._turn = asyncio.Lock()
        self._resting = 0
        """How many wait until nobody has anything to do."""

    @property
    def moved(self) -> float:
        """Seconds that it was moved so far."""
        return self._moved

    def time(self) -> float:
        """The time of day by this clock, in seconds of Unix time."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some moment, by this clock."""
        return time.monotonic()

    async def advance(self, seconds: float) -> None:
        """Move it forward, and return when all that was due in this time has been done.

        Whoever could do something already does that first. Raises ValueError if `seconds` is
        negative, infinite or not a number, and RuntimeError on an event loop that is not asyncio's
        own.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"a clock is moved by seconds from 0 up, not {seconds}")
        async with self._turn:
            self._install()
            with self._standing_still():
                await self._go(seconds)

    async def _go(self, seconds: float) -> None:
        await self._rest()
        end = time.monotonic() + seconds
        while (due := self._next_timer()) is not None and due <= end + SLACK:
            self._move(due - time.monotonic())
            await self._rest()
        self._move(end - time.monotonic())
        await self._rest()

    async def until(self, awaitable: Awaitable[T]) -> T:
        """Await something, and move the clock from timer to timer as long as that takes.

        Returns what it returns, and raises what it raises. Raises RuntimeError on an event loop
        that is not asyncio's own.

        >>> response = await bridge.clock.until(bridge.data_transfer("CP001", "com.acme", "Slow"))
        """
        awaited = asyncio.ensure_future(awaitable)
        try:
            async with self._turn:
                self._install()
                with self._standing_still():
                    await self._go_on_until(awaited)
            return await awaited
        finally:
            awaited.cancel()

    async def _go_on_until(self, awaited: "asyncio.Future[Any]") -> None:
        await self._rest()
        while not awaited.done():
            due = self._next_timer()
            if due is None:
                await _real_time(PATIENCE)
            else:
                self._move(due - time.monotonic())
            await self._rest()

    async def rest(self) -> None:
        """Return when nobody has anything to do before time has passed. It moves nothing."""
        await self._quiet()

    def close(self) -> None:
        """Give everybody the real clock back. In a test that moved it, time then falls back."""
        originals, self._originals = self._originals, {}
        for name, original in originals.items():
            setattr(time, name, original)

    def _install(self) -> None:
        _loop()
        if self._originals:
            return
        self._originals = {name: getattr(time, name) for name in _MOVED}
        for name, original in self._originals.items():
            setattr(time, name, self._later(name, original))

    def _later(self, name: str, original: Callable[[], Any]) -> Callable[[], Any]:
        """What stands in for a function of the module time."""
        unit = (lambda seconds: round(seconds * 1e9)) if name.endswith("_ns") else float

        def read() -> Any:
            real = self._held[name] if self._held else original() - unit(self._stood_still)
            return real + unit(self._moved)

        return read

    @contextmanager
    def _standing_still(self) -> Iterator[None]:
        """It goes on by nothing but its moves."""
        monotonic = self._originals["monotonic"]
        since = monotonic()
        moved = self._moved
        self._held = {}
        now = {name: getattr(time, name)() for name in _MOVED}
        self._held = {
            name: value - (round(moved * 1e9) if name.endswith("_ns") else moved)
            for name, value in now.items()
        }
        try:
            yield
        finally:
            self._held = {}
            self._stood_still += monotonic() - since

    def _move(self, seconds: float) -> None:
        self._moved += max(0.0, seconds)

    def _next_timer(self) -> float | None:
        """When the next timer of the event loop is due; None: there is none."""
        timers: list[asyncio.TimerHandle] = vars(_loop())["_scheduled"]
        return min((timer.when() for timer in timers if not timer.cancelled()), default=None)

    async def _rest(self) -> None:
        """As :meth:`rest`, for who moves the clock: everybody else who rests goes on first."""
        await self._quiet(0)
        if self._busy():
            await _real_time(PATIENCE)
            await self._quiet(0)

    async def _quiet(self, resting: int | None = None) -> None:
        """Return when the event loop has nothing to call but what waits for a timer.

        `resting`: how many are left out of account, for they wait here as well; None: all of them.
        """
        ready = vars(asyncio.get_running_loop()).get("_ready")
        if ready is None:  # a loop that is not asyncio's own
            await asyncio.sleep(PATIENCE)
            return
        self._resting += 1
        try:
            for _ in range(TURNS):
                await asyncio.sleep(0)
                if len(ready) <= (self._resting - 1 if resting is None else resting):
                    return
        finally:
            self._resting -= 1


async def _real_time(seconds: float) -> None:
    """Give sockets and threads real time, whatever the clock shows."""
    await asyncio.get_running_loop().run_in_executor(None, time.sleep, seconds)


def _loop() -> asyncio.BaseEventLoop:
    """Raises RuntimeError for an event loop whose timers nobody else can see."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, asyncio.BaseEventLoop):
        raise RuntimeError(  # noqa: TRY004 - it is no argument of anybody's
            f"the clock can be moved on asyncio's own event loop alone, and this is"
            f" {type(loop).__module__}.{type(loop).__name__}: run the test without it"
        )
    return loop
