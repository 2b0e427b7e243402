"""Dead letters as values: their stories, which are wanted, and how one is tried again."""

import datetime as dt
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.dead_letters.filter import Filter, parse_age, parse_id, parse_reasons
from bridge.dead_letters.letter import ID_LENGTH, REASONS, DeadLetter, everything, read, replayed
from bridge.dialects import CitrineOs, WebOcpp
from bridge.dialects.native import Native
from bridge.request.outcome import Failure, Reason
from bridge.transport import Delivery, Properties, Publishing

NOW = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)
BODY = b'{"vendorId":"com.Acme","messageId":"GetTariff","data":{"x": 1.0}}'


def a_delivery(
    headers: dict[str, Any] | None = None,
    body: bytes = BODY,
    exchange: str = "datatransfer",
    **properties: Any,
) -> Delivery:
    return Delivery(exchange, "com.acme", False, Properties(headers=headers, **properties), body)


def arrived(publishing: Publishing) -> Delivery:
    """What the dead-letter queue delivers of a publishing."""
    return Delivery(
        publishing.exchange, publishing.routing_key, False, publishing.properties, publishing.body
    )


def given_up(headers: dict[str, Any] | None = None, **properties: Any) -> Delivery:
    """A request that the bridge has given up."""
    headers = {
        "ocpp-station-id": "CP1",
        "ocpp-version": "ocpp1.6",
        "ocpp-deadline": 1,
        "traceparent": "00-a",
    } | (headers or {})
    contract = Native()
    request = contract.request(
        a_delivery(headers, message_id="17", reply_to="amq.gen-1", **properties)
    )
    return arrived(
        contract.dead_letter(request, Failure(None, Reason.FAILED, "ValueError: no"), "host:1")
    )


def death(reason: str = "delivery_limit", **changes: Any) -> dict[str, Any]:
    return {
        "count": 1,
        "reason": reason,
        "queue": "datatransfer.com.acme",
        "time": NOW,
        "exchange": "datatransfer",
        "routing-keys": ["com.acme"],
    } | changes


# ---- stories ----


def test_what_the_contract_writes_is_read_back() -> None:
    letter = read(given_up({"dtbridge-attempt": 3}))
    assert letter.failed_at is not None
    assert msgspec.structs.asdict(letter) == {
        "id": letter.id,
        "reason": "failed",
        "error": "ValueError: no",
        "vendor": "com.Acme",
        "message": "GetTariff",
        "station": "CP1",
        "ocpp_version": "ocpp1.6",
        "ocpp_message_id": "17",
        "attempts": 3,
        "first_try": letter.failed_at,
        "failed_at": letter.failed_at,
        "worker": "host:1",
        "exchange": "datatransfer",
        "routing_key": "com.acme",
        "replayed": 0,
        "size": len(BODY),
        "replayable": True,
    }
    assert abs((dt.datetime.now(dt.UTC) - letter.failed_at).total_seconds()) < 60


@pytest.mark.parametrize("reason", ["expired", "delivery_limit", "maxlen", "rejected"])
def test_what_the_broker_dead_lettered_is_read_from_x_death(reason: str) -> None:
    letter = read(a_delivery({"ocpp-station-id": "CP1", "x-death": [death(reason)]}))
    assert (letter.reason, letter.failed_at, letter.station) == (reason, NOW, "CP1")
    assert (letter.vendor, letter.message) == ("com.Acme", "GetTariff")
    assert (letter.exchange, letter.routing_key, letter.replayable) == (
        "datatransfer",
        "com.acme",
        True,
    )
    assert "queue datatransfer.com.acme" in letter.error
    assert letter.attempts is None


def test_the_newest_death_counts_and_not_the_pause_before_a_retry() -> None:
    pause = death("expired", queue="datatransfer.retry.1000", exchange="datatransfer.retry.1000")
    headers = {
        "x-death": [death("delivery_limit"), pause],
        "x-first-death-reason": "expired",
        "x-first-death-exchange": "datatransfer.retry.1000",
        "dtbridge-attempt": 2,
    }
    letter = read(a_delivery(headers))
    assert (letter.reason, letter.exchange, letter.attempts) == (
        "delivery_limit",
        "datatransfer",
        2,
    )


@pytest.mark.parametrize(
    ("milliseconds_after_the_death", "reason"),
    [(-5000, "expired"), (999, "expired"), (1000, "rejected")],
)
def test_what_a_worker_rejects_after_its_deadline_is_called_expired(
    milliseconds_after_the_death: int, reason: str
) -> None:
    deadline = round(NOW.timestamp() * 1000) + milliseconds_after_the_death
    assert (
        read(a_delivery({"x-death": [death("rejected")], "ocpp-deadline": deadline})).reason
        == reason
    )


def test_a_message_that_is_no_dead_letter_has_no_story_and_cannot_be_replayed() -> None:
    delivery = a_delivery(None, b"\xff")
    letter = read(delivery)
    assert (letter.reason, letter.vendor, letter.failed_at, letter.replayable) == (
        "",
        "",
        None,
        False,
    )
    assert replayed(delivery, letter) is None


HEADER_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text() | st.binary()
    | st.just("\udcff") | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
NAMES = st.sampled_from(
    ["ocpp-station-id", "ocpp-version", "ocpp-deadline", "x-death", "CC"]
    + [
        f"dtbridge-{name}"
        for name in ("attempt", "first-try", "reason", "error", "failed-at", "vendor", "message")
    ]
    + [f"dtbridge-{name}" for name in ("worker", "exchange", "routing-key", "replayed")]
)
DEATHS = st.dictionaries(st.sampled_from(list(death())), HEADER_VALUES).map(
    lambda changes: [death() | changes]
)


@given(
    headers=st.none() | st.dictionaries(NAMES, HEADER_VALUES),
    deaths=DEATHS | st.none(),
    body=st.binary() | st.just(b"[" * 100_000) | st.just(b'{"vendorId":["\\ud800"],"messageId":7}'),
)
def test_any_message_can_be_read_shown_and_filtered(
    headers: dict[str, Any] | None, deaths: list[Any] | None, body: bytes
) -> None:
    if deaths is not None:
        headers = (headers or {}) | {"x-death": deaths}
    delivery = a_delivery(headers, body)
    letter = read(delivery)
    assert len(letter.id) == ID_LENGTH
    assert letter.id == read(delivery).id
    msgspec.json.encode(everything(delivery, letter))
    assert Filter().takes(letter, NOW)
    publishing = replayed(delivery, letter)
    assert (publishing is not None) == letter.replayable
    assert publishing is None or publishing.body == body


def test_a_text_that_is_not_utf_8_is_shown_as_far_as_it_is() -> None:
    assert read(a_delivery({"ocpp-station-id": b"CP\xff"})).station == "CP\N{REPLACEMENT CHARACTER}"


def test_ids_tell_apart_what_differs() -> None:
    base = {"ocpp-station-id": "CP1", "dtbridge-failed-at": 5, "dtbridge-reason": "failed"}
    deliveries = [
        a_delivery(base, message_id="1"),
        a_delivery(base | {"ocpp-station-id": "CP11"}, message_id=""),
        a_delivery(base, message_id="2"),
        a_delivery(base | {"dtbridge-failed-at": 6}, message_id="1"),
        a_delivery(base, b"{}", message_id="1"),
    ]
    assert len({read(delivery).id for delivery in deliveries}) == len(deliveries)


def test_what_the_broker_adds_does_not_change_an_id() -> None:
    delivery = given_up()
    before = read(delivery).id
    assert delivery.properties.headers is not None
    delivery.properties.headers["x-delivery-count"] = 2
    delivery.redelivered = True
    assert read(delivery).id == before


def test_everything_shows_the_body_as_it_is() -> None:
    text, binary = a_delivery({}, b'{ "a":1 }'), a_delivery({}, b"\xff\x00")
    assert everything(text, read(text))["body"] == '{ "a":1 }'
    assert everything(binary, read(binary))["body_base64"] == "/wA="
    assert "body" not in everything(binary, read(binary))


# ---- replay ----


def replay_of(delivery: Delivery) -> Publishing:
    publishing = replayed(delivery, read(delivery))
    assert publishing is not None
    return publishing


def test_a_replayed_request_is_the_original_without_what_is_stale() -> None:
    dead = given_up(
        {"x-tenant": "a", "CC": ["other"], "dtbridge-attempt": 4, "dtbridge-first-try": 9},
        correlation_id="c",
        priority=3,
        type="DataTransfer",
    )
    dead.properties.expiration, dead.properties.user_id = "5", "guest"
    publishing = replay_of(dead)
    assert (publishing.exchange, publishing.routing_key, publishing.mandatory) == (
        "datatransfer",
        "com.acme",
        True,
    )
    assert publishing.body == BODY
    assert publishing.properties == Properties(
        headers={
            "ocpp-station-id": "CP1",
            "ocpp-version": "ocpp1.6",
            "traceparent": "00-a",
            "dtbridge-replayed": 1,
        },
        delivery_mode=2,
        priority=3,
        correlation_id="c",
        message_id="17",
        type="DataTransfer",
    )


def test_a_replayed_request_is_a_first_try_that_nobody_waits_for() -> None:
    request = Native().request(
        arrived(replay_of(given_up({"dtbridge-attempt": 4, "dtbridge-first-try": 9})))
    )
    assert (request.attempt, request.first_try, request.deadline, request.reply_wanted) == (
        1,
        None,
        None,
        False,
    )
    assert request.fault is None


def test_replays_are_counted_across_deaths() -> None:
    contract = Native()
    delivery = given_up()
    for number in (1, 2, 3):
        again = arrived(replay_of(delivery))
        request = contract.request(again)
        delivery = arrived(contract.dead_letter(request, Failure(None, Reason.FAILED), "w"))
        assert read(delivery).replayed == number


def test_what_the_broker_dead_lettered_goes_back_without_its_death() -> None:
    headers = {
        "ocpp-station-id": "CP1",
        "x-death": [death() | {"routing-keys": ["first", "cc"]}],
        "CC": ["cc"],
    }
    publishing = replay_of(a_delivery(headers, exchange="datatransfer.dead"))
    assert (publishing.exchange, publishing.routing_key) == ("datatransfer", "first")
    assert publishing.properties.headers == {"ocpp-station-id": "CP1", "dtbridge-replayed": 1}


def test_a_request_without_a_correlation_id_gets_the_id_of_the_dead_letter() -> None:
    delivery = given_up()
    assert replay_of(delivery).properties.correlation_id == read(delivery).id


def test_reading_and_replaying_do_not_change_the_delivery() -> None:
    delivery = given_up()
    before = msgspec.structs.asdict(delivery.properties) | {
        "headers": dict(delivery.properties.headers or {})
    }
    replay_of(delivery)
    assert msgspec.structs.asdict(delivery.properties) == before


# ---- filters ----


def a_letter(**changes: Any) -> DeadLetter:
    letter = read(given_up())
    return msgspec.structs.replace(letter, **{"failed_at": NOW - dt.timedelta(hours=1)} | changes)


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        (Filter(), True),
        (Filter(vendor="COM.acme"), True),
        (Filter(vendor="com"), False),
        (Filter(message="gettariff"), True),
        (Filter(message=""), False),
        (Filter(station="CP1"), True),
        (Filter(station="cp1"), False),
        (Filter(reasons=frozenset({"expired", "failed"})), True),
        (Filter(reasons=frozenset({"expired"})), False),
        (Filter(older_than=3599), True),
        (Filter(older_than=3600), False),
        (Filter(newer_than=3601), True),
        (Filter(newer_than=3600), False),
        (Filter(older_than=60, newer_than=7200), True),
        (Filter(vendor="com.acme", station="other"), False),
    ],
)
def test_every_condition_of_a_filter_must_be_met(wanted: Filter, taken: bool) -> None:
    assert wanted.takes(a_letter(), NOW) is taken


def test_the_empty_message_means_requests_without_one() -> None:
    assert Filter(message="").takes(a_letter(message=""), NOW)


def test_what_does_not_say_when_it_died_is_neither_older_nor_newer() -> None:
    letter = a_letter(failed_at=None)
    assert Filter().takes(letter, NOW)
    assert not Filter(older_than=0).takes(letter, NOW)
    assert not Filter(newer_than=1e9).takes(letter, NOW)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("2h", 7200), ("7d", 604800), ("1.5h", 5400), (" 0s ", 0)],
)
def test_ages(text: str, seconds: float) -> None:
    assert parse_age(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "h", "-1h", "1w", "1h30m", "1e3s", "٣h"])
def test_what_is_no_age_is_said(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"is not an age: expected .* for example 90s, 15m, 2h or 7d"
    ):
        parse_age(text)


def test_an_unknown_reason_is_said_with_the_known_ones() -> None:
    assert parse_reasons(list(REASONS)) == set(REASONS)
    with pytest.raises(ValueError, match=r"'fail' is no reason: expected failed, .*delivery_limit"):
        parse_reasons(["failed", "fail"])


@pytest.mark.parametrize("text", ["", "xyz", "0" * 13, "-1", "a%"])
def test_what_cannot_begin_an_id_is_said(text: str) -> None:
    assert parse_id(" 0aF ") == "0af"
    with pytest.raises(ValueError, match="is not an id"):
        parse_id(text)


# ---- other dialects ----

FRAME = b'[2,"m-1","DataTransfer",{"vendorId":"com.Acme","messageId":"GetTariff"}]'
CITRINE = (
    b'{"_origin":"cs","_action":"DataTransfer","_state":1,"_protocol":"ocpp1.6",'
    b'"_context":{"ocppConnectionName":"CP1","correlationId":"m-1","tenantId":1},'
    b'"_payload":{"vendorId":"com.Acme","messageId":"GetTariff"}}'
)


def expired_frame(**changes: Any) -> Delivery:
    """A request of web-ocpp that expired in its queue: as the plugin published it, and what the broker adds."""
    told = death("expired", queue="datatransfer-web-ocpp.ocpp16", exchange="amq.topic", **changes)
    told["routing-keys"] = ["ocpp16.DataTransfer.req"]
    properties = Properties(
        correlation_id="m-1", reply_to="CP1", type="DataTransfer", headers={"x-death": [told]}
    )
    return Delivery("datatransfer.dead", "ocpp16.DataTransfer.req", False, properties, FRAME)


def expired_envelope() -> Delivery:
    """A request of CitrineOS that was delivered too often."""
    told = death("delivery_limit", queue="datatransfer-citrineos", exchange="citrineos")
    told["routing-keys"] = [""]
    headers = {"action": "DataTransfer", "origin": "cs", "state": "1", "x-death": [told]}
    return Delivery("datatransfer.dead", "", False, Properties(headers=headers), CITRINE)


@pytest.mark.parametrize(
    ("delivery", "reason", "queue", "version"),
    [
        (expired_frame(), "expired", "datatransfer-web-ocpp.ocpp16", ""),
        (expired_envelope(), "delivery_limit", "datatransfer-citrineos", "ocpp1.6"),
    ],
)
def test_a_dialects_request_is_read_by_its_form_and_goes_back_to_its_queue(
    delivery: Delivery, reason: str, queue: str, version: str
) -> None:
    letter = read(delivery)
    assert (letter.reason, letter.vendor, letter.message, letter.station) == (
        reason,
        "com.Acme",
        "GetTariff",
        "CP1",
    )
    assert (letter.ocpp_message_id, letter.ocpp_version) == ("m-1", version)
    assert (letter.exchange, letter.routing_key, letter.replayable) == ("", queue, True)
    again = replayed(delivery, letter)
    assert again is not None
    assert (again.exchange, again.routing_key, again.body) == ("", queue, delivery.body)
    headers = again.properties.headers or {}
    assert (headers["ocpp-station-id"], headers["dtbridge-replayed"]) == ("CP1", 1)
    assert "x-death" not in headers
    assert again.properties.reply_to is None


def test_a_replayed_request_of_a_dialect_is_one_again_that_nobody_waits_for() -> None:
    for dialect, delivery in ((WebOcpp(), expired_frame()), (CitrineOs(), expired_envelope())):
        again = replayed(delivery, read(delivery))
        assert again is not None
        request = dialect.request(
            Delivery("", again.routing_key, False, again.properties, again.body)
        )
        assert (request.station_id, request.ocpp_message_id, request.reply_wanted) == (
            "CP1",
            "m-1",
            False,
        )
        failure = Failure(None, Reason.FAILED, "again")
        letter = read(arrived(dialect.dead_letter(request, failure, "host:1")))
        assert (letter.station, letter.replayed, letter.replayable, letter.exchange) == (
            "CP1",
            1,
            True,
            "",
        )


@pytest.mark.parametrize(
    "body",
    [
        b'{"vendorId":"v","payload":{},"context":{}}',
        b'{"payload":{}}',
        b"[2]",
        b"[2,",
        b"[]",
        b"{",
        b'{"context":7,"payload":null}',
        b'[2,7,7,"\xff"]',
    ],
)
def test_what_only_looks_like_another_dialect_is_read_all_the_same(body: bytes) -> None:
    letter = read(a_delivery({"x-death": [death(queue=7)]}, body))
    assert letter.size == len(body)
