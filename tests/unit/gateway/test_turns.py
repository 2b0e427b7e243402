"""One at a time for each key, in order, and nothing left of it afterwards."""

import asyncio

import pytest

from bridge.gateway.turns import Turns

LONG = 10.0
"""Seconds that no test waits."""


class Waiter:
    """Waits for a turn, and keeps it or not."""

    def __init__(self, name: str, told: list[str], *, keeps: bool = True) -> None:
        self.name = name
        self.told = told
        self.keeps = keeps

    def on_turn(self) -> bool:
        self.told.append(self.name)
        return self.keeps


def test_who_waits_is_told_in_order_unless_withdrawn() -> None:
    turns = Turns()
    told: list[str] = []
    first, second, third = (Waiter(name, told) for name in ("first", "second", "third"))
    assert turns.take_or_wait("a", first)
    assert not turns.take_or_wait("a", second)
    assert not turns.take_or_wait("a", third)
    assert turns.is_wanted("a")
    turns.withdraw("a", second)
    turns.withdraw("a", second)  # it does not wait any more
    turns.withdraw("b", second)
    turns.give("a")
    assert told == ["third"]
    assert not turns.is_wanted("a")
    assert len(turns) == 1
    turns.give("a")
    assert (told, len(turns)) == (["third"], 0)


def test_a_turn_that_nobody_keeps_goes_on_however_many_wait() -> None:
    turns = Turns()
    told: list[str] = []
    turns.take_or_wait("a", Waiter("holder", told))
    for number in range(5_000):
        turns.take_or_wait("a", Waiter(f"{number}", told, keeps=False))
    turns.give("a")
    assert (len(told), len(turns)) == (5_000, 0)


def test_who_comes_while_a_turn_is_passed_on_waits() -> None:
    turns = Turns()
    told: list[str] = []

    class Again(Waiter):
        def on_turn(self) -> bool:
            assert not turns.take_or_wait("a", Waiter("late", told))
            return super().on_turn()

    turns.take_or_wait("a", Waiter("holder", told))
    turns.take_or_wait("a", Again("again", told, keeps=False))
    turns.give("a")
    assert (told, len(turns)) == (["again", "late"], 1)


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
    turn = next(iter(waiting))
    assert isinstance(turn, asyncio.Future)
    turn.set_result(False)  # as its timer does
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
