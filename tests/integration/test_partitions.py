"""Vendors with several queues: order, workers that come and go, and another number under load."""

import asyncio
import contextlib
import secrets
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aio_pika
import pytest
from yarl import URL

from bridge import Call, Retry, Router
from bridge.client.client import Client
from bridge.dialects.native import Native
from bridge.dialects.partitions import Partitions, partitions_of
from bridge.dialects.topology import QueueType, Topology, worker_topology
from bridge.rabbitmq.changing import open_changes
from bridge.rabbitmq.difference import Mark, compare
from bridge.rabbitmq.live import read_live
from bridge.rabbitmq.management import Management
from bridge.rabbitmq.migrating import Outcome
from bridge.rabbitmq.repartitioning import Repartitioning, ways_of
from bridge.rabbitmq.urls import parse_urls
from bridge.testing.rabbitmq import PrivateBroker
from bridge.transport import BrokerUnreachable, TopologyError
from tests.integration.support import NAMES, PATIENCE, request, working

QUEUE = NAMES.vendor_queue("v")


class Place:
    """A virtual host of the node with the management API."""

    def __init__(self, broker: PrivateBroker) -> None:
        self.broker = broker
        self.vhost = f"test-{secrets.token_hex(6)}"
        self.url = broker.add_vhost(self.vhost)

    @property
    def management(self) -> Management:
        return Management(URL(self.broker.management_url))

    async def queues(self) -> set[str]:
        """Those of the vendor."""
        return {each.name for each in await self.management.queues(self.vhost, QUEUE)}

    async def repartition(self, router: Router) -> Outcome:
        topology = topology_of(router)
        async with open_changes(parse_urls([self.url]), "partitions") as changes:
            change = Repartitioning(
                changes,
                self.management,
                self.vhost,
                prefix="datatransfer",
                name="partitions",
                patience=10.0,
            )
            return await change.run(ways_of(topology, NAMES.requests))

    async def differs(self, router: Router) -> list[str]:
        topology = topology_of(router)
        live = await read_live(self.management, self.vhost, topology, "datatransfer")
        found = compare(topology, live, prefix="datatransfer", requests=NAMES.requests)
        return [f"{each.mark} {each.kind} {each.name}" for each in found.findings]


@pytest.fixture
def place(managed_broker: PrivateBroker) -> Iterator[Place]:
    place = Place(managed_broker)
    yield place
    managed_broker.delete_vhost(place.vhost)


def topology_of(router: Router, queue_type: QueueType = QueueType.QUORUM) -> Topology:
    return worker_topology(
        Native(), [router.vendor_id], queue_type=queue_type, partitions=partitions_of([router])
    )


class Book:
    """What handlers were called with, by station."""

    def __init__(self) -> None:
        self.first: dict[str, list[int]] = defaultdict(list)
        """Numbers in the order in which they were handled first."""
        self.runs: Counter[tuple[str, int]] = Counter()
        self.at_work: Counter[str] = Counter()
        self.together: list[str] = []
        """Stations that had two requests at work."""

    def router(self, pause: float = 0.002, **options: Any) -> Router:
        router = Router("v", **options)

        @router.default
        async def answer(call: Call, data: int) -> int:
            station = call.station_id
            self.at_work[station] += 1
            if self.at_work[station] > 1:
                self.together.append(station)
            if not self.runs[station, data]:
                self.first[station].append(data)
            self.runs[station, data] += 1
            await asyncio.sleep(pause)
            self.at_work[station] -= 1
            return data

        return router

    @property
    def out_of_order(self) -> list[str]:
        return [station for station, numbers in self.first.items() if numbers != sorted(numbers)]


class Load:
    """Stations that ask, several requests of each under way at a time."""

    def __init__(self) -> None:
        self.answered = 0
        self.wrong: list[Any] = []

    async def more(self, count: int = 100) -> None:
        wanted = self.answered + count
        async with asyncio.timeout(PATIENCE):
            while self.answered < wanted:
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def loaded(url: str, stations: int = 12, at_a_time: int = 3) -> AsyncIterator[Load]:
    load = Load()
    going_on = True

    async def ask(client: Client, station: str, number: int) -> None:
        try:
            reply = await client.data_transfer(station, request(data=number))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is no answer
            load.wrong.append((station, number, error))
            return
        if (reply.status, reply.data) == ("Accepted", number):
            load.answered += 1
        else:
            load.wrong.append((station, number, reply))

    async def send(client: Client, station: str) -> None:
        """As a gateway does: it publishes in the order of the numbers, and does not wait."""
        under_way: set[asyncio.Task[None]] = set()
        number = 0
        while going_on:
            under_way.add(asyncio.create_task(ask(client, station, number)))
            number += 1
            if len(under_way) >= at_a_time:
                _, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
        if under_way:
            await asyncio.wait(under_way)

    async with Client(url, timeout=PATIENCE) as client:
        sending = [asyncio.create_task(send(client, f"CP{number}")) for number in range(stations)]
        try:
            yield load
        finally:
            going_on = False
            await asyncio.gather(*sending)


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


Closing = contextlib.AsyncExitStack


async def started(url: str, router: Router) -> Closing:
    """A worker, until this is closed: then it drains."""
    stack = Closing()
    await stack.enter_async_context(working(url, router))
    return stack


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
            await load.more()
            new = await started_when_it_may(place.url, router(count))
            await load.more()
            await changing
            await old.aclose()
            outcome = await place.repartition(router(count))  # those of the old number are gone
            assert outcome.given_up == {}
            assert await place.differs(router(count)) == []
            await load.more()
            old = new
    await old.aclose()
    assert load.wrong == []
    if ordered:
        assert book.out_of_order == []
        assert book.together == []


async def started_when_it_may(url: str, router: Router) -> Closing:
    """A worker that is started again and again, as a supervisor does, until it stays."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await started(url, router)
            except (TopologyError, RuntimeError):
                await asyncio.sleep(0.2)
