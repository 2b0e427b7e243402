"""The gateways that the documents show, as processes (docs/gateways.md, examples).

On one side are real WebSocket stations, on the other a real worker and a client.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge import CallError, DataTransferRequest, DataTransferResponse
from bridge.client.client import Client, NoAnswer, StationOffline
from bridge.testing.rabbitmq import PrivateBroker
from tests.integration.example_gateways import (
    NODE,
    TESTED,
    Gateway,
    accept,
    reached,
    running,
)
from tests.integration.support import PATIENCE, WorkerProcess, close_connections

HELLO = DataTransferRequest("com.acme", "Hello")
VERSIONS = ["ocpp1.6", "ocpp2.0.1", "ocpp2.1"]


@pytest.fixture(params=TESTED)
async def gateway(
    request: pytest.FixtureRequest, amqp_url: str, tmp_path: Path
) -> AsyncIterator[Gateway]:
    async with running(request.param, amqp_url, tmp_path) as gateway:
        yield gateway


@pytest.fixture
async def client(amqp_url: str) -> AsyncIterator[Client]:
    async with Client(amqp_url, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
def worker(amqp_url: str) -> Iterator[WorkerProcess]:
    with WorkerProcess("tests.integration.load_vendors:routers", amqp_url) as worker:
        yield worker


def test_the_lock_file_names_no_registry() -> None:
    assert "resolved" not in (NODE / "package-lock.json").read_text()


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
        for frame in ("", "{", "7", '{"a":1}', '[2,17,"DataTransfer",{}]'):
            assert json.loads(await station.say(frame, "-1"))[:3] == [4, "-1", "FormationViolation"]
        cut_short = "a" if gateway.name == "python" else "-1"  # ours reads the id all the same
        told = json.loads(await station.say('[2,"a"', cut_short))
        assert told[:3] == [4, cut_short, "FormationViolation"]
        assert (await station.ask('{"vendorId":"hostile","data":1}'))[2] == {
            "status": "Accepted",
            "data": "1",
        }


async def test_a_request_waits_for_a_worker(gateway: Gateway, amqp_url: str) -> None:
    async with gateway.station() as station:
        waiting = asyncio.create_task(station.ask('{"vendorId":"hostile","data":1}'))
        async with WorkerProcess("tests.integration.load_vendors:routers", amqp_url):
            assert await waiting == [3, "id-1", {"status": "Accepted", "data": 1}]


@pytest.mark.parametrize("name", [name for name in TESTED if name != "python"])
async def test_without_a_worker_a_request_ends_at_its_deadline(
    amqp_url: str, tmp_path: Path, name: str
) -> None:
    async with (
        running(name, amqp_url, tmp_path, TIMEOUT="0.5") as gateway,
        gateway.station() as station,
    ):
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
