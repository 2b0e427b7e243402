"""Vendors with several queues: stations that ask, what handlers saw, and another number of them."""

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from typing import Any

from bridge import Call, Router
from bridge.client.client import Client
from bridge.dialects.native import Native
from bridge.dialects.partitions import partitions_of
from bridge.dialects.topology import Mode, QueueType, Topology, worker_topology
from bridge.rabbitmq.changing import open_changes
from bridge.rabbitmq.difference import compare
from bridge.rabbitmq.live import read_live
from bridge.rabbitmq.migrating import Outcome
from bridge.rabbitmq.repartitioning import Repartitioning, ways_of
from bridge.rabbitmq.urls import parse_urls
from bridge.transport import TopologyError
from tests.integration.places import ManagedPlace
from tests.integration.support import NAMES, PATIENCE, request, working

QUEUE = NAMES.vendor_queue("v")


class Place(ManagedPlace):
    """Where a vendor gets another number of partitions."""

    async def queues(self) -> set[str]:
        """Those of the vendor."""
        return {each.name for each in await self.management.queues(self.vhost, QUEUE)}

    async def repartition(
        self, router: Router, last: str = "-", *, patience: float = 10.0
    ) -> Outcome:
        """`last`: the step at which it ends, whatever is left to do."""

        def on_step(step: str, _queue: str, _moved: int) -> None:
            if step == last:
                raise KilledError

        topology = topology_of(router)
        async with open_changes(parse_urls([self.url]), "partitions") as changes:
            change = Repartitioning(
                changes,
                self.management,
                self.vhost,
                prefix="datatransfer",
                name="partitions",
                on_step=on_step,
                patience=patience,
            )
            return await change.run(ways_of(topology, NAMES.requests))

    async def differs(self, router: Router) -> list[str]:
        topology = topology_of(router)
        live = await read_live(self.management, self.vhost, topology, "datatransfer")
        found = compare(topology, live, prefix="datatransfer", requests=NAMES.requests)
        return [f"{each.mark} {each.kind} {each.name}" for each in found.findings]


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
        self.going_on = True
        self.sending: list[asyncio.Task[None]] = []

    async def stop(self) -> None:
        """Ask nothing more, and wait for what has been asked."""
        self.going_on = False
        await asyncio.gather(*self.sending)

    async def more(self, count: int = 100) -> None:
        wanted = self.answered + count
        async with asyncio.timeout(PATIENCE):
            while self.answered < wanted:
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def loaded(
    url: str, stations: int = 12, at_a_time: int = 3, every: float = 0.0
) -> AsyncIterator[Load]:
    """`every`: seconds between two requests of a station."""
    load = Load()

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
        while load.going_on:
            under_way.add(asyncio.create_task(ask(client, station, number)))
            number += 1
            if every:
                await asyncio.sleep(every)
            if len(under_way) >= at_a_time:
                _, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
        if under_way:
            await asyncio.wait(under_way)

    async with Client(url, timeout=PATIENCE) as client:
        load.sending = [
            asyncio.create_task(send(client, f"CP{number}")) for number in range(stations)
        ]
        try:
            yield load
        finally:
            await load.stop()


# ---- workers ----

Closing = contextlib.AsyncExitStack


async def started(url: str, router: Router, mode: Mode = Mode.DECLARE) -> Closing:
    """A worker, until this is closed: then it drains."""
    stack = Closing()
    await stack.enter_async_context(working(url, router, mode=mode))
    return stack


async def started_when_it_may(url: str, router: Router) -> Closing:
    """A worker that is started again and again, as a supervisor does, until it stays."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await started(url, router)
            except (TopologyError, RuntimeError):
                await asyncio.sleep(0.2)


class KilledError(Exception):
    """The end of a command in the middle."""
