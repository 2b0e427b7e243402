"""A client asks in the dialect that it is given."""

import asyncio

import pytest

from bridge.client.client import Client, StationOffline
from bridge.dialects import CitrineOs, Dialect, Native, WebOcpp
from bridge.dialects.names import Names
from bridge.ocpp import CallError, DataTransferRequest, DataTransferResponse, OcppVersion
from bridge.testing import MemoryBroker, MemoryTransport, gateway_topology, worker_topology
from bridge.transport import Properties, Publishing

HELLO = DataTransferRequest("com.acme", "Hello", {"n": 1})


def broker_of(dialect: Dialect) -> MemoryBroker:
    broker = MemoryBroker()
    broker.declare(worker_topology(dialect))
    return broker


async def test_without_a_dialect_it_is_the_native_one() -> None:
    broker = MemoryBroker()
    broker.declare(gateway_topology(Names()))
    inbox = broker.declare_queue("inbox")
    broker.bind("inbox", "datatransfer.stations", "CP1")
    async with Client(transport=MemoryTransport(broker), timeout=10.0) as client:
        asked = asyncio.create_task(client.send_to_station("CP1", HELLO))
        while not inbox.ready:
            await asyncio.sleep(0)
        properties = inbox.ready[0].properties
        assert inbox.ready[0].body == b'{"vendorId":"com.acme","messageId":"Hello","data":{"n":1}}'
        replied = Properties(
            correlation_id=properties.correlation_id, headers={"ocpp-version": "ocpp1.6"}
        )
        body = b'{"status":"Accepted","data":"{}"}'
        broker.publish(Publishing(properties.reply_to or "", body, replied))
        assert await asked == DataTransferResponse("Accepted", "{}")


async def test_its_names_are_the_dialects() -> None:
    dialect = Native(Names("acme"))
    broker = broker_of(dialect)
    inbox = broker.queues["acme.unknown-vendor"]
    async with Client(transport=MemoryTransport(broker), dialect=dialect) as client:
        asked = asyncio.create_task(
            client.data_transfer("CP1", HELLO, ocpp_version="ocpp1.6", message_id="m")
        )
        while not inbox.ready:
            await asyncio.sleep(0)
        asked.cancel()
    (message,) = inbox.ready
    assert message.exchange == "acme"
    assert message.properties.message_id == "m"
    assert (message.properties.headers or {})["ocpp-version"] == "ocpp1.6"


@pytest.mark.parametrize("dialect", [WebOcpp(), CitrineOs()], ids=lambda dialect: dialect.name)
async def test_in_a_dialect_it_reaches_stations_and_nobody_else(dialect: Dialect) -> None:
    async with Client(transport=MemoryTransport(broker_of(dialect)), dialect=dialect) as client:
        with pytest.raises(ValueError, match="come from the gateway"):
            await client.data_transfer("CP1", HELLO)
        with pytest.raises(StationOffline, match="'CP1' is not connected"):
            await client.send_to_station("CP1", HELLO, ocpp_version=OcppVersion.V1_6)


async def test_only_in_a_dialect_the_caller_names_the_stations_version() -> None:
    broker = broker_of(Native())
    async with Client(transport=MemoryTransport(broker)) as client:
        with pytest.raises(ValueError, match="give ocpp_version in a dialect only"):
            await client.send_to_station("CP1", HELLO, ocpp_version="ocpp1.6")


@pytest.mark.parametrize("url", ["localhost", "http://localhost", ""])
def test_an_invalid_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        Client(url)


@pytest.mark.parametrize("station_id", ["", "x" * 256, "CP\udcff", "\ud800"])
async def test_a_station_id_that_nobody_could_answer_is_refused_at_once(station_id: str) -> None:
    async with Client(transport=MemoryTransport(broker_of(Native())), timeout=10.0) as client:
        with pytest.raises(ValueError, match="a station id"):
            await client.data_transfer(station_id, HELLO)
        with pytest.raises(ValueError, match="a station id"):
            await client.send_to_station(station_id, HELLO)
        assert client.outstanding == 0


@pytest.mark.parametrize("message_id", ["", "x" * 37, "x" * 40, "\udcff"])
async def test_so_is_a_message_id_that_ocpp_does_not_allow(message_id: str) -> None:
    async with Client(transport=MemoryTransport(broker_of(Native())), timeout=10.0) as client:
        with pytest.raises(ValueError, match="a message id"):
            await client.data_transfer("CP1", HELLO, message_id=message_id)
        with pytest.raises(ValueError, match="a message id"):
            await client.send_to_station("CP1", HELLO, message_id=message_id)


@pytest.mark.parametrize("named", [{}, {"ocpp-station-id": ""}, {"ocpp-station-id": "CP1"}])
async def test_an_answer_that_names_no_station_is_one(named: dict[str, str]) -> None:
    """So a worker answers a request whose station it cannot read."""
    broker = broker_of(Native())
    inbox = broker.queues["datatransfer.unknown-vendor"]
    async with Client(transport=MemoryTransport(broker), timeout=10.0) as client:
        asked = asyncio.create_task(client.data_transfer("CP1", HELLO))
        while not inbox.ready:
            await asyncio.sleep(0)
        properties = inbox.ready[0].properties
        replied = Properties(
            correlation_id=properties.correlation_id, headers=dict(named), type="CallError"
        )
        body = b'{"errorCode":"ProtocolError","errorDescription":"station id"}'
        broker.publish(Publishing(properties.reply_to or "", body, replied))
        with pytest.raises(CallError, match="station id"):
            await asked
