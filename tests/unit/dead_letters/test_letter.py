"""Dead letters as values: their stories, and how one is tried again."""

import datetime as dt
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.dead_letters.filter import Filter
from bridge.dead_letters.letter import ID_LENGTH, everything, read, replayed
from bridge.dialects.headers import MARKER_BODY
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
    letter = read(a_delivery({"x-death": [death("rejected")], "ocpp-deadline": deadline}))
    assert letter.reason == reason
    assert letter.error.startswith("its deadline had passed") is (reason == "expired")


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
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text()
    | st.binary()
    | st.just("\udcff") | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5), inner, max_size=3),
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
    dead.properties.timestamp = 1_700_000_000
    before = int(time.time())
    publishing = replay_of(dead)
    sent = publishing.properties.timestamp
    assert sent is not None
    assert before <= sent <= time.time()
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
        timestamp=sent,
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


# ---- forged stories ----

FORGED = {
    "dtbridge-reason": "failed",
    "dtbridge-error": "ValueError: believe me",
    "dtbridge-failed-at": 1,
    "dtbridge-worker": "host:1",
    "dtbridge-vendor": "com.other",
    "dtbridge-message": "Other",
    "dtbridge-exchange": "",
    "dtbridge-routing-key": "billing.commands",
}


@pytest.mark.parametrize("deaths", [[death("expired")], [None], [], "expired", None])
def test_a_story_is_the_bridges_only_if_the_broker_did_not_put_it_there(deaths: Any) -> None:
    """A request that expires in its queue keeps its headers, whatever its sender wrote."""
    letter = read(a_delivery(FORGED | {"x-death": deaths}))
    broker = isinstance(deaths, list) and deaths != [] and deaths[0] is not None
    assert (letter.reason, letter.worker) == ("expired" if broker else "", "")
    assert (letter.vendor, letter.message) == ("com.Acme", "GetTariff")
    assert letter.routing_key == ("com.acme" if broker else "")
    assert letter.replayable is broker
    assert "believe me" not in letter.error


def test_a_forged_story_does_not_outlive_the_bridges_own() -> None:
    letter = read(given_up(FORGED | {"x-death": [death(), None]}))
    assert (letter.reason, letter.error, letter.exchange, letter.routing_key) == (
        "failed",
        "ValueError: no",
        "datatransfer",
        "com.acme",
    )


@pytest.mark.parametrize("count", [2**63 - 1, 2**64 - 1])
def test_a_count_of_replays_from_elsewhere_stays_one_that_can_be_sent(count: int) -> None:
    headers = replay_of(given_up({"dtbridge-replayed": count})).properties.headers or {}
    assert headers["dtbridge-replayed"] < 2**31


# ---- what is broken in it ----


@pytest.mark.parametrize("name", ["station", "worker", "error", "vendor"])
def test_a_text_in_a_header_that_is_not_utf_8_is_read_as_far_as_it_is(name: str) -> None:
    header = "ocpp-station-id" if name == "station" else f"dtbridge-{name}"
    letter = read(
        a_delivery({"dtbridge-reason": "failed", header: b"caf\xc3\xa9 \xff\xed\xa0\x80"})
    )
    assert getattr(letter, name).startswith("caf\u00e9 \ufffd")
    getattr(letter, name).encode()


@pytest.mark.parametrize("name", ["station", "worker", "error", "vendor", "message"])
def test_half_a_surrogate_pair_can_be_printed(name: str) -> None:
    header = "ocpp-station-id" if name == "station" else f"dtbridge-{name}"
    for text in ("a\ud800", "a\udcff"):
        headers = {"dtbridge-reason": "failed", "dtbridge-vendor": "v", header: text}
        letter = read(a_delivery(headers))
        assert getattr(letter, name).startswith("a")
        getattr(letter, name).encode()


@pytest.mark.parametrize(
    "body",
    [
        b'{"vendorId":"\xff"}',
        b'{"vendorId":"a\xed\xa0\x80"}',
        b'{"vendorId":"a","messageId":"\xff"}',
    ],
)
def test_broken_utf_8_in_a_payload_leaves_the_rest_readable(body: bytes) -> None:
    letter = read(a_delivery({"x-death": [death()]}, body))
    assert letter.vendor in {"", "a"}
    assert (letter.message, letter.reason) == ("", "delivery_limit")
    assert "body_base64" in everything(a_delivery({}, body), letter)


FAR = [2**63 - 1, -(2**63), 2**64 - 1, 253_402_300_800_000, -62_135_596_800_001]
"""Milliseconds of Unix time that are in no year from 1 to 9999."""


@pytest.mark.parametrize("milliseconds", FAR)
def test_a_time_out_of_range_is_not_known(milliseconds: int) -> None:
    headers = {
        "dtbridge-reason": "failed",
        "dtbridge-failed-at": milliseconds,
        "dtbridge-first-try": milliseconds,
    }
    letter = read(a_delivery(headers))
    assert (letter.failed_at, letter.first_try, letter.reason) == (None, None, "failed")
    letter = read(a_delivery({"x-death": [death(time=milliseconds)]}))
    assert (letter.failed_at, letter.reason) == (None, "delivery_limit")


@pytest.mark.parametrize("milliseconds", [253_402_300_799_999, -62_135_596_800_000, 0])
def test_the_first_and_the_last_time_are(milliseconds: int) -> None:
    headers = {"dtbridge-reason": "failed", "dtbridge-failed-at": milliseconds}
    at = read(a_delivery(headers)).failed_at
    assert at is not None
    assert at.year in {1, 1970, 9999}
    Filter(older_than=1.0, newer_than=1e12).takes(read(a_delivery(headers)), NOW)


@pytest.mark.parametrize("value", ["2026", 1.5, True, None, b"1", [1]])
def test_a_time_that_is_no_number_of_milliseconds_is_not_known(value: Any) -> None:
    assert (
        read(a_delivery({"dtbridge-reason": "failed", "dtbridge-failed-at": value})).failed_at
        is None
    )


@pytest.mark.parametrize(
    "at",
    [
        NOW.replace(tzinfo=None),
        NOW.replace(year=1, tzinfo=None),
        NOW.replace(year=9999, tzinfo=None),
    ],
)
def test_a_time_without_a_zone_is_utc(at: dt.datetime) -> None:
    deaths = [death("rejected", time=at)]
    letter = read(a_delivery({"x-death": deaths, "ocpp-deadline": 2**63 - 1}))
    assert letter.failed_at == at.replace(tzinfo=dt.UTC)
    assert letter.reason == "rejected"


def test_a_long_text_is_cut() -> None:
    """A list may hold thousands of letters."""
    for error in ("x" * 100_000, b"x" * 100_000):
        assert (
            len(read(a_delivery({"dtbridge-reason": "f", "dtbridge-error": error})).error) == 4096
        )


# ---- what is no request ----


def test_a_marker_that_a_worker_was_given_is_told_as_such_and_not_replayed() -> None:
    contract = Native()
    headers = {"dtbridge-marker": 1}
    marker = a_delivery(headers, MARKER_BODY, exchange="", type="dtbridge-marker")
    request = contract.request(marker)
    kept = arrived(contract.dead_letter(request, Failure(None, Reason.BROKEN, "no station"), "h:1"))
    for delivery in (kept, a_delivery({"x-death": [death("expired")]}, MARKER_BODY)):
        letter = read(delivery)
        assert (letter.reason, letter.replayable, letter.vendor) == ("marker", False, "")
        assert "delete it" in letter.error
        assert replayed(delivery, letter) is None
    of_a_station = given_up()
    forged = msgspec.structs.replace(of_a_station, body=MARKER_BODY)
    assert read(forged).reason == "failed"
