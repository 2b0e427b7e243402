"""The CSMS asks stations behind other gateways, and every field of a message is looked at.

The gateways are processes that share no code with us.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from bridge import CallError, DataTransferRequest, DataTransferResponse
from bridge.client.client import Client, NoAnswer, StationOffline
from bridge.dialects import CitrineOs, WebOcpp
from bridge.testing.rabbitmq import PrivateBroker
from tests.integration.support import PATIENCE, clean_environment

FOLDER = Path(__file__).parent
REQUEST = DataTransferRequest("com.acme", "Set", {"tariff": 0.25, "until": None})
PAYLOAD = {"vendorId": "com.acme", "messageId": "Set", "data": {"tariff": 0.25, "until": None}}
TEXT = {**PAYLOAD, "data": '{"tariff":0.25,"until":null}'}
TIMEOUT = 10.0
"""Seconds."""


class Stations:
    """A foreign gateway that holds some."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> str:
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            return (await self._process.stdout.readline()).decode().strip()

    async def asked(self) -> dict[str, Any]:
        """The next CALL, as it came."""
        call: dict[str, Any] = json.loads(await self.line())
        return call


@asynccontextmanager
async def holding(
    gateway: str, url: str, exchange: str, stations: dict[str, Any]
) -> AsyncIterator[Stations]:
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, str(FOLDER / gateway), url)
    process = await asyncio.create_subprocess_exec(
        *command, stdin=pipe, stdout=pipe, env=clean_environment()
    )
    assert process.stdin is not None
    try:
        process.stdin.write(
            json.dumps({"exchange": exchange, "stations": stations}).encode() + b"\n"
        )
        held = Stations(process)
        assert await held.line() == "ready"
        yield held
        process.stdin.close()
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def with_rights(broker: PrivateBroker, url: str, configure: str, use: str) -> str:
    """The URL for a user who may do no more than the document says a client needs to."""
    vhost = url.rsplit("/", 1)[1]
    rights = ", ".join(f'<<"{right}">>' for right in (configure, use, use))
    broker.eval(f'rabbit_auth_backend_internal:add_user(<<"{vhost}">>, <<"secret">>, <<"guest">>)')
    broker.eval(
        "rabbit_auth_backend_internal:set_permissions("
        f'<<"{vhost}">>, <<"{vhost}">>, {rights}, <<"guest">>)'
    )
    return url.replace("guest:guest@", f"{vhost}:secret@")


# ---- rabbitmq-web-ocpp ----

NOT_HERE = ("NotImplemented", "not here", {"a": 1})
ERROR = [4, "NotImplemented", "not here", {"a": 1}]
WEB_STATIONS = {
    "old16": {
        "protocol": "ocpp16",
        "key": "response",
        "frame": [3, {"status": "Accepted", "data": "{}"}],
    },
    "new201": {
        "protocol": "ocpp201",
        "key": "DataTransfer",
        "frame": [3, {"status": "Rejected", "data": [1]}],
    },
    "new21": {
        "protocol": "ocpp21",
        "key": "DataTransfer",
        "frame": [3, {"status": "UnknownVendorId"}],
    },
    "error16": {"protocol": "ocpp16", "key": "NotImplemented", "frame": ERROR},
    "error201": {"protocol": "ocpp201", "key": "response", "frame": ERROR},
    "error21": {"protocol": "ocpp21", "key": "DataTransfer", "frame": ERROR},
    "foreign": {"protocol": "ocpp21", "key": "Heartbeat", "frame": [3, {"currentTime": "x"}]},
}
WEB_ANSWERS = {
    "old16": ("ocpp1.6", DataTransferResponse("Accepted", "{}")),
    "new201": ("ocpp2.0.1", DataTransferResponse("Rejected", [1])),
    "new21": ("ocpp2.1", DataTransferResponse("UnknownVendorId")),
    "error16": ("ocpp1.6", NOT_HERE),
    "error201": ("ocpp2.0.1", NOT_HERE),
    "error21": ("ocpp2.1", NOT_HERE),
}


async def answer_of(client: Client, station: str, version: str) -> Any:
    """The response, or the parts of the error."""
    try:
        return await client.send_to_station(station, REQUEST, ocpp_version=version)
    except CallError as error:
        return error.code, error.description, error.details


@pytest.mark.parametrize("exchange", ["amq.topic", "ocpp"])
async def test_stations_behind_rabbitmq_web_ocpp(broker: PrivateBroker, exchange: str) -> None:
    url = broker.add_vhost(f"stations-web-{exchange}")
    async with (
        holding("foreign_web_ocpp.py", url, exchange, WEB_STATIONS) as stations,
        Client(url, dialect=WebOcpp(exchange=exchange), timeout=TIMEOUT) as client,
    ):
        for station, (version, expected) in WEB_ANSWERS.items():
            assert await answer_of(client, station, version) == expected
            call = await stations.asked()
            kind, message_id, action, payload = json.loads(call.pop("body"))
            assert (kind, action) == (2, "DataTransfer")
            assert payload == (TEXT if version == "ocpp1.6" else PAYLOAD)
            assert 0 < len(message_id) <= 36
            assert 0 < int(call.pop("expiration")) <= TIMEOUT * 1000
            assert call == {
                "station": station,
                "exchange": exchange,
                "routing_key": station,
                "content_type": "application/json",
                "delivery_mode": 1,
                "correlation_id": message_id,
                "type": "DataTransfer",
                "reply_to": None,
                "message_id": None,
                "headers": {},
            }
        with pytest.raises(StationOffline):
            await client.send_to_station("never-connected", REQUEST)
        with pytest.raises(NoAnswer):  # a result of another action: it is none of a DataTransfer
            await client.send_to_station("foreign", REQUEST, timeout=1.0)
        assert (client.outstanding, client.late) == (0, 0)


# ---- CitrineOS ----

OCPP_ERROR = {
    "name": "OcppError",
    "_messageId": "x",
    "_errorCode": "NotImplemented",
    "_errorDetails": {"a": 1},
    "message": "not here",
}
CITRINE_STATIONS = {
    "v1-16": {
        "protocol": "ocpp1.6",
        "name": "stationId",
        "payload": {"status": "Accepted", "data": "{}"},
    },
    "v1-201": {
        "protocol": "ocpp2.0.1",
        "name": "stationId",
        "payload": {"status": "Rejected", "data": [1]},
    },
    "v2-201": {
        "protocol": "ocpp2.0.1",
        "name": "ocppConnectionName",
        "payload": {"status": "UnknownVendorId"},
    },
    "error": {"protocol": "ocpp2.0.1", "name": "stationId", "payload": OCPP_ERROR},
    "silent": {"protocol": "ocpp2.0.1", "name": "stationId"},
}
CITRINE_ANSWERS = {
    "v1-16": ("ocpp1.6", DataTransferResponse("Accepted", "{}")),
    "v1-201": ("ocpp2.0.1", DataTransferResponse("Rejected", [1])),
    "v2-201": ("ocpp2.0.1", DataTransferResponse("UnknownVendorId")),
    "error": ("ocpp2.0.1", NOT_HERE),
}


async def test_stations_behind_citrineos(broker: PrivateBroker) -> None:
    url = broker.add_vhost("stations-citrineos")
    async with (
        holding("foreign_citrineos.py", url, "citrineos", CITRINE_STATIONS) as stations,
        Client(url, dialect=CitrineOs(), timeout=TIMEOUT) as client,
    ):
        for station, (version, expected) in CITRINE_ANSWERS.items():
            assert await answer_of(client, station, version) == expected
            call = await stations.asked()
            body = json.loads(call.pop("body"))
            headers = call.pop("headers")
            correlation_id = headers["correlationId"]
            named = {
                "stationId": station,
                "ocppConnectionName": station,
                "correlationId": correlation_id,
            }
            routing = {"action": "DataTransfer", "origin": "csms", "eventGroup": "general"}
            context = {
                **named,
                "timestamp": headers["timestamp"],
                "tenantId": 1,
                "staleAfterSeconds": 10,
            }
            assert datetime.fromisoformat(headers["timestamp"]).tzinfo is not None
            assert body == {
                **routing,
                "state": 1,
                "context": context,
                "protocol": version,
                "payload": TEXT if version == "ocpp1.6" else PAYLOAD,
            }
            assert headers == {
                **routing,
                "state": "1",
                **named,
                "timestamp": headers["timestamp"],
                "tenantId": "1",
            }
            assert 0 < int(call.pop("expiration")) <= TIMEOUT * 1000
            assert call == {
                "queue": station,
                "exchange": "citrineos",
                "routing_key": "",
                "content_type": "application/json",
                "content_encoding": "utf-8",
                "correlation_id": correlation_id,
                "reply_to": None,
            }
        with pytest.raises(StationOffline):
            await client.send_to_station("offline", REQUEST)
        with pytest.raises(NoAnswer):
            await client.send_to_station("silent", REQUEST, timeout=1.0)
        assert (client.outstanding, client.late) == (0, 0)
        narrow = with_rights(broker, url, "^amq[.]gen-.*$", "^(amq[.]gen-.*|citrineos)$")
        async with Client(narrow, dialect=CitrineOs(), timeout=TIMEOUT) as other:
            assert await answer_of(other, "v1-201", "ocpp2.0.1") == DataTransferResponse(
                "Rejected", [1]
            )
    async with Client(url, dialect=CitrineOs(tenant_id=2), timeout=TIMEOUT) as client:
        with pytest.raises(StationOffline):  # a station of that name is another tenant's
            await client.send_to_station("v1-16", REQUEST)
