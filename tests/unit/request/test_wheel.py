"""The wheel of time-outs: never early, at most a tick late, and nothing left behind."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import cast

import pytest

from bridge.request.wheel import TICK, Timed, Wheel


class Noted(Timed):
    """Notes when its time was over."""

    __slots__ = ("__weakref__", "at", "then")

    def __init__(self, then: Callable[[], None] | None = None) -> None:
        super().__init__()
        self.at: float | None = None
        self.then = then

    @property
    def told(self) -> float:
        assert self.at is not None
        return self.at

    def out_of_time(self) -> None:
        self.at = asyncio.get_running_loop().time()
        if self.then is not None:
            self.then()


async def test_what_waits_is_told_neither_early_nor_more_than_a_tick_late() -> None:
    loop = asyncio.get_running_loop()
    wheel = Wheel()
    things = {seconds: Noted() for seconds in (0.0, 0.01, 0.049, 0.05, 0.051, 0.12, 0.2)}
    began = loop.time()
    for seconds, noted in things.items():
        wheel.add(noted, seconds)
    assert len(wheel) == len(things)
    while len(wheel):
        await asyncio.sleep(0.001)
    for seconds, noted in things.items():
        assert began + seconds <= noted.told
    # How late the loop itself is on a busy machine, nobody knows: the order tells.
    order = sorted(things, key=lambda seconds: things[seconds].told)
    assert all(late - early <= TICK for late, early in zip(order, sorted(things), strict=True))


async def test_what_is_taken_back_is_not_told() -> None:
    wheel = Wheel()
    kept, taken = Noted(), Noted()
    wheel.add(taken, 0.01)
    wheel.add(kept, 0.01)
    wheel.remove(taken)
    wheel.remove(taken)
    assert (len(wheel), taken.waits, kept.waits) == (1, False, True)
    while kept.at is None:
        await asyncio.sleep(0.001)
    assert taken.at is None
    assert (len(wheel), kept.waits) == (0, False)


async def test_what_has_been_told_can_wait_again() -> None:
    wheel = Wheel()
    noted = Noted()
    for _ in range(3):
        noted.at = None
        wheel.add(noted, 0.001)
        while noted.at is None:
            await asyncio.sleep(0.001)


async def test_one_that_is_told_takes_another_back_whose_time_is_over_too() -> None:
    wheel = Wheel()
    first = Noted(lambda: wheel.remove(second))
    second = Noted(lambda: wheel.remove(first))
    wheel.add(first, 0.001)
    wheel.add(second, 0.001)
    while len(wheel):
        await asyncio.sleep(0.001)
    assert [first.at, second.at].count(None) == 1


async def test_one_that_fails_costs_itself_alone(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("no")

    wheel = Wheel()
    things = [Noted(fail), Noted(), Noted(fail), Noted()]
    for noted in things:
        wheel.add(noted, 0.001)
    later = Noted()
    wheel.add(later, 2 * TICK)
    while later.at is None:
        await asyncio.sleep(0.001)
    assert None not in [noted.at for noted in things]
    assert caplog.text.count("a time-out failed") == 2


async def test_what_is_added_while_others_are_told_waits_for_a_later_tick() -> None:
    wheel = Wheel()
    again = Noted()
    first = Noted(lambda: wheel.add(again, 0.0))
    wheel.add(first, 0.0)
    while again.at is None:
        await asyncio.sleep(0.001)
    assert again.told >= first.told


async def test_a_wheel_in_which_nothing_waits_has_no_timer() -> None:
    class Loop:
        """Counts the timers."""

        timers = 0
        now = 100.0
        due: tuple[float, Callable[[], None]]

        def time(self) -> float:
            return self.now

        def call_at(self, when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
            self.timers += 1
            self.due = (when, callback)
            return asyncio.TimerHandle(when, callback, (), asyncio.get_running_loop())

    loop = Loop()
    wheel = Wheel(cast("asyncio.AbstractEventLoop", loop), tick=1.0)
    noted = Noted()
    wheel.add(noted, 2.5)
    assert loop.timers == 1
    for _ in range(3):
        assert noted.at is None
        loop.now, callback = loop.due
        callback()
    assert noted.at is not None
    assert loop.timers == 3
    loop.now = 1000.0
    again = Noted()
    wheel.add(again, 0.5)
    assert loop.timers == 4
    assert loop.due[0] == pytest.approx(1001.0)


async def test_a_closed_wheel_forgets_all_that_waits() -> None:
    wheel = Wheel()
    noted = Noted()
    wheel.add(noted, 0.0)
    wheel.close()
    assert (len(wheel), noted.waits) == (0, False)
    await asyncio.sleep(2 * TICK)
    assert noted.at is None
    wheel.add(noted, 0.0)
    while noted.at is None:
        await asyncio.sleep(0.001)


async def test_a_wheel_keeps_nothing_that_was_taken_back() -> None:
    wheel = Wheel()
    noted = Noted()
    wheel.add(noted, 1000.0)
    wheel.remove(noted)
    gone = weakref.ref(noted)
    gc.disable()
    try:
        del noted
        assert gone() is None
    finally:
        gc.enable()
