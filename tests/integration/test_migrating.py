"""A queue gets other arguments under load: every request is answered, and rightly."""

import asyncio
import contextlib
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aio_pika
import pytest

from bridge import Call, Router
from bridge.client.client import Client
from bridge.dialects.native import Native
from bridge.dialects.topology import Purpose, QueueType, worker_topology
from bridge.rabbitmq.changing import open_changes
from bridge.rabbitmq.declaring import ensure
from bridge.rabbitmq.difference import ASIDE, compare_queue
from bridge.rabbitmq.migrating import STEPS, Migration, Outcome
from bridge.rabbitmq.moving import SETTLE
from bridge.rabbitmq.urls import parse_urls
from bridge.testing.rabbitmq import PrivateBroker
from tests.integration.killed_migration import migrate
from tests.integration.places import COUNTS_WITHIN, ManagedPlace
from tests.integration.support import NAMES, PATIENCE, ROOT, dead_letters, request, working

QUEUE = NAMES.vendor_queue("v")
LONG = 300_000
"""Milliseconds."""
ASKING = 8
"""Requests under way at a time."""


class Place(ManagedPlace):
    """Where queues are migrated."""

    async def leftovers(self) -> list[str]:
        queues = [each.name for each in await self.management.queues(self.vhost)]
        exchanges = [each.name for each in await self.management.exchanges(self.vhost)]
        return [name for name in (*queues, *exchanges) if ASIDE in name]


@pytest.fixture
def place(managed_broker: PrivateBroker) -> Iterator[Place]:
    place = Place(managed_broker)
    yield place
    managed_broker.delete_vhost(place.vhost)


def echo(runs: Counter[int]) -> Router:
    router = Router("v")

    @router.default
    async def answer(call: Call, data: int) -> int:
        runs[data] += 1
        await asyncio.sleep(0.002)
        return data

    return router


class Load:
    """A gateway that asks all the time."""

    def __init__(self) -> None:
        self.answered = 0
        self.wrong: list[Any] = []
        self.slowest = 0.0


@contextlib.asynccontextmanager
async def loaded(url: str) -> AsyncIterator[Load]:
    load = Load()
    going_on = True
    numbers = iter(range(1_000_000))
    loop = asyncio.get_running_loop()

    async def ask(client: Client) -> None:
        while going_on:
            number = next(numbers)
            since = loop.time()
            try:
                reply = await client.data_transfer("CP", request(data=number))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is no answer
                load.wrong.append((number, error))
                continue
            load.slowest = max(load.slowest, loop.time() - since)
            if (reply.status, reply.data) == ("Accepted", number):
                load.answered += 1
            else:
                load.wrong.append((number, reply))

    async with Client(url, timeout=PATIENCE) as client:
        asking = [asyncio.create_task(ask(client)) for _ in range(ASKING)]
        try:
            yield load
        finally:
            going_on = False
            await asyncio.gather(*asking)


async def killed(place: Place, queue_type: QueueType, step: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.killed_migration",
        place.url,
        place.broker.management_url,
        queue_type.value,
        "v",
        step,
        cwd=ROOT,
    )
    assert await process.wait() == -signal.SIGKILL


async def more(load: Load, count: int = 50) -> None:
    """Wait until so many more have been answered."""
    wanted = load.answered + count
    async with asyncio.timeout(PATIENCE):
        while load.answered < wanted:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("step", "old", "new"),
    [
        (step, *(reversed(QueueType) if number % 2 else QueueType))
        for number, step in enumerate((*STEPS, "-"))
    ],
)
async def test_a_migration_under_load_that_is_killed_and_run_again_loses_no_request(
    place: Place, step: str, old: QueueType, new: QueueType
) -> None:
    runs: Counter[int] = Counter()
    async with working(place.url, echo(runs), queue_type=old), loaded(place.url) as load:
        await more(load)
        if step != "-":
            await killed(place, new, step)
            await asyncio.sleep(0.5)  # nobody is there to go on
        outcome = await migrate(place.url, place.broker.management_url, new.value, "v")
        assert outcome.given_up == {}
        await more(load)
    assert load.wrong == []
    assert await place.leftovers() == []
    live = await place.management.queue(place.vhost, QUEUE)
    topology = worker_topology(Native(), ["v"], queue_type=new)
    [wanted] = [queue for queue in topology.queues if queue.name == QUEUE]
    assert compare_queue(wanted, live) is None
    twice = sum(count - 1 for count in runs.values())
    assert twice <= ASKING, f"{twice} of {load.answered} were handled twice"
    letters = [letter.body for letter in await dead_letters(place.url)]
    assert [body for body in letters if b"marker" not in body] == []


@pytest.mark.parametrize("step", ["switched", "emptied", "deleted", "replaced"])
async def test_a_migration_that_was_killed_can_be_taken_back(place: Place, step: str) -> None:
    old, new = QueueType.CLASSIC, QueueType.QUORUM
    async with working(place.url, echo(Counter()), queue_type=old), loaded(place.url) as load:
        await more(load)
        await killed(place, new, step)
        outcome = await migrate(place.url, place.broker.management_url, old.value, "v")
        assert outcome.given_up == {}
        await more(load)
    assert load.wrong == []
    assert await place.leftovers() == []
    live = await place.management.queue(place.vhost, QUEUE)
    assert live is not None
    assert live.type == "classic"


async def run(place: Place, new: QueueType, only: str | None = None, **settings: Any) -> Outcome:
    topology = worker_topology(Native(), ["v"], queue_type=new)
    async with open_changes(parse_urls([place.url]), "migration") as changes:
        migration = Migration(
            changes, place.management, place.vhost, prefix="datatransfer", name="m", **settings
        )
        return await migration.run(
            [queue for queue in topology.queues if only in {None, queue.name}]
        )


async def test_where_one_queue_cannot_be_replaced_no_other_is_left_half_replaced(
    place: Place,
) -> None:
    old, new = (
        worker_topology(Native(), ["v", "w"], queue_type=each)
        for each in (QueueType.CLASSIC, QueueType.QUORUM)
    )
    async with await aio_pika.connect(place.url) as connection:
        await ensure(connection, old)

    def on_step(step: str, queue: str, _: int) -> None:
        if (step, queue) == ("deleted", QUEUE):
            raise RuntimeError("this one fails")

    async with open_changes(parse_urls([place.url]), "migration") as changes:
        migration = Migration(
            changes,
            place.management,
            place.vhost,
            prefix="datatransfer",
            name="m",
            on_step=on_step,
        )
        with pytest.raises(RuntimeError, match="this one fails"):
            await migration.run([each for each in new.queues if each.purpose is Purpose.REQUESTS])
    other = await place.management.queue(place.vhost, NAMES.vendor_queue("w"))
    assert other is not None
    assert other.type == "quorum"


async def test_all_queues_are_migrated_and_keep_what_is_in_them(place: Place) -> None:
    topology = worker_topology(Native(), ["v"], queue_type=QueueType.CLASSIC)
    async with working(place.url, echo(Counter()), queue_type=QueueType.CLASSIC):
        pass
    filled = [
        queue
        for queue in topology.queues
        if queue.arguments.get("x-message-ttl", LONG) >= LONG  # others expire in the meantime
    ]
    async with await aio_pika.connect(place.url) as connection:
        channel = await connection.channel()
        for queue in filled:
            for number in range(300):
                message = aio_pika.Message(
                    str(number).encode(),
                    headers={"x-death-not": 1, "ocpp-station-id": "CP", "number": number},
                    correlation_id="same",
                    user_id="guest",
                    delivery_mode=2,
                )
                exchange = (
                    channel.default_exchange
                    if queue.purpose is Purpose.REQUESTS
                    else await channel.get_exchange(queue.name, ensure=False)
                )
                key = queue.name if queue.purpose is Purpose.REQUESTS else "its-key"
                await exchange.publish(message, key)
    outcome = await run(place, QueueType.QUORUM)
    assert sorted(outcome.migrated) == sorted(queue.name for queue in topology.needed.queues)
    assert await place.leftovers() == []
    async with await aio_pika.connect(place.url) as connection:
        channel = await connection.channel()
        for queue in filled:
            found = await channel.get_queue(queue.name)
            seen: list[aio_pika.abc.AbstractIncomingMessage] = []
            while len(seen) < 300:
                taken = await found.get(no_ack=True, fail=False)
                assert taken is not None, f"{queue.name} has {len(seen)}"
                seen.append(taken)
            assert await found.get(no_ack=True, fail=False) is None
            assert [int(each.body) for each in seen] == list(range(300))
            assert {each.headers["number"] for each in seen} == set(range(300))
            assert {each.correlation_id for each in seen} == {"same"}
            if queue.purpose is not Purpose.REQUESTS:
                assert {each.routing_key for each in seen} == {"its-key"}


async def test_workers_that_do_not_settle_in_time_keep_their_queue(place: Place) -> None:
    release = asyncio.Event()
    router = Router("v")

    @router.default
    async def hang(call: Call, data: int) -> int:
        await release.wait()
        return data

    async with (
        working(place.url, router, queue_type=QueueType.CLASSIC),
        Client(place.url, timeout=PATIENCE) as client,
    ):
        first = asyncio.create_task(client.data_transfer("CP", request(data=1)))
        steps: list[tuple[str, int]] = []
        switched = asyncio.Event()

        def on_step(step: str, _: str, moved: int) -> None:
            steps.append((step, moved))
            if step == "switched":
                switched.set()

        migrating = asyncio.create_task(
            run(place, QueueType.QUORUM, only=QUEUE, patience=1.0, on_step=on_step)
        )
        async with asyncio.timeout(PATIENCE):
            await switched.wait()
        second = asyncio.create_task(client.data_transfer("CP", request(data=2)))
        outcome = await migrating
        assert steps[-3:] == [("given up", 0), ("moved back", 1), ("as it was", 0)]
        assert (outcome.waited or 0.0) >= 1.0  # as long as it was patient
        assert list(outcome.given_up) == [QUEUE]
        assert "workers still have requests" in outcome.given_up[QUEUE]
        release.set()
        replies = await asyncio.gather(first, second)
    assert [reply.data for reply in replies] == [1, 2]
    assert await place.leftovers() == []
    live = await place.management.queue(place.vhost, QUEUE)
    assert live is not None
    assert live.type == "classic"


async def test_what_an_interrupted_run_has_left_beside_is_told_as_waiting_since_then(
    place: Place,
) -> None:
    async with working(place.url, echo(Counter()), queue_type=QueueType.CLASSIC):
        pass
    await killed(place, QueueType.QUORUM, "switched")
    async with await aio_pika.connect(place.url) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(NAMES.requests, ensure=False)
        for minutes in (3, 1):
            published = time.time() - 60 * minutes
            message = aio_pika.Message(b"{}", delivery_mode=2, timestamp=int(published))
            await exchange.publish(message, "v")
    steps: list[tuple[str, int]] = []
    outcome = await run(
        place,
        QueueType.QUORUM,
        only=QUEUE,
        on_step=lambda step, _, moved: steps.append((step, moved)),
    )
    assert (steps[0], steps[2]) == (("taken up", 0), ("moved back", 2))
    assert steps[-1] == ("done", 0)
    assert outcome.found == 2
    assert outcome.found_age is not None
    assert 180 <= outcome.found_age < 240
    assert (outcome.waited or 0.0) < 60


@pytest.mark.parametrize(("old", "new"), [tuple(QueueType), tuple(reversed(QueueType))])
async def test_a_queue_is_not_deleted_while_a_request_is_in_hand(
    place: Place, old: QueueType, new: QueueType
) -> None:
    release = asyncio.Event()
    runs = 0
    router = Router("v")

    @router.default
    async def hang(call: Call, data: int) -> int:
        nonlocal runs
        runs += 1
        await release.wait()
        return data

    steps: list[str] = []
    switched = asyncio.Event()

    def on_step(step: str, *_: object) -> None:
        steps.append(step)
        if step == "switched":
            switched.set()

    async with (
        working(place.url, router, queue_type=old),
        Client(place.url, timeout=PATIENCE) as client,
    ):
        asked = asyncio.create_task(client.data_transfer("CP", request(data=1)))
        migrating = asyncio.create_task(run(place, new, only=QUEUE, on_step=on_step))
        async with asyncio.timeout(PATIENCE):
            await switched.wait()
        await asyncio.sleep(SETTLE + COUNTS_WITHIN)  # as long as an empty queue would need
        assert steps[-1] == "switched"
        release.set()
        assert (await asked).data == 1
        assert (await migrating).migrated == [QUEUE]
    assert runs == 1


async def test_two_migrations_at_a_time_are_refused(place: Place) -> None:
    async with working(place.url, echo(Counter()), queue_type=QueueType.CLASSIC):
        pass
    async with open_changes(parse_urls([place.url]), "other") as other:
        await other.lock(f"datatransfer{ASIDE}")
        with pytest.raises(Exception, match="another migration"):
            await run(place, QueueType.QUORUM)
        await other.unlock()
        assert (await run(place, QueueType.QUORUM)).given_up == {}
