"""A gateway's link and a client, in memory and on RabbitMQ alike.

Both directions are tried, and what goes wrong in each.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, Raw

from bridge import Call, CallError, DataTransferRequest, DataTransferResponse, Router, StatusInfo
from bridge.client.client import Client, NoAnswer, StationOffline
from bridge.client.requester import Requester
from bridge.dialects.dialect import Question
from bridge.dialects.native import Native
from bridge.dialects.replies import read_offline, read_reply
from bridge.dialects.topology import Exchange, Purpose, Queue, Topology, worker_topology
from bridge.gateway import GatewayLink, Kind, Reply, StationHandler
from bridge.gateway.stations import STATION_LIMIT
from bridge.idempotency.memory import MemoryStore
from bridge.ocpp import ErrorCode, OcppVersion
from bridge.transport import (
    Delivery,
    Properties,
    Publishing,
    State,
    Subscription,
    Transport,
    TransportError,
)
from bridge.worker.worker import Worker
from tests.contract.sides import NAMES, PATIENCE, Side

ACCEPTED = DataTransferResponse("Accepted")
HELLO = DataTransferRequest("com.acme", "Hello")


@pytest.fixture(autouse=True)
async def topology(side: Side) -> None:
    """All but the queues of delays: no request is tried again here, and they are most of it."""
    plan = worker_topology(Native(NAMES), ["v"])
    delays = {each.name for each in plan.exchanges if each.purpose is Purpose.RETRY}
    parts = (
        part
        for part in plan.parts
        if (part.name if isinstance(part, Exchange | Queue) else part.exchange) not in delays
    )
    await side.declare_topology(Topology(tuple(parts)))


@pytest.fixture
async def link(side: Side) -> AsyncIterator[GatewayLink]:
    async with GatewayLink(transport=side.transport(), timeout=PATIENCE) as link:
        yield link


@pytest.fixture
async def client(side: Side) -> AsyncIterator[Client]:
    async with Client(transport=side.transport(), timeout=PATIENCE) as client:
        yield client


@contextmanager
def at_once() -> Iterator[None]:
    """Long before any time-out."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < PATIENCE / 3


class Hello:
    """A station's handler that keeps what it is given and answers when it may."""

    def __init__(self, response: DataTransferResponse = ACCEPTED) -> None:
        self.requests: list[DataTransferRequest] = []
        self.response = response
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.cancelled = 0
        self._given = asyncio.Condition()

    async def on_data_transfer(self, request: DataTransferRequest) -> DataTransferResponse:
        async with self._given:
            self.requests.append(request)
            self._given.notify_all()
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.response

    async def given(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE), self._given:
            await self._given.wait_for(lambda: len(self.requests) >= count)


class Bytes:
    """A gateway's handler that keeps the payloads."""

    def __init__(self, reply: Reply | None = None) -> None:
        self.payloads: list[bytes] = []
        self.timeouts: list[float] = []
        self.reply = reply or Reply(b'{"status":"Accepted"}')

    async def on_payload(self, payload: bytes, timeout: float) -> Reply:
        self.payloads.append(payload)
        self.timeouts.append(timeout)
        return self.reply


class Calls:
    """A gateway's handler with callbacks, which keeps what it is given."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.given_up = 0
        self.on_answer: Callable[[Reply | BaseException], None] | None = None

    def start_call(
        self, payload: bytes, on_answer: Callable[[Reply | BaseException], None]
    ) -> None:
        self.payloads.append(payload)
        self.on_answer = on_answer

    def give_up_call(self) -> None:
        self.given_up += 1
        self.on_answer = None

    def answer(self, answer: Reply | BaseException) -> None:
        assert self.on_answer is not None
        on_answer, self.on_answer = self.on_answer, None
        on_answer(answer)


async def fate_of(asked: Awaitable[object]) -> object:
    """The answer, or the class of the error."""
    try:
        return await asked
    except Exception as error:  # noqa: BLE001 - whatever it is
        return type(error)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


# ---- CSMS → station ----


async def test_a_request_reaches_the_stations_handler_and_its_answer_the_csms(
    link: GatewayLink, client: Client
) -> None:
    request = DataTransferRequest(
        "EN+", "gatewayInfo", {"SN": 2**64 + 1, "empty": None, "PnCEnabled": [1.5, "é"]}
    )
    answer = DataTransferResponse(
        "Rejected", {"big": 2**70, "n": None}, StatusInfo("No", "x" * 512), {"vendorId": "w"}
    )
    handler = Hello(answer)
    await link.connect_station("CP1", "ocpp2.0.1", handler)
    assert await client.send_to_station("CP1", request) == answer
    assert handler.requests == [request]
    assert (link.counts.received, link.counts.answered, link.in_hand) == (1, 1, 0)


async def test_any_callable_is_a_handler_and_plain_ones_may_block(
    link: GatewayLink, client: Client
) -> None:
    class Plain:
        def on_data_transfer(self, request: DataTransferRequest) -> DataTransferResponse:
            time.sleep(0.01)
            return DataTransferResponse("Accepted", f"plain {request.data}")

    async def function(request: DataTransferRequest) -> DataTransferResponse:
        return DataTransferResponse("Accepted", f"function {request.data}")

    await link.connect_station("plain", "ocpp2.1", Plain())
    await link.connect_station("function", OcppVersion.V2_1, function)
    await link.connect_station("lambda", "ocpp2.1", lambda request: function(request))  # noqa: PLW0108 - nobody sees that it is async
    for station, data in (
        ("plain", "plain 1"),
        ("function", "function 1"),
        ("lambda", "function 1"),
    ):
        assert (
            await client.send_to_station(station, DataTransferRequest("v", "m", 1))
        ).data == data


async def test_a_handler_with_callbacks_has_one_call_at_a_time_until_its_station_is_lost(
    link: GatewayLink, client: Client
) -> None:
    async def ask(number: int, timeout: float = PATIENCE) -> asyncio.Task[DataTransferResponse]:
        before = link.in_hand
        request = DataTransferRequest("v", "m", f"{number}")
        asked = asyncio.create_task(client.send_to_station("CP1", request, timeout=timeout))
        await until(lambda: link.in_hand == before + 1)
        return asked

    handler = Calls()
    await link.connect_station("CP1", "ocpp1.6", handler)
    first, second = await ask(1), await ask(2)
    handler.answer(Reply(b'{"status":"Accepted","data":"1"}'))
    assert await first == DataTransferResponse("Accepted", "1")
    handler.answer(CallError("SecurityError"))
    with pytest.raises(CallError, match="SecurityError"):
        await second
    with pytest.raises(NoAnswer):
        await (await ask(3, 0.1))
    await until(lambda: link.in_hand == 0)
    assert (handler.given_up, link.counts.late) == (1, 1)
    sent, waiting = await ask(4), await ask(5)
    with at_once():
        await link.disconnect_station("CP1", handler)
        assert await fate_of(sent) is await fate_of(waiting) is StationOffline
    assert (handler.given_up, link.in_hand) == (2, 0)
    assert [msgspec.json.decode(payload)["data"] for payload in handler.payloads] == list("1234")


RAW = (
    b'{ "vendorId":"com.acme","messageId": "M",'
    b'"data":{"n":123456789012345678901,"N":null,"f":1.10,"e":"\\u00e9"} }'
)


async def test_a_payload_goes_to_a_2_x_station_byte_for_byte(side: Side, link: GatewayLink) -> None:
    handler = Bytes(Reply(b'{"status" : "Accepted","data":1.10}'))
    await link.connect_station("CP1", "ocpp2.0.1", handler)
    reply = await ask_raw(side, "CP1", RAW)
    assert handler.payloads == [RAW]
    assert 0 < handler.timeouts[0] <= PATIENCE
    assert read_reply(reply) == handler.reply
    headers = reply.properties.headers or {}
    assert (headers["ocpp-station-id"], headers["ocpp-version"]) == ("CP1", "ocpp2.0.1")
    assert reply.properties.expiration is not None


@pytest.mark.parametrize(
    ("data", "sent"),
    [
        (
            b'{"n":123456789012345678901,"N":null,"f":1.10}',
            '{"n":123456789012345678901,"N":null,"f":1.10}',
        ),
        (b"[1, 2]", "[1, 2]"),
        (b"9007199254740993", "9007199254740993"),
        (b"true", "true"),
        (b'"text"', "text"),
        (b'"{\\"a\\":1}"', '{"a":1}'),
        (b'""', ""),
        (b"null", UNSET),
        (None, UNSET),
    ],
)
async def test_a_1_6_station_is_given_text_whatever_the_csms_gave(
    side: Side, link: GatewayLink, data: bytes | None, sent: Any
) -> None:
    """And nothing that the schema of 1.6 forbids."""
    fields = {
        "vendorId": "com.acme",
        "messageId": "M",
        "customData": {"vendorId": "x"},
        "data": data and Raw(data),
    }
    body = msgspec.json.encode({name: value for name, value in fields.items() if value is not None})
    values, payloads = Hello(), Bytes()
    await link.connect_station("values", "ocpp1.6", values)
    await link.connect_station("bytes", "ocpp1.6", payloads)
    await ask_raw(side, "values", body)
    await ask_raw(side, "bytes", body)
    assert values.requests == [DataTransferRequest("com.acme", "M", sent)]
    expected = {"vendorId": "com.acme", "messageId": "M"} | (
        {} if sent is UNSET else {"data": sent}
    )
    assert [msgspec.json.decode(payload) for payload in payloads.payloads] == [expected]


async def test_a_typed_answer_is_written_in_the_stations_version(
    link: GatewayLink, client: Client
) -> None:
    answer = DataTransferResponse("Accepted", {"n": 2**64}, StatusInfo("Why"), {"vendorId": "w"})
    for version in OcppVersion:
        await link.connect_station(version, version, Hello(answer))
    newer = await client.send_to_station("ocpp2.1", HELLO)
    assert newer == await client.send_to_station("ocpp2.0.1", HELLO) == answer
    older = await client.send_to_station("ocpp1.6", HELLO)
    assert older == DataTransferResponse("Accepted", f'{{"n":{2**64}}}')
    assert await client.send_to_station("ocpp2.0", HELLO) == DataTransferResponse(
        "Accepted", {"n": 2**64}
    )


async def test_a_callerror_of_the_station_arrives_as_it_is(
    link: GatewayLink, client: Client
) -> None:
    async def refuse(request: DataTransferRequest) -> DataTransferResponse:
        raise CallError(ErrorCode.SECURITY_ERROR, "not you", {"why": 1})

    body = b'{"errorCode":"OccurenceConstraintViolation","errorDescription":"d","errorDetails":{}}'
    await link.connect_station("values", "ocpp1.6", refuse)
    await link.connect_station("bytes", "ocpp1.6", Bytes(Reply(body, Kind.CALL_ERROR)))
    with pytest.raises(CallError) as caught:
        await client.send_to_station("values", HELLO)
    assert (caught.value.code, caught.value.description, caught.value.details) == (
        "SecurityError",
        "not you",
        {"why": 1},
    )
    with pytest.raises(CallError) as caught:
        await client.send_to_station("bytes", HELLO)
    assert (caught.value.code, caught.value.description) == (
        ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION,
        "d",
    )


async def test_a_station_that_nobody_holds_is_offline_at_once(
    link: GatewayLink, client: Client
) -> None:
    await link.connect_station("CP1", "ocpp2.0.1", Hello())
    with at_once(), pytest.raises(StationOffline, match="station 'cp1' is not connected") as caught:
        await client.send_to_station("cp1", HELLO)
    assert not caught.value.sent
    await link.disconnect_station("CP1")
    with at_once(), pytest.raises(StationOffline):
        await client.send_to_station("CP1", HELLO)


async def test_stations_come_and_go_by_callbacks_too(link: GatewayLink, client: Client) -> None:
    told: list[str] = []

    async def until_told(what: str) -> None:
        await until(lambda: what in told)
        assert told == [what]
        told.clear()

    old, new = Hello(), Hello(DataTransferResponse("Rejected"))
    link.add_station("CP1", "ocpp1.6", old, lambda: told.append("reachable"))
    assert link.stations == 1, "what it asks is forwarded at once"
    await until_told("reachable")
    assert await client.send_to_station("CP1", HELLO) == ACCEPTED
    link.add_station("CP1", "ocpp2.0.1", new, lambda: told.append("reachable"))
    await until_told("reachable")
    assert (await client.send_to_station("CP1", HELLO)).status == "Rejected"
    assert link.lose_station("CP1", old) is None, "it has come back"
    assert link.lose_station("CP2") is None, "unknown"
    assert (await client.send_to_station("CP1", HELLO)).status == "Rejected"
    unbind = link.lose_station("CP1", new)
    assert unbind is not None
    assert link.stations == 0
    asked = asyncio.create_task(client.send_to_station("CP1", HELLO))
    await until(lambda: link.counts.offline == 1)
    assert not asked.done(), "nobody is told before it is unbound: who is told so retries at once"
    unbind(lambda: told.append("left"))
    await until_told("left")
    with at_once(), pytest.raises(StationOffline):
        await asked
    with pytest.raises(ValueError, match="station id"):
        link.add_station("", "ocpp1.6", old, lambda: told.append("reachable"))
    with pytest.raises(ValueError, match="version"):
        link.add_station("CP1", "ocpp1.5", old, lambda: told.append("reachable"))
    await link.drain(1.0)
    with pytest.raises(TransportError, match="draining"):
        link.add_station("CP1", "ocpp1.6", old, lambda: told.append("reachable"))
    assert (told, link.stations) == ([], 0)


async def test_a_station_that_comes_back_before_it_was_unbound_is_reached(
    link: GatewayLink, client: Client
) -> None:
    told: list[str] = []
    old, new = Hello(), Hello(DataTransferResponse("Rejected"))
    await link.connect_station("CP1", "ocpp1.6", old)
    unbind = link.lose_station("CP1", old)
    assert unbind is not None
    asked = asyncio.create_task(client.send_to_station("CP1", HELLO))
    await until(lambda: link.counts.offline == 1)
    await link.connect_station("CP1", "ocpp1.6", new)
    unbind(lambda: told.append("left"))
    assert told == ["left"]
    assert (await asked).status == "Rejected"
    assert (await client.send_to_station("CP1", HELLO)).status == "Rejected"


class SlowToUnbind:
    """The link's transport, whose broker has unbound a station when the test says so."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.unbound: list[Callable[[], None]] = []

    def unbind(self, routing_key: str, on_done: Callable[[], None]) -> None:
        self._transport.unbind(routing_key, lambda: self.unbound.append(on_done))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


async def test_who_leaves_twice_is_offline_when_it_has_been_unbound_for_the_last_time(
    link: GatewayLink, client: Client
) -> None:
    transport: Any = SlowToUnbind(link.transport)
    link._transport = transport
    handler = Hello()
    handler.may_answer.clear()
    leaving: list[asyncio.Task[None]] = []
    for _ in range(2):
        await link.connect_station("CP1", "ocpp1.6", handler)
        if leaving:
            asked = asyncio.create_task(client.send_to_station("CP1", HELLO))
            await handler.given(1)
        leaving.append(asyncio.create_task(link.disconnect_station("CP1")))
        await until(lambda: len(transport.unbound) == len(leaving))
    first, last = transport.unbound
    first()
    await leaving[0]
    await asyncio.sleep(0.05)
    assert not asked.done(), "the broker may still send its requests here"
    last()
    with at_once(), pytest.raises(StationOffline):
        await asked
    await leaving[1]


async def test_a_station_that_is_refused_leaves_nothing(link: GatewayLink) -> None:
    for _ in range(3):
        with pytest.raises(ValueError, match="station id"):
            await link.connect_station("", "ocpp1.6", Hello())
    assert not link._bindings


async def test_a_station_lost_before_its_turn_and_after_is_offline_at_once(
    link: GatewayLink, client: Client
) -> None:
    handler = Hello()
    handler.may_answer.clear()
    await link.connect_station("CP1", "ocpp2.0.1", handler)
    sent, waiting = (asyncio.create_task(client.send_to_station("CP1", HELLO)) for _ in range(2))
    await handler.given(1)
    await until(lambda: link.in_hand == 2)
    with at_once():
        await link.disconnect_station("CP1")
        with pytest.raises(StationOffline) as of_sent:
            await sent
        with pytest.raises(StationOffline) as of_waiting:
            await waiting
    assert (of_sent.value.sent, of_waiting.value.sent) == (True, False)
    await until(lambda: handler.cancelled == 1)
    assert len(handler.requests) == 1
    assert link.in_hand == 0


async def test_a_request_for_a_station_that_the_gateway_does_not_know_any_more_is_answered_so(
    side: Side, link: GatewayLink, client: Client
) -> None:
    """The broker may not know yet what the gateway knows."""
    await link.connect_station("CP1", "ocpp2.0.1", Hello())
    station = link._stations.get("CP1")
    assert station is not None
    link._stations.disconnect(station)
    reply = await ask_raw(side, "CP1", RAW)
    assert (reply.properties.type, reply.body, read_offline(reply)) == (
        "StationOffline",
        b'{"sent":false}',
        False,
    )
    with at_once(), pytest.raises(StationOffline):
        await client.send_to_station("CP1", HELLO)
    assert link.counts.offline == 3  # the client has asked again


@pytest.mark.parametrize("sent", [True, False])
async def test_a_handler_can_say_that_the_station_is_gone(
    link: GatewayLink, client: Client, sent: bool
) -> None:
    async def gone(request: DataTransferRequest) -> DataTransferResponse:
        raise StationOffline("CP1", sent=sent)

    async def reset(request: DataTransferRequest) -> DataTransferResponse:
        raise ConnectionResetError("secret")

    await link.connect_station("CP1", "ocpp2.0.1", gone)
    await link.connect_station("CP2", "ocpp2.0.1", reset)
    with at_once(), pytest.raises(StationOffline) as caught:
        await client.send_to_station("CP1", HELLO)
    assert caught.value.sent is sent
    with at_once(), pytest.raises(StationOffline) as caught:
        await client.send_to_station("CP2", HELLO)
    assert caught.value.sent


class Wrong:
    """No text of it may leave."""

    async def on_payload(self, payload: bytes, timeout: float) -> Any:
        return {"status": "Accepted", "secret": "secret"}


async def _raise(error: BaseException) -> DataTransferResponse:
    raise error


@pytest.mark.parametrize(
    ("handler", "code"),
    [
        (lambda _: _raise(ValueError("secret")), ErrorCode.INTERNAL_ERROR),
        (lambda _: _raise(asyncio.CancelledError("secret")), ErrorCode.INTERNAL_ERROR),
        (lambda _: _raise(TimeoutError("secret")), ErrorCode.GENERIC_ERROR),
        (lambda _: DataTransferResponse("secret"), ErrorCode.INTERNAL_ERROR),
        (lambda _: "secret", ErrorCode.INTERNAL_ERROR),
        (lambda _: next(iter(())), ErrorCode.INTERNAL_ERROR),
        (Wrong(), ErrorCode.INTERNAL_ERROR),
    ],
)
async def test_a_handler_that_fails_is_a_callerror_without_its_words(
    side: Side, link: GatewayLink, handler: StationHandler, code: ErrorCode
) -> None:
    await link.connect_station("CP1", "ocpp2.0.1", handler)
    with at_once():
        reply = await ask_raw(side, "CP1", RAW)
    assert read_reply(reply).kind is Kind.CALL_ERROR
    assert msgspec.json.decode(reply.body)["errorCode"] == code
    assert b"secret" not in reply.body
    assert (link.counts.failed, link.in_hand) == (1, 0)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", b'{"vendorId":7}', b'{"vendorId":"v","customData":{}}', b"\xff"],
)
async def test_a_payload_that_is_no_request_is_answered_without_the_station(
    side: Side, link: GatewayLink, body: bytes
) -> None:
    handler = Bytes()
    await link.connect_station("CP1", "ocpp2.0.1", handler)
    assert read_reply(await ask_raw(side, "CP1", body)).kind is Kind.CALL_ERROR
    assert handler.payloads == []


async def test_a_station_has_one_call_at_a_time_in_the_order_they_came(
    link: GatewayLink, client: Client
) -> None:
    handler, other = Hello(), Hello()
    handler.may_answer.clear()
    await link.connect_station("CP1", "ocpp2.0.1", handler)
    await link.connect_station("CP2", "ocpp2.0.1", other)
    asked = []
    for number in range(5):
        asked.append(
            asyncio.create_task(
                client.send_to_station("CP1", DataTransferRequest("v", "m", number))
            )
        )
        await until(lambda count=number + 1: link.in_hand == count)  # type: ignore[misc]
    await asyncio.wait_for(
        client.send_to_station("CP2", HELLO), PATIENCE
    )  # another station does not mind
    assert [request.data for request in handler.requests] == [0]
    handler.may_answer.set()
    assert await asyncio.gather(*asked) == [ACCEPTED] * 5
    assert [request.data for request in handler.requests] == [0, 1, 2, 3, 4]
    assert link.in_hand == 0


async def test_a_request_whose_turn_does_not_come_in_time_is_never_sent(
    link: GatewayLink, client: Client
) -> None:
    handler = Hello()
    handler.may_answer.clear()
    await link.connect_station("CP1", "ocpp2.0.1", handler)
    first = asyncio.create_task(
        client.send_to_station("CP1", DataTransferRequest("v", "m", "first"))
    )
    await handler.given(1)
    with pytest.raises(NoAnswer):
        await client.send_to_station("CP1", DataTransferRequest("v", "m", "second"), timeout=0.1)
    await until(lambda: link.in_hand == 1)
    assert link.counts.late == 1
    handler.may_answer.set()
    assert await first == ACCEPTED
    assert await client.send_to_station("CP1", DataTransferRequest("v", "m", "third")) == ACCEPTED
    assert [request.data for request in handler.requests] == ["first", "third"]


async def test_a_station_that_does_not_answer_in_time_is_free_for_the_next(
    link: GatewayLink, client: Client
) -> None:
    handler = Hello()
    handler.may_answer.clear()
    await link.connect_station("CP1", "ocpp2.0.1", handler)
    with pytest.raises(NoAnswer):
        await client.send_to_station("CP1", HELLO, timeout=0.1)
    await until(lambda: link.in_hand == 0)
    assert (handler.cancelled, link.counts.late, link.counts.answered) == (1, 1, 0)
    handler.may_answer.set()
    assert await client.send_to_station("CP1", HELLO) == ACCEPTED


async def test_one_station_can_be_asked_so_much_at_a_time_and_others_go_on(
    link: GatewayLink, client: Client
) -> None:
    handler = Hello()
    handler.may_answer.clear()
    await link.connect_station("CP1", "ocpp2.0.1", handler)
    await link.connect_station("CP2", "ocpp2.0.1", Hello())
    asked = [
        asyncio.create_task(client.send_to_station("CP1", HELLO)) for _ in range(STATION_LIMIT + 5)
    ]
    await until(lambda: sum(task.done() for task in asked) == 5)
    for task in asked:
        if task.done():
            with pytest.raises(
                CallError, match="GenericError: 20 requests wait for the station already"
            ):
                task.result()
    assert await client.send_to_station("CP2", HELLO) == ACCEPTED
    handler.may_answer.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert answers.count(ACCEPTED) == STATION_LIMIT == len(handler.requests)


async def test_a_request_that_comes_too_late_is_not_handed_on(
    side: Side, link: GatewayLink
) -> None:
    handler = Bytes()
    await link.connect_station("CP1", "ocpp2.0.1", handler)
    late = station_request("CP1", RAW, deadline=time.time() - 0.001)
    late.properties.expiration = None
    await side.put(late)
    await until(lambda: link.counts.late == 1)
    assert handler.payloads == []
    assert (link.counts.received, link.counts.answered) == (1, 0)


async def test_a_request_without_a_deadline_has_the_links(side: Side) -> None:
    handler = Hello()
    handler.may_answer.clear()
    async with GatewayLink(transport=side.transport(), timeout=0.1) as link:
        await link.connect_station("CP1", "ocpp2.0.1", handler)
        patient = station_request("CP1", RAW, deadline=0)
        patient.properties.expiration = None
        (patient.properties.headers or {}).pop("ocpp-deadline")
        await side.put(patient)
        await handler.given(1)
        await until(lambda: handler.cancelled == 1)
        assert link.counts.late == 1


async def test_a_request_that_comes_again_is_sent_to_the_station_once(
    link: GatewayLink, client: Client
) -> None:
    handler = Hello(DataTransferResponse("Accepted", "once"))
    handler.may_answer.clear()
    await link.connect_station("CP1", "ocpp2.0.1", handler)
    again = [
        asyncio.create_task(client.send_to_station("CP1", HELLO, message_id="same"))
        for _ in range(2)
    ]
    await until(lambda: link.counts.received == 2)
    handler.may_answer.set()
    answers = [await task for task in again]
    answers.append(await client.send_to_station("CP1", HELLO, message_id="same"))
    assert [answer.data for answer in answers] == ["once"] * 3
    assert (len(handler.requests), link.counts.absorbed) == (1, 2)
    assert await client.send_to_station("CP1", HELLO, message_id="other") == handler.response
    assert len(handler.requests) == 2


async def test_the_csms_that_loses_its_connection_gets_its_answer_on_the_next(
    side: Side, link: GatewayLink
) -> None:
    handler = Hello()
    handler.may_answer.clear()
    await link.connect_station("CP1", "ocpp2.0.1", handler)
    transport = side.transport()
    async with Client(transport=transport, timeout=PATIENCE) as client:
        asked = asyncio.create_task(client.send_to_station("CP1", HELLO))
        await handler.given(1)
        side.cut(transport)
        await until(lambda: link.counts.received == 2)
        handler.may_answer.set()
        assert await asked == ACCEPTED
    assert len(handler.requests) == 1


async def test_the_gateway_that_loses_its_connection_gives_its_answers_on_the_next(
    side: Side, client: Client
) -> None:
    handler, gone = Hello(), Hello()
    handler.may_answer.clear()
    gone.may_answer.clear()
    transport = side.transport()
    async with GatewayLink(transport=transport, timeout=PATIENCE) as link:
        await link.connect_station("CP1", "ocpp2.0.1", handler)
        await link.connect_station("CP2", "ocpp2.0.1", gone)
        asked = asyncio.create_task(client.send_to_station("CP1", HELLO))
        offline = asyncio.create_task(client.send_to_station("CP2", HELLO))
        await handler.given(1)
        await gone.given(1)
        side.cut(transport)
        await until(lambda: link.state is State.CONNECTING)
        handler.may_answer.set()
        await link.disconnect_station("CP2")
        await until(lambda: link.in_hand == 0)
        assert await asked == ACCEPTED
        with pytest.raises(StationOffline):
            await offline
        # Answers go out as soon as there is a connection; stations are bound again a little later.
        await until(lambda: link.state is State.CONSUMING)
        assert await client.send_to_station("CP1", HELLO) == ACCEPTED


async def test_a_station_that_has_come_to_another_gateway_is_found_there(
    side: Side, link: GatewayLink, client: Client
) -> None:
    """The first gateway notices late that its connection is dead; a request waits there."""
    stale, handler = Hello(), Hello()
    stale.may_answer.clear()
    handler.may_answer.clear()
    async with GatewayLink(transport=side.transport(), timeout=PATIENCE) as other:
        await link.connect_station("CP1", "ocpp2.0.1", stale)
        lost = asyncio.create_task(client.send_to_station("CP1", HELLO))
        await stale.given(1)
        await other.connect_station("CP1", "ocpp2.0.1", handler)
        asked = asyncio.create_task(client.send_to_station("CP1", HELLO))
        await handler.given(1)
        await until(lambda: link.in_hand == 2)
        await link.disconnect_station("CP1")
        with pytest.raises(StationOffline):
            await lost
        await until(
            lambda: other.counts.received == 2
        )  # the client has asked again, and only one gateway was there to hear
        handler.may_answer.set()
        assert await asked == ACCEPTED
        assert (len(stale.requests), len(handler.requests)) == (1, 1)
        assert (link.counts.received, other.counts.absorbed) == (2, 1)


async def test_the_first_answer_counts_where_two_gateways_hold_a_station(
    side: Side, link: GatewayLink, client: Client
) -> None:
    stale = Hello()
    stale.may_answer.clear()
    async with GatewayLink(transport=side.transport(), timeout=PATIENCE) as other:
        await link.connect_station("CP1", "ocpp2.0.1", stale)
        await other.connect_station("CP1", "ocpp2.0.1", Hello(DataTransferResponse("Rejected")))
        assert (await client.send_to_station("CP1", HELLO)).status == "Rejected"
        await stale.given(1)
        stale.may_answer.set()
        await until(lambda: client.late == 1)


async def test_a_new_connection_of_a_station_takes_the_place_of_its_old_one(
    link: GatewayLink, client: Client
) -> None:
    old, new = Hello(), Hello(DataTransferResponse("Rejected"))
    old.may_answer.clear()
    await link.connect_station("CP1", "ocpp1.6", old)
    sent = asyncio.create_task(client.send_to_station("CP1", HELLO))
    await old.given(1)
    waiting = asyncio.create_task(client.send_to_station("CP1", HELLO))
    await until(lambda: link.in_hand == 2)
    await link.connect_station("CP1", "ocpp2.0.1", new)
    with pytest.raises(StationOffline) as caught:
        await sent
    assert caught.value.sent
    assert (await waiting).status == "Rejected"  # by the client's second try
    await link.disconnect_station("CP1", old)  # its reader has noticed late
    assert (await client.send_to_station("CP1", HELLO)).status == "Rejected"
    await link.disconnect_station("CP1", new)
    with pytest.raises(StationOffline):
        await client.send_to_station("CP1", HELLO)
    assert (len(old.requests), link.stations) == (1, 0)


async def test_stations_that_come_and_go_quickly_are_what_they_were_last(
    link: GatewayLink, client: Client
) -> None:
    changes = []
    for number in range(30):
        for _ in range(3):
            changes.append(
                asyncio.create_task(link.connect_station(f"CP{number}", "ocpp2.0.1", Hello()))
            )
            await asyncio.sleep(0)
            changes.append(asyncio.create_task(link.disconnect_station(f"CP{number}")))
            await asyncio.sleep(0)
        if number % 2:
            changes.append(
                asyncio.create_task(link.connect_station(f"CP{number}", "ocpp2.0.1", Hello()))
            )
            await asyncio.sleep(0)
    await asyncio.gather(*changes)
    assert link.stations == 15
    for number in range(30):
        if number % 2:
            assert await client.send_to_station(f"CP{number}", HELLO) == ACCEPTED
        else:
            with pytest.raises(StationOffline):
                await client.send_to_station(f"CP{number}", HELLO)


async def test_connecting_waits_for_the_broker_and_can_be_given_up(
    side: Side, client: Client
) -> None:
    transport = side.transport()
    async with GatewayLink(transport=transport) as link:
        side.cut(transport)
        await until(lambda: link.state is State.CONNECTING)
        waits = asyncio.create_task(link.connect_station("waits", "ocpp2.0.1", Hello()))
        given_up = asyncio.create_task(link.connect_station("given up", "ocpp2.0.1", Hello()))
        await asyncio.sleep(0)
        assert not waits.done()
        given_up.cancel()
        await waits
        await until(lambda: link.state is State.CONSUMING)
        assert await client.send_to_station("waits", HELLO) == ACCEPTED
        with pytest.raises(StationOffline):
            await client.send_to_station("given up", HELLO)
        assert (list(link._stations), given_up.cancelled()) == (["waits"], True)


@pytest.mark.parametrize("reply_to", ["datatransfer.v", "amq.rabbitmq.reply-to.forged", None])
async def test_a_reply_queue_that_is_not_allowed_gets_nothing(
    side: Side, link: GatewayLink, reply_to: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    handler = Bytes()
    await link.connect_station("CP1", "ocpp2.0.1", handler)
    request = station_request("CP1", RAW, reply_to=reply_to)
    await side.put(request)
    await until(lambda: link.counts.answered == 1)
    assert (handler.payloads, link.counts.forbidden) == ([RAW], 0 if reply_to is None else 1)
    told = [record for record in caplog.records if record.getMessage().startswith("answer to")]
    assert len(told) == link.counts.forbidden
    assert await side.left("datatransfer.v") == 0


async def test_a_csms_that_is_gone_is_counted(side: Side, link: GatewayLink) -> None:
    await link.connect_station("CP1", "ocpp2.0.1", Bytes())
    await side.put(station_request("CP1", RAW, reply_to="amq.gen-gone"))
    await until(lambda: link.counts.unroutable == 1)


async def test_what_breaks_the_contract_is_told_so(side: Side, link: GatewayLink) -> None:
    await link.connect_station("CP1", "ocpp2.0.1", Bytes())

    def without_station(publishing: Publishing) -> Publishing:
        (publishing.properties.headers or {}).pop("ocpp-station-id")
        return publishing

    reply = await ask_raw(side, "CP1", RAW, without_station, about="")
    assert "ocpp-station-id: required" in msgspec.json.decode(reply.body)["errorDescription"]


async def test_draining_answers_what_is_in_hand_and_takes_no_more(
    side: Side, client: Client
) -> None:
    handler = Hello()
    handler.may_answer.clear()
    async with (
        worked(side) as worker,
        GatewayLink(transport=side.transport(), timeout=PATIENCE) as link,
    ):
        await link.connect_station("CP1", "ocpp2.0.1", handler)
        down = asyncio.create_task(client.send_to_station("CP1", HELLO))
        await handler.given(1)
        up = asyncio.create_task(
            link.data_transfer("CP1", "ocpp2.0.1", DataTransferRequest("v", "wait", 1))
        )
        await worker.entered(1)
        draining = asyncio.create_task(link.drain(PATIENCE))
        await until(lambda: link.state is State.DRAINING)
        with pytest.raises(TransportError, match="the link is draining"):
            await link.connect_station("CP2", "ocpp2.0.1", Hello())
        async with asyncio.timeout(PATIENCE):
            while (
                await fate_of(client.send_to_station("CP1", HELLO, timeout=0.1))
                is not StationOffline
            ):
                pass
        assert not draining.done()
        handler.may_answer.set()
        assert await down == ACCEPTED
        assert not draining.done()
        worker.open.set()
        assert (await up).data == 1
        assert await draining == 0
    assert len(handler.requests) == 1


async def test_draining_ends_in_time(side: Side, client: Client) -> None:
    handler = Hello()
    handler.may_answer.clear()
    async with GatewayLink(transport=side.transport()) as link:
        await link.connect_station("CP1", "ocpp2.0.1", handler)
        asked = asyncio.create_task(client.send_to_station("CP1", HELLO, timeout=0.5))
        await handler.given(1)
        with at_once():
            assert await link.drain(0.05) == 1
        with pytest.raises(NoAnswer):
            await asked


async def test_a_link_that_is_closed_tells_who_waits_that_the_station_is_gone(
    side: Side, client: Client
) -> None:
    handler = Hello()
    handler.may_answer.clear()
    async with GatewayLink(transport=side.transport()) as link:
        await link.connect_station("CP1", "ocpp2.0.1", handler)
        sent = asyncio.create_task(client.send_to_station("CP1", HELLO))
        await handler.given(1)
    with at_once(), pytest.raises(StationOffline) as caught:
        await sent
    assert caught.value.sent
    await until(lambda: handler.cancelled == 1)
    with at_once(), pytest.raises(StationOffline):
        await client.send_to_station("CP1", HELLO)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("", "ocpp1.6", Hello()), ValueError),
        (("x" * 256, "ocpp1.6", Hello()), ValueError),
        (("CP1", "ocpp3", Hello()), ValueError),
        (("CP1", "ocpp1.6", None), TypeError),
    ],
)
async def test_a_station_that_cannot_be_is_refused(
    link: GatewayLink, arguments: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await link.connect_station(*arguments)
    assert link.stations == 0


@pytest.mark.parametrize("station_id", ["é" * 255, "😀" * 255, "a/b c#*", "CP1", "cp1"])
async def test_any_station_id_is_reached_and_no_other(
    link: GatewayLink, client: Client, station_id: str
) -> None:
    await link.connect_station(
        station_id, "ocpp2.0.1", Hello(DataTransferResponse("Accepted", station_id))
    )
    assert (await client.send_to_station(station_id, HELLO)).data == station_id
    for other in (station_id[:-1], station_id.swapcase(), f"{station_id} "[:255]):
        if other != station_id:
            with pytest.raises(StationOffline):
                await client.send_to_station(other, HELLO)


# ---- station → CSMS ----


class Worked:
    """A worker's handlers, as a test sees them."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.calls: list[tuple[str, str | None, Any]] = []
        self.router = Router("v", timeout=PATIENCE)
        self._entered = asyncio.Condition()

        @self.router.on("echo")
        async def echo(call: Call, data: Any) -> Any:
            await self._enter(call, data)
            return data

        @self.router.on("wait")
        async def wait(call: Call, data: Any) -> Any:
            await self._enter(call, data)
            await self.open.wait()
            return data

        @self.router.on("refuse")
        async def refuse(call: Call) -> None:
            raise CallError(ErrorCode.SECURITY_ERROR, "not you")

    async def _enter(self, call: Call, data: Any) -> None:
        async with self._entered:
            self.calls.append((call.station_id, call.ocpp_message_id, data))
            self._entered.notify_all()

    async def entered(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE), self._entered:
            await self._entered.wait_for(lambda: len(self.calls) >= count)


@asynccontextmanager
async def worked(side: Side, worked: Worked | None = None) -> AsyncIterator[Worked]:
    worked = worked or Worked()
    worker = Worker([worked.router], side.transport(), store=MemoryStore())
    running = asyncio.create_task(worker.run())
    await until(lambda: worker.state is State.CONSUMING)
    try:
        yield worked
    finally:
        worked.open.set()
        worker.stop()
        assert await running == 0


def up(message_id: str, data: Any = UNSET) -> DataTransferRequest:
    return DataTransferRequest("v", message_id, data)


async def test_a_stations_request_gets_the_answer_of_the_csms(
    side: Side, link: GatewayLink
) -> None:
    async with worked(side) as worker:
        answer = await link.data_transfer(
            "CP1", "ocpp2.0.1", up("echo", {"n": 2**64}), message_id="id-1"
        )
        assert answer == DataTransferResponse("Accepted", {"n": 2**64})
        assert worker.calls == [("CP1", "id-1", {"n": 2**64})]
        assert (await link.data_transfer("CP1", "ocpp1.6", up("echo", {"n": 1}))).data == '{"n":1}'
        assert (
            await link.data_transfer("CP1", "ocpp2.0.1", up("nothing"))
        ).status == "UnknownMessageId"
        with pytest.raises(CallError, match="not you"):
            await link.data_transfer("CP1", "ocpp2.0.1", up("refuse"))
        with pytest.raises(CallError, match="vendorId"):
            await link.data_transfer("CP1", "ocpp2.0.1", DataTransferRequest("v" * 256))


async def test_a_payload_is_forwarded_as_it_is_whatever_it_is(
    side: Side, link: GatewayLink
) -> None:
    async with worked(side) as worker:
        payload = b'{"messageId":"echo","vendorId":"V","data":{"n":123456789012345678901}}'
        reply = await link.forward("CP1", "ocpp2.0.1", payload, message_id="id-1")
        assert reply == Reply(b'{"status":"Accepted","data":{"n":123456789012345678901}}')
        assert worker.calls[0][:2] == ("CP1", "id-1")
        for broken, code in (
            (b"{}", "OccurenceConstraintViolation"),
            (b"{", "FormationViolation"),
            (b"\xff\xfe", "FormationViolation"),
            (b'{"vendorId":7}', "TypeConstraintViolation"),
            (b'{"vendorId":"%b"}' % (b"v" * 300), "PropertyConstraintViolation"),
        ):
            reply = await link.forward("CP1", "ocpp1.6", broken, message_id="id-2")
            assert (reply.kind, msgspec.json.decode(reply.body)["errorCode"]) == (
                Kind.CALL_ERROR,
                code,
            )
        unknown = await link.forward("CP1", "ocpp1.6", b'{"vendorId":"nobody"}', message_id="id-3")
        assert unknown == Reply(b'{"status":"UnknownVendorId"}')
        unnamed = await link.forward("CP1", "ocpp2.0.1", payload, message_id="")
        assert unnamed == Reply(b'{"status":"Accepted","data":{"n":123456789012345678901}}')
        large = await link.forward("CP1", "ocpp1.6", b" " * 17_000_000, message_id="id-4")
        assert msgspec.json.decode(large.body)["errorCode"] == "PropertyConstraintViolation"


async def test_a_stations_requests_go_one_at_a_time_in_their_order(
    side: Side, link: GatewayLink
) -> None:
    async with worked(side) as worker:
        first = asyncio.create_task(link.data_transfer("CP1", "ocpp2.0.1", up("wait", 0)))
        await worker.entered(1)
        rest = [
            asyncio.create_task(link.data_transfer("CP1", "ocpp2.0.1", up("echo", n)))
            for n in (1, 2, 3)
        ]
        other = await link.data_transfer("CP2", "ocpp2.0.1", up("echo", "other"))
        assert other.data == "other"
        assert [data for station, _, data in worker.calls if station == "CP1"] == [0]
        worker.open.set()
        assert [(await task).data for task in (first, *rest)] == [0, 1, 2, 3]
        assert [data for station, _, data in worker.calls if station == "CP1"] == [0, 1, 2, 3]
    assert len(link._up) == 0


async def test_a_stations_request_whose_turn_does_not_come_is_not_sent(
    side: Side, link: GatewayLink
) -> None:
    async with worked(side) as worker:
        first = asyncio.create_task(link.data_transfer("CP1", "ocpp2.0.1", up("wait", 0)))
        await worker.entered(1)
        with pytest.raises(NoAnswer, match="not sent"):
            await link.data_transfer("CP1", "ocpp2.0.1", up("echo", 1), timeout=0.05)
        given_up = asyncio.create_task(link.data_transfer("CP1", "ocpp2.0.1", up("echo", 2)))
        await asyncio.sleep(0)
        given_up.cancel()
        first.cancel()  # its socket is gone: the turn goes on
        assert (await link.data_transfer("CP1", "ocpp2.0.1", up("echo", 3))).data == 3
        assert [data for _, _, data in worker.calls] == [0, 3]
        worker.open.set()
        await until(lambda: link.late == 1)
    assert (len(link._up), link.outstanding) == (0, 0)


async def test_while_no_worker_runs_a_request_waits_for_one_or_ends_at_its_deadline(
    side: Side, link: GatewayLink
) -> None:
    waiting = asyncio.create_task(link.data_transfer("CP1", "ocpp2.0.1", up("echo", 1)))
    with pytest.raises(NoAnswer):
        await link.data_transfer("CP2", "ocpp2.0.1", up("echo", 2), timeout=0.1)
    assert not waiting.done()
    async with worked(side) as worker:
        assert (await waiting).data == 1
        assert [data for _, _, data in worker.calls] == [1]


async def test_a_request_survives_a_lost_connection_under_its_message_id(side: Side) -> None:
    transport = side.transport()
    async with worked(side) as worker, GatewayLink(transport=transport, timeout=PATIENCE) as link:
        asked = asyncio.create_task(
            link.data_transfer("CP1", "ocpp2.0.1", up("wait", 1), message_id="id-1")
        )
        await worker.entered(1)
        side.cut(transport)
        await until(lambda: link.state is State.CONNECTING)
        patient = asyncio.create_task(link.data_transfer("CP2", "ocpp2.0.1", up("echo", 2)))
        await until(lambda: link.state is State.CONSUMING)
        assert (await patient).data == 2
        worker.open.set()
        assert (await asked).data == 1
    assert [call for call in worker.calls if call[0] == "CP1"] == [("CP1", "id-1", 1)]


async def test_a_message_id_that_a_later_connection_uses_again_is_a_new_request(
    side: Side, link: GatewayLink
) -> None:
    async with worked(side) as worker:

        async def asked(message_id: str, **fields: Any) -> int:
            payload = b'{"vendorId":"v","messageId":"echo"}'
            await link.forward("CP1", "ocpp1.6", payload, message_id=message_id, **fields)
            return len(worker.calls)

        for runs in (1, 2, 3):
            handler = Hello()
            await link.connect_station("CP1", "ocpp1.6", handler)
            assert await asked("2") == runs
            assert await asked("2") == runs  # the station did not get the answer
            await link.disconnect_station("CP1", handler)
        assert await asked("2") == 4  # the link knows no connection
        assert await asked("2") == 5
        assert await asked("2", connection_id="for ever") == 6
        assert await asked("2", connection_id="for ever") == 6


async def test_a_reply_about_another_station_is_none(side: Side) -> None:
    """Not even with the right correlation id at the right queue."""
    await side.make_queue("datatransfer.replies.other")
    transport = side.transport()
    requester = Requester(transport)
    await transport.start([requester.subscription], lambda *_: requester.on_state())
    asked: list[tuple[str, str]] = []

    def publishing(correlation_id: str, reply_to: str) -> Publishing:
        asked.append((correlation_id, reply_to))
        return Publishing("datatransfer.replies.other", b"", Properties(), mandatory=True)

    answer = asyncio.create_task(requester.ask(Question("CP1", publishing), PATIENCE))
    await until(lambda: bool(asked))
    ((correlation_id, reply_to),) = asked
    for station in ("CP2", "CP1"):
        properties = Properties(correlation_id=correlation_id, headers={"ocpp-station-id": station})
        await side.put(Publishing(reply_to, station.encode(), properties))
    assert (await answer).body == b"CP1"
    assert requester.late == 1
    await transport.close()


# ---- by hand ----


def station_request(
    station_id: str,
    body: bytes,
    *,
    deadline: float | None = None,
    reply_to: str | None = "amq.gen-nowhere",
) -> Publishing:
    publishing = Native(NAMES).station_request(
        station_id=station_id,
        body=body,
        deadline=time.time() + PATIENCE if deadline is None else deadline,
        message_id="id",
        correlation_id="c",
        reply_to=reply_to or "",
    )
    publishing.properties.reply_to = reply_to
    return publishing


async def ask_raw(
    side: Side,
    station_id: str,
    body: bytes,
    change: Callable[[Publishing], Publishing] = lambda publishing: publishing,
    about: str | None = None,
) -> Delivery:
    """As a CSMS that is not ours: the body as it is, and the reply as it comes."""
    requester_transport = side.transport()
    replies: asyncio.Queue[Delivery] = asyncio.Queue()
    await requester_transport.start(
        [Subscription("", 0, replies.put_nowait, no_ack=True)], lambda *_: None
    )
    try:
        request = change(
            station_request(station_id, body, reply_to=requester_transport.reply_queue)
        )
        await side.put(request)
        async with asyncio.timeout(PATIENCE):
            reply = await replies.get()
    finally:
        await requester_transport.close()
    assert reply.properties.correlation_id == "c"
    assert (reply.properties.headers or {}).get("ocpp-station-id") == (
        station_id if about is None else about
    )
    return reply
