"""What stations and the CSMS get from each other, through a real gateway, RabbitMQ and worker."""

import asyncio
import contextlib
import datetime as dt
import json
import signal
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.exceptions import InvalidStatus

from bridge import CallError, DataTransferRequest
from bridge.client.client import Client, NoAnswer, StationOffline
from bridge.gateway.websocket.passwords import PasswordHash
from bridge.ocpp import error_codes, parse_version
from bridge.testing.rabbitmq import PrivateBroker
from tests.integration.decision_table import DEAD, ROWS, expected
from tests.integration.raw_station import make_certificate, peer, raw_station
from tests.integration.real_station import VERSIONS, DataTransfer, RealStation, real_station
from tests.integration.support import PATIENCE, GatewayProcess, WorkerProcess, dead_letters

VENDORS = "tests.integration.decision_table_vendors:routers"
PLAIN = "ocpp2.0.1"


class Stack:
    """One worker and one gateway, on a virtual host of their own."""

    def __init__(self, url: str, gateway: GatewayProcess) -> None:
        self.url = url
        self.gateway = gateway

    def station(
        self, name: str, version: str = PLAIN, **options: Any
    ) -> contextlib.AbstractAsyncContextManager[RealStation]:
        return real_station(f"{self.gateway.url}/{name}", version, **options)


@pytest.fixture(scope="module")
def stack(broker: PrivateBroker) -> Iterator[Stack]:
    url = broker.add_vhost("gateway")
    with WorkerProcess(VENDORS, url, idempotency="none"), GatewayProcess(url) as gateway:
        yield Stack(url, gateway)
    broker.delete_vhost("gateway")


@pytest.fixture
async def csms(stack: Stack) -> AsyncIterator[Client]:
    async with Client(stack.url) as client:
        yield client


async def reachable(csms: Client, station_id: str, seconds: float = PATIENCE) -> float:
    """Wait until a gateway has the station. Returns the seconds that it took."""
    start = time.monotonic()
    while True:
        try:
            await csms.send_to_station(station_id, DataTransferRequest("ping"), timeout=seconds)
        except StationOffline:
            assert time.monotonic() - start < seconds, f"{station_id} is not reachable"
            await asyncio.sleep(0.005)
        else:
            return time.monotonic() - start


# ---- from the station ----


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_station_comes_up(stack: Stack, version: str) -> None:
    """The package validates each response against the schema of its version."""
    async with stack.station("boot", version) as station:
        booted = await station.boot()
        assert (booted.status, booted.interval) == ("Accepted", 300)
        for moment in (booted.current_time, (await station.heartbeat()).current_time):
            assert moment.endswith("Z")
            assert abs(dt.datetime.fromisoformat(moment).timestamp() - time.time()) < 60
        await station.status()


ASKED = [
    name
    for name, row in ROWS.items()
    if name not in {"not JSON", "deadline past before", "deadline past after"}
]
"""The rows that a station's library can send. A payload that is not JSON would break the frame."""


@pytest.mark.parametrize("version", VERSIONS)
async def test_every_row_of_the_decision_table(stack: Stack, version: str) -> None:
    got, due = {}, {}
    for name in ASKED:
        payload = json.loads(ROWS[name].body)
        fields = DataTransfer(
            payload.get("vendorId"), payload.get("messageId"), payload.get("data")
        )
        async with stack.station("CP-1", version) as station:
            got[name] = (await station.ask(fields, "ocpp-7"))[:1] + station.charge_point.frames[-1][
                2:
            ]
        answer = expected(name, version)
        body = answer["body"]
        due[name] = [3, body] if answer["type"] == "DataTransferResponse" else [4, *body.values()]
        if version == "ocpp1.6" and got[name][0] == 3:
            assert isinstance(got[name][1].get("data", ""), str)
    assert got == due
    kept = [message.headers["dtbridge-message"] for message in await dead_letters(stack.url)]
    assert len(kept) == len(DEAD - {"deadline past before"})


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_packages_own_validation_has_nothing_to_say(stack: Stack, version: str) -> None:
    async with stack.station("valid", version) as station:
        price = {"currency": "EUR", "price": 1.5}
        data = json.dumps(price) if version == "ocpp1.6" else price
        response = await station.data_transfer("com.acme", "Value", data)
        doubled = {"currency": "EUR", "price": 3.0}
        assert response.status == "Accepted"
        assert response.data == (
            json.dumps(doubled, separators=(",", ":")) if version == "ocpp1.6" else doubled
        )
        assert (await station.data_transfer("Nobody")).status == "UnknownVendorId"


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_station_that_asks_for_what_takes_too_long_gets_a_callerror_at_its_deadline(
    stack: Stack, version: str
) -> None:
    with GatewayProcess(stack.url, call_timeout=0.1) as gateway:
        async with real_station(f"{gateway.url}/late", version) as station:
            start = time.monotonic()
            frame = await station.ask(DataTransfer("com.acme", "Sleeps"), "1")
            assert frame == [4, "1", "GenericError", "The request took too long to process.", {}]
            assert time.monotonic() - start < 5
            # If the worker's answer comes, it comes too late. The next CALL gets its own.
            assert (await station.ask(DataTransfer("com.acme", "Nothing"), "2"))[:2] == [3, "2"]


MALFORMED = {
    # message: (the answer in 1.6, in 2.0.1, in 2.1); None: OCPP-J asks to ignore it
    "not json": (
        [4, "-1", "FormationViolation"],
        [4, "-1", "RpcFrameworkError"],
        [4, "-1", "RpcFrameworkError"],
    ),
    '[2,"1","DataTransfer",{"vendorId"': (
        [4, "1", "FormationViolation"],
        [4, "1", "RpcFrameworkError"],
        [4, "1", "RpcFrameworkError"],
    ),
    '[2,"1"]': (
        [4, "1", "FormationViolation"],
        [4, "1", "RpcFrameworkError"],
        [4, "1", "RpcFrameworkError"],
    ),
    '[2,"1","Heartbeat",{},1]': (
        [4, "1", "FormationViolation"],
        [4, "1", "RpcFrameworkError"],
        [4, "1", "RpcFrameworkError"],
    ),
    f'[2,"{"x" * 37}","Heartbeat",{{}}]': (
        [4, "x" * 37, "FormationViolation"],
        [4, "x" * 37, "RpcFrameworkError"],
        [4, "x" * 37, "RpcFrameworkError"],
    ),
    '[5,"1","GenericError","",{}]': (None, [4, "1", "MessageTypeNotSupported"], None),
    '[6,"1","NotifyPeriodicEventStream",{}]': (None, [4, "1", "MessageTypeNotSupported"], None),
    '[9,"1","Heartbeat",{}]': (None, [4, "1", "MessageTypeNotSupported"], None),
    '[2,"1","Unheard",{}]': (
        [4, "1", "NotImplemented"],
        [4, "1", "NotImplemented"],
        [4, "1", "NotImplemented"],
    ),
    '[2,"1","MeterValues",{}]': (
        [4, "1", "NotSupported"],
        [4, "1", "NotSupported"],
        [4, "1", "NotSupported"],
    ),
    '[3,"1",{}]': (None, None, None),
    '[3,"1"]': (None, None, None),
    '[3,"1",{"status":"Accepted"': (None, None, None),
    '[3,"1",{"status":"Accepted"}]\0': (None, None, None),
}


@pytest.mark.parametrize(("number", "version"), list(enumerate(VERSIONS)))
async def test_malformed_frames_get_what_ocpp_j_asks_for(
    stack: Stack, number: int, version: str
) -> None:
    async with raw_station(f"{stack.gateway.url}/malformed", versions=[version]) as station:
        for message, answers in MALFORMED.items():
            await station.say(message)
            if answers[number] is not None:
                frame = await station.hear()
                assert frame[:3] == answers[number], message
                assert frame[2] in error_codes(parse_version(version))
            assert (await station.call("Heartbeat"))[0] == 3, (
                "nothing more came, and the connection lives"
            )
            assert (await station.call("DataTransfer", {"vendorId": "EN+"}))[2] == {
                "status": "Accepted"
            }


# ---- to the station ----


def answering(**fields: Any) -> Any:
    async def answer(_: dict[str, Any]) -> dict[str, Any]:
        return fields

    return answer


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_csms_gets_what_the_station_answers(
    stack: Stack, csms: Client, version: str
) -> None:
    data = '{"a":1}' if version == "ocpp1.6" else {"a": 1}
    rows: dict[str, tuple[dict[str, Any], tuple[Any, Any]]] = {
        "accepted": ({"status": "Accepted"}, ("Accepted", msgspec.UNSET)),
        "accepted with data": ({"status": "Accepted", "data": data}, ("Accepted", data)),
        "rejected": ({"status": "Rejected"}, ("Rejected", msgspec.UNSET)),
        "unknown message": ({"status": "UnknownMessageId"}, ("UnknownMessageId", msgspec.UNSET)),
        "unknown vendor": ({"status": "UnknownVendorId"}, ("UnknownVendorId", msgspec.UNSET)),
    }
    for name, (answer, (status, got)) in rows.items():
        async with stack.station(
            f"to-{name.replace(' ', '-')}", version, answer=answering(**answer)
        ) as station:
            await reachable(csms, station.station_id)
            response = await csms.send_to_station(
                station.station_id, DataTransferRequest("com.acme", "m", "text")
            )
            assert (response.status, response.data) == (status, got), name


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_station_gets_what_the_csms_sends_and_in_1_6_as_text(
    stack: Stack, csms: Client, version: str
) -> None:
    seen: list[dict[str, Any]] = []

    async def answer(fields: dict[str, Any]) -> dict[str, Any]:
        seen.append(fields)
        return {"status": "Accepted"}

    async with stack.station(f"seen-{version}", version, answer=answer) as station:
        await reachable(csms, station.station_id)
        seen.clear()
        request = DataTransferRequest("com.acme", "SetTariff", {"price": 1.5, "tiers": [1, None]})
        assert (await csms.send_to_station(station.station_id, request)).status == "Accepted"
        (call,) = [
            frame
            for frame in station.charge_point.frames
            if frame[3].get("messageId") == "SetTariff"
        ]
        assert call[:1] + call[2:3] == [2, "DataTransfer"]
        data = call[3]["data"]
        assert (json.loads(data) if version == "ocpp1.6" else data) == {
            "price": 1.5,
            "tiers": [1, None],
        }
        assert isinstance(data, str) == (version == "ocpp1.6")
        assert seen[0]["vendor_id"] == "com.acme"


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_station_that_fails_is_a_callerror_for_the_csms(
    stack: Stack, csms: Client, version: str
) -> None:
    async def answer(fields: dict[str, Any]) -> dict[str, Any]:
        if fields["vendor_id"] != "ping":
            raise RuntimeError("the display is broken")
        return {"status": "Accepted"}

    async with stack.station(f"fails-{version}", version, answer=answer) as station:
        await reachable(csms, station.station_id)
        with pytest.raises(CallError) as caught:
            await csms.send_to_station(station.station_id, DataTransferRequest("com.acme"))
        assert caught.value.code == "InternalError"


async def test_a_station_that_nobody_has_is_offline_at_once(csms: Client) -> None:
    start = time.monotonic()
    with pytest.raises(StationOffline):
        await csms.send_to_station("nowhere", DataTransferRequest("com.acme"), timeout=PATIENCE)
    assert time.monotonic() - start < 5


async def test_a_station_that_does_not_answer_is_no_answer_and_its_late_one_reaches_nobody(
    stack: Stack, csms: Client
) -> None:
    async with raw_station(f"{stack.gateway.url}/slow") as station:
        asking = asyncio.create_task(reachable(csms, "slow"))
        first = await station.hear()
        await station.say([3, first[1], {"status": "Accepted"}])
        await asking
        with pytest.raises(NoAnswer):
            await csms.send_to_station("slow", DataTransferRequest("v", "first"), timeout=0.3)
        late = await station.hear()
        asked = asyncio.create_task(
            csms.send_to_station("slow", DataTransferRequest("v", "second"))
        )
        call = await station.hear()
        assert call[3]["messageId"] == "second"
        await station.say([3, late[1], {"status": "Rejected"}])
        await station.say([3, call[1], {"status": "Accepted"}])
        assert (await asked).status == "Accepted"


async def test_a_station_that_disconnects_fails_what_the_csms_waits_for(
    stack: Stack, csms: Client
) -> None:
    async with raw_station(f"{stack.gateway.url}/leaver") as station:
        asking = asyncio.create_task(reachable(csms, "leaver"))
        first = await station.hear()
        await station.say([3, first[1], {"status": "Accepted"}])
        await asking
        start = time.monotonic()
        asked = asyncio.create_task(
            csms.send_to_station("leaver", DataTransferRequest("v"), timeout=PATIENCE)
        )
        await station.hear()
    with pytest.raises(StationOffline) as caught:
        await asked
    assert caught.value.sent
    assert time.monotonic() - start < 10


# ---- who is let in ----


async def test_passwords_tls_and_all_other_options_reach_the_server(
    stack: Stack, tmp_path: Path
) -> None:
    cert, key, passwords = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "stations"
    make_certificate(cert, key)
    passwords.write_text(f"CP001:{PasswordHash.of(b'secret')}\n")
    options = {
        "path": "/ocpp",
        "ocpp_versions": "ocpp1.6 ocpp2.1",
        "tls_cert": cert,
        "tls_key": key,
        "password_file": passwords,
        "heartbeat_interval": 77,
        "max_message": 2000,
        "max_connections": 2,
        "handshake_timeout": 0.5,
        "ping_interval": 0.2,
        "ping_timeout": 0.2,
    }
    client = ssl.create_default_context(cafile=str(cert))
    with GatewayProcess(stack.url, **options) as gateway:
        url = gateway.url.replace("ws://", "wss://") + "/ocpp/CP001"
        for wrong in (b"other", None):
            with pytest.raises(InvalidStatus) as caught:
                async with raw_station(url, password=wrong, ssl=client):
                    pass
            assert caught.value.response.status_code == 401
        versions = ["ocpp2.1", "ocpp1.6"]
        async with raw_station(url, versions=versions, password=b"secret", ssl=client) as station:
            assert station.connection.subprotocol == "ocpp1.6"
            booted = await station.call(
                "BootNotification", {"chargePointVendor": "v", "chargePointModel": "m"}
            )
            assert booted[2]["interval"] == 77
            assert (await station.call("DataTransfer", {"vendorId": "EN+"}))[2] == {
                "status": "Accepted"
            }
            async with peer(gateway.port) as silent:
                assert await silent.until_closed() == b""
            await station.say("x" * 2001)
            assert (await station.closed())[0] == 1009
        async with raw_station(url, versions=versions, password=b"secret", ssl=client) as deaf:
            deaf.connection.transport.pause_reading()
            disconnected = await asyncio.to_thread(gateway.until, "station disconnected", 2)
            assert (disconnected["code"], disconnected["reason"]) == (
                1011,
                "keepalive ping timeout",
            )
            deaf.connection.transport.abort()


# ---- when something is missing ----


async def test_a_request_without_a_worker_waits_for_one(amqp_url: str) -> None:
    """Both where no worker has ever run and where one has ended."""
    with GatewayProcess(amqp_url) as gateway:
        async with real_station(f"{gateway.url}/early", PLAIN) as station:
            asked = asyncio.create_task(station.data_transfer("EN+", "First"))
            other = asyncio.create_task(station.heartbeat())
            await asyncio.sleep(0.5)
            assert not asked.done()
            with WorkerProcess(VENDORS, amqp_url):
                response = await asked
                assert (response.status, response.data) == ("Accepted", "First")
            await other
            asked = asyncio.create_task(station.data_transfer("EN+", "Second"))
            await asyncio.sleep(0.5)
            assert not asked.done()
            with WorkerProcess(VENDORS, amqp_url):
                assert (await asked).data == "Second"


async def test_a_request_without_a_worker_gets_a_callerror_at_its_deadline(amqp_url: str) -> None:
    with GatewayProcess(amqp_url, call_timeout=0.7) as gateway:
        async with real_station(f"{gateway.url}/early", "ocpp1.6") as station:
            for number in range(2):
                start = time.monotonic()
                frame = await station.ask(DataTransfer("EN+"), str(number))
                assert frame[:3] == [4, str(number), "GenericError"]
                assert 0.6 < time.monotonic() - start < 10
                if not number:
                    with WorkerProcess(VENDORS, amqp_url):
                        pass  # from now on the vendor has a queue


async def test_a_worker_that_hangs_is_not_waited_for_beyond_the_deadline(amqp_url: str) -> None:
    with (
        WorkerProcess(VENDORS, amqp_url) as worker,
        GatewayProcess(amqp_url, call_timeout=1.0) as gateway,
    ):
        async with real_station(f"{gateway.url}/CP", PLAIN) as station:
            assert (await station.ask(DataTransfer("EN+"), "1"))[0] == 3
            worker.signal(signal.SIGSTOP)
            try:
                assert (await station.ask(DataTransfer("EN+"), "2"))[:3] == [4, "2", "GenericError"]
            finally:
                worker.signal(signal.SIGCONT)
            assert (await station.ask(DataTransfer("EN+"), "3"))[:2] == [3, "3"]


async def test_stations_stay_while_the_broker_is_away_and_their_requests_wait(
    breakable_broker: PrivateBroker,
) -> None:
    url = breakable_broker.add_vhost("away")
    # In RabbitMQ 3.10, a quorum queue whose broker is killed right after the declaration comes back
    # after a minute or never.
    with (
        WorkerProcess(VENDORS, url, queue_type="classic") as worker,
        GatewayProcess(url) as gateway,
    ):
        async with (
            real_station(
                f"{gateway.url}/CP", PLAIN, answer=answering(status="Accepted")
            ) as station,
            real_station(f"{gateway.url}/CP-2", PLAIN) as other,
        ):
            assert (await station.ask(DataTransfer("EN+"), "1"))[0] == 3
            breakable_broker.kill()
            asked = asyncio.create_task(station.ask(DataTransfer("EN+", "while it is away"), "2"))
            await other.heartbeat()
            async with real_station(f"{gateway.url}/CP-3", PLAIN) as newcomer:
                assert (await newcomer.boot()).status == "Accepted"
                await asyncio.to_thread(breakable_broker.start)
                assert (await asked)[2] == {"status": "Accepted", "data": "while it is away"}
                async with Client(url) as csms:
                    for name in ("CP", "CP-2", "CP-3"):
                        await reachable(csms, name)
        worker.until("consuming", 2)
    breakable_broker.delete_vhost("away")


# ---- the end ----


async def test_a_gateway_that_drains_finishes_what_is_outstanding(amqp_url: str) -> None:
    with WorkerProcess(VENDORS, amqp_url), GatewayProcess(amqp_url) as gateway:
        async with (
            raw_station(f"{gateway.url}/CP") as station,
            raw_station(f"{gateway.url}/idle") as idle,
        ):
            await station.say(
                [2, "1", "DataTransfer", {"vendorId": "com.acme", "messageId": "Hangs"}]
            )
            await station.say([2, "2", "Heartbeat", {}])
            assert (await station.hear())[1] == "2"
            gateway.signal(signal.SIGTERM)
            assert await idle.closed() == (1001, "restart")
            # The handler's time is over after 0.3 s.
            assert (await station.hear())[:3] == [4, "1", "GenericError"]
            assert await station.closed() == (1001, "restart")
        assert gateway.wait() == 0
        assert gateway.until("drained")["forwarded"] == 1
