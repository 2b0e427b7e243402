"""The stations of the benchmark of gateways (tests/bench/fleet.c) count exactly what they get."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.bench.build import compile_program

pytestmark = pytest.mark.skipif(
    not (shutil.which("cc") or shutil.which("gcc")), reason="there is no C compiler"
)

ACCEPTED = {"status": "Accepted"}
Gateway = Callable[[ServerConnection], Coroutine[Any, Any, None]]
PATIENCE = 60.0


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program."""
    folder: Path = tmp_path_factory.mktemp("fleet")
    return compile_program("fleet", folder)[0]


class Fleet:
    """A fleet at work."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def next_line(self) -> dict[str, Any]:
        assert self._process.stdout
        line = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE)
        said: dict[str, Any] = json.loads(line)
        return said

    def tell(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(line.encode() + b"\n")

    async def result(self) -> dict[str, Any]:
        assert await self.next_line() == {"event": "connected"}
        self.tell("")
        return await self.next_line()


@asynccontextmanager
async def stations_of(
    fleet: str, gateway: Gateway, mode: str, **options: float
) -> AsyncIterator[Fleet]:
    """A fleet before a gateway, until the block ends."""
    subprotocols = [Subprotocol("ocpp1.6")]
    async with serve(gateway, "127.0.0.1", 0, subprotocols=subprotocols) as server:
        options["port"] = next(iter(server.sockets)).getsockname()[1]
        given = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(fleet, mode, *given, stdin=pipe, stdout=pipe)
        try:
            yield Fleet(process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def echo(station: ServerConnection) -> None:
    async for message in station:
        _, message_id, action, payload = json.loads(message)
        assert action == "DataTransfer"
        assert json.loads(payload["data"])["meter"] == 17
        await station.send(compact([3, message_id, ACCEPTED]))


def compact(frame: Any) -> str:
    return json.dumps(frame, separators=(",", ":"))


async def test_every_answer_is_counted_once(fleet: str) -> None:
    async with stations_of(fleet, echo, "ask", stations=20, outstanding=5, seconds=0.2) as stations:
        result = await stations.result()
    assert result["round_trips"] > 0
    assert result["connected"] == 20
    wrong = ("missing", "duplicate", "foreign", "refused", "failed", "lost")
    assert [result[name] for name in wrong] == [0] * len(wrong)


async def test_a_call_has_as_many_bytes_as_was_asked_for(fleet: str) -> None:
    sizes = set()

    async def gateway(station: ServerConnection) -> None:
        async for message in station:
            assert isinstance(message, str)
            head, _, payload = message.partition('"DataTransfer",')
            sizes.add(len(payload) - 1)
            await station.send(compact([3, json.loads(head + "0]")[1], ACCEPTED]))

    async with stations_of(fleet, gateway, "ask", stations=1, size=1000, seconds=0.1) as stations:
        await stations.result()
    assert sizes == {1000}


@pytest.mark.parametrize(
    ("answers", "counted"),
    [
        (lambda own: [[3, own, {"status": "Rejected"}]], "refused"),
        (lambda own: [[4, own, "GenericError", "", {}]], "refused"),
        (lambda own: [[3, own, ACCEPTED], [3, own, ACCEPTED]], "duplicate"),
        (lambda own: [[3, "ffffffffffffffff", ACCEPTED], [3, own, ACCEPTED]], "foreign"),
    ],
    ids=["Rejected", "CALLERROR", "twice", "another's"],
)
async def test_a_wrong_answer_is_counted_as_what_it_is(
    fleet: str, answers: Callable[[str], list[Any]], counted: str
) -> None:
    async def gateway(station: ServerConnection) -> None:
        async for message in station:
            for frame in answers(json.loads(message)[1]):
                await station.send(compact(frame))

    async with stations_of(fleet, gateway, "ask", stations=2, seconds=0.1) as stations:
        result = await stations.result()
    assert result[counted] > 0
    assert result["missing"] == 0


async def test_a_connection_that_the_gateway_ends_is_told(fleet: str) -> None:
    ended = False

    async def gateway(station: ServerConnection) -> None:
        nonlocal ended
        async for message in station:
            await station.send(compact([3, json.loads(message)[1], ACCEPTED]))
            if not ended:
                ended = True
                return

    async with stations_of(fleet, gateway, "ask", stations=3, seconds=0.2) as stations:
        result = await stations.result()
    assert result["lost"] == 1


async def test_stations_answer_what_they_are_asked(fleet: str) -> None:
    answered: asyncio.Queue[Any] = asyncio.Queue()

    async def gateway(station: ServerConnection) -> None:
        await (await station.ping())
        await station.send(compact([2, "an id of the CSMS", "DataTransfer", {"vendorId": "v"}]))
        answered.put_nowait(json.loads(await station.recv()))
        await station.wait_closed()

    async with stations_of(fleet, gateway, "answer", stations=3, seconds=PATIENCE) as stations:
        assert await stations.next_line() == {"event": "connected"}
        stations.tell("")
        for _ in range(3):
            kind, message_id, payload = await asyncio.wait_for(answered.get(), PATIENCE)
            assert (kind, message_id, payload["status"]) == (3, "an id of the CSMS", "Accepted")
        stations.tell("end")
        result = await stations.next_line()
    assert (result["connected"], result["pings"], result["lost"]) == (3, 3, 0)
    assert result["round_trips"] <= 3


async def test_all_come_back_in_a_storm(fleet: str) -> None:
    paths: list[str] = []

    async def gateway(station: ServerConnection) -> None:
        assert station.request
        paths.append(station.request.path)
        await echo(station)

    async with stations_of(
        fleet, gateway, "storm", stations=8, moving=5, within=0.2, rate=50, seconds=0.2
    ) as stations:
        result = await stations.result()
    assert result["served"] == 5
    assert result["missing"] == 0
    assert sorted(paths) == sorted(
        [f"/CS-{number:06}" for number in range(8)] + [f"/CS-{number:06}" for number in range(5)]
    )


async def test_a_wish_that_makes_no_sense_is_refused(fleet: str) -> None:
    given = ["storm", "--port", "1", "--stations", "2", "--moving", "2", "--rate", "1"]
    process = await asyncio.create_subprocess_exec(
        fleet, *given, stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, said = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == 2
    assert b"but not all" in said
