"""The gateways that the documents show, in Node.js and in Python (docs/gateways.md), as processes.

On one side are real WebSocket stations, on the other a real worker and a client.
"""

import asyncio
import json
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import websockets.asyncio.client
from websockets import ConnectionClosed, Subprotocol

from bridge import CallError, DataTransferRequest, DataTransferResponse
from bridge.client.client import Client, NoAnswer, StationOffline
from bridge.testing.rabbitmq import PrivateBroker, free_ports
from tests.integration.support import (
    PATIENCE,
    ROOT,
    WorkerProcess,
    clean_environment,
    close_connections,
)

PAGE = ROOT / "docs" / "gateways.md"
EXAMPLE = ROOT / "examples" / "node-gateway"
HELLO = DataTransferRequest("com.acme", "Hello")
VERSIONS = ["ocpp1.6", "ocpp2.0.1", "ocpp2.1"]

Answer = Callable[[str], Awaitable[str | None]]


async def accept(payload: str) -> str | None:
    """A station's answer to a CALL, with ID for the message id. None: it does not answer."""
    return '[3,"ID",{"status":"Accepted"}]'


class Station:
    """A charging station: text frames on a WebSocket."""

    def __init__(self, socket: websockets.asyncio.client.ClientConnection, answer: Answer) -> None:
        self.socket = socket
        self.payloads: list[str] = []
        self._answer = answer
        self._news = asyncio.Condition()
        self._answers: dict[str, asyncio.Future[str]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._numbers = 0
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for frame in self.socket:
                assert isinstance(frame, str)
                kind, message_id, *_ = json.loads(frame)
                if kind == 2:
                    task = asyncio.create_task(self._take(message_id, frame.split(",", 3)[3][:-1]))
                    self._answering.add(task)
                    task.add_done_callback(self._answering.discard)
                else:
                    self._answers.setdefault(
                        message_id, asyncio.get_running_loop().create_future()
                    ).set_result(frame)
        except ConnectionClosed:
            pass

    async def _take(self, message_id: str, payload: str) -> None:
        async with self._news:
            self.payloads.append(payload)
            self._news.notify_all()
        answer = await self._answer(payload)
        if answer is not None:
            await self.socket.send(answer.replace("ID", message_id))

    async def given(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: len(self.payloads) >= count)

    async def say(self, frame: str, about: str) -> str:
        """Send a frame and return the one that answers the message id `about`."""
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._answers[about] = answer
        await self.socket.send(frame)
        async with asyncio.timeout(PATIENCE):
            return await answer

    async def ask(self, payload: str, message_id: str | None = None) -> Any:
        """Send a DataTransfer and return the frame that answers it."""
        self._numbers += 1
        message_id = message_id or f"id-{self._numbers}"
        return json.loads(
            await self.say(f'[2, "{message_id}", "DataTransfer", {payload}]', message_id)
        )

    async def close(self) -> None:
        await self.socket.close()
        await self._reader
        for task in self._answering:
            task.cancel()


class Gateway:
    """One of the example gateways, as a running process."""

    name = ""
    """Which of them it is."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port
        self.output: list[str] = []
        self._news = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            async with self._news:
                self.output.append(line.decode().rstrip())
                self._news.notify_all()

    async def listening(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.process.returncode is None:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    return
        pytest.fail(f"it has ended: {self.output}")

    @asynccontextmanager
    async def station(
        self, station_id: str = "CP1", version: str = "ocpp2.0.1", answer: Answer = accept
    ) -> AsyncIterator[Station]:
        url = f"ws://127.0.0.1:{self.port}/{quote(station_id, safe='')}"
        async with websockets.asyncio.client.connect(
            url, subprotocols=[Subprotocol(version)]
        ) as socket:
            station = Station(socket, answer)
            try:
                yield station
            finally:
                await station.close()


@pytest.fixture(scope="session")
def installed() -> None:
    """Have Node.js and the example's packages, which npm installs if they are missing."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("Node.js is not installed")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version[1:].partition(".")[0]) < 18:
        pytest.skip(f"Node.js {version.strip()} is older than 18")
    if not (EXAMPLE / "node_modules").exists():
        done = subprocess.run(
            [npm, "ci", "--no-audit", "--no-fund"],
            cwd=EXAMPLE,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if done.returncode:
            shutil.rmtree(EXAMPLE / "node_modules", ignore_errors=True)
            pytest.skip(
                f"npm's registry gives no packages: {done.stderr.strip().splitlines()[-1:]}"
            )


@asynccontextmanager
async def running(
    command: list[str], folder: Path, port: int, **settings: str
) -> AsyncIterator[Gateway]:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=clean_environment() | {"PYTHONPATH": str(ROOT)} | settings,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    gateway = Gateway(process, port)
    try:
        await gateway.listening()
        yield gateway
        assert process.returncode is None, gateway.output
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await gateway._reader


def node(url: str, **settings: str) -> AbstractAsyncContextManager[Gateway]:
    (port,) = free_ports(1)
    return running(["node", "gateway.js"], EXAMPLE, port, AMQP_URL=url, PORT=str(port), **settings)


def python(url: str, folder: Path) -> AbstractAsyncContextManager[Gateway]:
    (port,) = free_ports(1)
    program = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)[0]
    (folder / "own_gateway.py").write_text(program)
    return running([sys.executable, "own_gateway.py", url, str(port)], folder, port)


GO = ROOT / "build" / "examples" / "go-gateway" / "gateway"
def go(url: str, **settings: str) -> AbstractAsyncContextManager[Gateway]:
    (port,) = free_ports(1)
    return running([str(GO)], ROOT, port, AMQP_URL=url, PORT=str(port), **settings)


@pytest.fixture(params=["node", "python", "go"])
async def gateway(
    request: pytest.FixtureRequest, amqp_url: str, tmp_path: Path
) -> AsyncIterator[Gateway]:
    if request.param == "node":
        request.getfixturevalue("installed")
    async with node(amqp_url) if request.param == "node" else go(amqp_url) if request.param == "go" else python(amqp_url, tmp_path) as gateway:
        gateway.name = request.param
        yield gateway


@pytest.fixture
async def client(amqp_url: str) -> AsyncIterator[Client]:
    async with Client(amqp_url, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
def worker(amqp_url: str) -> Iterator[WorkerProcess]:
    with WorkerProcess("tests.integration.load_vendors:routers", amqp_url) as worker:
        yield worker


async def reached(client: Client, station_id: str = "CP1") -> None:
    """Wait until the CSMS reaches the station: its socket opens before its key is bound."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await client.send_to_station(
                    station_id, DataTransferRequest("reached", "?"), timeout=1.0
                )
            except (NoAnswer, StationOffline):
                await asyncio.sleep(0.01)
            else:
                return


def test_it_is_as_small_as_it_claims_and_names_no_registry() -> None:
    assert len((EXAMPLE / "gateway.js").read_text().splitlines()) < 130
    assert "resolved" not in (EXAMPLE / "package-lock.json").read_text()
    assert {path.name for path in Path(EXAMPLE).iterdir()} - {"node_modules"} == {
        "gateway.js",
        "package.json",
        "package-lock.json",
    }


# ---- station → CSMS ----


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_stations_request_is_answered_by_the_worker(gateway: Gateway, version: str) -> None:
    async with gateway.station("CP 1/é", version) as station:
        number = 123456789012345678901
        kind, message_id, payload = await station.ask(
            f'{{"vendorId":"Hostile","messageId":"x","data":{{"n":{number},"N":null}}}}'
        )
        assert (kind, message_id, payload["status"]) == (3, "id-1", "Accepted")
        data = json.loads(payload["data"]) if version == "ocpp1.6" else payload["data"]
        assert data == {"n": number, "N": None}
        assert await station.ask('{"vendorId":"nobody"}') == [
            3,
            "id-2",
            {"status": "UnknownVendorId"},
        ]


@pytest.mark.usefixtures("worker")
async def test_what_is_no_request_or_no_frame_gets_the_callerror_it_deserves(
    gateway: Gateway,
) -> None:
    async with gateway.station(version="ocpp1.6") as station:
        assert (await station.ask("{}"))[:3] == [4, "id-1", "OccurenceConstraintViolation"]
        assert (await station.ask('{"vendorId":7}'))[:3] == [4, "id-2", "TypeConstraintViolation"]
        assert (await station.ask("[1]"))[0] == 4
        heartbeat = await station.say('[2,"h","Heartbeat",{}]', "h")
        assert json.loads(heartbeat) == [4, "h", "NotImplemented", "", {}]
        malformed = "FormatViolation" if gateway.name == "node" else "FormationViolation"
        for frame in ("", "{", "7", '{"a":1}', '[2,17,"DataTransfer",{}]'):
            assert json.loads(await station.say(frame, "-1"))[:3] == [4, "-1", malformed]
        cut_short = "a" if gateway.name == "python" else "-1"  # ours reads the id all the same
        told = json.loads(await station.say('[2,"a"', cut_short))
        assert told[:3] == [4, cut_short, malformed]
        assert (await station.ask('{"vendorId":"hostile","data":1}'))[2] == {
            "status": "Accepted",
            "data": "1",
        }


async def test_a_request_waits_for_a_worker(gateway: Gateway, amqp_url: str) -> None:
    async with gateway.station() as station:
        waiting = asyncio.create_task(station.ask('{"vendorId":"hostile","data":1}'))
        async with WorkerProcess("tests.integration.load_vendors:routers", amqp_url):
            assert await waiting == [3, "id-1", {"status": "Accepted", "data": 1}]


@pytest.mark.usefixtures("installed")
async def test_without_a_worker_a_request_ends_at_its_deadline(amqp_url: str) -> None:
    async with node(amqp_url, TIMEOUT="0.5") as gateway, gateway.station() as station:
        assert (await station.ask('{"vendorId":"hostile"}'))[:3] == [4, "id-1", "GenericError"]


# ---- CSMS → station ----


@pytest.mark.parametrize("station_id", ["CP1", "AA:BB é", "_", "é" * 34, "é" * 33])
async def test_the_csms_reaches_a_station_and_its_answer_comes_back_as_it_is(
    gateway: Gateway, client: Client, station_id: str
) -> None:
    number = 123456789012345678901

    async def answer(payload: str) -> str | None:
        return f'[3,"ID",{{"status":"Rejected","data":{{"n":{number},"N":null}}}}]'

    async with gateway.station(station_id, answer=answer) as station:
        await reached(client, station_id)
        answered = await client.send_to_station(
            station_id, DataTransferRequest("EN+", "m", {"n": number, "é": [None]})
        )
        assert answered == DataTransferResponse("Rejected", {"n": number, "N": None})
        assert (
            station.payloads[-1]
            == f'{{"vendorId":"EN+","messageId":"m","data":{{"n":{number},"é":[null]}}}}'
        )


@pytest.mark.parametrize(
    ("data", "sent"),
    [({"a": [1, None]}, '{"a":[1,null]}'), ("text", "text"), (7, "7"), (None, None), ("", "")],
)
async def test_a_1_6_station_is_given_text(
    gateway: Gateway, client: Client, data: Any, sent: str | None
) -> None:
    async with gateway.station(version="ocpp1.6") as station:
        await reached(client)
        await client.send_to_station("CP1", DataTransferRequest("v", None, data, {"vendorId": "w"}))
        expected = {"vendorId": "v"} | ({} if sent is None else {"data": sent})
        assert json.loads(station.payloads[-1]) == expected


async def test_a_callerror_of_the_station_arrives(gateway: Gateway, client: Client) -> None:
    async def refuse(payload: str) -> str | None:
        return '[4,"ID","SecurityError","not you",{}]'

    async with gateway.station(answer=refuse):
        with pytest.raises(CallError, match="SecurityError: not you"):
            await reached(client)


async def test_a_station_that_is_not_there_is_offline_at_once_and_one_that_is_lost_as_well(
    gateway: Gateway, client: Client
) -> None:
    async def never(payload: str) -> str | None:
        return None if "Hello" in payload else await accept(payload)

    async with asyncio.timeout(PATIENCE / 2):
        with pytest.raises(StationOffline):
            await client.send_to_station("CP1", HELLO)
        async with gateway.station(answer=never) as station:
            await reached(client)
            sent = asyncio.create_task(client.send_to_station("CP1", HELLO))
            await station.given(2)
            waiting = asyncio.create_task(client.send_to_station("CP1", HELLO))
            await asyncio.sleep(0.1)  # nothing shows that a request waits in another process
        with pytest.raises(StationOffline) as of_sent:
            await sent
        with pytest.raises(StationOffline) as of_waiting:
            await waiting
        assert (of_sent.value.sent, of_waiting.value.sent) == (True, False)
        assert len(station.payloads) == 2


async def test_a_station_has_one_call_at_a_time_and_each_once(
    gateway: Gateway, client: Client
) -> None:
    may_answer = asyncio.Event()

    async def later(payload: str) -> str | None:
        if "Hello" in payload:
            await may_answer.wait()
        return await accept(payload)

    async with gateway.station(answer=later) as station:
        await reached(client)
        seen = len(station.payloads)
        same = [
            asyncio.create_task(client.send_to_station("CP1", HELLO, message_id="same"))
            for _ in range(2)
        ]
        await station.given(seen + 1)
        other = asyncio.create_task(
            client.send_to_station("CP1", DataTransferRequest("v", "other"))
        )
        with pytest.raises(NoAnswer):
            await client.send_to_station("CP1", DataTransferRequest("v", "too late"), timeout=0.2)
        assert len(station.payloads) == seen + 1
        may_answer.set()
        await asyncio.gather(*same, other)
        assert [json.loads(payload)["messageId"] for payload in station.payloads[seen:]] == [
            "Hello",
            "other",
        ]


@pytest.mark.usefixtures("worker")
async def test_a_lost_connection_is_made_good(
    broker: PrivateBroker, amqp_url: str, gateway: Gateway, client: Client
) -> None:
    async with gateway.station() as station:
        await reached(client)
        slow = asyncio.create_task(station.ask('{"vendorId":"slow","data":1}'))
        close_connections(broker, amqp_url)
        await reached(client)
        assert (await slow)[:2] == [3, "id-1"]
        assert (await station.ask('{"vendorId":"hostile","data":2}'))[2]["data"] == 2
