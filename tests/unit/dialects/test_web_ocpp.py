"""What rabbitmq-web-ocpp publishes, read; and what it is answered, and told, field by field."""

import json
import time
from typing import Any

import pytest

from bridge.dialects.dialect import Foreign
from bridge.dialects.web_ocpp import PATIENCE, WebOcpp
from bridge.ocpp import CallError, OcppVersion, encode_call_error
from bridge.request.incoming import Request
from bridge.request.outcome import Failure, Kind, Reason
from bridge.transport import Binding, Delivery, Properties, Publishing

PAYLOAD = '{"vendorId":"com.acme","messageId":"GetTariff","data":"{ \\"PnCEnabled\\" : null }"}'
PROTOCOLS = {
    "ocpp16": OcppVersion.V1_6,
    "ocpp20": OcppVersion.V2_0,
    "ocpp201": OcppVersion.V2_0_1,
    "ocpp21": OcppVersion.V2_1,
}


def published(
    body: str | bytes = f'[2,"m-1","DataTransfer",{PAYLOAD}]',
    *,
    protocol: str = "ocpp16",
    key: str | None = None,
    exchange: str = "amq.topic",
    correlation_id: str | None = "m-1",
    reply_to: str | None = "CP-1",
    delivery_mode: int = 1,
    headers: dict[str, Any] | None = None,
    redelivered: bool = False,
) -> Delivery:
    """As the plugin does it: no headers, no message_id, no timestamp.

    Newer versions set delivery_mode 2.
    """
    properties = Properties(
        content_type="application/json",
        headers=headers,
        delivery_mode=delivery_mode,
        correlation_id=correlation_id,
        reply_to=reply_to,
        type="DataTransfer",
    )
    encoded = body if isinstance(body, bytes) else body.encode()
    routing_key = f"{protocol}.DataTransfer.req" if key is None else key
    return Delivery(exchange, routing_key, redelivered, properties, encoded)


def read(delivery: Delivery) -> Request:
    return WebOcpp().request(delivery)


def refused(delivery: Delivery) -> Foreign:
    with pytest.raises(Foreign) as raised:
        read(delivery)
    return raised.value


# ---- the queues ----


def test_there_is_a_classic_queue_for_each_version_that_outlives_no_stations_patience() -> None:
    dialect = WebOcpp()
    assert {queue.name: queue.binding for queue in dialect.queues} == {
        f"datatransfer-web-ocpp.{protocol}": Binding("amq.topic", f"{protocol}.DataTransfer.req")
        for protocol in PROTOCOLS
    }
    assert {(queue.message_ttl, queue.replicated) for queue in dialect.queues} == {(30.0, False)}
    assert dialect.exchange is not None
    assert (dialect.exchange.name, dialect.exchange.kind, dialect.exchange.durable) == (
        "amq.topic",
        "topic",
        True,
    )


def test_the_exchange_the_patience_and_the_prefix_are_settings() -> None:
    dialect = WebOcpp("mine", "ocpp", 12.5)
    queue = dialect.queues[0]
    assert (queue.name, queue.binding, queue.message_ttl) == (
        "mine-web-ocpp.ocpp16",
        Binding("ocpp", "ocpp16.DataTransfer.req"),
        12.5,
    )
    assert (dialect.names.dead, dialect.names.retry(0.1)) == (
        "mine.dead",
        "mine-web-ocpp.retry.100",
    )


# ---- requests ----


@pytest.mark.parametrize(("protocol", "version"), PROTOCOLS.items())
@pytest.mark.parametrize("delivery_mode", [1, 2])
def test_a_request_is_read_from_its_frame_its_key_and_its_properties(
    protocol: str, version: OcppVersion, delivery_mode: int
) -> None:
    before = time.time()
    delivery = published(protocol=protocol, delivery_mode=delivery_mode)
    request = read(delivery)
    assert request.body == PAYLOAD.encode()
    assert (request.station_id, request.version, request.ocpp_message_id) == (
        "CP-1",
        version,
        "m-1",
    )
    assert request.deadline is not None
    assert before + PATIENCE <= request.deadline <= time.time() + PATIENCE
    assert (request.attempt, request.redelivered, request.reply_wanted, request.fault) == (
        1,
        False,
        True,
        None,
    )
    assert request.source is delivery
    assert request.first_try is None


@pytest.mark.parametrize(
    "body",
    [
        f' [ 2 , "m-1" , "DataTransfer" , {PAYLOAD} ] ',
        f'[2,"m-1","DataTransfer",{PAYLOAD}]\n',
        f'[2,"\\u006d-1","Data\\u0054ransfer",{PAYLOAD}]',
    ],
)
def test_any_way_to_write_the_frame_is_read(body: str) -> None:
    request = read(published(body))
    assert (request.ocpp_message_id, request.body) == ("m-1", PAYLOAD.encode())


@pytest.mark.parametrize("payload", ["{}", "[]", "null", '"text"', "7", '{"vendorId":"\udcff"}'])
def test_what_is_wrong_in_the_payload_is_for_dispatch_to_say(payload: str) -> None:
    encoded = payload.encode("utf-8", "surrogateescape")
    assert read(published(b'[2,"m-1","DataTransfer",%b]' % encoded)).body == encoded


def test_a_station_id_may_be_anything_that_is_no_routing_key_of_the_plugins_own() -> None:
    for station_id in (
        "CP.1",
        "é",
        "*",
        "#",
        "a b",
        "s" * 255,
        "\udcff",
        "ocpp",
        "ocpp16",
        "ocpp16-1",
    ):
        request = read(published(reply_to=station_id))
        assert request.station_id == station_id
        assert WebOcpp().reply(request, b"{}", Kind.RESPONSE) is not None


@pytest.mark.parametrize(
    "station_id", ["ocpp16.DataTransfer.req", "ocpp201.BootNotification.req", "ocpp21.x"]
)
def test_a_station_that_names_itself_like_such_a_key_is_not_answered(station_id: str) -> None:
    request = read(published(reply_to=station_id))
    assert WebOcpp().reply(request, b"{}", Kind.RESPONSE) is None
    assert refused(published("{", reply_to=station_id)).answer is None


def test_a_request_that_waited_for_its_next_try_has_its_deadline_and_counts_its_tries() -> None:
    headers = {
        "ocpp-deadline": 1_700_000_000_500,
        "dtbridge-attempt": 3,
        "dtbridge-first-try": 1_699_999_990_000,
    }
    for name, version in (
        (f"datatransfer-web-ocpp.{protocol}", version) for protocol, version in PROTOCOLS.items()
    ):
        request = read(published(key=name, exchange="", headers=headers))
        assert (request.version, request.deadline, request.attempt) == (version, 1_700_000_000.5, 3)
        assert request.first_try == 1_699_999_990.0
        assert request.reply_wanted


@pytest.mark.parametrize(
    "headers",
    [
        {"ocpp-deadline": "soon", "dtbridge-attempt": "x", "dtbridge-first-try": b"\xff"},
        {"dtbridge-attempt": -1},
    ],
)
def test_headers_that_make_no_sense_are_none(headers: dict[str, Any]) -> None:
    request = read(published(headers=headers))
    assert (request.attempt, request.first_try) == (1, None)
    assert request.deadline == pytest.approx(time.time() + PATIENCE, abs=5)


def test_a_replayed_dead_letter_is_handled_for_nobody() -> None:
    headers = {"dtbridge-replayed": 1, "ocpp-station-id": "CP-1", "ocpp-version": "ocpp1.6"}
    request = read(
        published(key="datatransfer-web-ocpp.ocpp16", exchange="", reply_to=None, headers=headers)
    )
    assert (request.station_id, request.ocpp_message_id, request.version) == (
        "CP-1",
        "m-1",
        OcppVersion.V1_6,
    )
    assert (request.deadline, request.reply_wanted) == (None, False)


# ---- what is no request ----


@pytest.mark.parametrize(
    ("delivery", "reason"),
    [
        (published(key="ocpp15.DataTransfer.req"), "routing key 'ocpp15.DataTransfer.req'"),
        (published(key="CP-1"), "routing key 'CP-1'"),
        (published(key=""), "routing key ''"),
        (published(key="datatransfer-web-ocpp.ocpp17"), "routing key"),
        (published(reply_to=None), "reply_to: required"),
        (published(reply_to=""), "reply_to: required"),
        (published('[3,"m-1",{}]', key="ocpp16.DataTransfer.conf"), "a CallResult, not a CALL"),
        (published('[4,"m-1","GenericError","",{}]'), "a CallError, not a CALL"),
        (
            published('[5,"m-1","GenericError","",{}]', protocol="ocpp21"),
            "a CallResultError, not a CALL",
        ),
        (published('[6,"m-1","DataTransfer",{}]', protocol="ocpp21"), "a Send, not a CALL"),
        (
            published('[6,"m-1","DataTransfer",{}]'),
            "no OCPP-J frame: ProtocolError: unknown message type",
        ),
        (published('[9,"m-1","DataTransfer",{}]'), "no OCPP-J frame"),
        (published('[3,"m-1"]'), "no OCPP-J frame"),
        (published('[2,"m-1","Heartbeat",{}]'), "action 'Heartbeat', not DataTransfer"),
        (published('[2,"m-1","dataTransfer",{}]'), "action 'dataTransfer', not DataTransfer"),
    ],
)  # fmt: skip
def test_what_nobody_waits_for_is_refused_without_an_answer(
    delivery: Delivery, reason: str
) -> None:
    error = refused(delivery)
    assert error.reason.startswith(reason)
    assert error.answer is None


MALFORMED = {
    "ocpp16": "FormationViolation",
    "ocpp201": "RpcFrameworkError",
    "ocpp21": "RpcFrameworkError",
}


@pytest.mark.parametrize("protocol", MALFORMED)
@pytest.mark.parametrize(
    ("body", "correlation_id", "message_id"),
    [
        ("{", "m-1", "m-1"),
        ("", None, "-1"),
        (b"\xff\xfe", "m-1", "m-1"),
        ("null", "m-1", "m-1"),
        ('{"vendorId":"v"}', "m-1", "m-1"),
        ('[2,"m-1"]', "m-1", "m-1"),
        ('[2,"m-1","DataTransfer"]', "m-1", "m-1"),
        (f'[2,"m-1","DataTransfer",{PAYLOAD},1]', "m-1", "m-1"),
        (f'[2,"m-2",7,{PAYLOAD}]', "m-1", "m-2"),
        (f'[2,17,"DataTransfer",{PAYLOAD}]', "17", "17"),
        (f'[2,"{"i" * 37}","DataTransfer",{PAYLOAD}]', "i" * 37, "i" * 37),
        (f'[2,"m-2","DataTransfer",{PAYLOAD}', "m-1", "m-2"),
        (r'[2,"m-2","DataTransfer",{"data":"\ud800"}]', "m-1", "m-2"),
        (f'["2","m-2","DataTransfer",{PAYLOAD}', "m-1", "m-2"),
        ("[" * 100_000, "m-1", "m-1"),
        ("nonsense " * 100_000, "m-1", "m-1"),
    ],
)  # fmt: skip
def test_a_broken_call_is_refused_with_the_call_error_it_deserves(
    protocol: str, body: str | bytes, correlation_id: str | None, message_id: str
) -> None:
    answer = refused(published(body, protocol=protocol, correlation_id=correlation_id)).answer
    assert answer is not None
    kind, own, code, description, details = json.loads(answer.body)
    assert (kind, own, code, details) == (4, message_id, MALFORMED[protocol], {})
    assert 0 < len(description) <= 255
    assert (answer.exchange, answer.routing_key, answer.mandatory) == ("amq.topic", "CP-1", True)
    assert answer.correlation_id == message_id
    assert_expires(answer)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "action", ["Data-Transfer", "Data.Transfer", " DataTransfer", "Data_#*Transfer"]
)
def test_an_action_that_only_the_routing_key_takes_for_ours_is_not_implemented(
    protocol: str, action: str
) -> None:
    call = json.dumps([2, "18", action, {"vendorId": "v"}])
    error = refused(published(call, protocol=protocol))
    assert error.reason == f"action {action!r}, not DataTransfer"
    assert error.answer is not None
    assert json.loads(error.answer.body) == [
        4,
        "18",
        "NotImplemented",
        f"{action} is not known",
        {},
    ]
    assert (error.answer.exchange, error.answer.routing_key) == ("amq.topic", "CP-1")
    assert error.answer.correlation_id == "18"
    assert_expires(error.answer)


def test_a_replayed_dead_letter_that_is_broken_has_nobody_to_answer() -> None:
    headers = {"dtbridge-replayed": 1, "ocpp-station-id": "CP-1"}
    assert refused(published("{", reply_to=None, headers=headers)).answer is None


# ---- answers ----


def assert_expires(answer: Publishing, within: float = PATIENCE) -> None:
    assert answer.expiration is not None
    assert (within - 5) * 1000 < int(answer.expiration) <= within * 1000


def test_a_response_goes_to_the_gateways_exchange_with_the_station_as_key_and_expires() -> None:
    answer = WebOcpp().reply(read(published()), b'{"status":"Accepted"}', Kind.RESPONSE)
    assert answer is not None
    assert answer.body == b'[3,"m-1",{"status":"Accepted"}]'
    assert (answer.exchange, answer.routing_key, answer.mandatory) == ("amq.topic", "CP-1", True)
    assert answer.correlation_id == "m-1"
    assert answer.properties == Properties(content_type="application/json", delivery_mode=1)
    assert_expires(answer)


def test_a_message_id_is_written_as_json() -> None:
    request = read(published('[2,"a\\"b\\u0001é","DataTransfer",{}]'))
    answer = WebOcpp().reply(request, b"{}", Kind.RESPONSE)
    assert answer is not None
    assert json.loads(answer.body) == [3, 'a"b\x01é', {}]


@pytest.mark.parametrize(
    ("protocol", "code"), [("ocpp16", "FormationViolation"), ("ocpp201", "FormatViolation")]
)
def test_an_error_is_a_frame_in_the_spelling_of_the_version(protocol: str, code: str) -> None:
    request = read(published(protocol=protocol))
    body = encode_call_error(CallError("FormatViolation", 'no "x"', {"most": 3}), request.version)
    answer = WebOcpp().reply(request, body, Kind.CALL_ERROR)
    assert answer is not None
    assert json.loads(answer.body) == [4, "m-1", code, 'no "x"', {"most": 3}]
    assert answer.properties == Properties(content_type="application/json", delivery_mode=1)


def test_answers_go_to_the_exchange_that_was_configured_and_expire_in_time() -> None:
    dialect = WebOcpp(exchange="ocpp", patience=5.0)
    answer = dialect.reply(dialect.request(published(exchange="ocpp")), b"{}", Kind.RESPONSE)
    assert answer is not None
    assert answer.exchange == "ocpp"
    assert_expires(answer, within=5.0)


# ---- on the way elsewhere ----


def test_another_try_comes_back_to_its_queue_by_name_in_the_form_it_came() -> None:
    delivery = published(protocol="ocpp201")
    dialect = WebOcpp()
    request = dialect.request(delivery)
    copy = dialect.again(request, 0.5, counts=True)
    assert (copy.exchange, copy.routing_key) == (
        "datatransfer-web-ocpp.retry.500",
        "datatransfer-web-ocpp.ocpp201",
    )
    assert (copy.body, copy.mandatory) == (delivery.body, True)
    told = copy.properties
    assert (told.correlation_id, told.reply_to, told.type, told.content_type) == (
        "m-1",
        "CP-1",
        "DataTransfer",
        "application/json",
    )
    assert (told.delivery_mode, told.expiration) == (2, None)
    again = dialect.request(Delivery("", copy.routing_key, False, told, copy.body))
    assert (again.body, again.station_id, again.version) == (
        request.body,
        "CP-1",
        OcppVersion.V2_0_1,
    )
    assert again.deadline == pytest.approx(request.deadline, abs=0.002)
    assert (again.attempt, again.reply_wanted) == (2, True)
    assert again.first_try == pytest.approx(time.time(), abs=5)


def test_a_dead_letter_tells_its_story_and_where_it_goes_when_it_is_replayed() -> None:
    delivery = published()
    dialect = WebOcpp()
    letter = dialect.dead_letter(
        dialect.request(delivery), Failure(b"", Reason.FAILED, "ValueError: x"), "w@h:1"
    )
    assert (letter.exchange, letter.body, letter.mandatory) == (
        "datatransfer.dead",
        delivery.body,
        True,
    )
    headers = letter.properties.headers or {}
    assert (headers["dtbridge-reason"], headers["dtbridge-error"]) == ("failed", "ValueError: x")
    assert (headers["dtbridge-vendor"], headers["dtbridge-message"]) == ("com.acme", "GetTariff")
    assert (headers["ocpp-station-id"], headers["ocpp-version"]) == ("CP-1", "ocpp1.6")
    assert (headers["dtbridge-exchange"], headers["dtbridge-routing-key"]) == (
        "",
        "datatransfer-web-ocpp.ocpp16",
    )
    assert (letter.properties.correlation_id, letter.properties.reply_to) == ("m-1", "CP-1")


# ---- the other way: from the CSMS to a station ----


def to_station(
    station_id: str = "CP-1", *, version: OcppVersion = OcppVersion.V1_6, message_id: str = "m-1"
) -> Publishing:
    return WebOcpp().station_request(
        station_id=station_id,
        version=version,
        body=PAYLOAD.encode(),
        deadline=time.time() + 10.0,
        message_id=message_id,
    )


@pytest.mark.parametrize("version", OcppVersion)
def test_a_request_to_a_station_is_a_call_with_the_station_as_key(version: OcppVersion) -> None:
    asked = to_station(version=version)
    assert asked.body == f'[2,"m-1","DataTransfer",{PAYLOAD}]'.encode()
    assert (asked.exchange, asked.routing_key, asked.mandatory) == ("amq.topic", "CP-1", True)
    assert asked.correlation_id == "m-1"
    assert asked.properties == Properties(
        content_type="application/json", delivery_mode=1, type="DataTransfer"
    )
    assert_expires(asked, within=10.0)


def test_a_message_id_of_a_request_is_written_as_json() -> None:
    assert json.loads(to_station(message_id='"\\é').body)[1] == '"\\é'


@pytest.mark.parametrize(
    "station_id", ["", "ocpp16.DataTransfer.req", "ocpp21.x", "s" * 256, "é" * 128]
)
def test_what_can_be_no_station_is_told_so(station_id: str) -> None:
    with pytest.raises(ValueError, match="is no station of web-ocpp"):
        to_station(station_id)


def test_the_answers_of_stations_are_asked_of_the_configured_exchange() -> None:
    keys = ["*.DataTransfer.conf", "*.response.conf", "*.*.error"]
    assert WebOcpp(exchange="ocpp").station_replies == [Binding("ocpp", key) for key in keys]


def told_by_station(body: str | bytes, key: str) -> tuple[str | None, str | None, Any] | None:
    """Message id, kind and payload of what the dialect makes of it."""
    reply = WebOcpp().read_station_reply(published(body, key=key, correlation_id=None))
    return (
        None
        if reply is None
        else (reply.properties.correlation_id, reply.properties.type, json.loads(reply.body))
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("action", ["response", "DataTransfer"])
def test_a_result_of_a_station_is_a_response(protocol: str, action: str) -> None:
    expected = ("m-1", "DataTransferResponse", {"status": "Accepted", "data": "{}"})
    body = '[3,"m-1",{"status":"Accepted","data":"{}"}]'
    assert told_by_station(body, f"{protocol}.{action}.conf") == expected


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("action", ["response", "DataTransfer", "NotImplemented"])
def test_an_error_of_a_station_is_a_call_error(protocol: str, action: str) -> None:
    error = {"errorCode": "NotImplemented", "errorDescription": "no", "errorDetails": {"a": 1}}
    body = '[4,"m-1","NotImplemented","no",{"a":1}]'
    assert told_by_station(body, f"{protocol}.{action}.error") == ("m-1", "CallError", error)


def test_an_answer_names_its_station_and_its_version() -> None:
    headers = {"ocpp-station-id": "CP-1", "ocpp-version": "ocpp2.0.1"}
    for station_id, expected in (("CP-1", headers), (None, {"ocpp-version": "ocpp2.0.1"})):
        delivery = published('[3,"m-1",{}]', key="ocpp201.response.conf", reply_to=station_id)
        reply = WebOcpp().read_station_reply(delivery)
        assert reply is not None
        assert reply.properties.headers == expected


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ("", "ocpp16.response.conf"),
        ("{", "ocpp16.response.conf"),
        (b"\xff" * 1_000_000, "ocpp16.response.conf"),
        ("[" * 100_000, "ocpp16.response.conf"),
        ('[3,"m-1', "ocpp16.response.conf"),
        ('[2,"m-1"]', "ocpp16.response.conf"),
        ('[6,"m-1"]', "ocpp21.response.conf"),
        ('[5,"m-1","GenericError","",{}]', "ocpp21.response.error"),
        (f'[2,"m-1","DataTransfer",{PAYLOAD}]', "ocpp16.DataTransfer.req"),
        ('[3,"m-1",{"status":"Accepted"}]', "ocpp15.response.conf"),
        ('[3,"m-1",{"status":"Accepted"}]', "CP-1"),
        ('[3,"m-1",{"status":"Accepted"}]', ""),
    ],
)
def test_what_is_no_answer_of_a_station_is_none(body: str | bytes, key: str) -> None:
    assert told_by_station(body, key) is None


@pytest.mark.parametrize(
    "body",
    [
        '[3,"m-1"]',
        '[4,"m-1"]',
        '[3,"m-1",{"status":"Accepted"',
        '[3,"m-1",{"status":"Accepted"}]\0',
        '["3","m-1",{"status":"Accepted"}]',
    ],
)
def test_a_broken_answer_of_a_station_ends_the_wait_for_it(body: str) -> None:
    told = told_by_station(body, "ocpp16.response.conf")
    assert told is not None
    assert told[:2] == ("m-1", "CallError")
    assert told[2]["errorCode"] == "FormatViolation"
    assert told[2]["errorDescription"].startswith("the station's answer is broken: ")


def test_a_broken_answer_without_an_id_ends_the_wait_that_its_property_names() -> None:
    delivery = published("nonsense", key="ocpp16.response.conf", correlation_id="m-1")
    reply = WebOcpp().read_station_reply(delivery)
    assert reply is not None
    assert (reply.properties.correlation_id, reply.properties.type) == ("m-1", "CallError")


def test_a_code_of_a_stations_own_is_kept_and_unusable_details_are_not() -> None:
    told = told_by_station('[4,"m-1","E-17",null,[]]', "ocpp16.E17.error")
    error = {"errorCode": "E-17", "errorDescription": "", "errorDetails": {}}
    assert told == ("m-1", "CallError", error)
