"""examples/redis_fleet.py as its operator runs it: several workers, one Redis."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from redis.asyncio import Redis

from bridge import Client, DataTransferRequest
from tests.integration.support import PATIENCE, WorkerProcess
from tests.redis_server import RedisServer

WORKERS = 3
STATIONS = 40


async def test_a_fleet_answers_a_request_once_whichever_worker_it_comes_to(
    amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RedisServer() as server:
        store = f"redis://127.0.0.1:{server.port}"
        async with AsyncExitStack() as ends:
            monkeypatch.setenv("COUPON_STORE", f"{store}/1")
            fleet = [
                await ends.enter_async_context(
                    WorkerProcess(
                        "examples.redis_fleet:router",
                        amqp_url,
                        idempotency=f"{store}/0",
                        prefetch=2,
                    )
                )
                for _ in range(WORKERS)
            ]
            client = await ends.enter_async_context(Client(amqp_url, timeout=PATIENCE))

            async def take(station: int) -> int:
                answer = await client.data_transfer(
                    f"CP{station}",
                    DataTransferRequest("com.acme.coupons", "TakeCoupon", {"campaign": "may"}),
                    message_id="17",
                    connection_id=f"connection {station}",
                )
                assert answer.status == "Accepted"
                number: int = answer.data["number"]
                return number

            async def take_all() -> list[int]:
                return await asyncio.gather(*map(take, range(STATIONS)))

            first, at_once = await asyncio.gather(take_all(), take_all())
            fleet[0].process.kill()  # the others know what it has answered
            fleet[0].wait()
            fleet[0].exit_code = -9
            after = await take_all()
        assert first == at_once == after
        assert sorted(first) == list(range(1, STATIONS + 1))
        async with Redis.from_url(f"{store}/1") as coupons:
            assert await coupons.get("coupons:may") == str(STATIONS).encode()
        # What came again came to workers that had not handled it, as well.
        received = [worker.counts["received"] for worker in fleet[1:]]
        assert all(received)
        assert sum(received) > STATIONS
