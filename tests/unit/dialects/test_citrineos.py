"""What CitrineOS publishes, read; and what it is answered, and told, field by field."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from bridge.dialects.citrineos import PATIENCE, CitrineOs
from bridge.dialects.dialect import Foreign
from bridge.ocpp import CallError, OcppVersion, encode_call_error
from bridge.request.incoming import Request
from bridge.request.outcome import Failure, Kind, Reason
from bridge.transport import Binding, Delivery, Properties, Publishing

PAYLOAD = {"vendorId": "com.acme", "messageId": "GetTariff", "data": {"PnCEnabled": None}}


def iso(seconds_ago: float = 0.0) -> str:
    """A time as JavaScript writes it."""
    at = datetime.fromtimestamp(time.time() - seconds_ago, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def context(name: str = "stationId", **more: Any) -> dict[str, Any]:
    return {name: "CP-1", "correlationId": "m-1", "tenantId": 1, "timestamp": iso(), **more}


def message(
    *, own: dict[str, Any] | None = None, underscore: bool = False, **more: Any
) -> dict[str, Any]:
    """A body as the router builds it, or as a module passes it on."""
    body = {
        "origin": "cs",
        "eventGroup": "router",
        "action": "DataTransfer",
        "context": context() if own is None else own,
        "state": 1,
        "protocol": "ocpp2.0.1",
        "payload": PAYLOAD,
        **more,
    }
    return {f"_{name}": value for name, value in body.items()} if underscore else body


def headers_of(body: dict[str, Any]) -> dict[str, Any]:
    """As CitrineOS's sender makes them: the routing, and the context, its tenant as a string."""
    told = {name.removeprefix("_"): value for name, value in body.items()}
    routing = {name: str(told[name]) for name in ("origin", "eventGroup", "action", "state")}
    return {**routing, **told["context"], "tenantId": str(told["context"].get("tenantId"))}


def published(
    body: dict[str, Any] | bytes | None = None,
    headers: dict[str, Any] | None = None,
    *,
    exchange: str = "citrineos",
    key: str = "",
) -> Delivery:
    """No correlation_id, no reply_to, no message_id, no delivery mode."""
    body = message() if body is None else body
    if headers is None:
        headers = headers_of(body) if isinstance(body, dict) else headers_of(message())
    properties = Properties(
        content_type="application/json", content_encoding="utf-8", headers=headers
    )
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Delivery(exchange, key, False, properties, encoded)


def read(delivery: Delivery) -> Request:
    return CitrineOs().request(delivery)


def refused(delivery: Delivery) -> Foreign:
    with pytest.raises(Foreign) as raised:
        read(delivery)
    return raised.value


def answer_to(
    delivery: Delivery, body: bytes = b'{"status":"Accepted"}', kind: Kind = Kind.RESPONSE
) -> Publishing:
    dialect = CitrineOs()
    answer = dialect.reply(dialect.request(delivery), body, kind)
    assert answer is not None
    return answer


# ---- the queue ----


def test_there_is_one_queue_for_what_stations_ask() -> None:
    dialect = CitrineOs()
    (queue,) = dialect.queues
    arguments = {"x-match": "all", "action": "DataTransfer", "origin": "cs", "state": "1"}
    assert (queue.name, queue.binding) == (
        "datatransfer-citrineos",
        Binding("citrineos", "", arguments),
    )
    assert (queue.message_ttl, queue.replicated) == (None, True)
    assert dialect.exchange is not None
    assert (dialect.exchange.name, dialect.exchange.kind, dialect.exchange.durable) == (
        "citrineos",
        "headers",
        False,
    )


def test_the_exchange_the_patience_and_the_prefix_are_settings() -> None:
    dialect = CitrineOs("mine", "other", 60.0)
    assert (dialect.queues[0].name, dialect.queues[0].binding.exchange) == (
        "mine-citrineos",
        "other",
    )
    assert dialect.exchange is not None
    assert dialect.exchange.name == "other"
    assert (dialect.names.dead, dialect.names.retry(60.0)) == (
        "mine.dead",
        "mine-citrineos.retry.60000",
    )
    request = dialect.request(published(exchange="other"))
    assert request.deadline == pytest.approx(time.time() + 60.0, abs=5)


# ---- requests ----


@pytest.mark.parametrize("version", OcppVersion)
@pytest.mark.parametrize("name", ["stationId", "ocppConnectionName"])
@pytest.mark.parametrize("underscore", [False, True])
def test_a_request_is_read_in_every_form(version: OcppVersion, name: str, underscore: bool) -> None:
    delivery = published(message(own=context(name), underscore=underscore, protocol=version.value))
    request = read(delivery)
    assert json.loads(request.body) == PAYLOAD
    assert (request.station_id, request.version, request.ocpp_message_id) == (
        "CP-1",
        version,
        "m-1",
    )
    assert (request.attempt, request.redelivered, request.reply_wanted, request.fault) == (
        1,
        False,
        True,
        None,
    )
    assert request.source is delivery


def test_the_payload_is_untouched() -> None:
    payload = (
        b'{ "vendorId" : "v", "data":{"n":1e400,"big":123456789012345678901234567890,"x":null} }'
    )
    body = json.dumps(message()).encode().replace(json.dumps(PAYLOAD).encode(), payload)
    assert read(published(body)).body == payload


@pytest.mark.parametrize(
    ("timestamp", "left"),
    [
        (lambda: iso(0), 20.0),
        (lambda: iso(15), 5.0),
        (lambda: iso(60), -40.0),
        (lambda: iso(-3600), 20.0),  # a clock that is ahead gives nobody more time
        (lambda: iso(15).replace("Z", "+00:00"), 5.0),
        (lambda: iso(15).replace("Z", ""), 5.0),
        (lambda: "soon", 20.0),
        (lambda: "", 20.0),
        (lambda: None, 20.0),
        (lambda: 1_700_000_000, 20.0),
    ],
)
def test_the_deadline_counts_from_the_timestamp(timestamp: Callable[[], Any], left: float) -> None:
    request = read(published(message(own=context(timestamp=timestamp())), {}))
    assert request.deadline is not None
    assert request.deadline - time.time() == pytest.approx(left, abs=4)


def test_a_request_without_a_protocol_is_of_the_default_version() -> None:
    body = message()
    del body["protocol"]
    delivery = published(body)
    assert read(delivery).version is OcppVersion.V2_0_1
    assert "protocol" not in json.loads(answer_to(delivery).body)


@pytest.mark.parametrize("protocol", ["ocpp1.5", "", 7, ["ocpp1.6"]])
def test_a_protocol_that_is_none_is_a_fault(protocol: Any) -> None:
    request = read(published(message(protocol=protocol)))
    assert request.fault == "protocol: expected one of ocpp1.6, ocpp2.0, ocpp2.0.1, ocpp2.1"


@pytest.mark.parametrize("payload", [None, [], "text", 7])
def test_what_is_wrong_in_the_payload_is_for_dispatch_to_say(payload: Any) -> None:
    assert json.loads(read(published(message(payload=payload))).body) == payload


def test_a_missing_payload_is_null() -> None:
    body = message()
    del body["payload"]
    assert read(published(body)).body == b"null"


def test_the_body_is_believed_before_the_headers_and_they_fill_what_it_lacks() -> None:
    wrong = {
        **headers_of(message()),
        "stationId": "CP-2",
        "correlationId": "m-2",
        "state": "2",
        "origin": "csms",
    }
    assert read(published(headers=wrong)).station_id == "CP-1"
    assert read(published(headers={})).station_id == "CP-1"
    bare = {"payload": PAYLOAD}
    request = read(published(bare, headers_of(message())))
    assert (request.station_id, request.ocpp_message_id) == ("CP-1", "m-1")


@pytest.mark.parametrize(
    "headers",
    [
        {"stationId": 7, "tenantId": 1, "state": 1, "timestamp": True, "correlationId": b"\xff"},
        {"eventGroup": ["x"], "stationId": None},
    ],
)
def test_headers_of_another_type_are_none(headers: dict[str, Any]) -> None:
    answer = answer_to(published(headers=headers))
    assert answer.properties.headers is not None
    assert answer.properties.headers["stationId"] == "CP-1"


def test_a_request_that_waited_for_its_next_try_has_its_deadline_and_counts_its_tries() -> None:
    tried = {
        "ocpp-deadline": 1_700_000_000_500,
        "dtbridge-attempt": 3,
        "dtbridge-first-try": 1_699_999_990_000,
    }
    request = read(
        published(headers=headers_of(message()) | tried, exchange="", key="datatransfer-citrineos")
    )
    assert (request.deadline, request.attempt, request.first_try) == (
        1_700_000_000.5,
        3,
        1_699_999_990.0,
    )


def test_a_replayed_dead_letter_is_handled_for_nobody_however_old_it_is() -> None:
    body = message(own=context(timestamp=iso(86_400)))
    request = read(
        published(
            body,
            headers_of(body) | {"dtbridge-replayed": 1},
            exchange="",
            key="datatransfer-citrineos",
        )
    )
    assert (request.deadline, request.reply_wanted, request.station_id) == (None, False, "CP-1")


# ---- what is no request ----


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (message(action="Heartbeat"), "action 'Heartbeat', not 'DataTransfer'"),
        (message(action=None), "action 'NoneType', not 'DataTransfer'"),
        (message(action="a" * 1_000), f"action '{'a' * 60}', not 'DataTransfer'"),
        (message(origin="csms"), "origin 'csms', not 'cs'"),
        (message(origin=["cs"]), "origin 'list', not 'cs'"),
        (message(state=2), "state 'int', not 1"),
        (message(state="2"), "state '2', not 1"),
        (message(state=True), "state 'bool', not 1"),
        (message(state=1.0), "state 'float', not 1"),
        (message(own=[]), "context: expected an object"),  # type: ignore[arg-type]
        (
            message(own={"correlationId": "m-1"}),
            "context.stationId or context.ocppConnectionName: required",
        ),
        (message(own=context(stationId="")), "context.stationId or"),
        (message(own=context(stationId=7)), "context.stationId or"),
        (message(own=context(stationId="s" * 256)), "context.stationId or"),
        (message(own=context(stationId="é" * 128)), "context.stationId or"),
        (message(own={"stationId": "CP-1"}), "context.correlationId: required"),
        (message(own=context(correlationId=None)), "context.correlationId: required"),
        (message(own=context(correlationId="i" * 256)), "context.correlationId: required"),
    ],
)
def test_what_is_no_request_of_a_station_is_refused_without_an_answer(
    body: dict[str, Any], reason: str
) -> None:
    error = refused(published(body, {}))
    assert error.reason.startswith(reason)
    assert error.answer is None


def test_a_number_that_python_will_not_write_is_refused_like_any_other() -> None:
    huge = json.dumps(message(state=0)).replace('"state": 0', '"state": ' + "9" * 10_000).encode()
    assert refused(published(huge, {})).answer is None


BROKEN = [b"", b"{", b"null", b"[]", b'"text"', b"\xff\xfe", b"[" * 100_000, b"nonsense " * 100_000]


@pytest.mark.parametrize("body", BROKEN)
def test_a_body_without_sense_is_refused_with_an_error_for_the_call_that_its_headers_name(
    body: bytes,
) -> None:
    answer = refused(published(body)).answer
    assert answer is not None
    told = json.loads(answer.body)
    error = told["payload"]
    assert (error["name"], error["_messageId"], error["_errorCode"]) == (
        "OcppError",
        "m-1",
        "FormatViolation",
    )
    assert told["context"] == {
        **told["context"],
        "stationId": "CP-1",
        "correlationId": "m-1",
        "tenantId": 1,
    }
    assert answer.properties.headers is not None
    assert answer.properties.headers["stationId"] == "CP-1"


@pytest.mark.parametrize("body", BROKEN)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"stationId": "CP-1"},
        {"correlationId": "m-1"},
        {"stationId": "\udcff", "correlationId": "m-1"},
    ],
)
def test_a_body_without_sense_whose_headers_name_no_call_has_no_answer(
    body: bytes, headers: dict[str, Any]
) -> None:
    assert refused(published(body, headers)).answer is None


# ---- answers ----


@pytest.mark.parametrize("name", ["stationId", "ocppConnectionName"])
@pytest.mark.parametrize("underscore", [False, True])
def test_a_response_repeats_the_envelope_as_a_response_of_the_csms(
    name: str, underscore: bool
) -> None:
    own = context(name, tenantId=3, more={"kept": None})
    answer = answer_to(published(message(own=own, underscore=underscore, protocol="ocpp1.6")))
    assert (answer.exchange, answer.routing_key, answer.mandatory) == ("citrineos", "", True)
    assert json.loads(answer.body) == {
        "origin": "csms",
        "eventGroup": "router",
        "action": "DataTransfer",
        "context": own,
        "state": 2,
        "protocol": "ocpp1.6",
        "payload": {"status": "Accepted"},
    }
    properties = answer.properties
    assert properties.headers == {
        "origin": "csms",
        "eventGroup": "router",
        "action": "DataTransfer",
        "state": "2",
        "correlationId": "m-1",
        name: "CP-1",
        "tenantId": "3",
        "timestamp": own["timestamp"],
    }
    assert (properties.content_type, properties.content_encoding) == ("application/json", "utf-8")
    assert (properties.correlation_id, properties.reply_to, properties.message_id) == (
        None,
        None,
        None,
    )
    assert properties.expiration is not None
    assert 15_000 < int(properties.expiration) <= PATIENCE * 1000


def test_both_names_of_a_station_are_repeated() -> None:
    answer = answer_to(published(message(own=context(ocppConnectionName="CP-1"))))
    headers = answer.properties.headers or {}
    assert (headers["stationId"], headers["ocppConnectionName"]) == ("CP-1", "CP-1")


@pytest.mark.parametrize(
    ("tenant", "header"),
    [(1, "1"), ("7", "7"), (None, "1"), ("", "1"), ([], "1"), (1.5, "1"), (10**30, "1")],
)
def test_the_tenant_is_a_string_in_the_headers(tenant: Any, header: str) -> None:
    answer = answer_to(published(message(own=context(tenantId=tenant)), {}))
    assert answer.properties.headers is not None
    assert answer.properties.headers["tenantId"] == header


@pytest.mark.parametrize(
    ("protocol", "code"), [("ocpp1.6", "FormationViolation"), ("ocpp2.1", "FormatViolation")]
)
def test_an_error_is_an_ocpp_error_in_the_spelling_of_the_version(protocol: str, code: str) -> None:
    delivery = published(message(protocol=protocol))
    body = encode_call_error(
        CallError("FormatViolation", "no", {"most": 3}), read(delivery).version
    )
    told = json.loads(answer_to(delivery, body, Kind.CALL_ERROR).body)
    assert told["payload"] == {
        "name": "OcppError",
        "_messageId": "m-1",
        "_errorCode": code,
        "_errorDetails": {"most": 3},
        "message": "no",
    }
    assert (told["state"], told["origin"], told["protocol"]) == (2, "csms", protocol)


# ---- on the way elsewhere ----


def test_another_try_comes_back_to_its_queue_by_name_in_the_form_it_came() -> None:
    delivery = published(message(underscore=True))
    dialect = CitrineOs()
    request = dialect.request(delivery)
    copy = dialect.again(request, 1.0, counts=False)
    assert (copy.exchange, copy.routing_key) == (
        "datatransfer-citrineos.retry.1000",
        "datatransfer-citrineos",
    )
    assert (copy.body, copy.mandatory) == (delivery.body, True)
    headers = copy.properties.headers or {}
    assert headers == {**headers, **(delivery.properties.headers or {})}
    again = dialect.request(Delivery("", copy.routing_key, False, copy.properties, copy.body))
    assert (again.body, again.station_id, again.attempt) == (request.body, "CP-1", 1)
    assert again.deadline == pytest.approx(request.deadline, abs=0.002)


def test_a_dead_letter_tells_its_story_and_where_it_goes_when_it_is_replayed() -> None:
    delivery = published(message(protocol="ocpp1.6"))
    dialect = CitrineOs()
    letter = dialect.dead_letter(
        dialect.request(delivery), Failure(b"", Reason.TIMED_OUT, "late"), "w@h:1"
    )
    assert (letter.exchange, letter.body) == ("datatransfer.dead", delivery.body)
    headers = letter.properties.headers or {}
    assert (headers["dtbridge-reason"], headers["dtbridge-vendor"]) == ("timed-out", "com.acme")
    assert (headers["ocpp-station-id"], headers["ocpp-version"]) == ("CP-1", "ocpp1.6")
    assert (headers["dtbridge-exchange"], headers["dtbridge-routing-key"]) == (
        "",
        "datatransfer-citrineos",
    )
    assert (headers["action"], headers["origin"], headers["state"]) == ("DataTransfer", "cs", "1")


# ---- the other way: from the CSMS to a station ----


def to_station(dialect: CitrineOs, station_id: str = "CP-1", seconds: float = 10.0) -> Publishing:
    return dialect.station_request(
        station_id=station_id,
        version=OcppVersion.V1_6,
        body=b'{ "vendorId" : "v" }',
        deadline=time.time() + seconds,
        message_id="m-1",
    )


def test_a_request_to_a_station_is_routed_by_what_the_router_binds() -> None:
    asked = to_station(CitrineOs(tenant_id=3))
    headers = dict(asked.properties.headers or {})
    timestamp = headers.pop("timestamp")
    assert (asked.exchange, asked.routing_key, asked.mandatory) == ("citrineos", "", True)
    assert headers == {
        "action": "DataTransfer",
        "origin": "csms",
        "state": "1",
        "eventGroup": "general",
        "stationId": "CP-1",
        "ocppConnectionName": "CP-1",
        "correlationId": "m-1",
        "tenantId": "3",
    }
    assert json.loads(asked.body) == {
        "action": "DataTransfer",
        "origin": "csms",
        "state": 1,
        "eventGroup": "general",
        "context": {
            "stationId": "CP-1",
            "ocppConnectionName": "CP-1",
            "correlationId": "m-1",
            "timestamp": timestamp,
            "tenantId": 3,
            "staleAfterSeconds": 10,
        },
        "protocol": "ocpp1.6",
        "payload": {"vendorId": "v"},
    }
    assert datetime.fromisoformat(timestamp).timestamp() == pytest.approx(time.time(), abs=5)
    assert timestamp.endswith("Z")
    properties = asked.properties
    assert (properties.content_type, properties.content_encoding) == ("application/json", "utf-8")
    assert (properties.correlation_id, properties.reply_to) == ("m-1", None)
    assert properties.expiration is not None
    assert 5_000 < int(properties.expiration) <= 10_000


def test_the_payload_of_a_request_is_untouched() -> None:
    assert b'{ "vendorId" : "v" }' in to_station(CitrineOs()).body


@pytest.mark.parametrize(("seconds", "lives"), [(-1.0, 1), (0.2, 1), (2.5, 3)])
def test_a_request_is_stale_in_whole_seconds_and_never_at_once(seconds: float, lives: int) -> None:
    told = json.loads(to_station(CitrineOs(), seconds=seconds).body)
    assert told["context"]["staleAfterSeconds"] == lives


@pytest.mark.parametrize("station_id", ["", "s" * 256, "é" * 128, "\udcff"])
def test_what_can_be_no_station_is_told_so(station_id: str) -> None:
    with pytest.raises(ValueError, match="is no station of citrineos"):
        to_station(CitrineOs(), station_id)


def test_the_answers_of_stations_are_asked_of_the_configured_exchange() -> None:
    arguments = {"x-match": "all", "action": "DataTransfer", "origin": "cs", "state": "2"}
    assert CitrineOs(exchange="other").station_replies == [Binding("other", "", arguments)]


def answered(**more: Any) -> dict[str, Any]:
    return message(**{"state": 2, "payload": {"status": "Accepted", "data": "{}"}, **more})


def told_by_station(delivery: Delivery) -> tuple[str | None, str | None, Any] | None:
    """Message id, kind and payload of what the dialect makes of it."""
    reply = CitrineOs().read_station_reply(delivery)
    return (
        None
        if reply is None
        else (reply.properties.correlation_id, reply.properties.type, json.loads(reply.body))
    )


@pytest.mark.parametrize("name", ["stationId", "ocppConnectionName"])
@pytest.mark.parametrize("underscore", [False, True])
def test_a_result_of_a_station_is_a_response(name: str, underscore: bool) -> None:
    expected = ("m-1", "DataTransferResponse", {"status": "Accepted", "data": "{}"})
    assert (
        told_by_station(published(answered(own=context(name), underscore=underscore))) == expected
    )


@pytest.mark.parametrize(
    ("protocol", "named"),
    [("ocpp1.6", {"ocpp-version": "ocpp1.6"}), (None, {}), ("x", {}), (7, {})],
)
def test_an_answer_names_its_station_and_its_version(protocol: Any, named: dict[str, str]) -> None:
    reply = CitrineOs().read_station_reply(published(answered(protocol=protocol)))
    assert reply is not None
    assert reply.properties.headers == {"ocpp-station-id": "CP-1", **named}


def test_an_answer_is_a_response_whatever_its_payload() -> None:
    body = answered()
    del body["payload"]
    assert told_by_station(published(body)) == ("m-1", "DataTransferResponse", None)
    assert told_by_station(published(answered(payload={"name": "x"}))) == (
        "m-1",
        "DataTransferResponse",
        {"name": "x"},
    )


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            {
                "_messageId": "m-1",
                "_errorCode": "NotImplemented",
                "_errorDetails": {"a": 1},
                "message": "no",
            },
            {"errorCode": "NotImplemented", "errorDescription": "no", "errorDetails": {"a": 1}},
        ),
        ({"_errorCode": "E"}, {"errorCode": "E", "errorDescription": "", "errorDetails": {}}),
    ],
)
def test_an_ocpp_error_is_a_call_error(error: dict[str, Any], expected: dict[str, Any]) -> None:
    reply = told_by_station(published(answered(payload={"name": "OcppError", **error})))
    assert reply == ("m-1", "CallError", expected)


@pytest.mark.parametrize(
    "delivery",
    [
        *(published(body, headers_of(answered())) for body in BROKEN),
        published(message()),
        published(answered(origin="csms")),
        published(answered(action="Heartbeat")),
        published(answered(own={"stationId": "CP-1"}), {}),
        published(answered(own=[]), {}),
    ],
)
def test_what_is_no_answer_of_a_station_is_none(delivery: Delivery) -> None:
    assert told_by_station(delivery) is None
