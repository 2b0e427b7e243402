"""A clock that the test moves."""

import asyncio
import math
import time
from collections.abc import Iterator

import pytest
import uvloop

from bridge.testing import Clock


@pytest.fixture
def clock() -> Iterator[Clock]:
    clock = Clock()
    yield clock
    clock.close()


async def test_what_is_due_is_done_in_order_and_what_is_not_is_not(clock: Clock) -> None:
    done: list[str] = []

    async def work(name: str, *pauses: float) -> None:
        for pause in pauses:
            await asyncio.sleep(pause)
            done.append(name)

    async with asyncio.TaskGroup() as group:
        group.create_task(work("every 20", 20, 20, 20))
        group.create_task(work("at 30", 30))
        began = time.perf_counter()
        await clock.advance(41)
        assert done == ["every 20", "at 30", "every 20"]
        await clock.advance(19)
        assert done == ["every 20", "at 30", "every 20", "every 20"]
    assert time.perf_counter() - began < 5
    assert 59 < clock.moved <= 60


async def test_the_clocks_of_python_and_of_the_loop_move_together(clock: Clock) -> None:
    loop = asyncio.get_running_loop()

    def read() -> list[float]:
        seconds = [time.time(), time.monotonic(), loop.time(), clock.time(), clock.monotonic()]
        return [*seconds, time.time_ns() / 1e9, time.monotonic_ns() / 1e9]

    before = read()
    await clock.advance(1_000)
    after = read()
    assert all(1_000 <= now - then < 1_005 for then, now in zip(before, after, strict=True))


async def test_time_outs_pass(clock: Clock) -> None:
    async def waits() -> None:
        async with asyncio.timeout(30):
            await asyncio.Event().wait()

    waiting = asyncio.create_task(waits())
    await clock.advance(29)
    assert not waiting.done()
    await clock.advance(1)
    with pytest.raises(TimeoutError):
        await waiting


async def test_it_is_untouched_until_it_is_moved_and_after_it_is_closed() -> None:
    real = time.time, time.monotonic, time.time_ns, time.monotonic_ns
    clock = Clock()
    assert (time.time, time.monotonic, time.time_ns, time.monotonic_ns) == real
    await clock.advance(60)
    assert time.time is not real[0]
    clock.close()
    assert (time.time, time.monotonic, time.time_ns, time.monotonic_ns) == real
    clock.close()


async def test_it_goes_on_by_itself(clock: Clock) -> None:
    await clock.advance(10)
    began = time.monotonic()
    await asyncio.sleep(0.01)
    assert time.monotonic() - began >= 0.01


async def test_until_moves_it_as_far_as_something_takes(clock: Clock) -> None:
    async def slow() -> str:
        await asyncio.sleep(3_600)
        return await asyncio.to_thread(lambda: "done")

    assert await clock.until(slow()) == "done"
    assert 3_599 < clock.moved < 3_600.001

    async def fails() -> None:
        await asyncio.sleep(1)
        raise KeyError("because")

    with pytest.raises(KeyError, match="because"):
        await clock.until(fails())


async def test_until_that_is_given_up_gives_up_what_it_awaits(clock: Clock) -> None:
    never = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(clock.until(never))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert never.cancelled()


async def test_threads_have_real_time_while_somebody_is_at_work() -> None:
    busy = True
    clock = Clock(lambda: busy)
    try:

        async def work() -> None:
            nonlocal busy
            await asyncio.to_thread(lambda: None)
            busy = False

        working = asyncio.create_task(work())
        async with asyncio.timeout(10):
            await clock.until(working)
        assert clock.moved < 1
    finally:
        clock.close()


async def test_a_task_that_polls_holds_nobody_up(clock: Clock) -> None:
    stop = False

    async def poll() -> None:
        while not stop:
            await asyncio.sleep(0)

    polling = asyncio.create_task(poll())
    await clock.advance(5)
    stop = True
    await polling


async def test_two_who_move_it_take_turns(clock: Clock) -> None:
    await asyncio.gather(clock.advance(5), clock.advance(5))
    assert 9.9 < clock.moved <= 10


@pytest.mark.parametrize("seconds", [-1, math.inf, math.nan])
async def test_it_is_not_moved_back_or_for_ever(clock: Clock, seconds: float) -> None:
    with pytest.raises(ValueError, match="from 0 up"):
        await clock.advance(seconds)


def test_on_another_event_loop_it_says_that_it_cannot_be_moved() -> None:
    clock = Clock()

    async def play() -> None:
        await clock.rest()
        with pytest.raises(RuntimeError, match=r"asyncio's own event loop alone.*uvloop\.Loop"):
            await clock.advance(1)

    uvloop.run(play())
    clock.close()
