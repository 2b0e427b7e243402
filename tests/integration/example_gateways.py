"""The example gateways as processes, and WebSocket stations for them.

Those that need nothing but what `make test` has are tested always; DTBRIDGE_TEST_GATEWAYS names
others that `make examples` has built.
"""

import asyncio
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import websockets.asyncio.client
from websockets import ConnectionClosed, Subprotocol

from bridge import Client, DataTransferRequest, NoAnswer, StationOffline
from bridge.testing.rabbitmq import free_ports
from tests.integration.support import PATIENCE, ROOT, clean_environment

PAGE = ROOT / "docs" / "gateways.md"
EXAMPLES = ROOT / "examples"
BUILT = ROOT / "build" / "examples"
NODE = EXAMPLES / "node-gateway"
TESTED = os.environ.get("DTBRIDGE_TEST_GATEWAYS", "node python").split()

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

    def __init__(self, name: str, process: asyncio.subprocess.Process, port: int) -> None:
        self.name = name
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

    async def closed(self) -> None:
        """Return when it says no more."""
        await self._reader

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


def _command(name: str, url: str, port: int, folder: Path) -> list[str]:
    """What runs the gateway of that name; what is not written down is written to the folder."""
    match name:
        case "node":
            return ["node", str(BUILT / "node-gateway" / "gateway.js")]
        case "python":
            blocks = re.findall(
                r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL
            )
            (folder / "own_gateway.py").write_text(blocks[0])
            return [sys.executable, str(folder / "own_gateway.py"), url, str(port)]
        case "go":
            return [str(BUILT / "go-gateway" / "gateway")]
        case "java":
            jars = [
                str(jar)
                for name in ("amqp-client", "slf4j-api", "jackson-core", "netty-*")
                for jar in Path("/usr/share/java").glob(f"{name}.jar")
            ]
            classes = ":".join([str(BUILT / "java-gateway"), *jars])
            return ["java", "-XX:TieredStopAtLevel=1", "-cp", classes, "Gateway"]  # it starts soon
    raise ValueError(name)


@asynccontextmanager
async def running(
    name: str, url: str, folder: Path, *, may_end_with: tuple[int, ...] = (), **settings: str
) -> AsyncIterator[Gateway]:
    """The gateway of that name, until the end of the block. `folder`: where it may write.

    `may_end_with`: exit codes with which it may end before.
    """
    if name == "node":
        await asyncio.to_thread(_install_node)
    (port,) = free_ports(1)
    process = await asyncio.create_subprocess_exec(
        *_command(name, url, port, folder),
        cwd=folder,
        env=clean_environment()
        | {"AMQP_URL": url, "PORT": str(port), "PYTHONPATH": str(ROOT)}
        | settings,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    gateway = Gateway(name, process, port)
    try:
        await gateway.listening()
        yield gateway
        assert process.returncode in {None, *may_end_with}, gateway.output
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await gateway.closed()


def _install_node() -> None:
    """Have the example in Node.js and its packages in `build`, or skip the test."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("Node.js is not installed")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version[1:].partition(".")[0]) < 18:
        pytest.skip(f"Node.js {version.strip()} is older than 18")
    folder = BUILT / "node-gateway"
    folder.mkdir(parents=True, exist_ok=True)
    lock = (NODE / "package-lock.json").read_text()
    installed = folder / ".installed"
    with (folder / ".lock").open("w") as turn:  # tests run in several processes
        fcntl.flock(turn, fcntl.LOCK_EX)
        for file in NODE.iterdir():
            if file.is_file():
                shutil.copy(file, folder)
        if installed.exists() and installed.read_text() == lock:
            return
        done = subprocess.run(
            [npm, "ci", "--no-audit", "--no-fund"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if done.returncode:
            pytest.skip(
                f"npm's registry gives no packages: {done.stderr.strip().splitlines()[-1:]}"
            )
        installed.write_text(lock)


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
