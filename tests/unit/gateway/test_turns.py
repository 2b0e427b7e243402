"""One at a time for each key, in order, and nothing left of it afterwards."""

import asyncio

import pytest

from bridge.gateway.turns import Turns

LONG = 10.0
"""Seconds that no test waits."""


async def test_who_comes_first_is_first_and_other_keys_do_not_mind() -> None:
    turns = Turns()
    order: list[int] = []

    async def take(number: int) -> None:
        assert await turns.take("a", LONG)
        order.append(number)
        await asyncio.sleep(0)
        turns.give("a")

    assert await turns.take("a", LONG)
    waiting = [asyncio.create_task(take(number)) for number in range(50)]
    await asyncio.sleep(0)
    assert await turns.take("b", LONG)
    assert (order, len(turns)) == ([], 2)
    turns.give("b")
    turns.give("a")
    await asyncio.gather(*waiting)
    assert (order, len(turns)) == (list(range(50)), 0)


async def test_a_turn_that_is_free_costs_no_turn_of_the_loop() -> None:
    coroutine = Turns().take("a", LONG)
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    assert stopped.value.value is True


async def test_whose_time_is_over_goes_without_and_holds_up_nobody() -> None:
    turns = Turns()
    await turns.take("a", LONG)
    assert await turns.take("a", 0.001) is False
    hasty, patient = (
        asyncio.create_task(turns.take("a", 0.001)),
        asyncio.create_task(turns.take("a", LONG)),
    )
    assert await hasty is False
    turns.give("a")
    assert await patient is True
    assert len(turns) == 1
    turns.give("a")
    assert len(turns) == 0


async def test_who_is_cancelled_while_waiting_is_passed_over() -> None:
    turns = Turns()
    await turns.take("a", LONG)
    cancelled, next_ = (
        asyncio.create_task(turns.take("a", LONG)),
        asyncio.create_task(turns.take("a", LONG)),
    )
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.wait((cancelled,))
    turns.give("a")
    assert await next_ is True
    turns.give("a")
    assert len(turns) == 0


async def test_who_is_cancelled_just_as_its_turn_comes_passes_it_on() -> None:
    turns = Turns()
    await turns.take("a", LONG)
    cancelled, next_ = (
        asyncio.create_task(turns.take("a", LONG)),
        asyncio.create_task(turns.take("a", LONG)),
    )
    await asyncio.sleep(0)
    turns.give("a")
    cancelled.cancel()
    await asyncio.wait((cancelled,))
    assert cancelled.cancelled()
    assert await next_ is True
    turns.give("a")
    assert len(turns) == 0


async def test_who_is_cancelled_just_as_its_time_is_over_does_not_touch_the_turn_of_another() -> (
    None
):
    turns = Turns()
    await turns.take("a", LONG)
    hasty = asyncio.create_task(turns.take("a", LONG))
    await asyncio.sleep(0)
    waiting = turns._taken["a"]
    assert waiting is not None
    next(iter(waiting)).set_result(False)  # as its timer does
    hasty.cancel()
    await asyncio.wait((hasty,))
    assert hasty.cancelled()
    assert len(turns) == 1
    assert await turns.take("a", 0.0) is False
    turns.give("a")
    assert len(turns) == 0


async def test_100_000_keys_are_nothing_when_they_are_not_used() -> None:
    turns = Turns()
    for number in range(100_000):
        await turns.take(number, LONG)
    assert len(turns) == 100_000
    for number in range(100_000):
        turns.give(number)
    assert turns._taken == {}
