"""Names, and the properties of requests and replies."""

import hashlib
import json
import re
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.dialects.copies import after_pause, milliseconds_left, pause_left
from bridge.dialects.names import Names, read_vendor_id, station_key, vendor_key
from bridge.dialects.native import Native
from bridge.dialects.replies import read_offline
from bridge.ocpp import OcppVersion
from bridge.rabbitmq.frames.writing import Encoder
from bridge.request.incoming import Request
from bridge.request.outcome import Failure, Kind, Reason
from bridge.testing.memory_broker import MemoryBroker, Message
from bridge.transport import Confirm, Delivery, Properties, Publishing

VECTORS: list[dict[str, str]] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "vendor_key.json").read_text(encoding="ascii")
)
STATION_VECTORS: list[dict[str, str]] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "station_key.json").read_text(encoding="ascii")
)
RESERVED_QUEUES = {"datatransfer.dead", "datatransfer.unknown-vendor"}


# ---- names ----


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["vendor_id"][:20])
def test_the_vectors_hold(vector: dict[str, str]) -> None:
    assert vendor_key(vector["vendor_id"]) == vector["key"]
    assert Names().vendor_queue(vector["vendor_id"]) == vector["queue"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["vendor_id"][:20])
def test_the_vectors_follow_the_rule(vector: dict[str, str]) -> None:
    """The rule as another language would write it: an answer to whether the table itself is right."""
    lowered = re.sub(rb"[A-Z]", lambda letter: letter[0].lower(), vector["vendor_id"].encode())
    key = re.sub(rb"[^a-z0-9.-]", lambda byte: b"_%02x" % byte[0][0], lowered).decode()
    if len(key) > 200:
        key = f"{key[:100]}_x{hashlib.sha256(key.encode()).hexdigest()}"
    assert vector["key"] == key


@pytest.mark.parametrize("vector", STATION_VECTORS, ids=lambda vector: vector["station_id"][:20])
def test_the_vectors_of_stations_hold_and_follow_their_rule(vector: dict[str, str]) -> None:
    key = re.sub(
        rb"[^A-Za-z0-9.-]", lambda byte: b"_%02x" % byte[0][0], vector["station_id"].encode()
    ).decode()
    if len(key) > 200:
        key = f"{key[:100]}_x{hashlib.sha256(key.encode()).hexdigest()}"
    assert station_key(vector["station_id"]) == vector["key"] == key
    assert re.fullmatch(r"[A-Za-z0-9._-]{0,200}", key)


def test_no_two_stations_share_a_key() -> None:
    assert len({vector["key"] for vector in STATION_VECTORS}) == len(STATION_VECTORS)


@pytest.mark.parametrize(
    ("payload", "vendor_id"),
    [
        (b'{"data":{"vendorId":"no"},"vendorId":"EN+","more":[1,{}]}', "EN+"),
        (b'{"vendorId":"a","messageId":7}', "a"),
        (b'{"vendorId":""}', ""),
        (b'{"vendorId":null}', ""),
        (b'{"vendorId":["a"]}', ""),
        (b'{"VendorId":"a"}', ""),
        (b'{"vendorId":"\xff"}', ""),
        (b"[" * 100_000, ""),
        (b"[]", ""),
        (b"", ""),
    ],
)
def test_a_payload_is_routed_by_the_vendor_that_can_be_read(payload: bytes, vendor_id: str) -> None:
    assert read_vendor_id(payload) == vendor_id


def test_only_vendors_that_differ_in_case_alone_share_a_queue() -> None:
    by_queue: dict[str, set[str]] = {}
    for vector in VECTORS:
        by_queue.setdefault(vector["queue"], set()).add(vector["vendor_id"].lower())
    assert all(len(vendors) == 1 for vendors in by_queue.values())


def test_every_name_is_one_the_libraries_and_the_broker_take() -> None:
    for vector in VECTORS:
        assert re.fullmatch(r"[a-z0-9._-]{0,200}", vector["key"])
        assert len(vector["queue"]) <= 255


def test_no_vendor_gets_a_queue_of_the_bridges_own() -> None:
    names = Names()
    assert {names.dead, names.unknown_vendor} == RESERVED_QUEUES
    for vendor_id in (
        "dead",
        "Dead",
        "unknown-vendor",
        "UNKNOWN-VENDOR",
        "retry.1000",
        "Retry.",
        "replies.gateway-1",
    ):
        queue = names.vendor_queue(vendor_id)
        assert queue not in RESERVED_QUEUES
        assert not queue.startswith(("datatransfer.retry.", "datatransfer.replies."))


def test_all_names_stand_below_the_prefix() -> None:
    names = Names("acme")
    assert names.requests == "acme"
    assert names.vendor_queue("EN+") == "acme.en_2b"
    for name in (names.unrouted, names.unknown_vendor, names.dead, names.stations, names.replies):
        assert name.startswith("acme.")


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


@pytest.mark.parametrize(
    ("deadline", "expiration"),
    [
        (0.0, "0"),
        (-(2.0**63), "0"),
        (2.0**63, str(2**32 - 1)),
        (time.time() + 10**8, str(2**32 - 1)),
    ],
)
def test_an_expiration_is_one_the_broker_takes(deadline: float, expiration: str) -> None:
    """RabbitMQ closes the channel for a negative one and for one above 2^32 - 1 ms."""
    assert milliseconds_left(deadline) == expiration


DIRECT = "amq.rabbitmq.reply-to.g1h2AA5yZXBseUAxMjM0NTY3OAAACwAAAAAAAAAAAQ==.a2V5"
"""As a broker makes it: a process identifier of the node reply@12345678, and a key. A forged one ends the connection."""


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


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"sent":"no"}', b"\xff"])
def test_a_lost_station_without_a_word_on_the_request_may_have_had_it(body: bytes) -> None:
    assert read_offline(Delivery("", "", False, Properties(type="StationOffline"), body)) is True
    assert read_offline(Delivery("", "", False, Properties(type="CallError"), body)) is None


def test_a_gateway_answers_only_where_it_may() -> None:
    contract = Native()
    publishing = station_request(contract)
    publishing.properties.reply_to = "datatransfer.com.acme"
    request = received(contract, publishing, OcppVersion.V2_1)
    assert contract.station_reply(request, b"{}", Kind.RESPONSE) is None
    assert contract.offline_reply(request, sent=False) is None


# ---- another try, and dead letters ----


def delivered(headers: dict[str, Any] | None = None, **fields: Any) -> Request:
    """A request as a retry or a dead letter is made of it."""
    body = fields.pop("body", b'{"vendorId":"Acme","messageId":"Set"}')
    exchange, key = fields.pop("exchange", "datatransfer"), fields.pop("routing_key", "acme")
    properties = Properties(
        content_type="application/json",
        headers=STATION | (headers or {}),
        correlation_id="c",
        reply_to="amq.gen-1",
        message_id="m",
        type="DataTransfer",
        user_id="guest",
        app_id="gateway",
        **fields,
    )
    return Native().request(Delivery(exchange, key, False, properties, body))


BROKERS_OWN = {
    "x-death": [],
    "x-first-death-reason": "expired",
    "x-delivery-count": 3,
    "CC": ["a"],
    "BCC": ["b"],
}


def test_another_try_is_the_request_with_its_count_and_the_time_of_the_first() -> None:
    request = delivered({"own": [1], "CCS": "kept", **BROKERS_OWN}, delivery_mode=1)
    before = int(time.time() * 1000)
    again = Native().again(request, 2.5, counts=True)
    assert (again.exchange, again.routing_key, again.mandatory) == (
        "datatransfer.retry.2500",
        "acme",
        True,
    )
    assert again.body is request.body
    headers = again.properties.headers or {}
    assert before - 1 <= headers["dtbridge-first-try"] <= time.time() * 1000 + 1
    first_try = headers["dtbridge-first-try"]
    own = {
        "dtbridge-attempt": 2,
        "dtbridge-first-try": first_try,
        "dtbridge-not-before": first_try + 2500,
    }
    assert again.properties == Properties(
        content_type="application/json",
        headers=STATION | {"own": [1], "CCS": "kept"} | own,
        delivery_mode=2,
        correlation_id="c",
        reply_to="amq.gen-1",
        message_id="m",
        type="DataTransfer",
        app_id="gateway",
    )


def test_a_second_try_is_read_as_one_and_the_third_is_counted_from_it() -> None:
    contract = Native()
    first = contract.again(delivered(), 1.0, counts=True)
    request = contract.request(
        Delivery("datatransfer", "acme", False, first.properties, first.body)
    )
    first_try = (first.properties.headers or {})["dtbridge-first-try"]
    assert (request.attempt, request.first_try) == (2, first_try / 1000)
    second = contract.again(request, 1.0, counts=True).properties.headers or {}
    assert (second["dtbridge-attempt"], second["dtbridge-first-try"]) == (3, first_try)


def test_after_its_pause_a_request_is_what_it_was_before() -> None:
    contract = Native()
    again = contract.again(delivered(), 1.0, counts=True)
    waiting = Delivery(again.exchange, again.routing_key, False, again.properties, again.body)
    assert 0.9 < pause_left(waiting, 1.0) <= 1.0
    back = after_pause(waiting, contract.names)
    assert (back.exchange, back.routing_key, back.mandatory) == ("datatransfer", "acme", True)
    headers = {
        name: value
        for name, value in (again.properties.headers or {}).items()
        if name != "dtbridge-not-before"
    }
    assert back.properties == msgspec.structs.replace(again.properties, headers=headers)


def test_the_end_of_a_pause_is_not_kept_for_the_next() -> None:
    """The broker itself has sent it back: nobody took the header away."""
    request = delivered({"dtbridge-not-before": 1})
    again = Native().again(request, 1.0, counts=True).properties.headers or {}
    assert again["dtbridge-not-before"] > 1
    dead = Native().dead_letter(request, Failure(None, Reason.FAILED), "w")
    assert "dtbridge-not-before" not in (dead.properties.headers or {})


def test_a_wait_that_was_no_try_is_not_counted() -> None:
    headers = Native().again(delivered(), 1.0, counts=False).properties.headers or {}
    assert headers["dtbridge-attempt"] == 1


@pytest.mark.parametrize("value", ["soon", None, 1.5, [1]])
def test_a_time_of_the_first_try_that_is_none_is_set_anew(value: Any) -> None:
    request = delivered({"dtbridge-attempt": 2, "dtbridge-first-try": value})
    assert request.first_try is None
    headers = Native().again(request, 1.0, counts=True).properties.headers or {}
    assert headers["dtbridge-first-try"] == pytest.approx(time.time() * 1000, abs=2_000)


def test_the_deadline_outlives_the_expiration_that_said_it() -> None:
    request = delivered(expiration="60000")
    again = Native().again(request, 1.0, counts=True)
    assert again.properties.expiration is None
    assert (again.properties.headers or {})["ocpp-deadline"] == pytest.approx(
        time.time() * 1000 + 60_000, abs=2_000
    )


@pytest.mark.parametrize("deadline", [2**63 - 1, -(2**63), 1_700_000_000_251])
def test_a_deadline_that_was_given_stays_as_it_is(deadline: int) -> None:
    """As a float of seconds, the highest would come back as a number that 64 bits cannot hold."""
    again = Native().again(delivered({"ocpp-deadline": deadline}), 1.0, counts=True)
    assert (again.properties.headers or {})["ocpp-deadline"] == deadline
    Encoder().publish(1, again)


@pytest.mark.parametrize(
    ("exchange", "routing_key", "key"),
    [
        ("datatransfer", "own-binding", "own-binding"),
        ("", "datatransfer.acme", "acme"),
        ("other", "x", "acme"),
    ],
)
def test_a_request_comes_back_to_its_vendor_whichever_way_it_came(
    exchange: str, routing_key: str, key: str
) -> None:
    again = Native().again(delivered(exchange=exchange, routing_key=routing_key), 1.0, counts=True)
    assert again.routing_key == key


def test_a_dead_letter_is_the_request_with_its_story() -> None:
    given = {
        "own": 1,
        "dtbridge-attempt": 3,
        "dtbridge-first-try": 1_700_000_000_000,
        "ocpp-version": "ocpp1.6",
    }
    request = delivered({**given, **BROKERS_OWN}, expiration="1000", priority=3)
    failure = Failure(b"{}", Reason.TIMED_OUT, "TimeoutError: slow")
    dead = Native().dead_letter(request, failure, "dtbridge@host:1")
    at_once = Native().dead_letter(delivered(), failure, "dtbridge@host:1").properties.headers or {}
    assert at_once["dtbridge-first-try"] == at_once["dtbridge-failed-at"]
    assert (dead.exchange, dead.routing_key, dead.mandatory) == ("datatransfer.dead", "acme", True)
    assert dead.body is request.body
    headers = dict(dead.properties.headers or {})
    assert headers.pop("dtbridge-failed-at") == pytest.approx(time.time() * 1000, abs=2_000)
    assert headers == STATION | given | {
        "dtbridge-reason": "timed-out",
        "dtbridge-error": "TimeoutError: slow",
        "dtbridge-vendor": "Acme",
        "dtbridge-message": "Set",
        "dtbridge-worker": "dtbridge@host:1",
        "dtbridge-exchange": "datatransfer",
        "dtbridge-routing-key": "acme",
    }
    kept = dead.properties
    assert (kept.correlation_id, kept.reply_to, kept.message_id, kept.priority) == (
        "c",
        "amq.gen-1",
        "m",
        3,
    )
    assert (kept.delivery_mode, kept.expiration, kept.user_id) == (2, None, None)
    Encoder().publish(1, dead)


@pytest.mark.parametrize("body", [b"", b"{", b'{"vendorId":1}', b"\xff"])
def test_a_dead_letter_whose_payload_names_nobody_says_so(body: bytes) -> None:
    headers = (
        Native()
        .dead_letter(delivered(body=body), Failure(None, Reason.FAILED), "w")
        .properties.headers
        or {}
    )
    assert (headers["dtbridge-vendor"], headers["dtbridge-message"]) == ("", "")


def test_a_failure_without_a_message_id_has_an_empty_one() -> None:
    request = delivered(body=b'{"vendorId":"Acme"}')
    headers = (
        Native().dead_letter(request, Failure(None, Reason.FAILED), "w").properties.headers or {}
    )
    assert (headers["dtbridge-vendor"], headers["dtbridge-message"]) == ("Acme", "")
