"""`dtbridge gateway --processes`: several processes on one port are one gateway to stations."""

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidHandshake

from bridge import DataTransferRequest, DataTransferResponse
from bridge.client.client import Client, StationOffline
from bridge.testing.rabbitmq import PrivateBroker
from tests.acceptance.command import dtbridge, sentence
from tests.integration.raw_station import raw_station
from tests.integration.real_station import RealStation, real_station
from tests.integration.support import PATIENCE, GatewayProcess, WorkerProcess

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux shares connections out among processes"
)

VENDORS = "tests.integration.decision_table_vendors:routers"
STATIONS = 40
"""That all come to one of two processes happens once in 10^12 times."""
VERSION = "ocpp2.0.1"
PASSWORD = b"a password of 24 letters"


@pytest.fixture
def url(broker: PrivateBroker) -> Iterator[str]:
    yield broker.add_vhost("processes")
    broker.delete_vhost("processes")


@pytest.fixture
def worked(url: str) -> Iterator[str]:
    """There is a worker, too."""
    with WorkerProcess(VENDORS, url):
        yield url


def both(url: str, **settings: object) -> GatewayProcess:
    return GatewayProcess(url, log_level="info", processes=2, **settings)


def process_of(gateway: GatewayProcess, station: str, connection: int = 1) -> int:
    """Where a station's connection is, which has just been opened: the number of the process."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = [
            int(line["process"])
            for line in tuple(gateway.log)
            if line.get("event") == "station connected" and line["station"] == station
        ]
        if len(found) >= connection:
            return found[connection - 1]
        time.sleep(0.005)
    raise AssertionError(f"{station} is not in the log: {gateway.log}")


@contextlib.asynccontextmanager
async def station(gateway: GatewayProcess, name: str) -> AsyncIterator[RealStation]:
    """A station whose answers say who it is and what it was asked."""

    async def answer(fields: dict[str, Any]) -> dict[str, Any]:
        return {"status": "Accepted", "data": f"{name} {fields['data']}"}

    async with real_station(f"{gateway.url}/{name}", VERSION, answer=answer) as connected:
        yield connected


async def is_reached(csms: Client, name: str) -> None:
    """Soon: it may have connected just now."""
    request = DataTransferRequest("v", "m", "who?")
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(StationOffline):
                response = await csms.send_to_station(name, request, timeout=PATIENCE)
                break
            await asyncio.sleep(0.01)
    assert response.data == f"{name} who?"


async def test_both_processes_serve_stations_in_both_directions(worked: str) -> None:
    async with (
        both(worked) as gateway,
        Client(worked) as csms,
        contextlib.AsyncExitStack() as stack,
    ):
        ports = {gateway.until("listening", count)["addresses"][0] for count in (1, 2)}
        assert len(ports) == 1
        processes = set()
        for number in range(STATIONS):
            name = f"CP-{number}"
            connected = await stack.enter_async_context(station(gateway, name))
            assert (await connected.data_transfer("EN+", name)).data == name
            processes.add(await asyncio.to_thread(process_of, gateway, name))
        assert processes == {1, 2}
        for number in range(STATIONS):
            await is_reached(csms, f"CP-{number}")


async def test_a_station_that_comes_to_the_other_process_is_reached_within_a_second(
    url: str, tmp_path: Path
) -> None:
    """Its older connection, to the first process, is still there, as a dead one would be."""
    (tmp_path / "password").write_bytes(PASSWORD)
    name = "CP-1"
    async with (
        both(url, station_password=f"@{tmp_path / 'password'}") as gateway,
        Client(url) as csms,
        contextlib.AsyncExitStack() as stack,
    ):
        first = None
        for connection in itertools.count(1):
            current = await stack.enter_async_context(
                raw_station(f"{gateway.url}/{name}", versions=[VERSION], password=PASSWORD)
            )
            came_at = time.monotonic()
            process = await asyncio.to_thread(process_of, gateway, name, connection)
            first = first or process
            if process != first:
                break
        hearing = asyncio.create_task(current.hear())
        asking: list[asyncio.Task[DataTransferResponse]] = []
        asked_at: list[float] = []
        while not hearing.done():
            asked = DataTransferRequest("v", "m", len(asking))
            asked_at.append(time.monotonic())
            asking.append(asyncio.create_task(csms.send_to_station(name, asked, timeout=PATIENCE)))
            await asyncio.wait({hearing}, timeout=0.05)
        frame = await hearing
        number = frame[3]["data"]
        await current.say([3, frame[1], {"status": "Accepted", "data": "here"}])
        assert (await asking[number]).data == "here"
        for each in asking:
            each.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        assert asked_at[number] - came_at < 1.0


async def test_a_process_that_dies_is_started_again_and_its_stations_come_back(url: str) -> None:
    async with both(url) as gateway, Client(url) as csms, contextlib.AsyncExitStack() as stack:
        where: dict[str, int] = {}
        stations: dict[str, RealStation] = {}
        for number in range(STATIONS):
            name = f"CP-{number}"
            stations[name] = await stack.enter_async_context(station(gateway, name))
            where[name] = await asyncio.to_thread(process_of, gateway, name)
        victim = min(where.values())
        os.kill(pid_of(gateway, victim), signal.SIGKILL)
        died = await asyncio.to_thread(gateway.until, "gateway died")
        assert (died["process"], died["exit_code"]) == (victim, -signal.SIGKILL)
        lost = [name for name, process in where.items() if process == victim]
        for name in lost:
            await stations[name].connection.wait_closed()
        # The other process takes them at once, for nobody else listens.
        for name in lost:
            await stack.enter_async_context(station(gateway, name))
            await is_reached(csms, name)
        for name in where.keys() - set(lost):
            await is_reached(csms, name)
        again = await asyncio.to_thread(gateway.until, "listening", 3)
        assert again["process"] == victim
        for number in itertools.count():
            name = f"new-{number}"
            await stack.enter_async_context(station(gateway, name))
            if await asyncio.to_thread(process_of, gateway, name) == victim:
                await is_reached(csms, name)
                break


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_drains_all_processes(url: str, number: signal.Signals) -> None:
    async with both(url) as gateway, contextlib.AsyncExitStack() as stack:
        stations = [
            await stack.enter_async_context(raw_station(f"{gateway.url}/CP-{each}"))
            for each in range(STATIONS)
        ]
        gateway.signal(number)
        assert {await each.closed() for each in stations} == {(1001, "restart")}
        assert await asyncio.to_thread(gateway.wait) == 0
        drained = [line for line in gateway.log if line["event"] == "drained"]
        assert {line["process"] for line in drained} == {1, 2}
        assert sum(line["connected"] for line in drained) == STATIONS


async def test_a_second_signal_ends_all_processes_at_once(worked: str) -> None:
    hangs = [2, "1", "DataTransfer", {"vendorId": "com.acme", "messageId": "Hangs"}]
    async with (
        both(worked, call_timeout=PATIENCE, drain_timeout=PATIENCE) as gateway,
        raw_station(f"{gateway.url}/CP-1", versions=[VERSION]) as asking,
    ):
        await asking.say(hangs)
        gateway.signal(signal.SIGTERM)
        await asyncio.to_thread(gateway.until, "going away", 2)
        gateway.exit_code = 128 + signal.SIGTERM
        gateway.signal(signal.SIGTERM)
        assert (await asking.closed())[0] == 1006
        assert await asyncio.to_thread(gateway.wait) == gateway.exit_code


UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc")


class ProcessOne(GatewayProcess):
    """A gateway that is process 1, as in a container."""

    within = UNSHARE

    def signal(self, number: signal.Signals) -> None:
        os.kill(children_of(self.process.pid)[0], number)


@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run([*UNSHARE, "true"], check=False, capture_output=True).returncode != 0,
    reason="a PID namespace of its own needs unshare and permission",
)
async def test_it_drains_as_process_1(url: str) -> None:
    async with ProcessOne(url, processes=2) as gateway, raw_station(f"{gateway.url}/CP-1") as one:
        gateway.signal(signal.SIGTERM)
        assert await one.closed() == (1001, "restart")
        assert await asyncio.to_thread(gateway.wait) == 0


@pytest.mark.parametrize("former", [1, 2])
@pytest.mark.parametrize("later", [1, 2])
async def test_a_second_gateway_on_the_port_is_refused(url: str, former: int, later: int) -> None:
    async with GatewayProcess(url, processes=former) as gateway:
        listen = f"127.0.0.1:{gateway.port}"
        refused = await asyncio.to_thread(
            dtbridge,
            *("gateway", "--listen", listen, "--processes", str(later), "--amqp-url", url),
        )
        assert f"cannot listen on {listen}: " in sentence(refused)
        assert "in use" in refused.stderr
        assert refused.returncode == 1


async def test_a_gateway_alone_gives_its_port_to_several_processes_and_takes_it_back(
    url: str,
) -> None:
    """Connections that were closed at its end are in nobody's way."""
    listen = "127.0.0.1:0"
    for processes in (1, 2, 1):
        async with GatewayProcess(url, processes=processes, listen=listen) as gateway:
            listen = f"127.0.0.1:{gateway.port}"
            async with raw_station(f"{gateway.url}/CP-1") as connected:
                assert await asyncio.to_thread(gateway.stop) == 0
                assert await connected.closed() == (1001, "restart")


async def test_each_process_has_its_share_of_the_connections(url: str) -> None:
    async with both(url, max_connections=3) as gateway, contextlib.AsyncExitStack() as stack:
        for number in range(STATIONS):
            with contextlib.suppress(InvalidHandshake, OSError):
                await stack.enter_async_context(raw_station(f"{gateway.url}/CP-{number}"))
        connected = [
            line["process"] for line in gateway.log if line["event"] == "station connected"
        ]
        assert sorted(connected) == [1, 1, 2, 2]


async def test_dtbridge_top_shows_each_process(url: str) -> None:
    async with both(url, http="127.0.0.1:0") as gateway, raw_station(f"{gateway.url}/CP-1"):
        address = gateway.until("serving http")["address"]
        shown = await asyncio.to_thread(
            dtbridge,
            *("top", "--workers", f"http://{address}", "--json", "--once", "--interval", "0.2"),
            *("--amqp-url", url),
        )
        rows = json.loads(shown.stdout)["workers"]
        assert [row["name"] for row in rows] == [
            f"{address} {process}" for process in ("1", "2", "supervisor")
        ]
        assert sum(row.get("stations") or 0 for row in rows) == 1


def children_of(pid: int) -> list[int]:
    """The children of a process, as the kernel lists them."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def pid_of(gateway: GatewayProcess, process: int) -> int:
    """The child with this number."""
    (found,) = (
        child
        for child in children_of(gateway.process.pid)
        if f"_DTBRIDGE_CHILD={process}\0".encode() in Path(f"/proc/{child}/environ").read_bytes()
    )
    return found
