"""A whole worker, whose routers open something before its first request."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bridge import Call, CallNext, HandlerError, LifespanError, Router, Settings, Worker
from bridge.dialects.names import vendor_key
from bridge.dialects.native import Native
from bridge.dialects.topology import worker_topology
from bridge.testing import MemoryBroker, MemoryTransport, ask
from bridge.transport import Properties, Publishing, State
from bridge.worker import lifespan as lifespans
from bridge.worker.metrics import worker_registry
from tests.support import UNTIL_SETTLED, payload


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(UNTIL_SETTLED):
        while not condition():
            await asyncio.sleep(0)


class Pool:
    """What a lifespan opens."""

    def __init__(self, name: str = "pool") -> None:
        self.name = name
        self.open = True

    async def get(self, call: Call["Pool"], data: str) -> list[Any]:
        return [self.name, self.open, data, call.state is self]

    def get_in_thread(self, call: Call["Pool"]) -> str:
        return self.name


def raises(error: BaseException) -> None:
    raise error


class Bench:
    """A worker of one router on a broker in memory, and what happened to it."""

    def __init__(self, **settings: Any) -> None:
        self.router = Router("com.acme")
        self.steps: list[str] = []
        self.broker = MemoryBroker()
        self.broker.declare(worker_topology(Native(), ["com.acme"]))
        self.settings = Settings(**settings)
        self.worker: Worker

    def begin(self) -> "asyncio.Task[int]":
        transport = MemoryTransport(self.broker)
        self.worker = Worker([self.router], transport, settings=self.settings)
        return asyncio.create_task(self.worker.run())

    def send(self, message: str = "m") -> None:
        properties = Properties(headers={"ocpp-station-id": "CP001"})
        body = payload("com.acme", message)
        self.broker.publish(Publishing(vendor_key("com.acme"), body, properties, "datatransfer"))

    def opens(self, name: str) -> None:
        @self.router.lifespan
        async def lifespan() -> AsyncIterator[Pool]:
            self.steps.append(f"{name} opens")
            pool = Pool(name)
            yield pool
            pool.open = False
            self.steps.append(f"{name} closes")


async def test_it_begins_before_the_first_request_and_ends_after_the_last() -> None:
    bench = Bench()
    bench.opens("pool")
    waits = asyncio.Event()

    @bench.router.on("m")
    async def handler(call: Call[Pool]) -> None:
        bench.steps.append("handler begins")
        await waits.wait()
        bench.steps.append(f"handler ends, open={call.state.open}")

    bench.send()  # before there is a worker
    running = bench.begin()
    await until(lambda: "handler begins" in bench.steps)
    bench.worker.stop()
    await asyncio.sleep(0)
    waits.set()
    assert await running == 0
    assert bench.steps == ["pool opens", "handler begins", "handler ends, open=True", "pool closes"]


async def test_each_worker_has_a_state_of_its_own() -> None:
    bench = Bench()
    states = []

    @bench.router.lifespan
    async def lifespan() -> AsyncIterator[object]:
        yield object()

    @bench.router.on("m")
    async def handler(call: Call[object]) -> None:
        states.append(call.state)

    for number in (1, 2):
        running = bench.begin()
        bench.send()
        await until(lambda number=number: len(states) == number)  # type: ignore[misc]
        bench.worker.stop()
        await running
    assert states[0] is not states[1]
    assert None not in states


async def test_requests_of_bound_handlers_are_counted_under_their_names() -> None:
    bench = Bench()
    bench.opens("pool")

    @bench.router.on("m")
    async def handler(call: Call[Pool]) -> None: ...

    running = bench.begin()
    bench.send()
    labels = {"vendor": "com.acme", "message": "m", "outcome": "accepted"}

    def counted() -> float | None:
        return worker_registry(bench.worker).get_sample_value("dtbridge_requests_total", labels)

    await until(lambda: counted() == 1)
    bench.worker.stop()
    await running


@pytest.mark.parametrize("message", ["Get", "GetInThread"])
async def test_handlers_are_methods_of_what_a_lifespan_gives(message: str) -> None:
    router = Router("com.acme")
    router.method("Get")(Pool.get)
    router.method("GetInThread")(Pool.get_in_thread)

    @router.lifespan
    @asynccontextmanager
    async def lifespan() -> AsyncIterator[Pool]:
        yield Pool()

    @router.middleware
    async def through(call: Call[Pool], data: Any, call_next: CallNext) -> Any:
        assert call.state.open
        return await call_next(call, data)

    response = await ask(router, "com.acme", message, "x", version="ocpp2.0.1")
    assert response.data == (["pool", True, "x", True] if message == "Get" else "pool")


async def test_the_state_of_an_including_router_is_given_to_the_included_one() -> None:
    steps = []
    outer, inner, bare = Router("v"), Router("v"), Router("v")

    @outer.lifespan
    async def pool() -> AsyncIterator[Pool]:
        steps.append("pool")
        yield Pool()
        steps.append("pool closed")

    @inner.lifespan
    async def name(pool: Pool) -> AsyncIterator[str]:
        steps.append("name")
        yield f"of {pool.name}"
        steps.append("name closed")

    @inner.on("inner")
    async def of_inner(call: Call[str]) -> str:
        return call.state

    @bare.on("bare")
    async def of_bare(call: Call[Pool]) -> str:
        return call.state.name

    outer.include(inner)
    outer.include(bare)
    assert (await ask(outer, "v", "inner")).data == "of pool"
    assert steps == ["pool", "name", "name closed", "pool closed"]
    assert (await ask(outer, "v", "bare")).data == "pool"


async def test_without_a_lifespan_the_state_is_none() -> None:
    router = Router("v")

    @router.on("m")
    async def handler(call: Call) -> bool:
        return call.state is None

    assert (await ask(router, "v", "m", version="ocpp2.0.1")).data is True


@pytest.mark.parametrize("error", [OSError("no\nroute"), SystemExit(3), asyncio.CancelledError()])
async def test_one_that_fails_at_its_start_ends_the_worker_and_those_before_it(
    error: BaseException,
) -> None:
    bench = Bench()
    bench.opens("pool")
    inner = Router("com.acme")

    @inner.lifespan
    async def failing() -> AsyncIterator[None]:
        raises(error)
        yield

    inner.on("m")(Pool().get)
    bench.router.include(inner)
    with pytest.raises(LifespanError) as caught:
        await bench.begin()
    told = str(caught.value)
    assert "failing, the lifespan of Router('com.acme'), failed at the start: " in told
    assert type(error).__name__ in told
    assert "\n" not in told
    assert "test_lifespan.py:" in told
    assert caught.value.__cause__ is error
    assert bench.steps == ["pool opens", "pool closes"]
    assert bench.worker.state is State.STOPPED


async def test_an_object_of_another_class_than_the_methods_ends_the_worker() -> None:
    bench = Bench()
    bench.router.method("Get")(Pool.get)

    @bench.router.lifespan
    async def lifespan() -> AsyncIterator[Any]:
        yield "no pool"
        bench.steps.append("closed")

    with pytest.raises(LifespanError, match=r"it gives a str, and the handler get is a method of"):
        await bench.begin()
    assert bench.steps == ["closed"]


async def test_a_worker_that_is_stopped_does_not_wait_for_a_lifespan_to_start() -> None:
    bench = Bench()

    @bench.router.lifespan
    async def lifespan() -> AsyncIterator[None]:
        bench.steps.append("waits")
        try:
            await asyncio.Event().wait()
        finally:
            bench.steps.append("cancelled")
        yield

    running = bench.begin()
    await until(lambda: bench.steps == ["waits"])
    bench.worker.stop()
    assert await running == 0
    assert bench.steps == ["waits", "cancelled"]


async def test_what_fails_at_the_end_is_logged_and_the_others_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    bench.opens("pool")
    inner = Router("com.acme")

    @inner.lifespan
    async def failing() -> AsyncIterator[None]:
        yield
        raise OSError("gone")

    inner.on("m")(Pool().get)
    bench.router.include(inner)
    running = bench.begin()
    await until(lambda: bench.worker.state is State.CONSUMING)
    bench.worker.stop()
    assert await running == 0
    assert bench.steps == ["pool opens", "pool closes"]
    (record,) = [each for each in caplog.records if "failed at its end" in each.getMessage()]
    assert record.levelno == logging.ERROR
    assert "failing" in record.getMessage()


async def test_one_that_does_not_end_is_cancelled_and_the_others_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.worker.worker.END_WITHIN", 0.05)
    bench = Bench(drain_timeout=0.05)
    bench.opens("pool")
    inner = Router("com.acme")

    @inner.lifespan
    async def endless() -> AsyncIterator[None]:
        yield
        await asyncio.Event().wait()

    inner.on("m")(Pool().get)
    bench.router.include(inner)
    running = bench.begin()
    await until(lambda: bench.worker.state is State.CONSUMING)
    bench.worker.stop()
    assert await running == 0
    assert bench.steps == ["pool opens", "pool closes"]
    assert "a lifespan did not end in time" in caplog.text
    assert "endless" in caplog.text


async def test_one_that_ends_while_the_worker_runs_has_it_drain_and_say_why() -> None:
    bench = Bench()
    fails = asyncio.Event()

    async def watch() -> None:
        await fails.wait()
        raise OSError("the watcher is gone")

    @bench.router.lifespan
    async def lifespan() -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            group.create_task(watch())
            yield

    running = bench.begin()
    await until(lambda: bench.worker.state is State.CONSUMING)
    fails.set()
    with pytest.raises(LifespanError, match=r"lifespan, the lifespan of .*, ended while the worke"):
        await running
    assert bench.worker.state is State.STOPPED


async def test_one_that_takes_long_to_start_is_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifespans, "SLOW", 0.01)
    bench = Bench()
    goes_on = asyncio.Event()

    @bench.router.lifespan
    async def slow() -> AsyncIterator[None]:
        await goes_on.wait()
        yield

    running = bench.begin()
    await until(lambda: "a lifespan takes long to start" in caplog.text)
    assert bench.worker.state is not State.CONSUMING
    goes_on.set()
    await until(lambda: bench.worker.state is State.CONSUMING)
    bench.worker.stop()
    await running


async def test_what_lacks_its_state_is_refused_when_the_worker_is_made() -> None:
    router = Router("com.acme")
    router.method("Get")(Pool.get)
    with pytest.raises(HandlerError, match="no lifespan"):
        Worker([router], MemoryTransport(MemoryBroker()))
