"""Vendors with several queues: order, workers that come and go, and another number under load."""

import asyncio
import contextlib
import signal
from collections import defaultdict
from pathlib import Path

import aio_pika
import pytest

from bridge import Call, Retry, Router
from bridge.client.client import Client
from bridge.dialects.partitions import Partitions
from bridge.testing.rabbitmq import PrivateBroker, PrivateCluster
from bridge.transport import TopologyError
from bridge.worker.worker import Worker
from tests.integration.partitions import (
    QUEUE,
    Book,
    KilledError,
    Place,
    loaded,
    started,
    started_when_it_may,
    topology_of,
)
from tests.integration.support import (
    NAMES,
    PATIENCE,
    WatchedTransport,
    WorkerProcess,
    request,
    working,
)


async def test_requests_come_to_the_queue_of_their_station_and_are_answered(
    amqp_url: str,
) -> None:
    book = Book()
    router = book.router(partitions=4)
    async with working(amqp_url, router) as one, loaded(amqp_url, stations=40) as load:
        await load.more(300)
        assert one.worker.intakes[0].queue == QUEUE
    assert load.wrong == []
    assert len(book.first) == 40


async def test_of_each_station_one_request_at_a_time_is_handled_in_order(amqp_url: str) -> None:
    book = Book()
    router = book.router(partitions=3, ordered=True)
    async with working(amqp_url, router), loaded(amqp_url, at_a_time=8) as load:
        await load.more(300)
    assert load.wrong == []
    assert book.out_of_order == []
    assert book.together == []


async def started_once(url: str, router: Router) -> None:
    """Raises what the worker ends with."""
    transport = WatchedTransport(url, topology=topology_of(router))
    await Worker([router], transport).run()


async def test_order_is_kept_while_workers_come_and_go(amqp_url: str) -> None:
    book = Book()
    router = book.router(partitions=4, ordered=True)
    old = await started(amqp_url, router)
    async with loaded(amqp_url, at_a_time=6) as load:
        await load.more()
        for _ in range(3):
            new = await started(amqp_url, router)
            await load.more()
            await old.aclose()
            await load.more()
            old = new
    await old.aclose()
    assert load.wrong == []
    assert book.out_of_order == []
    assert book.together == []


async def test_workers_share_the_partitions_of_a_vendor(amqp_url: str) -> None:
    books = Book(), Book()
    one, two = (book.router(partitions=4, ordered=True) for book in books)
    async with working(amqp_url, one), working(amqp_url, two), loaded(amqp_url, 24) as load:
        async with asyncio.timeout(PATIENCE):
            while not books[1].runs:  # the first has them all, until it sees that there are two
                await load.more(20)
        await load.more()
    assert load.wrong == []
    for station in books[0].first.keys() & books[1].first.keys():
        numbers = books[0].first[station] + books[1].first[station]
        assert numbers == sorted(numbers), "the first has let go before the second began"


@pytest.mark.parametrize("ordered", [False, True], ids=["plain", "ordered"])
async def test_the_number_changes_under_load_and_no_request_is_lost(
    place: Place, ordered: bool
) -> None:
    book = Book()

    def router(count: int) -> Router:
        return book.router(partitions=count, ordered=ordered)

    old = await started(place.url, router(1))
    async with loaded(place.url) as load:
        await load.more()
        for count in (4, 2, 1):
            changing = asyncio.create_task(place.repartition(router(count)))
            # Nobody consumes the new queues until then: what comes to them waits.
            new = await started_when_it_may(place.url, router(count))
            await load.more()
            await changing
            await old.aclose()
            outcome = await place.repartition(router(count))  # those of the old number are gone
            assert (outcome.given_up, outcome.still_consumed) == ({}, [])
            assert await place.differs(router(count)) == []
            await load.more()
            old = new
    await old.aclose()
    assert load.wrong == []
    if ordered:
        assert book.out_of_order == []
        assert book.together == []


async def test_order_is_kept_on_a_cluster_though_a_worker_is_killed_under_load(
    cluster: PrivateCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "handled"
    monkeypatch.setenv("ORDERED_VENDOR_FILE", str(file))
    target = "tests.integration.ordered_vendor:four"
    first, second, third = cluster.urls
    try:
        async with (
            WorkerProcess(target, second) as killed,
            loaded(first, at_a_time=6) as load,
            WorkerProcess(target, third) as one,
        ):
            await load.more()
            killed.process.kill()
            killed.exit_code = -signal.SIGKILL
            await load.more()
            async with WorkerProcess(target, first):
                await load.more()
                one.signal(signal.SIGTERM)
                assert await asyncio.to_thread(one.wait) == 0
                await load.more()
                await load.stop()
        assert load.wrong == []
        assert_in_order(file.read_text().splitlines())
    finally:
        await delete_vendor(first, Partitions(4, ordered=True))


def assert_in_order(lines: list[str]) -> None:
    """Each station's requests were begun in their order, but for those of a worker that died.

    What that had in hand is handled again: then it goes on from an earlier one.
    """
    first: dict[str, list[int]] = defaultdict(list)
    running: dict[str, tuple[str, int]] = {}
    for line in lines:
        word, worker, station, text = line.split()
        number = int(text)
        if word == "ends":
            assert running.pop(station) == (worker, number)
            continue
        before = running.get(station)
        assert before is None or (before[0] != worker and number <= before[1]), (
            f"{line}, while {before} is at work"
        )
        running[station] = worker, number
        if number not in first[station]:
            first[station].append(number)
    assert first
    for numbers in first.values():
        assert numbers == sorted(numbers)


async def delete_vendor(url: str, spread: Partitions) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        for queue in spread.consumed(QUEUE):
            await channel.queue_delete(queue)
        await channel.exchange_delete(spread.exchange(QUEUE))


@pytest.mark.parametrize("step", ["prepared", "switched", "moved", "drained"])
async def test_a_change_that_was_interrupted_goes_on_when_it_is_run_again(
    place: Place, step: str
) -> None:
    book = Book()
    old = await started(place.url, book.router())
    async with loaded(place.url) as load:
        await load.more()
        for count in (4, 2):
            router = book.router(partitions=count)
            with contextlib.suppress(KilledError):
                await place.repartition(router, last=step)
            outcome = asyncio.create_task(place.repartition(router))
            new = await started_when_it_may(place.url, router)
            await outcome
            await old.aclose()
            assert (await place.repartition(router)).given_up == {}
            assert await place.differs(router) == []
            await load.more()
            old = new
    await old.aclose()
    assert load.wrong == []
    twice = sum(runs - 1 for runs in book.runs.values())
    assert twice <= 100, f"{twice} of {load.answered} were handled twice"


async def test_a_worker_with_another_number_does_not_start_and_binds_nothing(
    place: Place,
) -> None:
    await (await started(place.url, Book().router(partitions=2))).aclose()
    for router in (Book().router(), Book().router(partitions=4)):
        with pytest.raises(TopologyError, match="dtbridge topology migrate"):
            await started_once(place.url, router)
    bound = await place.management.bindings_of_exchange(place.vhost, NAMES.requests)
    assert [each.destination for each in bound] == [f"{QUEUE}:2"]


async def test_without_the_plugin_a_worker_says_which_to_enable() -> None:
    with PrivateBroker(plugins=()) as broker:
        with pytest.raises(TopologyError, match="enable rabbitmq_consistent_hash_exchange"):
            await started_once(broker.url, Book().router(partitions=2))
        await (await started(broker.url, Book().router())).aclose()  # nobody else needs it


async def test_a_retry_leaves_the_line_and_the_next_request_goes_on(amqp_url: str) -> None:
    router = Router("v", ordered=True)
    handled: list[tuple[int, int]] = []

    @router.default
    async def answer(call: Call, data: int) -> None:
        handled.append((data, call.attempt))
        if data == 0 and call.attempt == 1:
            raise Retry(after=0.1)

    async with working(amqp_url, router), Client(amqp_url, timeout=PATIENCE) as client:
        asked = [
            asyncio.create_task(client.data_transfer("CP", request(data=number)))
            for number in range(3)
        ]
        await asyncio.gather(*asked)
    assert handled == [(0, 1), (1, 1), (2, 1), (0, 2)]


async def test_requests_go_to_the_worker_of_the_higher_priority(amqp_url: str) -> None:
    books = Book(), Book()
    async with (
        working(amqp_url, books[0].router(partitions=2)),
        working(amqp_url, books[1].router(partitions=2), consumer_priority=5),
        loaded(amqp_url) as load,
    ):
        await load.more(200)
        await load.stop()
    assert load.wrong == []
    assert not books[0].runs
    assert books[1].runs
