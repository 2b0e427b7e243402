"""Each station's order while its vendor gets another number of partitions, under load."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aio_pika
import pytest

from bridge import Client, Router
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
from tests.integration.support import PATIENCE, request

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


@contextlib.asynccontextmanager
async def coming_and_going(url: str, queue: str) -> AsyncIterator[None]:
    """A worker that is started again and again, and dies before it has handled anything."""

    async def ignore(_: aio_pika.abc.AbstractIncomingMessage) -> None: ...

    async def come_and_go() -> None:
        while True:
            async with await aio_pika.connect(url) as connection:
                channel = await connection.channel()
                await (await channel.get_queue(queue)).consume(ignore)
                await asyncio.sleep(0.7)
            await asyncio.sleep(0.7)

    task = asyncio.create_task(come_and_go())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def until_something_waits(url: str, queue: str) -> None:
    async with await aio_pika.connect(url) as connection, asyncio.timeout(PATIENCE):
        channel = await connection.channel()
        count: int | None = 0
        while not count:
            declared = await channel.declare_queue(queue, passive=True)
            count = declared.declaration_result.message_count
            await asyncio.sleep(0.05)


async def test_workers_that_come_and_go_and_handle_nothing_are_not_waited_for_without_end(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.rabbitmq.repartitioning.BACK_WITHIN", 6.0)
    book = Book()
    await (await started(place.url, ordered(book, 1))).aclose()
    async with Client(place.url, timeout=4 * PATIENCE) as client:
        asked = asyncio.create_task(client.data_transfer("CP", request(data=1)))
        old = f"{QUEUE}:1-ordered.0"
        await until_something_waits(place.url, old)
        async with coming_and_going(place.url, old), asyncio.timeout(2 * PATIENCE):
            outcome = await place.repartition(ordered(book, 4), patience=6.0)
        assert "requests of it in hand" in outcome.given_up.get(old, ""), outcome
        await place.repartition(ordered(book, 4))
        new = await started(place.url, ordered(book, 4))
        await asked
    await new.aclose()


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
