"""The wire contract: properties ↔ request, replies, and what requesters publish."""

import time
from typing import Any

import pytest

from bridge.dialects.dialect import Question
from bridge.dialects.names import Names
from bridge.dialects.native import Native
from bridge.dialects.replies import read_offline
from bridge.ocpp import OcppVersion
from bridge.request.incoming import Request
from bridge.request.outcome import Kind
from bridge.testing import MemoryBroker, Message
from bridge.transport import Confirm, Delivery, Properties, Publishing

# ---- requests ----


def delivery(
    headers: dict[str, Any] | None = None, *, redelivered: bool = False, **properties: Any
) -> Delivery:
    return Delivery(
        "datatransfer", "v", redelivered, Properties(headers=headers, **properties), b"{}"
    )


STATION = {"ocpp-station-id": "CP001"}


def test_a_request_is_read_from_its_properties() -> None:
    headers = {
        **STATION,
        "ocpp-version": "ocpp1.6",
        "ocpp-deadline": 1_700_000_000_250,
        "dtbridge-attempt": 3,
    }
    source = delivery(
        headers, redelivered=True, reply_to="amq.gen-1", correlation_id="c", message_id="m"
    )
    request = Native().request(source)
    assert request.body == b"{}"
    assert request.station_id == "CP001"
    assert request.version is OcppVersion.V1_6
    assert request.ocpp_message_id == "m"
    assert request.deadline == 1_700_000_000.25
    assert request.attempt == 3
    assert request.redelivered
    assert request.reply_wanted
    assert request.fault is None
    assert request.source is source


def test_what_may_be_absent_has_its_default() -> None:
    request = Native().request(delivery(STATION))
    assert request.version is OcppVersion.V2_0_1
    assert request.ocpp_message_id is None
    assert request.deadline is None
    assert request.attempt == 1
    assert not request.redelivered
    assert not request.reply_wanted
    assert request.fault is None


DEADLINE = 1_700_000_000_250
COPIED = {"dtbridge-first-try": 1_700_000_000_000}


@pytest.mark.parametrize(
    ("headers", "properties", "origin", "told_apart"),
    [
        ({"ocpp-connection-id": "c1"}, {"correlation_id": "a"}, "c1", True),
        (
            {"ocpp-connection-id": "c1", "ocpp-deadline": DEADLINE},
            {"user_id": "gateway-1"},
            ("gateway-1", "c1"),
            True,
        ),
        ({"ocpp-deadline": DEADLINE}, {"correlation_id": "a"}, ("a", DEADLINE), True),
        (
            {"ocpp-deadline": DEADLINE},
            {"correlation_id": "a", "user_id": "gateway-1"},
            ("gateway-1", ("a", DEADLINE)),
            True,
        ),
        ({}, {"correlation_id": "a", "expiration": "1000"}, ("a", None), False),
        ({}, {}, (None, None), False),
        ({"ocpp-deadline": DEADLINE, **COPIED}, {}, (None, DEADLINE), True),
        (COPIED, {}, (None, None), True),
        (
            {"ocpp-deadline": DEADLINE, "dtbridge-expiration": "1000", **COPIED},
            {"correlation_id": "a"},
            ("a", None),
            True,
        ),
        (
            {"ocpp-deadline": DEADLINE, "dtbridge-expiration": "1000"},
            {"correlation_id": "a"},
            ("a", DEADLINE),
            True,
        ),
    ],
)
def test_a_request_is_named_by_its_connection_or_else_by_the_message_that_it_is(
    headers: dict[str, Any], properties: dict[str, Any], origin: Any, *, told_apart: bool
) -> None:
    request = Native().request(delivery({**STATION, **headers}, **properties))
    assert request.fault is None
    assert (request.origin, request.told_apart) == (origin, told_apart)


@pytest.mark.parametrize("deadline", [100_000_000_000, 1_900_000_000_000, 2**63 - 1])
def test_a_deadline_is_in_milliseconds(deadline: int) -> None:
    request = Native().request(delivery({**STATION, "ocpp-deadline": deadline}))
    assert (request.deadline, request.fault) == (deadline / 1000, None)


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("headers", [{}, {"ocpp-deadline": DEADLINE}, {"ocpp-connection-id": "c1"}])
def test_a_copy_of_a_request_has_its_name(headers: dict[str, Any], *, counts: bool) -> None:
    native = Native()
    request = native.request(
        delivery({**STATION, **headers}, correlation_id="a", expiration="30000")
    )
    properties = native.again(request, 1.0, counts=counts).properties
    for _ in range(2):
        copy = native.request(Delivery("datatransfer", "v", False, properties, b"{}"))
        assert (copy.origin, copy.told_apart) == (request.origin, True)
        properties = native.again(copy, 1.0, counts=counts).properties


@pytest.mark.parametrize("version", OcppVersion)
def test_every_version_has_its_name(version: OcppVersion) -> None:
    assert Native().request(delivery({**STATION, "ocpp-version": version.value})).version is version


@pytest.mark.parametrize(
    ("headers", "properties", "fault"),
    [
        (None, {}, "header ocpp-station-id: required"),
        ({}, {}, "header ocpp-station-id: required"),
        ({"ocpp-station-id": ""}, {}, "header ocpp-station-id: required"),
        ({"ocpp-station-id": 7}, {}, "header ocpp-station-id: required"),
        ({"ocpp-station-id": b"CP"}, {}, "header ocpp-station-id: required"),
        ({"ocpp-station-id": None, "ocpp-version": "x"}, {}, "header ocpp-station-id: required"),
        (
            {**STATION, "ocpp-version": "2.0.1"},
            {},
            "header ocpp-version: expected one of ocpp1.6, ocpp2.0, ",
        ),
        ({**STATION, "ocpp-version": ["ocpp1.6"]}, {}, "header ocpp-version: expected one of"),
        ({**STATION, "ocpp-version": None}, {}, "header ocpp-version: expected one of"),
        (
            {**STATION, "ocpp-deadline": "1700000000000"},
            {},
            "header ocpp-deadline: expected Unix time in milliseconds",
        ),
        ({**STATION, "ocpp-deadline": 1.5}, {}, "header ocpp-deadline: expected"),
        ({**STATION, "ocpp-deadline": True}, {}, "header ocpp-deadline: expected"),
        (
            {**STATION, "ocpp-deadline": 1_900_000_000},
            {},
            (
                "header ocpp-deadline: expected Unix time in milliseconds, an integer,"
                " and 1900000000 is in seconds"
            ),
        ),
        (
            {**STATION, "ocpp-deadline": 0},
            {},
            (
                "header ocpp-deadline: expected Unix time in milliseconds, an integer,"
                " and 0 is long past"
            ),
        ),
        ({**STATION, "ocpp-deadline": -(2**63)}, {}, "header ocpp-deadline: expected"),
        ({**STATION, "ocpp-connection-id": 7}, {}, "header ocpp-connection-id: expected a string"),
        ({**STATION, "ocpp-connection-id": ""}, {}, "header ocpp-connection-id: expected a string"),
        (
            {**STATION, "ocpp-connection-id": "c" * 256},
            {},
            "header ocpp-connection-id: expected a string of 1 to 255 characters",
        ),
        ({**STATION, "ocpp-connection-id": []}, {}, "header ocpp-connection-id: expected a string"),
        (STATION, {"reply_to": "amq.gen-1"}, "correlation_id: required with reply_to"),
        (
            STATION,
            {"reply_to": "amq.gen-1", "correlation_id": ""},
            "correlation_id: required with reply_to",
        ),
    ],
)
def test_what_breaks_the_contract_is_named(
    headers: Any, properties: dict[str, Any], fault: str
) -> None:
    request = Native().request(delivery(headers, **properties))
    assert request.fault is not None
    assert request.fault.startswith(fault)
    assert isinstance(request.station_id, str)
    assert isinstance(request.version, OcppVersion)


@pytest.mark.parametrize("attempt", [0, -1, "3", 1.5, True, None, [2]])
def test_an_attempt_that_is_no_count_is_the_first(attempt: Any) -> None:
    assert Native().request(delivery({**STATION, "dtbridge-attempt": attempt})).attempt == 1


def test_an_empty_reply_to_asks_for_no_reply() -> None:
    request = Native().request(delivery(STATION, reply_to=""))
    assert not request.reply_wanted
    assert request.fault is None


# ---- replies ----


def asked(
    headers: dict[str, Any] | None = None,
    *,
    reply_to: str = "amq.gen-1",
    contract: Native | None = None,
) -> Request:
    source = delivery(
        STATION | (headers or {}),
        reply_to=reply_to,
        correlation_id="c-1",
        user_id="guest",
        app_id="gateway",
    )
    return (contract or Native()).request(source)


async def sent(publishing: Publishing | None) -> Message:
    """A publishing as its reader sees it."""
    assert publishing is not None
    broker = MemoryBroker()
    queue = broker.declare_queue(publishing.routing_key)
    assert broker.publish(publishing) is Confirm.CONFIRMED
    return queue.ready[0]


@pytest.mark.parametrize("kind", Kind)
async def test_a_reply_says_what_it_is_and_whose(kind: Kind) -> None:
    publishing = Native().reply(asked(), b'{"status":"Accepted"}', kind)
    message = await sent(publishing)
    assert (message.exchange, message.routing_key, message.body) == (
        "",
        "amq.gen-1",
        b'{"status":"Accepted"}',
    )
    assert message.properties == Properties(
        content_type="application/json",
        headers={"ocpp-station-id": "CP001"},
        delivery_mode=2,
        correlation_id="c-1",
        type=kind.value,
    )


async def test_a_reply_carries_the_trace_and_nothing_else_of_the_requests_headers() -> None:
    trace = {
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "tracestate": "a=b",
    }
    given = {
        **trace,
        "CC": ["everyone"],
        "BCC": ["everyone"],
        "x-death": [],
        "ocpp-version": "ocpp1.6",
        "own": 1,
    }
    message = await sent(Native().reply(asked(given), b"{}", Kind.RESPONSE))
    assert message.properties.headers == {**STATION, **trace}
    assert message.properties.user_id is None


async def test_replies_to_one_station_do_not_share_what_differs() -> None:
    contract = Native()
    trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    deadline = {"ocpp-deadline": int(time.time() * 1000) + 60_000}
    plain = contract.reply(asked(), b"1", Kind.RESPONSE)
    timed = contract.reply(asked(deadline), b"2", Kind.CALL_ERROR)
    traced = contract.reply(asked(trace), b"3", Kind.RESPONSE)
    first, second, third = [
        (await sent(publishing)).properties for publishing in (plain, timed, traced)
    ]
    assert (first.type, first.expiration, first.headers) == ("DataTransferResponse", None, STATION)
    assert second.type == "CallError"
    assert second.expiration is not None
    assert second.headers == STATION
    assert third.headers == STATION | trace


async def test_a_reply_expires_with_the_deadline() -> None:
    deadline = int(time.time() * 1000) + 5_000
    message = await sent(Native().reply(asked({"ocpp-deadline": deadline}), b"{}", Kind.RESPONSE))
    assert message.properties.expiration is not None
    assert 0 < int(message.properties.expiration) <= 5_000


DIRECT = "amq.rabbitmq.reply-to.g1h2AA5yZXBseUAxMjM0NTY3OAAACwAAAAAAAAAAAQ==.a2V5"
"""As a broker makes it: a process identifier of the node reply@12345678, and a key.

A forged one ends the connection."""


@pytest.mark.parametrize(
    ("reply_to", "allowed"),
    [
        (DIRECT, True),
        ("amq.gen-JzTY20BRgKO-HjmUJj0wLg", True),
        ("datatransfer.replies.gateway-1", True),
        ("gateway.replies.1", True),
        ("amq.rabbitmq.reply-to", False),
        ("amq.rabbitmq.reply-to.", False),
        ("amq.rabbitmq.reply-to.g1h2AA5yZXBseUA.token", False),
        ("amq.rabbitmq.reply-to.no base64.token", False),
        (f"{DIRECT}.more", False),
        ("datatransfer.com.acme", False),
        ("datatransfer.dead", False),
        ("datatransfer", False),
        ("someone-elses-queue", False),
        ("xamq.gen-1", False),
        ("Datatransfer.replies.1", False),
    ],
)
def test_replies_go_to_reply_queues_alone(reply_to: str, allowed: bool) -> None:
    contract = Native(reply_prefixes=("gateway.replies.",))
    publishing = contract.reply(asked(reply_to=reply_to), b"{}", Kind.RESPONSE)
    assert (publishing is not None) is allowed
    if publishing is not None:
        assert (publishing.exchange, publishing.routing_key) == ("", reply_to)


def test_a_reply_is_mandatory_unless_the_broker_would_return_it_wrongly() -> None:
    contract = Native()
    named = contract.reply(asked(), b"{}", Kind.RESPONSE)
    direct = contract.reply(asked(reply_to=DIRECT), b"{}", Kind.RESPONSE)
    assert named is not None
    assert named.mandatory
    assert direct is not None
    assert not direct.mandatory


@pytest.mark.parametrize(
    "headers",
    [
        {"ocpp-station-id": "x" * 100_000},
        {**STATION, "traceparent": "x" * 100_000},
        {**STATION, "traceparent": {"a": "table"}},
        {
            **STATION,
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "tracestate": "x" * 100_000,
        },
    ],
    ids=["station", "traceparent", "table", "tracestate"],
)
async def test_no_header_of_a_request_makes_a_reply_too_big_to_send(
    headers: dict[str, Any],
) -> None:
    contract = Native()
    request = contract.request(delivery(headers, reply_to="amq.gen-1", correlation_id="c"))
    message = await sent(contract.reply(request, b"{}", Kind.RESPONSE))
    assert len(str(message.properties.headers)) < 2_000


def test_a_request_is_published_as_the_contract_says() -> None:
    contract = Native()
    now = int(time.time())
    deadline = time.time() + 30
    publishing = contract.request_publishing(
        station_id="CP001",
        version=OcppVersion.V2_1,
        vendor_id="EN+",
        body=b'{"vendorId":"EN+"}',
        deadline=deadline,
        message_id="m",
        correlation_id="c",
        reply_to="amq.gen-1",
    )
    assert (publishing.exchange, publishing.routing_key, publishing.mandatory) == (
        "datatransfer",
        "en_2b",
        True,
    )
    properties = publishing.properties
    assert (properties.content_type, properties.type, properties.delivery_mode) == (
        "application/json",
        "DataTransfer",
        2,
    )
    assert properties.timestamp in {now, now + 1}
    assert 29_000 < int(properties.expiration or 0) <= 30_000
    request = contract.request(
        Delivery("datatransfer", "en_2b", False, properties, publishing.body)
    )
    assert (request.station_id, request.version, request.ocpp_message_id) == (
        "CP001",
        OcppVersion.V2_1,
        "m",
    )
    assert request.deadline == pytest.approx(deadline, abs=0.001)
    assert request.fault is None


# ---- CSMS → station ----


def station_request(contract: Native, station_id: str = "CP 1") -> Publishing:
    return contract.station_request(
        station_id=station_id,
        body=b'{"vendorId":"EN+"}',
        deadline=time.time() + 30,
        message_id="m",
        correlation_id="c",
        reply_to="amq.gen-1",
    )


def received(contract: Native, publishing: Publishing, version: OcppVersion) -> Request:
    """As the gateway of a station of that version has it."""
    request = contract.request(
        Delivery(
            publishing.exchange,
            publishing.routing_key,
            False,
            publishing.properties,
            publishing.body,
        )
    )
    request.version = version
    return request


def test_a_request_to_a_station_is_published_as_the_contract_says() -> None:
    contract = Native(Names("acme"))
    now = int(time.time())
    publishing = station_request(contract)
    assert (publishing.exchange, publishing.routing_key, publishing.mandatory) == (
        "acme.stations",
        "CP_201",
        True,
    )
    properties = publishing.properties
    headers = properties.headers or {}
    assert (properties.content_type, properties.type, properties.delivery_mode) == (
        "application/json",
        "DataTransfer",
        1,
    )
    assert properties.timestamp in {now, now + 1}
    assert set(headers) == {"ocpp-station-id", "ocpp-deadline"}
    assert 29_000 < int(properties.expiration or 0) <= 30_000
    request = received(contract, publishing, OcppVersion.V1_6)
    assert (request.station_id, request.ocpp_message_id, request.fault) == ("CP 1", "m", None)


def test_a_stations_reply_says_in_which_version_it_is() -> None:
    contract = Native()
    request = received(contract, station_request(contract), OcppVersion.V1_6)
    plain = contract.reply(request, b"{}", Kind.RESPONSE)
    reply = contract.station_reply(request, b"{}", Kind.RESPONSE)
    assert reply is not None
    assert plain is not None
    assert reply.properties.headers == {"ocpp-station-id": "CP 1", "ocpp-version": "ocpp1.6"}
    assert plain.properties.headers == {
        "ocpp-station-id": "CP 1"
    }  # what replies share is not touched
    assert (reply.routing_key, reply.correlation_id, reply.properties.type) == (
        "amq.gen-1",
        "c",
        "DataTransferResponse",
    )
    assert reply.mandatory
    assert 29_000 < int(reply.expiration or 0) <= 30_000


@pytest.mark.parametrize("sent", [True, False])
def test_a_lost_station_is_a_reply_of_its_own_kind(sent: bool) -> None:
    contract = Native()
    request = received(contract, station_request(contract), OcppVersion.V2_1)
    reply = contract.offline_reply(request, sent=sent)
    assert reply is not None
    assert (reply.properties.type, reply.body) == (
        "StationOffline",
        b'{"sent":true}' if sent else b'{"sent":false}',
    )
    assert read_offline(Delivery("", "", False, reply.properties, reply.body)) is sent


def test_a_gateway_answers_only_where_it_may() -> None:
    contract = Native()
    publishing = station_request(contract)
    publishing.properties.reply_to = "datatransfer.com.acme"
    request = received(contract, publishing, OcppVersion.V2_1)
    assert contract.station_reply(request, b"{}", Kind.RESPONSE) is None
    assert contract.offline_reply(request, sent=False) is None


# ---- questions ----


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> float:
    """The clock stands still."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    return now


def asked_at(question: Question) -> Publishing:
    """As it is published for the correlation id c and the reply queue amq.gen-1."""
    return question.publishing("c", "amq.gen-1")


@pytest.mark.parametrize(("message_id", "sent"), [("m", "m"), (None, "c")])
def test_a_stations_question_is_its_request_and_may_be_repeated(
    message_id: str | None, sent: str, now: float
) -> None:
    native = Native(Names("acme"))
    parts: dict[str, Any] = {
        "station_id": "CP 1",
        "version": OcppVersion.V1_6,
        "vendor_id": "EN+",
        "body": b"{}",
        "deadline": now + 30,
    }
    question = native.question_to_csms(**parts, message_id=message_id)
    assert (question.station_id, question.once, question.correlation_id) == ("CP 1", False, None)
    assert asked_at(question) == native.request_publishing(
        "c", "amq.gen-1", **parts, message_id=sent
    )
    assert asked_at(question).properties.message_id == sent


@pytest.mark.parametrize(("message_id", "sent"), [("m", "m"), (None, "c")])
def test_a_question_to_a_station_is_its_request_and_may_be_repeated(
    message_id: str | None, sent: str, now: float
) -> None:
    native = Native(Names("acme"))
    parts: dict[str, Any] = {"station_id": "CP 1", "body": b"{}", "deadline": now + 30}
    question = native.question_to_station(**parts, version=OcppVersion.V2_1, message_id=message_id)
    assert (question.station_id, question.once, question.correlation_id) == ("CP 1", False, None)
    assert asked_at(question) == native.station_request("c", "amq.gen-1", **parts, message_id=sent)
    assert asked_at(question).properties.message_id == sent


def test_a_request_to_a_station_is_written_in_the_richest_version() -> None:
    assert Native().station_version(None) is OcppVersion.V2_1
    with pytest.raises(ValueError, match="the gateway knows the station's version"):
        Native().station_version(OcppVersion.V1_6)


def test_answers_of_stations_come_to_the_reply_queue_as_they_are() -> None:
    reply = delivery(STATION)
    assert Native().station_replies == ()
    assert Native().read_station_reply(reply) is reply


def test_an_empty_reply_prefix_is_refused() -> None:
    with pytest.raises(ValueError, match="every queue"):
        Native(reply_prefixes=("replies.", ""))


# ---- message ids ----


def test_a_message_id_has_at_most_36_characters_in_both_directions() -> None:
    for length, fault in ((36, None), (37, "message_id: at most 36 characters")):
        asked = delivery(STATION, reply_to="amq.gen-1", correlation_id="c", message_id="é" * length)
        assert Native().request(asked).fault == fault
    parts: dict[str, Any] = {"station_id": "CP", "body": b"{}", "deadline": 1.0}
    for version in OcppVersion:
        Native().question_to_station(**parts, version=version, message_id="x" * 36)
        with pytest.raises(ValueError, match="1 to 36 characters, not 40"):
            Native().question_to_station(**parts, version=version, message_id="x" * 40)
        with pytest.raises(ValueError, match="1 to 36 characters, not 40"):
            Native().question_to_csms(**parts, version=version, vendor_id="v", message_id="x" * 40)
