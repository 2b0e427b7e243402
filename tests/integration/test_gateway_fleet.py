"""Many stations at once: each gets only its own answers, even if a gateway dies under load."""

import asyncio
import contextlib
import itertools
import json
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from bridge import CallError, DataTransferRequest
from bridge.client.client import Client, StationOffline
from bridge.testing.rabbitmq import PrivateBroker
from tests.integration.raw_station import PING, TEXT, peer, raw_station, websocket_frame
from tests.integration.real_station import VERSIONS, RealStation, real_station
from tests.integration.support import PATIENCE, GatewayProcess, WorkerProcess

log = logging.getLogger(__name__)
VENDORS = "tests.integration.decision_table_vendors:routers"
STATIONS = 500
WITHIN = 180.0
"""Seconds that a test may take: some 20 on an idle machine, most of them for the package's schema
validation in this process."""


@pytest.fixture
def url(broker: PrivateBroker) -> Iterator[str]:
    url = broker.add_vhost("fleet")
    with WorkerProcess(VENDORS, url):
        yield url
    broker.delete_vhost("fleet")


def says_who(name: str) -> Callable[[dict[str, Any]], Coroutine[Any, Any, dict[str, Any]]]:
    """A station's answer to the CSMS: its own name, and the data of the request."""

    async def answer(fields: dict[str, Any]) -> dict[str, Any]:
        return {"status": "Accepted", "data": f"{name} {fields['data']}"}

    return answer


async def ask_who(station: RealStation, number: int) -> None:
    """Send two requests whose answers can only be for this station and this request."""
    response = await station.data_transfer("com.acme", "Context")
    context = json.loads(response.data) if station.version == "ocpp1.6" else response.data
    assert (context["station"], context["version"]) == (station.station_id, station.version)
    word = f"{station.station_id} {number}"
    assert (await station.data_transfer("EN+", word)).data == word


async def test_500_stations_at_once_get_their_own_answers_in_both_directions(url: str) -> None:
    connected = asyncio.Barrier(STATIONS)
    asked = asyncio.Barrier(STATIONS + 1)
    done = asyncio.Event()
    latencies: list[float] = []

    async def life(gateway: GatewayProcess, name: str, version: str) -> None:
        async with real_station(
            f"{gateway.url}/{name}", version, answer=says_who(name), open_timeout=60
        ) as station:
            assert (await station.boot()).status == "Accepted"
            await station.status()
            await connected.wait()
            for number in range(3):
                start = time.monotonic()
                await ask_who(station, number)
                latencies.append((time.monotonic() - start) / 2)
            await asked.wait()
            await done.wait()

    async def command(csms: Client, name: str) -> None:
        response = await csms.send_to_station(
            name, DataTransferRequest("v", "m", f"are you {name}?"), timeout=WITHIN
        )
        assert response.data == f"{name} are you {name}?"

    with GatewayProcess(url, log_level="info", call_timeout=WITHIN) as gateway:
        names = [f"CP-{number:03}" for number in range(STATIONS)]
        start = time.monotonic()
        async with asyncio.timeout(WITHIN), asyncio.TaskGroup() as lives, Client(url) as csms:
            for name, version in zip(names, itertools.cycle(VERSIONS), strict=False):
                lives.create_task(life(gateway, name, version))
            await asked.wait()
            seconds = time.monotonic() - start
            async with asyncio.TaskGroup() as commands:
                for name in names:
                    commands.create_task(command(csms, name))
            done.set()
        assert gateway.stop() == 0
        counts = gateway.until("drained")
        assert (counts["connected"], counts["forwarded"], counts["calls"]) == (
            STATIONS,
            6 * STATIONS,
            STATIONS,
        )
        assert (counts["unanswered"], counts["late"], counts["cut_off"]) == (0, 0, 0)
    latencies.sort()
    median = latencies[len(latencies) // 2]
    log.info("%d stations: %.1f s, median %.0f ms", STATIONS, seconds, median * 1000)


# ---- a gateway that is killed ----


class Wanderer:
    """A station that asks without pause, and goes to the next gateway when its connection ends."""

    def __init__(self, name: str, version: str, gateways: list[GatewayProcess]) -> None:
        self.name = name
        self.answers = 0
        self.connections = 0
        self.connected_at = 0.0
        self.stopped = False
        self._version = version
        self._gateways = gateways

    async def run(self) -> None:
        for gateway in itertools.cycle(self._gateways):
            if self.stopped:
                return
            with contextlib.suppress(ConnectionClosed, OSError, InvalidHandshake, TimeoutError):
                url = f"{gateway.url}/{self.name}"
                async with real_station(
                    url, self._version, answer=says_who(self.name), close_timeout=1
                ) as station:
                    self.connections += 1
                    self.connected_at = time.monotonic()
                    asking = asyncio.create_task(self._ask(station))
                    gone = asyncio.create_task(station.connection.wait_closed())
                    try:
                        await asyncio.wait({asking, gone}, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        asking.cancel()
                        gone.cancel()
                        ended, _ = await asyncio.gather(asking, gone, return_exceptions=True)
                    if isinstance(ended, AssertionError):
                        raise ended
            await asyncio.sleep(0.05)

    async def _ask(self, station: RealStation) -> None:
        # The package uses asyncio.wait_for, which may lose a cancellation up to Python 3.11. Hence
        # the flag.
        while not self.stopped:
            await ask_who(station, self.answers)
            self.answers += 1


async def test_a_gateway_killed_under_load_mixes_up_no_answers_and_the_next_has_all_within_a_second(
    url: str,
) -> None:
    killed = GatewayProcess(url, log_level="info")
    killed.exit_code = -signal.SIGKILL
    with killed, GatewayProcess(url, log_level="info") as other:
        wanderers = [
            Wanderer(f"CP-{number}", version, [killed, other])
            for number, version in zip(range(60), itertools.cycle(VERSIONS), strict=False)
        ]
        commanded = 0
        refused = 0

        async def command(csms: Client, wanderer: Wanderer) -> None:
            """Ask a station again and again. Only that station may answer."""
            nonlocal commanded, refused
            for number in itertools.count():
                try:
                    request = DataTransferRequest("v", "m", str(number))
                    response = await csms.send_to_station(wanderer.name, request, timeout=1)
                except (StationOffline, CallError, TimeoutError):
                    refused += 1
                else:
                    assert response.data == f"{wanderer.name} {number}"
                    commanded += 1
                await asyncio.sleep(0.05)

        async with Client(url) as csms:
            tasks = [asyncio.create_task(wanderer.run()) for wanderer in wanderers]
            tasks += [asyncio.create_task(command(csms, wanderer)) for wanderer in wanderers[:20]]
            try:
                await until(
                    lambda: all(w.answers >= 3 for w in wanderers) and commanded >= 40, tasks
                )
                assert {wanderer.connections for wanderer in wanderers} == {1}
                killed.signal(signal.SIGKILL)
                delays = await asyncio.gather(*(back(csms, wanderer) for wanderer in wanderers))
                answers, enough = [wanderer.answers for wanderer in wanderers], commanded + 40
                await until(
                    lambda: (
                        all(
                            w.answers >= before + 3
                            for w, before in zip(wanderers, answers, strict=True)
                        )
                        and commanded >= enough
                    ),
                    tasks,
                )
            finally:
                for wanderer in wanderers:
                    wanderer.stopped = True
                for task in tasks:
                    task.cancel()
                ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert [
            error
            for error in ended
            if error is not None and not isinstance(error, asyncio.CancelledError)
        ] == []
        assert max(delays) < 1.0
        log.info(
            "reachable after %.0f ms at most; %d commands, %d in between",
            max(delays) * 1000,
            commanded,
            refused,
        )


async def back(csms: Client, wanderer: Wanderer) -> float:
    """The seconds from the station's connection to the other gateway until the CSMS reaches it."""
    async with asyncio.timeout(PATIENCE):
        while wanderer.connections < 2:
            await asyncio.sleep(0.01)
        while True:
            with contextlib.suppress(StationOffline, CallError, TimeoutError):
                asked_at = time.monotonic()
                await csms.send_to_station(
                    wanderer.name, DataTransferRequest("v", "back", "?"), timeout=1
                )
                return max(0.0, asked_at - wanderer.connected_at)
            await asyncio.sleep(0.01)


async def until(condition: Callable[[], bool], tasks: list["asyncio.Task[None]"]) -> None:
    """Wait for `condition`, which the tasks bring about. None of them may fail meanwhile."""
    async with asyncio.timeout(WITHIN):
        while not condition():
            for task in tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.02)


# ---- hostile peers ----


async def garbage(gateway: GatewayProcess, name: str) -> None:
    async with peer(gateway.port) as client:
        client.writer.write(b"\x00\xffgarbage\r\n\r\n" * 100)
        await client.until_closed()


async def half_handshake(gateway: GatewayProcess, name: str) -> None:
    async with peer(gateway.port) as client:
        client.writer.write(b"GET /half HTTP/1.1\r\nHost: a\r\n")
        await client.until_closed()


async def slowloris(gateway: GatewayProcess, name: str) -> None:
    async with peer(gateway.port) as client:
        client.writer.write(b"GET /slow HTTP/1.1\r\n")
        with contextlib.suppress(ConnectionError):
            while not client.reader.at_eof():
                client.writer.write(b"X: y\r\n")
                await client.writer.drain()
                await asyncio.sleep(0.05)


async def never_reads(gateway: GatewayProcess, name: str) -> None:
    async with peer(gateway.port) as client:
        await client.open_websocket(name)
        await client.until_cut_off(websocket_frame(TEXT, b'[2,"1","Heartbeat",{}]') * 500)


async def only_pings(gateway: GatewayProcess, name: str) -> None:
    async with peer(gateway.port) as client:
        await client.open_websocket(name)
        await client.until_cut_off(websocket_frame(PING, b"x" * 125) * 500)


async def giant(gateway: GatewayProcess, name: str) -> None:
    async with raw_station(f"{gateway.url}/{name}", compression=None) as station:
        with contextlib.suppress(ConnectionClosed):
            await station.say(
                json.dumps([2, "1", "DataTransfer", {"vendorId": "v", "data": "x" * 10_000_000}])
            )
        assert (await station.closed())[0] == 1009


async def bomb(gateway: GatewayProcess, name: str) -> None:
    async with raw_station(f"{gateway.url}/{name}", compression="deflate") as station:
        await station.say("[" * 10_000_000)
        assert (await station.closed())[0] == 1009


async def malformed(gateway: GatewayProcess, name: str) -> None:
    async with raw_station(f"{gateway.url}/{name}") as station:
        for _ in range(50):
            for message in (
                "nonsense",
                b"\xff\xfe",
                '[2,"1"]',
                f'[2,"{"x" * 37}","A",{{}}]',
                '[9,"1","A",{}]',
                "[" * 5000,
            ):
                await station.say(message)
                assert (await station.hear())[0] == 4


async def flood(gateway: GatewayProcess, name: str) -> None:
    async with raw_station(f"{gateway.url}/{name}") as station:
        for number in range(500):
            await station.say(
                [2, str(number), "DataTransfer", {"vendorId": "com.acme", "messageId": "Hangs"}]
            )
        answers = [await station.hear() for _ in range(500)]
        assert {frame[1] for frame in answers} == {str(number) for number in range(500)}
        assert {frame[0] for frame in answers} == {4}


HOSTILE = (
    garbage,
    half_handshake,
    slowloris,
    never_reads,
    only_pings,
    giant,
    bomb,
    malformed,
    flood,
)


@contextlib.asynccontextmanager
async def bystanders(gateway: GatewayProcess, count: int) -> AsyncIterator[list[float]]:
    """Well-behaved stations that ask all the time. The list gets the seconds of each request."""
    seconds: list[float] = []
    stopped = asyncio.Event()

    async def ask(name: str, version: str) -> None:
        async with real_station(f"{gateway.url}/{name}", version) as station:
            for number in itertools.count():
                if stopped.is_set():
                    return
                start = time.monotonic()
                await ask_who(station, number)
                seconds.append((time.monotonic() - start) / 2)
                await asyncio.sleep(0.02)

    tasks = [
        asyncio.create_task(ask(f"good-{number}", version))
        for number, version in zip(range(count), itertools.cycle(VERSIONS), strict=False)
    ]
    try:
        await until(lambda: len(seconds) >= 3 * count, tasks)
        yield seconds
    finally:
        stopped.set()
        await asyncio.gather(*tasks)


async def test_hostile_peers_are_dealt_with_and_other_stations_do_not_notice(url: str) -> None:
    with GatewayProcess(
        url, log_level="info", handshake_timeout=1, max_message=1024 * 1024
    ) as gateway:
        async with bystanders(gateway, 9) as seconds:
            before = gateway.resident
            quiet = sorted(seconds)
            async with asyncio.timeout(WITHIN), asyncio.TaskGroup() as peers:
                for attack in HOSTILE:
                    for number in range(3):
                        peers.create_task(attack(gateway, f"{attack.__name__}-{number}"))
            answered = len(seconds)
            await asyncio.sleep(0.5)
            assert len(seconds) > answered, "the bystanders are still served"
            after = gateway.resident
        assert gateway.stop() == 0
        disturbed = sorted(seconds)
        log.info(
            "%d answers; 99th percentile %.0f ms before, %.0f ms with them; %.0f MiB more",
            len(seconds),
            quiet[int(len(quiet) * 0.99)] * 1000,
            disturbed[int(len(disturbed) * 0.99)] * 1000,
            (after - before) / 2**20,
        )
        assert max(disturbed) < 10
        assert after - before < 100 * 2**20
