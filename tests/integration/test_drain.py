"""SIGTERM: what a worker has accepted it answers, or it goes back to its queue for the next worker."""

import asyncio
import signal
import time
from typing import Any

from bridge import DataTransferResponse
from bridge.client import Client
from tests.integration.support import NAMES, PATIENCE, WorkerProcess, ready, request

LOAD = "tests.integration.load_vendors:routers"
SLOW = NAMES.vendor_queue("slow")


async def test_under_load_every_request_is_answered_by_one_worker_or_the_next(amqp_url: str) -> None:
    count = 3_000
    async with (
        WorkerProcess(LOAD, amqp_url, prefetch=50, concurrency=20) as first,
        Client(amqp_url, timeout=2 * PATIENCE) as client,
    ):
        asked = ask_slow(client, count)
        await asked[100]
        first.signal(signal.SIGTERM)
        assert await asyncio.to_thread(first.wait) == 0
        assert 100 < sum(task.done() for task in asked) < count  # it stopped in the middle of the load
        async with WorkerProcess(LOAD, amqp_url) as second:
            answers = await asyncio.gather(*asked)
        assert client.late == 0
    assert [number for number, _ in answers] == list(range(count))
    assert {worker for _, worker in answers} == {first.process.pid, second.process.pid}
    assert first.counts["returned_to_queue"] == 0  # the drain had the time it needed
    assert first.counts["replied"] + second.counts["replied"] == count  # and nothing was done twice
    assert await ready(amqp_url, SLOW) == {SLOW: 0}


async def test_a_handler_that_hangs_is_left_after_the_drain_timeout_and_its_request_comes_back(amqp_url: str) -> None:
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


async def ask_hanging(client: Client, worker: WorkerProcess) -> "asyncio.Task[DataTransferResponse]":
    """A request whose handler has begun and will not end."""
    asked = asyncio.create_task(client.data_transfer("CP", request("hanging")))
    await asyncio.to_thread(worker.until, "the handler hangs")
    return asked
