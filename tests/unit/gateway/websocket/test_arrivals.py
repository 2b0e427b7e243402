"""Stations that come all at once take turns."""

import asyncio
import time

import pytest

from bridge.gateway.websocket.arrivals import Arrivals
from bridge.telemetry import ticks


class Coming:
    """Takes its time, and notes when it came in."""

    def __init__(self, came: list["Coming"], seconds: float = 0.0) -> None:
        self._came = came
        self._seconds = seconds
        self.at = 0.0

    def proceed(self) -> None:
        until = ticks.now() + self._seconds
        while ticks.now() < until:
            pass
        self.at = ticks.now()
        self._came.append(self)


async def test_who_comes_alone_does_not_wait() -> None:
    arrivals, came = Arrivals(), list[Coming]()
    arrivals.enter(Coming(came))
    assert len(came) == 1
    assert len(arrivals) == 0


async def test_many_take_turns_in_order_and_leave_the_others_their_time() -> None:
    arrivals, came = Arrivals(share=0.25, at_once=0.004), list[Coming]()
    comings = [Coming(came, 0.002) for _ in range(20)]
    began = time.monotonic()
    for coming in comings:
        arrivals.enter(coming)
    assert 0 < len(came) <= 4
    turns = 0
    while len(came) < len(comings):
        await asyncio.sleep(0)
        turns += 1
    assert came == comings
    assert turns > 20
    # 40 ms of work in a quarter of the time, but for what may be done at once.
    assert comings[-1].at - began >= 4 * (20 - 4) * 0.002


async def test_one_that_comes_while_others_wait_is_the_last() -> None:
    arrivals, came = Arrivals(at_once=0.001), list[Coming]()
    for _ in range(5):
        arrivals.enter(Coming(came, 0.002))
    assert len(arrivals) > 0
    last = Coming(came)
    arrivals.enter(last)
    while len(arrivals):
        await asyncio.sleep(0.001)
    assert came[-1] is last


async def test_those_that_wait_when_it_is_closed_proceed_at_once() -> None:
    arrivals, came = Arrivals(at_once=0.001), list[Coming]()
    for _ in range(5):
        arrivals.enter(Coming(came, 0.002))
    assert len(came) < 5
    arrivals.close()
    assert len(came) == 5
    assert len(arrivals) == 0


@pytest.mark.parametrize("share", [0.1, 0.5])
async def test_time_that_nobody_used_is_not_saved_up(share: float) -> None:
    arrivals, came = Arrivals(share=share, at_once=0.002), list[Coming]()
    await asyncio.sleep(0.05)
    for _ in range(10):
        arrivals.enter(Coming(came, 0.002))
    assert len(came) <= 3
