"""Each station's order while its vendor gets another number of partitions, under load."""

import asyncio
import contextlib

import pytest

from bridge import Router
from bridge.dialects.topology import Mode
from tests.integration.partitions import (
    QUEUE,
    Book,
    KilledError,
    Load,
    Place,
    loaded,
    started,
    started_when_it_may,
)

EVERY = 0.05
"""Seconds between two requests of a station, which does not wait for its answers."""


def ordered(book: Book, count: int) -> Router:
    return book.router(pause=0.01, partitions=count, ordered=True)


def assert_kept(book: Book, load: Load) -> None:
    assert load.wrong == []
    assert book.out_of_order == []


@pytest.mark.parametrize("mode", [Mode.DECLARE, Mode.VERIFY])
async def test_order_is_kept_with_the_old_worker_at_work_and_none_yet_on_the_new_queues(
    place: Place, mode: Mode
) -> None:
    book = Book()
    await (await started(place.url, ordered(book, 1))).aclose()  # declares everything
    old = await started(place.url, ordered(book, 1), mode)
    async with loaded(place.url, stations=8, at_a_time=1000, every=EVERY) as load:
        await load.more()
        for count in (4, 1):
            await place.repartition(ordered(book, count))
            new = await started(place.url, ordered(book, count), mode)
            await load.more(300)
            await old.aclose()
            outcome = await place.repartition(ordered(book, count))
            assert (outcome.given_up, outcome.still_consumed) == ({}, [])
            await load.more()
            assert await place.differs(ordered(book, count)) == []
            old = new
    await old.aclose()
    assert_kept(book, load)


async def test_order_is_kept_though_new_workers_are_started_meanwhile(place: Place) -> None:
    book = Book()
    old = await started(place.url, ordered(book, 2))
    async with loaded(place.url, stations=8, at_a_time=1000, every=EVERY) as load:
        await load.more()
        changing = asyncio.create_task(place.repartition(ordered(book, 4)))
        new = await started_when_it_may(place.url, ordered(book, 4))
        await changing
        await load.more(300)
        await old.aclose()
    await new.aclose()
    assert_kept(book, load)


async def test_order_is_kept_though_the_command_is_killed_and_run_again(place: Place) -> None:
    book = Book()
    old = await started(place.url, ordered(book, 1))
    async with loaded(place.url, stations=8, at_a_time=1000, every=EVERY) as load:
        await load.more()
        with contextlib.suppress(KilledError):
            await place.repartition(ordered(book, 3), last="switched")
        await place.repartition(ordered(book, 3))
        new = await started(place.url, ordered(book, 3))
        await load.more(300)
        await old.aclose()
    await new.aclose()
    assert_kept(book, load)


async def test_what_nobody_drains_is_moved_and_a_warning_says_so(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    book = Book()
    await (await started(place.url, ordered(book, 1))).aclose()
    async with loaded(place.url, stations=4, at_a_time=1000, every=EVERY) as load:
        await asyncio.sleep(1.0)
        outcome = await place.repartition(ordered(book, 2))
        assert "order is not kept during this change" in caplog.text
        assert (outcome.given_up, outcome.still_consumed, outcome.waiting) == ({}, [], [QUEUE])
        new = await started(place.url, ordered(book, 2))
        await load.more()
    await new.aclose()
    assert load.wrong == []
