"""Gateways as real processes on a real RabbitMQ: a kill under load, many stations, a flood."""

import asyncio
import itertools
import os
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from bridge import DataTransferRequest, DataTransferResponse
from bridge.client.client import Client, NoAnswer, StationOffline
from bridge.dialects.native import Native
from bridge.gateway import GatewayLink
from bridge.gateway.link import PREFETCH, QUEUES
from bridge.rabbitmq.transport import RabbitTransport
from bridge.rabbitmq.urls import parse_urls
from bridge.testing.rabbitmq import PrivateBroker
from bridge.transport import Confirm, State
from tests.integration.gateways import GatewayProcess, all_of
from tests.integration.support import (
    NAMES,
    PATIENCE,
    ROOT,
    WorkerProcess,
    add_user,
    close_connections,
    delete_users,
)

ACCEPTED = DataTransferResponse("Accepted")
REACHABLE_WITHIN = 1.0
"""Seconds within which the CSMS must reach a station that has connected to another gateway."""


class Asking:
    """A CSMS that keeps asking stations, one request at a time for each, and checks who answers."""

    def __init__(self, client: Client, stations: Sequence[str], timeout: float) -> None:
        self._client = client
        self._timeout = timeout
        self.answers: dict[str, list[str]] = {station: [] for station in stations}
        """For each station, the gateways that its answers came from."""
        self.offline = 0
        self.unanswered = 0
        self._tasks = [asyncio.create_task(self._ask(station)) for station in stations]

    async def _ask(self, station: str) -> None:
        while True:
            try:
                self.answers[station].append(await of_gateway(self._client, station, self._timeout))
            except StationOffline:
                self.offline += 1
                await asyncio.sleep(0.02)
            except NoAnswer:
                self.unanswered += 1

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                for task in self._tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.005)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            assert isinstance(result, asyncio.CancelledError), result


@pytest.fixture
def worker(amqp_url: str) -> Iterator[WorkerProcess]:
    with WorkerProcess("tests.integration.echo_vendor:router", amqp_url) as worker:
        yield worker


@pytest.mark.usefixtures("worker")
async def test_a_gateway_killed_under_load_loses_its_stations_to_another_and_mixes_up_no_replies(
    amqp_url: str,
) -> None:
    stations = [f"CP{number:03}" for number in range(300)]
    async with (
        GatewayProcess(amqp_url, "first") as first,
        GatewayProcess(amqp_url, "second") as second,
        Client(amqp_url) as client,
    ):
        staying = [f"stays-{number}" for number in range(50)]
        await first.do("connect", stations)
        await second.do("connect", staying)
        await first.do("talk")
        await second.do("talk")
        asking = Asking(client, stations + staying, timeout=3.0)
        await asking.until(lambda: all(len(answers) >= 3 for answers in asking.answers.values()))
        assert (await first.do("report"))["wrong"] == []
        first.kill()
        # The stations' sockets are reset, and they find the other gateway.
        back = time.monotonic()
        await second.do("connect", stations)
        await second.do("talk")
        assert (
            await asyncio.gather(*(of_gateway(client, station) for station in stations))
            == ["second"] * 300
        )
        assert time.monotonic() - back < 5 * REACHABLE_WITHIN  # all of them, under load
        # What the dead gateway had in hand ends with a time-out; then all goes on as before.
        await asking.until(lambda: all("second" in asking.answers[station] for station in stations))
        report = await second.do("report")
        await asking.stop()
        assert asking.unanswered > 0
    assert (report["wrong"], report["unanswered"]) == ([], 0)
    assert report["asked"] > 0


async def test_a_station_that_comes_to_another_gateway_is_reached_at_once(amqp_url: str) -> None:
    """One after the other, while the broker is unbinding the dead gateway's 5,000 stations."""
    stations = [f"CP{number:04}" for number in range(5_000)]
    async with (
        GatewayProcess(amqp_url, "first") as first,
        GatewayProcess(amqp_url, "second") as second,
        Client(amqp_url) as client,
    ):
        await first.do("connect", stations)
        first.kill()
        took = []
        for station in stations[::250]:
            began = time.monotonic()
            await second.do("connect", [station])
            assert await of_gateway(client, station) == "second"
            took.append(time.monotonic() - began)
        assert statistics.median(took) < REACHABLE_WITHIN


async def of_gateway(client: Client, station: str, within: float = PATIENCE) -> str:
    """Ask a station, check that the answer is its own to this request, and name its gateway.

    `within`: seconds for the answer.
    """
    number = next(numbers)
    answer = await client.send_to_station(
        station, DataTransferRequest("v", "m", number), timeout=within
    )
    of, gateway, echoed = answer.data
    assert (of, echoed) == (station, number), (
        f"{station} was asked {number}, and {of} answered {echoed}"
    )
    return str(gateway)


numbers = itertools.count()


@pytest.mark.usefixtures("worker")
async def test_gateways_that_lose_their_connections_under_load_go_on_without_a_loss(
    broker: PrivateBroker, amqp_url: str
) -> None:
    stations = [f"CP{number:03}" for number in range(200)]
    async with GatewayProcess(amqp_url, "one") as gateway, Client(amqp_url) as client:
        await gateway.do("connect", stations)
        await gateway.do("talk")
        asking = Asking(client, stations, timeout=2.0)
        for _ in range(2):
            await asking.until(lambda: all(asking.answers.values()))
            close_connections(broker, amqp_url)
            asking.answers = {station: [] for station in stations}
        await asking.until(lambda: all(asking.answers.values()))
        await asking.stop()
        async with asyncio.timeout(PATIENCE):
            while (report := await gateway.do("report"))["in_hand"]:
                pass
    assert (report["wrong"], report["unanswered"], report["stations"]) == ([], 0, 200)


async def test_a_broker_that_restarts_finds_all_stations_again(
    breakable_broker: PrivateBroker,
) -> None:
    url = breakable_broker.add_vhost("stations")
    stations = [f"CP{number:04}" for number in range(2_000)]
    async with GatewayLink(url, timeout=PATIENCE) as link, Client(url, timeout=PATIENCE) as client:
        for start in range(0, 2_000, 500):
            await asyncio.gather(
                *(
                    link.connect_station(station, "ocpp1.6", accept)
                    for station in stations[start:][:500]
                )
            )
        breakable_broker.sync()
        await asyncio.to_thread(breakable_broker.restart)
        await until(lambda: link.state is State.CONSUMING)
        answers = await asyncio.gather(
            *(client.send_to_station(station, hello()) for station in stations[::10])
        )
        assert answers == [ACCEPTED] * 200
    breakable_broker.delete_vhost("stations")


async def test_tens_of_thousands_of_stations_are_bound_reached_bound_again_and_unbound(
    amqp_url: str,
) -> None:
    count = int(os.environ.get("DTBRIDGE_TEST_STATIONS", "20000"))  # make versions: 100,000
    stations = [f"station-{number:06}" for number in range(count)]
    async with GatewayLink(amqp_url) as link, Client(amqp_url, timeout=4 * PATIENCE) as client:
        await all_of(lambda station: link.connect_station(station, "ocpp1.6", accept), stations)
        assert (link.stations, link.state) == (count, State.CONSUMING)
        assert await asked(client, stations[::97]) == [ACCEPTED] * len(stations[::97])
        transport = link._transport
        assert isinstance(transport, RabbitTransport)
        assert transport._session is not None
        transport._session._consuming.protocol.abort("cut by the test")
        await until(lambda: link.state is State.CONNECTING)
        await until(lambda: link.state is State.CONSUMING, 8 * PATIENCE)
        assert await asked(client, stations[5::97]) == [ACCEPTED] * len(stations[5::97])
        await all_of(link.disconnect_station, stations)
        assert (link.stations, len(link._up), link.in_hand) == (0, 0, 0)
        with pytest.raises(StationOffline):
            await client.send_to_station(stations[7], hello())


async def test_a_flood_for_stations_that_do_not_answer_fills_no_memory_and_holds_up_no_other_queue(
    amqp_url: str,
) -> None:
    """Of 30,000 requests to 3,000 stations, some are in hand; the rest expires in the broker."""
    silent = [f"silent-{number}" for number in range(3_000)]
    transport = RabbitTransport(parse_urls([amqp_url]))
    async with GatewayLink(amqp_url) as link, Client(amqp_url, timeout=PATIENCE) as client:
        await asyncio.gather(
            *(link.connect_station(station, "ocpp2.0.1", hang) for station in silent)
        )
        await transport.start([], lambda *_: None)
        deadline = time.time() + 10.0
        confirms: list[Confirm] = []
        most = 0
        for number in range(10):
            for station in silent:
                request = Native(NAMES).station_request(
                    station_id=station,
                    body=b'{"vendorId":"v"}',
                    deadline=deadline,
                    message_id=f"{number}",
                    correlation_id="c",
                    reply_to="amq.gen-nowhere",
                )
                transport.publish(request, confirms.append)
            if number == 5:  # before the rest: a slow broker takes its time, and deadlines pass
                await until(lambda: link.in_hand > PREFETCH * QUEUES * 0.9)
            await asyncio.sleep(0.05)
            most = max(most, link.in_hand)
        await until(lambda: len(confirms) == 30_000)
        most = max(most, link.in_hand)
        await until(lambda: link.in_hand == 0)
        assert most <= PREFETCH * QUEUES
        assert link.counts.received < 30_000  # the rest has expired in the broker
        assert link.counts.late == link.counts.received
        await link.connect_station("CP1", "ocpp2.0.1", accept)
        assert await client.send_to_station("CP1", hello()) == ACCEPTED
        await transport.close()


# ---- single cases ----


async def accept(request: DataTransferRequest) -> DataTransferResponse:
    return ACCEPTED


async def hang(request: DataTransferRequest) -> DataTransferResponse:
    await asyncio.Event().wait()
    return ACCEPTED


def hello() -> DataTransferRequest:
    return DataTransferRequest("com.acme", "Hello")


async def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def asked(client: Client, stations: Sequence[str]) -> list[DataTransferResponse]:
    return await asyncio.gather(*(client.send_to_station(station, hello()) for station in stations))


async def test_a_gateway_needs_no_more_rights_than_its_page_says(
    breakable_broker: PrivateBroker,
) -> None:
    page = (ROOT / "docs" / "gateways.md").read_text()
    rights = re.findall(r"^    '(.*)'", page, re.MULTILINE)
    url = breakable_broker.add_vhost("rights")
    async with GatewayLink(url):  # it makes the exchanges
        pass
    add_user(breakable_broker, "gateway", "gateway", "rights", rights)
    async with (
        GatewayLink(
            url.replace("guest:guest", "gateway:gateway"), timeout=PATIENCE, topology="verify"
        ) as link,
        Client(url, timeout=PATIENCE) as client,
    ):
        await link.connect_station("CP1", "ocpp2.0.1", accept)
        assert await client.send_to_station("CP1", hello()) == ACCEPTED
        asked = asyncio.create_task(
            link.data_transfer("CP1", "ocpp2.0.1", DataTransferRequest("echo", "m", [1]))
        )
        async with WorkerProcess("tests.integration.echo_vendor:router", url):
            assert (await asked).data == ["CP1", 1]
        await link.disconnect_station("CP1")
        assert link.state is State.CONSUMING
        assert isinstance(link._transport, RabbitTransport)
        assert link._transport.sessions == 1
    delete_users(breakable_broker, "gateway")
    breakable_broker.delete_vhost("rights")
