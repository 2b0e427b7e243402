"""examples/web_app.py: HTTP on one side, on the other a station's WebSocket, and between them
RabbitMQ and `dtbridge gateway`.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from bridge.testing.rabbitmq import free_ports
from tests.integration.real_station import real_station
from tests.integration.support import PATIENCE, ROOT, GatewayProcess, clean_environment

HELLO = {"text": "Hello", "seconds": 30}


@asynccontextmanager
async def serving(url: str, **settings: str) -> AsyncIterator[httpx.AsyncClient]:
    """The app, as its page says that it is run, and a client of it."""
    (port,) = free_ports(1)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", "examples.web_app:app", "--port", str(port)),
        cwd=ROOT,
        env=clean_environment({"DTBRIDGE_AMQP_URL": url} | settings),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            while b"Uvicorn running" not in (line := await process.stderr.readline()):
                assert line, "it has ended"
        reading = asyncio.create_task(process.stderr.read())
        base_url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=base_url, timeout=PATIENCE) as http:
            yield http
        process.terminate()
        await asyncio.wait_for(process.wait(), PATIENCE)
        assert b"Traceback" not in await reading
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.fixture
def gateway(amqp_url: str) -> Iterator[GatewayProcess]:
    with GatewayProcess(amqp_url) as gateway:
        yield gateway


def display(station_id: str) -> str:
    return f"/stations/{station_id}/display"


async def test_each_outcome_of_a_command_has_its_status(
    amqp_url: str, gateway: GatewayProcess
) -> None:
    asked: list[dict[str, Any]] = []
    hung, let_go = asyncio.Event(), asyncio.Event()
    replies = {
        "accepts": {"status": "Accepted", "data": {"lines": 2}},
        "refuses": {"status": "Rejected", "status_info": {"reason_code": "NoDisplay"}},
        "rambles": {"status": "Accepted", "data": "?"},
        "hangs": {"status": "Accepted"},
    }

    async def answer(fields: dict[str, Any]) -> Any:
        asked.append(fields)
        kind = fields["data"]["text"]
        if kind == "hangs":
            hung.set()
            await let_go.wait()
        if kind == "fails":
            raise ValueError(kind)
        return replies[kind]

    async with serving(amqp_url, COMMAND_TIMEOUT="2") as http:

        async def put(text: str, station_id: str = "CP001") -> tuple[int, Any]:
            response = await http.put(display(station_id), json={"text": text})
            return response.status_code, response.json()

        assert (await put("accepts"))[0] == 404  # nobody is connected yet
        async with real_station(f"{gateway.url}/CP001", "ocpp2.0.1", answer=answer) as station:
            await station.boot()
            await asyncio.to_thread(gateway.until, "station connected")
            assert await put("accepts") == (200, {"station": "CP001", "lines": 2})
            assert asked == [
                {
                    "vendor_id": "com.acme",
                    "message_id": "ShowText",
                    "data": {"text": "accepts", "seconds": 60},
                }
            ]
            assert await put("refuses") == (
                409,
                {"detail": {"status": "Rejected", "reason": "NoDisplay"}},
            )
            assert (await put("rambles"))[0] == 502
            status, said = await put("fails")
            assert (status, "InternalError" in said["detail"]) == (502, True)
            assert (await http.put(display("CP001"), json={"text": 7})).status_code == 422
            assert await put("hangs") == (504, {"detail": "the station has not answered in time"})
            assert (await put("accepts", "CP002"))[0] == 404

            let_go.set()
            assert (await put("accepts"))[0] == 200  # the late answer is nobody's
            let_go.clear()
            hung.clear()
            lost = asyncio.create_task(put("hangs"))
            await hung.wait()
            station.connection.transport.abort()
            status, said = await lost
            let_go.set()
            assert (status, "after it had been sent" in said["detail"]) == (504, True)


async def test_without_a_broker_it_starts_and_says_so() -> None:
    (port,) = free_ports(1)
    async with serving(f"amqp://127.0.0.1:{port}/", COMMAND_TIMEOUT="1") as http:
        assert (await http.put(display("CP001"), json=HELLO)).status_code == 503
