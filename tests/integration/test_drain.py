"""SIGTERM: a worker answers what it has accepted, or it goes back to its queue for the next one."""

import asyncio
import signal
import time
from typing import Any

import pytest

from bridge import Call, DataTransferResponse, Router
from bridge.client.client import Client
from bridge.rabbitmq.session import Session
from bridge.transport import State
from tests.integration.support import NAMES, PATIENCE, WorkerProcess, ready, request, working

LOAD = "tests.integration.load_vendors:routers"
SLOW = NAMES.vendor_queue("slow")


async def test_under_load_every_request_is_answered_by_one_worker_or_the_next(
    amqp_url: str,
) -> None:
    count = 3_000
    async with (
        WorkerProcess(LOAD, amqp_url, prefetch=50, concurrency=20) as first,
        Client(amqp_url, timeout=2 * PATIENCE) as client,
    ):
        asked = ask_slow(client, count)
        await asked[100]
        first.signal(signal.SIGTERM)
        assert await asyncio.to_thread(first.wait) == 0
        # It stopped in the middle of the load.
        assert 100 < sum(task.done() for task in asked) < count
        async with WorkerProcess(LOAD, amqp_url) as second:
            answers = await asyncio.gather(*asked)
        assert client.late == 0
    assert [number for number, _ in answers] == list(range(count))
    assert {worker for _, worker in answers} == {first.process.pid, second.process.pid}
    assert first.counts["returned_to_queue"] == 0  # the drain had the time it needed
    assert first.counts["replied"] + second.counts["replied"] == count  # and nothing was done twice
    assert await ready(amqp_url, SLOW) == {SLOW: 0}


async def test_a_handler_that_hangs_is_left_after_the_drain_timeout_and_its_request_comes_back(
    amqp_url: str,
) -> None:
    async with Client(amqp_url, timeout=PATIENCE) as client:
        async with WorkerProcess(LOAD, amqp_url, drain_timeout=0.5) as first:
            asked = await ask_hanging(client, first)
            signalled = time.monotonic()
            first.signal(signal.SIGTERM)
            assert await asyncio.to_thread(first.wait) == 0
            assert 0.5 <= time.monotonic() - signalled < 5.0
        assert first.counts["returned_to_queue"] == 1
        async with WorkerProcess(LOAD, amqp_url):
            assert (await asked).data == "by the second"


async def test_a_second_signal_ends_it_at_once_and_loses_nothing(amqp_url: str) -> None:
    async with Client(amqp_url, timeout=PATIENCE) as client:
        async with WorkerProcess(LOAD, amqp_url, drain_timeout=PATIENCE) as first:
            asked = await ask_hanging(client, first)
            first.signal(signal.SIGTERM)
            await asyncio.to_thread(first.until, "draining")
            first.exit_code = -signal.SIGTERM  # the second one, at the end of the block
        async with WorkerProcess(LOAD, amqp_url):
            assert (await asked).data == "by the second"


async def test_what_came_while_the_next_session_was_being_opened_is_settled_too(
    amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped between its first consumer and `consuming`, a worker finishes what it has.

    Otherwise another would do it again.
    """
    held, begun, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()
    present = Session._present
    router = Router("v")

    @router.default
    async def accept(call: Call) -> None:
        begun.set()
        await go_on.wait()

    async def present_later(session: Session, *arguments: Any) -> Any:
        held.set()
        await go_on.wait()
        return await present(session, *arguments)

    async with Client(amqp_url, timeout=PATIENCE) as client, working(amqp_url, router) as at_work:
        await client.connect()
        transport = at_work.transport
        assert transport._session is not None
        monkeypatch.setattr(Session, "_present", present_later)
        transport._session.end("ended by the test")
        await asyncio.wait_for(held.wait(), PATIENCE)
        asked = asyncio.create_task(client.data_transfer("CP001", request()))
        await asyncio.wait_for(begun.wait(), PATIENCE)
        asyncio.get_running_loop().call_later(0.3, go_on.set)  # while it drains
    assert (await asked).status == "Accepted"
    assert transport.history[-2:] == [State.DRAINING, State.STOPPED]
    assert await ready(amqp_url, NAMES.vendor_queue("v")) == {NAMES.vendor_queue("v"): 0}


async def test_a_killed_worker_loses_nothing(amqp_url: str) -> None:
    count = 500
    async with Client(amqp_url, timeout=PATIENCE) as client:
        async with WorkerProcess(LOAD, amqp_url, concurrency=20) as first:
            asked = ask_slow(client, count)
            await asked[100]
            first.exit_code = -signal.SIGKILL
            first.signal(signal.SIGKILL)
        async with WorkerProcess(LOAD, amqp_url):
            answers = await asyncio.gather(*asked)
    assert [number for number, _ in answers] == list(range(count))


def ask_slow(client: Client, count: int) -> list["asyncio.Task[tuple[int, int]]"]:
    """Each answer is the request's number and the number of the process that handled it."""

    async def one(number: int) -> tuple[int, int]:
        answer: Any = (await client.data_transfer("CP", request("slow", data=number))).data
        return answer[0], answer[1]

    return [asyncio.create_task(one(number)) for number in range(count)]


async def ask_hanging(
    client: Client, worker: WorkerProcess
) -> "asyncio.Task[DataTransferResponse]":
    """A request whose handler has begun and will not end."""
    asked = asyncio.create_task(client.data_transfer("CP", request("hanging")))
    await asyncio.to_thread(worker.until, "the handler hangs")
    return asked
