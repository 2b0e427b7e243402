"""`dtbridge top` beside real workers: a fast vendor, a slow one, one that fails."""

import asyncio
import json
from pathlib import Path

import pytest

from bridge.client.client import Client
from bridge.ocpp import CallError, DataTransferRequest
from bridge.testing.rabbitmq import free_ports
from tests.acceptance.command import dtbridge
from tests.integration.support import PATIENCE, WorkerProcess

pytest.importorskip("bridge.telemetry.http", reason="workers do not serve their metrics yet")
pytest.importorskip("bridge.worker.metrics", reason="workers do not serve their metrics yet")

VENDORS = """\
import asyncio
from bridge import Call, Router

fast, slow, failing = Router("fast"), Router("EN+ slow", concurrency=2), Router("failing")

@fast.on("Ping")
async def ping(call: Call) -> None: ...

@slow.on("GetTariff")
async def tariff(call: Call) -> None:
    await asyncio.sleep(1.2)

@failing.default
async def fail(call: Call) -> None:
    raise KeyError("connectorId")

routers = [fast, slow, failing]
"""


async def test_the_vendors_of_a_fleet_are_seen_and_why_one_is_slow(
    amqp_url: str, tmp_path: Path
) -> None:
    (tmp_path / "some_vendors.py").write_text(VENDORS)
    ports = free_ports(2)
    listeners = [f"127.0.0.1:{port}" for port in ports]
    settings = {"DTBRIDGE_MANAGEMENT": "http://127.0.0.1:1", "DTBRIDGE_AMQP_URL": amqp_url}
    looking = ["top", "--json", "--once", "--interval", "2"]
    looking += [word for each in listeners for word in ("--workers", each)]
    async with (
        WorkerProcess("some_vendors:routers", amqp_url, folder=tmp_path, http=listeners[0]),
        WorkerProcess("some_vendors:routers", amqp_url, folder=tmp_path, http=listeners[1]),
        Client(amqp_url, timeout=PATIENCE) as client,
    ):

        async def ask(vendor: str, message: str) -> None:
            while not done.done():
                try:
                    await client.data_transfer("CP1", DataTransferRequest(vendor, message))
                except CallError:
                    assert vendor == "failing"
                await asyncio.sleep(0.02)

        done = asyncio.create_task(asyncio.to_thread(dtbridge, *looking, settings=settings))
        await asyncio.gather(
            ask("fast", "Ping"),
            *(ask("EN+ slow", "GetTariff") for _ in range(10)),
            ask("failing", "Any"),
        )
    ended = await done
    assert (ended.returncode, ended.stderr) == (0, "")
    view = json.loads(ended.stdout)
    assert [worker["state"] for worker in view["workers"]] == ["consuming", "consuming"]
    rows = {row["vendor"]: row for row in view["vendors"]}
    assert rows["fast"]["rate"] > 0
    assert rows["fast"]["answer_p99"] < 1.2
    assert rows["failing"]["failures"] > 0
    assert rows["failing"]["dead_by"].keys() == {"failed"}
    assert rows["EN+ slow"]["handler_p99"] > 1
    assert "GetTariff takes" in rows["EN+ slow"]["why"]
    assert view["dead_letters"] > 0
