"""A client and the stations of other gateways, over the twin in memory and over RabbitMQ alike."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Protocol

import pytest

from bridge import CallError, DataTransferRequest, DataTransferResponse
from bridge.client.client import Client, NoAnswer, NotAccepted, StationOffline
from bridge.dialects import CitrineOs, WebOcpp
from bridge.dialects.shared import SharedDialect
from bridge.ocpp import OcppVersion
from bridge.transport import Binding, Properties, Publishing, State, TopologyError
from tests.contract.sides import PATIENCE, Received, Side
from tests.contract.test_decision_table import until

STATION = "CP001"
INBOX = "queue-of-the-station"
HELLO = DataTransferRequest("com.acme", "Hello", {"n": 1})
VERSION = OcppVersion.V2_0_1
ACCEPTED = {"status": "Accepted"}


class Gateway(Protocol):
    """What is between the broker and a station."""

    dialect: SharedDialect

    def station(self, station_id: str) -> Binding:
        """How its queue is bound."""

    def read(self, asked: Received) -> tuple[str, str, Any]:
        """The message id and the version that a request is for (if it says), and its payload."""

    def answer(
        self,
        asked: Received,
        payload: Any,
        *,
        station_id: str = STATION,
        version: OcppVersion = VERSION,
    ) -> Publishing:
        """What is published when the station answers."""

    def error(self, asked: Received, code: str) -> Publishing: ...


class WebOcppGateway:
    """`middle`: what stands in the routing keys of answers."""

    KEYS: ClassVar = {OcppVersion.V1_6: "ocpp16", OcppVersion.V2_0_1: "ocpp201"}

    def __init__(self, middle: str) -> None:
        self.dialect: SharedDialect = WebOcpp()
        self._middle = middle

    def station(self, station_id: str) -> Binding:
        return Binding("amq.topic", station_id)

    def read(self, asked: Received) -> tuple[str, str, Any]:
        kind, message_id, action, payload = json.loads(asked.body)
        assert (kind, action) == (2, "DataTransfer")
        assert asked.properties.correlation_id == message_id
        return message_id, "", payload

    def answer(
        self,
        asked: Received,
        payload: Any,
        *,
        station_id: str = STATION,
        version: OcppVersion = VERSION,
    ) -> Publishing:
        message_id = self.read(asked)[0]
        properties = self._properties(message_id, station_id)
        return self._published(
            f"{self.KEYS[version]}.{self._middle}.conf", [3, message_id, payload], properties
        )

    def error(self, asked: Received, code: str) -> Publishing:
        message_id = self.read(asked)[0]
        properties = self._properties(message_id, STATION)
        return self._published(
            f"ocpp201.{self._middle}.error", [4, message_id, code, "no", {}], properties
        )

    def _properties(self, message_id: str, station_id: str) -> Properties:
        return Properties(
            content_type="application/json",
            delivery_mode=1,
            correlation_id=message_id,
            reply_to=station_id,
        )

    def _published(self, key: str, frame: list[Any], properties: Properties) -> Publishing:
        return Publishing(key, json.dumps(frame).encode(), properties, "amq.topic")


class CitrineGateway:
    """`name`: what a station is called."""

    def __init__(self, name: str) -> None:
        self.dialect: SharedDialect = CitrineOs()
        self._name = name

    def station(self, station_id: str) -> Binding:
        headers = {
            "x-match": "all",
            "tenantId": "1",
            self._name: station_id,
            "state": "1",
            "origin": "csms",
        }
        return Binding("citrineos", "", headers)

    def read(self, asked: Received) -> tuple[str, str, Any]:
        body = json.loads(asked.body)
        assert (body["origin"], body["state"], body["action"]) == ("csms", 1, "DataTransfer")
        return body["context"]["correlationId"], body["protocol"], body["payload"]

    def answer(
        self,
        asked: Received,
        payload: Any,
        *,
        station_id: str = STATION,
        version: OcppVersion = VERSION,
    ) -> Publishing:
        asked_with = json.loads(asked.body)["context"]
        kept = {name: asked_with[name] for name in ("correlationId", "tenantId", "timestamp")}
        context = {self._name: station_id, **kept}
        routing = {"origin": "cs", "eventGroup": "router", "action": "DataTransfer"}
        body = {
            **routing,
            "context": context,
            "state": 2,
            "protocol": version.value,
            "payload": payload,
        }
        headers = {**routing, "state": "2", **context, "tenantId": "1"}
        properties = Properties(
            content_type="application/json", content_encoding="utf-8", headers=headers
        )
        return Publishing("", json.dumps(body).encode(), properties, "citrineos")

    def error(self, asked: Received, code: str) -> Publishing:
        error = {
            "_messageId": self.read(asked)[0],
            "_errorCode": code,
            "_errorDetails": {},
            "message": "no",
        }
        return self.answer(asked, {"name": "OcppError", **error})


GATEWAYS: dict[str, Callable[[], Gateway]] = {
    "web-ocpp": lambda: WebOcppGateway("response"),
    "web-ocpp, newer": lambda: WebOcppGateway("DataTransfer"),
    "citrineos": lambda: CitrineGateway("stationId"),
    "citrineos 2": lambda: CitrineGateway("ocppConnectionName"),
}


@pytest.fixture(params=GATEWAYS)
def gateway(request: pytest.FixtureRequest) -> Gateway:
    return GATEWAYS[request.param]()


@pytest.fixture
async def connected(side: Side, gateway: Gateway) -> None:
    """The station is."""
    await side.declare_dialect(gateway.dialect)
    await side.make_queue(INBOX)
    await side.bind(INBOX, gateway.station(STATION))


@pytest.fixture
async def client(side: Side, gateway: Gateway, connected: None) -> AsyncIterator[Client]:
    async with Client(
        transport=side.transport(), dialect=gateway.dialect, timeout=PATIENCE
    ) as client:
        await client.connect()
        yield client


@asynccontextmanager
async def asking(
    client: Client, **settings: Any
) -> AsyncIterator["asyncio.Task[DataTransferResponse]"]:
    task = asyncio.create_task(client.send_to_station(STATION, HELLO, **settings))
    try:
        yield task
    finally:
        task.cancel()


async def test_a_request_reaches_the_station_and_its_answer_the_csms(
    side: Side, gateway: Gateway, client: Client
) -> None:
    async with asking(client) as asked:
        request = await side.take(INBOX)
        message_id, version, payload = gateway.read(request)
        assert 0 < len(message_id) <= 36
        assert version in {"", "ocpp2.0.1"}
        assert payload == {"vendorId": "com.acme", "messageId": "Hello", "data": {"n": 1}}
        assert 0 < int(request.properties.expiration or 0) <= PATIENCE * 1000
        await side.put(gateway.answer(request, {"status": "Accepted", "data": {"a": None}}))
        assert await asked == DataTransferResponse("Accepted", {"a": None})
    assert (client.outstanding, client.late) == (0, 0)


async def test_a_1_6_station_is_given_text_and_gives_text(
    side: Side, gateway: Gateway, client: Client
) -> None:
    async with asking(client, ocpp_version="ocpp1.6") as asked:
        request = await side.take(INBOX)
        _, version, payload = gateway.read(request)
        assert version in {"", "ocpp1.6"}
        assert payload["data"] == '{"n":1}'
        answer = {"status": "Rejected", "data": '{"a": 1}'}
        await side.put(gateway.answer(request, answer, version=OcppVersion.V1_6))
        assert await asked == DataTransferResponse("Rejected", '{"a": 1}')


async def test_a_callerror_is_raised(side: Side, gateway: Gateway, client: Client) -> None:
    async with asking(client) as asked:
        await side.put(gateway.error(await side.take(INBOX), "NotImplemented"))
        with pytest.raises(CallError, match="no") as raised:
            await asked
    assert raised.value.code == "NotImplemented"


async def test_an_answer_that_ocpp_does_not_know_is_a_callerror(
    side: Side, gateway: Gateway, client: Client
) -> None:
    async with asking(client) as asked:
        await side.put(gateway.answer(await side.take(INBOX), {"status": "Perhaps"}))
        with pytest.raises(CallError):
            await asked


async def test_a_station_that_no_queue_is_bound_for_is_offline_at_once(client: Client) -> None:
    with pytest.raises(StationOffline, match="'CP002'"):
        await client.send_to_station("CP002", HELLO)


async def test_what_is_not_answered_in_time_is_told_so_and_the_late_answer_counted(
    side: Side, gateway: Gateway, client: Client
) -> None:
    async with asking(client, timeout=0.5) as asked:
        request = await side.take(INBOX)
        with pytest.raises(NoAnswer):
            await asked
    assert client.outstanding == 0
    await side.put(gateway.answer(request, ACCEPTED))
    await until(lambda: client.late == 1)


async def test_answers_to_others_are_none_of_its_business(
    side: Side, gateway: Gateway, client: Client
) -> None:
    async with Client(
        transport=side.transport(), dialect=gateway.dialect, timeout=PATIENCE
    ) as other:
        async with asking(client) as mine, asking(other) as theirs:
            for _ in range(2):
                request = await side.take(INBOX)
                await side.put(
                    gateway.answer(
                        request, {"status": "Accepted", "data": gateway.read(request)[0]}
                    )
                )
            assert (await mine).data != (await theirs).data
        assert (client.late, other.late) == (0, 0)


async def test_what_is_no_answer_does_no_harm(side: Side, gateway: Gateway, client: Client) -> None:
    async with asking(client) as asked:
        request = await side.take(INBOX)
        answer = gateway.answer(request, ACCEPTED)
        for body in (
            b"",
            b"{",
            b"null",
            b"[3]",
            b"\xff" * 1_000_000,
            b"[" * 50_000,
            b'{"state":1}',
        ):
            await side.put(Publishing(answer.routing_key, body, answer.properties, answer.exchange))
        await side.put(gateway.answer(request, ACCEPTED))
        assert (await asked).status == "Accepted"


async def test_an_answer_of_another_station_is_none(
    side: Side, gateway: Gateway, client: Client
) -> None:
    async with asking(client) as asked:
        request = await side.take(INBOX)
        await side.put(gateway.answer(request, {"status": "Rejected"}, station_id="CP002"))
        await side.put(gateway.answer(request, ACCEPTED))
        assert (await asked).status == "Accepted"
    assert client.late == 1


async def test_many_requests_at_a_time_get_each_its_own_answer(
    side: Side, gateway: Gateway, client: Client
) -> None:
    requests = [DataTransferRequest("com.acme", data=number) for number in range(50)]
    asked = [asyncio.create_task(client.send_to_station(STATION, request)) for request in requests]
    for request in reversed([await side.take(INBOX) for _ in requests]):
        data = gateway.read(request)[2]["data"]
        await side.put(gateway.answer(request, {"status": "Accepted", "data": data}))
    assert [response.data for response in await asyncio.gather(*asked)] == [*range(50)]


# ---- published once ----


async def test_a_request_is_not_published_again_on_the_next_connection_and_its_answer_still_comes(
    side: Side, gateway: Gateway, client: Client
) -> None:
    async with asking(client) as asked:
        request = await side.take(INBOX)
        side.cut(client._transport)
        await until(lambda: client.state is not State.CONSUMING)
        await until(lambda: client.state is State.CONSUMING)
        await side.put(gateway.answer(request, ACCEPTED))
        assert (await asked).status == "Accepted"
    assert await side.left(INBOX) == 0


async def test_what_is_asked_between_two_connections_is_published_on_the_next(
    side: Side, gateway: Gateway, client: Client
) -> None:
    side.cut(client._transport)
    await until(lambda: client.state is not State.CONSUMING)
    async with asking(client) as asked:
        await side.put(gateway.answer(await side.take(INBOX), ACCEPTED))
        assert (await asked).status == "Accepted"


async def test_what_the_broker_refuses_is_not_accepted(
    side: Side, gateway: Gateway, client: Client
) -> None:
    await side.make_queue("full", full=True)
    await side.bind("full", gateway.station("CP003"))
    with pytest.raises(NotAccepted):
        await client.send_to_station("CP003", HELLO)


# ---- what cannot be ----


async def test_a_message_id_is_the_callers_to_choose_and_nobody_elses_meanwhile(
    side: Side, gateway: Gateway, client: Client
) -> None:
    async with asking(client, message_id="m-1") as asked:
        request = await side.take(INBOX)
        assert gateway.read(request)[0] == "m-1"
        with pytest.raises(ValueError, match="waits for its answer already"):
            await client.send_to_station(STATION, HELLO, message_id="m-1")
        await side.put(gateway.answer(request, ACCEPTED))
        assert (await asked).status == "Accepted"
    async with asking(client, message_id="m-1") as asked:
        await side.put(gateway.answer(await side.take(INBOX), ACCEPTED))
        assert (await asked).status == "Accepted"


@pytest.mark.parametrize("message_id", ["", "i" * 37])
async def test_a_message_id_that_ocpp_does_not_allow_is_refused(
    client: Client, message_id: str
) -> None:
    with pytest.raises(ValueError, match="1 to 36 characters"):
        await client.send_to_station(STATION, HELLO, message_id=message_id)


async def test_a_station_that_cannot_be_is_refused_even_without_a_connection(
    side: Side, client: Client
) -> None:
    side.cut(client._transport)
    await until(lambda: client.state is not State.CONSUMING)
    with pytest.raises(ValueError, match="1 to 255 characters, not 256"):
        await client.send_to_station("s" * 256, HELLO)
    assert client.outstanding == 0


async def test_a_request_that_no_version_allows_is_not_sent(client: Client) -> None:
    with pytest.raises(CallError):
        await client.send_to_station(STATION, DataTransferRequest("v" * 256))
    with pytest.raises(ValueError, match=r"ocpp1\.5"):
        await client.send_to_station(STATION, HELLO, ocpp_version="ocpp1.5")


async def test_requests_of_stations_are_the_gateways(client: Client) -> None:
    with pytest.raises(ValueError, match="come from the gateway"):
        await client.data_transfer(STATION, HELLO)


async def test_a_native_gateway_knows_the_version(side: Side) -> None:
    await side.declare("v")
    async with Client(transport=side.transport()) as client:
        with pytest.raises(ValueError, match="in a dialect only"):
            await client.send_to_station(STATION, HELLO, ocpp_version="ocpp1.6")


async def test_without_the_gateways_exchange_no_client_connects(side: Side) -> None:
    dialect = CitrineOs(exchange="elsewhere")
    async with Client(transport=side.transport(), dialect=dialect) as client:
        for _ in range(2):
            with pytest.raises(TopologyError, match="exchange 'elsewhere'"):
                await client.connect()
        with pytest.raises(TopologyError, match="exchange 'elsewhere'"):
            await client.send_to_station(STATION, HELLO)
