"""Replies that a fleet of workers shares, on a real Redis that is killed and held still."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
import redis.asyncio

from bridge import Call, Router
from bridge.cli.assembly import open_store
from bridge.dialects.native import Native
from bridge.idempotency.redis import RedisStore
from bridge.idempotency.store import Key, Running
from bridge.ocpp import OcppVersion
from bridge.request.outcome import Reply
from bridge.testing import MemoryBroker, MemoryTransport, worker_topology
from bridge.testing.conformance import SharedStoreSuite
from bridge.transport import State
from bridge.worker.worker import Worker
from tests.redis_server import RedisServer

PATIENCE = 15.0
KEY: Key = "00000007:1:1:CP001"
REPLY = Reply(b'{"status":"Accepted"}')


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
async def client(server: RedisServer) -> AsyncIterator["redis.asyncio.Redis"]:
    async with redis.asyncio.Redis.from_url(server.url) as client:
        yield client


# ---- the store ----


async def test_a_password_is_renewed_at_the_next_connection(
    server: RedisServer, client: "redis.asyncio.Redis", tmp_path: Path
) -> None:
    file = tmp_path / "url"

    async def change(password: str) -> None:
        await client.config_set("requirepass", password)
        file.write_text(server.url.replace("//", f"//:{password}@") + "\n")

    await change("Qx7%40")  # in a URL; Redis takes it as it is written
    await client.config_set("requirepass", "Qx7@")
    async with open_store(f"@{file}") as store:
        assert isinstance(store, RedisStore)
        assert await store.begin(KEY) is None
        await change("second")
        await _reconnected(client, store)
        assert await store.begin(KEY) is Running.HERE
        await store.ping(PATIENCE)
        # What cannot be read changes nothing.
        file.write_text("nonsense")
        await _reconnected(client, store)
        assert await store.begin(KEY) is Running.HERE


async def _reconnected(client: "redis.asyncio.Redis", store: RedisStore) -> None:
    """Drop all connections but the client's; the store may notice only when it uses its own."""
    await client.client_kill_filter(_type="normal", skipme=True)
    with suppress(redis.ConnectionError):
        await store.forget(f"{KEY}0")


class TestRedisStore(SharedStoreSuite):
    @pytest.fixture
    async def store(self, server: RedisServer) -> AsyncIterator[RedisStore]:
        async with RedisStore(server.url, timeout=PATIENCE) as store:
            yield store

    @pytest.fixture
    async def other(self, server: RedisServer) -> AsyncIterator[RedisStore]:
        async with RedisStore(server.url, timeout=PATIENCE) as store:
            yield store


async def test_replies_and_leases_end(server: RedisServer, client: "redis.asyncio.Redis") -> None:
    async with RedisStore(server.url, ttl=600, lease=30) as store:
        await store.begin(KEY)
        (name,) = await client.keys()
        assert isinstance(name, bytes)
        assert name.startswith(b"dtbridge:reply:")
        assert 29_000 < await client.pttl(name) <= 30_000
        await store.finish(KEY, REPLY)
        assert 599_000 < await client.pttl(name) <= 600_000


async def test_the_defaults_are_the_documented_ones(
    server: RedisServer, client: "redis.asyncio.Redis"
) -> None:
    async with RedisStore(server.url) as store:
        await store.begin(KEY)
        (name,) = await client.keys()
        assert 9_000 < await client.pttl(name) <= 10_000
        await store.finish(KEY, REPLY)
        assert 599_000 < await client.pttl(name) <= 600_000
        server.pause()
        began = time.monotonic()
        with pytest.raises((TimeoutError, redis.RedisError)):
            await store.begin("00000007:1:3:CP001")
        assert 1.5 < time.monotonic() - began < 9
        server.resume()


async def test_a_request_whose_worker_died_is_free_after_its_lease(server: RedisServer) -> None:
    async with RedisStore(server.url) as other:
        async with RedisStore(server.url, lease=0.3) as dead:
            assert await dead.begin(KEY) is None
            began = time.monotonic()
            assert await other.begin(KEY) is Running.ELSEWHERE
        # It has ended: nobody renews its lease.
        while (begun := await other.begin(KEY)) is Running.ELSEWHERE:
            await asyncio.sleep(0.01)
        assert begun is None
        assert 0.1 < time.monotonic() - began < 5


async def test_a_handler_that_takes_longer_than_a_lease_keeps_its_request(
    server: RedisServer,
) -> None:
    async with RedisStore(server.url, lease=0.3) as store, RedisStore(server.url) as other:
        assert await store.begin(KEY) is None
        until = time.monotonic() + 0.9
        while time.monotonic() < until:
            assert await other.begin(KEY) is Running.ELSEWHERE
            await asyncio.sleep(0.02)
        await store.finish(KEY, REPLY)
        assert await other.begin(KEY) == REPLY


async def test_many_calls_at_once_share_a_few_connections(
    server: RedisServer, client: "redis.asyncio.Redis"
) -> None:
    async with RedisStore(server.url, timeout=PATIENCE) as store:
        keys: list[Key] = [str(number) for number in range(1_000)]
        assert set(await asyncio.gather(*map(store.begin, keys))) == {None}
        assert len(await client.client_list()) <= 21


async def test_a_store_that_is_gone_raises_at_once_and_one_that_is_back_is_used_again(
    server: RedisServer,
) -> None:
    async with RedisStore(server.url) as store:
        assert await store.begin(KEY) is None
        server.kill()
        started = time.monotonic()
        for call in (store.begin(KEY), store.finish(KEY, REPLY), store.forget(KEY)):
            with pytest.raises((redis.RedisError, OSError)):
                await call
        assert time.monotonic() - started < 1.5
        server.start()
        assert await store.begin(KEY) is None
        await store.finish(KEY, REPLY)
        assert await store.begin(KEY) == REPLY


async def test_a_call_to_a_store_that_hangs_ends_in_time(server: RedisServer) -> None:
    async with RedisStore(server.url, timeout=0.2) as store:
        assert await store.begin(KEY) is None
        server.pause()
        started = time.monotonic()
        calls = await asyncio.gather(
            *(store.begin(str(n)) for n in range(100)), return_exceptions=True
        )
        assert all(isinstance(error, TimeoutError | redis.RedisError) for error in calls)
        assert 0.15 < time.monotonic() - started < 1.5
        server.resume()
        await store.finish(KEY, REPLY)
        assert await store.begin(KEY) == REPLY


async def test_what_a_call_without_an_answer_may_have_begun_is_not_taken_for_anothers(
    server: RedisServer, client: "redis.asyncio.Redis"
) -> None:
    """The worker would wait for itself, until its own lease ends."""
    async with RedisStore(server.url, timeout=1.0) as store, RedisStore(server.url) as other:
        await store.begin("another")  # it is connected
        server.pause()
        with pytest.raises((TimeoutError, redis.RedisError)):
            await store.begin(KEY)
        server.resume()
        async with asyncio.timeout(PATIENCE):
            while len(await client.keys()) < 2:  # carried out late, and nobody listened
                await asyncio.sleep(0.01)
        assert await other.begin(KEY) is Running.ELSEWHERE
        begun = await asyncio.gather(*(store.begin(KEY) for _ in range(3)))
        assert begun.count(None) == 1
        assert await store.begin(KEY) is Running.HERE
        await store.finish(KEY, REPLY)
        assert await other.begin(KEY) == REPLY


async def test_what_could_not_be_forgotten_may_be_handled_again_at_once(
    server: RedisServer,
) -> None:
    """A handler asked for another try while Redis hung."""
    async with RedisStore(server.url, timeout=1.0) as store:
        assert await store.begin(KEY) is None
        server.pause()
        with pytest.raises((TimeoutError, redis.RedisError)):
            await store.forget(KEY)
        server.resume()
        assert await store.begin(KEY) is None
        assert await store.begin(KEY) is Running.HERE


# ---- workers ----


class Fleet:
    """Workers that share a queue and a store, and one handler that counts its runs."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.runs = 0
        self.go_on = asyncio.Event()
        self.workers: list[Worker] = []
        self._native = Native()
        self._numbers = iter(range(1_000_000))
        self.broker.declare(worker_topology(self._native, ["v"]))
        self.replies = self.broker.declare_queue("datatransfer.replies.test")

    def router(self) -> Router:
        router = Router("v", prefetch=1)
        router.default(self._handler)
        return router

    async def _handler(self, call: Call) -> str:
        self.runs += 1
        await self.go_on.wait()
        return "done"

    def put(self, message_id: str = "m") -> None:
        correlation_id = str(next(self._numbers))
        asked = self._native.request_publishing(
            station_id="CP001",
            version=OcppVersion.V2_0_1,
            vendor_id="v",
            body=b'{"vendorId":"v","messageId":"x"}',
            deadline=time.time() + 60,
            message_id=message_id,
            connection_id="c-1",
            correlation_id=correlation_id,
            reply_to=self.replies.name,
        )
        self.broker.publish(asked)

    async def answers(self, count: int) -> list[bytes]:
        await until(lambda: len(self.replies.ready) >= count)
        return [message.body for message in self.replies.ready]

    def total(self, count: str) -> int:
        return sum(getattr(worker.counts, count) for worker in self.workers)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.002)


@asynccontextmanager
async def fleet(url: str, size: int = 2) -> AsyncIterator[Fleet]:
    """Each with a store of its own to one Redis, as processes have."""
    made = Fleet()
    tasks = []
    async with AsyncExitStack() as stack:
        for _ in range(size):
            store = await stack.enter_async_context(open_store(url))
            worker = Worker([made.router()], MemoryTransport(made.broker), store=store)
            made.workers.append(worker)
            tasks.append(asyncio.create_task(worker.run()))
        await until(lambda: all(worker.state is State.CONSUMING for worker in made.workers))
        try:
            yield made
        finally:
            for worker in made.workers:
                worker.stop()
            assert await asyncio.gather(*tasks) == [0] * size


DONE = b'{"status":"Accepted","data":"done"}'


async def test_two_workers_run_the_handler_of_one_request_once(server: RedisServer) -> None:
    """With a prefetch of 1, the second delivery goes to the other worker and waits there."""
    async with fleet(server.url) as made:
        made.put()
        made.put()
        await until(lambda: made.total("retried") >= 1)
        assert made.runs == 1
        made.go_on.set()
        assert await made.answers(2) == [DONE, DONE]
        made.put()
        assert await made.answers(3) == [DONE] * 3
        assert (made.runs, made.total("absorbed"), made.total("store_errors")) == (1, 2, 0)
        assert {message.properties.correlation_id for message in made.replies.ready} == {
            "0",
            "1",
            "2",
        }


async def test_a_redis_that_is_killed_costs_repetitions_and_no_answer(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.idempotency.guard.DOWN", 0.0)
    async with fleet(server.url) as made:
        made.go_on.set()
        made.put("before")
        await made.answers(1)
        server.kill()
        made.put("during")
        made.put("during")
        assert await made.answers(3) == [DONE] * 3
        assert made.runs == 3
        assert made.total("store_errors") == 2
        server.start()
        made.put("after")
        await made.answers(4)
        made.put("after")
        assert await made.answers(5) == [DONE] * 5
        assert (made.runs, made.total("absorbed"), made.total("store_errors")) == (4, 1, 2)


async def test_a_redis_that_dies_while_a_handler_runs_keeps_nobody_from_an_answer(
    server: RedisServer,
) -> None:
    async with fleet(server.url, 1) as made:
        made.put()
        await until(lambda: made.runs == 1)
        server.kill()
        made.go_on.set()
        assert await made.answers(1) == [DONE]
        assert made.total("store_errors") == 1


async def test_a_redis_that_hangs_delays_an_answer_by_no_more_than_its_time_out(
    server: RedisServer,
) -> None:
    async with fleet(server.url, 1) as made:
        made.go_on.set()
        made.put("before")
        await made.answers(1)
        server.pause()
        started = time.monotonic()
        made.put("during")
        assert await made.answers(2) == [DONE] * 2
        assert 0.4 < time.monotonic() - started < 3.0
        server.resume()
        assert made.total("store_errors") == 1
        made.put("after")
        assert await made.answers(3) == [DONE] * 3
