"""Two peers with the id of one station: how often they may replace each other."""

import asyncio

import pytest

from bridge.gateway.websocket.rivals import (
    CALM,
    FIRST_PAUSE,
    FREE,
    LONGEST_PAUSE,
    WAITING,
    Rivals,
)
from tests.support import UNTIL_SETTLED


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def stays() -> None:
    await asyncio.Event().wait()


def fought(rivals: Rivals, times: int) -> list[bool]:
    return [rivals.replaced("CP001") for _ in range(times)]


async def test_a_station_that_connects_a_few_times_in_succession_does_not_wait() -> None:
    rivals = Rivals(Clock())
    assert await rivals.turn("CP001", stays)
    for _ in range(FREE - 1):
        assert not rivals.replaced("CP001")
        assert rivals.pause("CP001") == 0


async def test_pauses_double_up_to_a_bound_and_the_beginning_is_told_once() -> None:
    clock = Clock()
    rivals = Rivals(clock)
    assert fought(rivals, FREE) == [False] * (FREE - 1) + [True]
    pauses = []
    for _ in range(2000):
        pauses.append(rivals.pause("CP001"))
        clock.now += pauses[-1]
        assert rivals.pause("CP001") <= 0
        assert not rivals.replaced("CP001")
    assert pauses[:3] == pytest.approx([FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE])
    assert max(pauses) == pytest.approx(LONGEST_PAUSE)
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE)
    assert rivals.pause("CP002") == 0


async def test_what_is_replaced_after_a_while_is_no_fight() -> None:
    clock = Clock()
    rivals = Rivals(clock)
    fought(rivals, FREE + 5)
    clock.now += CALM
    assert rivals.pause("CP001") == 0
    assert not rivals.replaced("CP001")
    assert rivals.pause("CP001") == 0


async def test_who_waits_has_its_turn_when_the_station_is_free_or_the_gateway_stops() -> None:
    for end in ("left", "close"):
        rivals = Rivals(Clock())
        fought(rivals, FREE)
        waiting = [asyncio.create_task(rivals.turn("CP001", stays)) for _ in range(WAITING)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not await rivals.turn("CP001", stays), "one too many"
        if end == "left":
            rivals.left("CP001")
        else:
            rivals.close()
        async with asyncio.timeout(UNTIL_SETTLED):
            assert await asyncio.gather(*waiting) == [True] * WAITING


async def test_who_goes_while_it_waits_leaves_its_place() -> None:
    rivals = Rivals(Clock())
    fought(rivals, FREE)
    for _ in range(2 * WAITING):
        goes = asyncio.Event()

        async def gone(goes: asyncio.Event = goes) -> None:
            await goes.wait()

        waiting = asyncio.create_task(rivals.turn("CP001", gone))
        await asyncio.sleep(0)
        goes.set()
        async with asyncio.timeout(UNTIL_SETTLED):
            assert not await waiting
