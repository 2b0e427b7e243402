"""Whether an event loop turns is seen from outside of it."""

import asyncio
import math
import time

import pytest

from bridge.telemetry.pulse import BEAT, HELD_UP, Pulse


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def clock() -> Clock:
    return Clock()


@pytest.fixture
async def pulse(clock: Clock) -> Pulse:
    pulse = Pulse(monotonic=clock)
    pulse.start()
    pulse.stop()
    pulse._due = clock.now + BEAT  # as it was before, without a timer
    return pulse


async def test_a_loop_that_turns_is_not_late(clock: Clock, pulse: Pulse) -> None:
    clock.now += BEAT
    assert pulse.late == 0
    assert pulse.silent_for == BEAT
    assert pulse.turning_for == math.inf
    assert pulse.last_hold_up == 0


async def test_a_loop_that_is_held_up_is_late_while_it_is(clock: Clock, pulse: Pulse) -> None:
    clock.now += 3.0
    assert pulse.late == 3.0 - BEAT
    assert pulse.silent_for == 3.0
    assert pulse.turning_for == 0
    assert pulse.last_hold_up == 3.0 - BEAT


async def test_the_end_of_a_hold_up_is_remembered(clock: Clock, pulse: Pulse) -> None:
    clock.now += 3.0
    pulse._beat()
    pulse.stop()
    clock.now += 5.0
    assert pulse.late == 0
    assert pulse.turning_for == 5.0
    assert pulse.last_hold_up == 3.0 - BEAT


async def test_a_beat_that_is_a_little_late_is_no_hold_up(clock: Clock, pulse: Pulse) -> None:
    clock.now += BEAT + HELD_UP / 2
    pulse._beat()
    pulse.stop()
    assert pulse.turning_for == math.inf


async def test_it_beats_on_a_real_loop_and_stops() -> None:
    pulse = Pulse(every=0.01)
    pulse.start()
    async with asyncio.timeout(10):
        while pulse.beats < 3:
            await asyncio.sleep(0.01)
    time.sleep(HELD_UP + 0.1)  # noqa: ASYNC251 - the loop is to be held up
    assert pulse.late > HELD_UP
    pulse.stop()
    assert (pulse.late, pulse.due) == (0, math.inf)
