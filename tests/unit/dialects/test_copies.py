"""Copies of a request: for another try, and as a dead letter."""

import time
from typing import Any

import msgspec
import pytest

from bridge.dialects.copies import (
    after_pause,
    may_be_rejected,
    milliseconds_left,
    pause_left,
)
from bridge.dialects.native import Native
from bridge.rabbitmq.frames.writing import Encoder
from bridge.request.incoming import Request
from bridge.request.outcome import Failure, Reason
from bridge.transport import Delivery, Properties

STATION = {"ocpp-station-id": "CP001"}
SENT = 1_700_000_000
"""When the request was published: every copy of it says so."""


@pytest.mark.parametrize(
    ("deadline", "expiration"),
    [
        (0.0, "0"),
        (-(2.0**63), "0"),
        (2.0**63, str(2**32 - 1)),
        pytest.param(time.time() + 10**8, str(2**32 - 1), id="three years"),
    ],
)
def test_an_expiration_is_one_the_broker_takes(deadline: float, expiration: str) -> None:
    """RabbitMQ closes the channel for a negative one and for one above 2^32 - 1 ms."""
    assert milliseconds_left(deadline) == expiration


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
        timestamp=SENT,
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
        timestamp=SENT,
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


@pytest.mark.parametrize("ahead", [10.0, 86_400.0])
def test_a_clock_that_is_ahead_makes_no_pause_longer(ahead: float) -> None:
    end = int((time.time() + ahead) * 1000)
    waiting = Delivery("", "v", False, Properties(headers={"dtbridge-not-before": end}), b"")
    assert pause_left(waiting, 1.0) == 1.0


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


@pytest.mark.parametrize("copy", ["another try", "a dead letter"])
def test_of_the_bridges_own_headers_a_copy_keeps_those_that_a_request_may_have(copy: str) -> None:
    """The others tell of a dead letter: on a request they are its sender's."""
    own = {"dtbridge-attempt": 2, "dtbridge-first-try": 9, "dtbridge-replayed": 1}
    told = ("reason", "error", "failed-at", "vendor", "message", "worker", "exchange", "new")
    request = delivered(own | {f"dtbridge-{name}": "forged" for name in told})
    if copy == "another try":
        publishing = Native().again(request, 1.0, counts=True)
    else:
        publishing = Native().dead_letter(request, Failure(None, Reason.FAILED, "E: no"), "w")
    headers = publishing.properties.headers or {}
    assert "forged" not in headers.values()
    assert headers["dtbridge-first-try"] == 9
    assert headers["dtbridge-replayed"] == 1
    assert "dtbridge-new" not in headers


def test_a_forged_request_takes_nothing_back_with_it_that_the_broker_would_refuse_or_obey() -> None:
    """Whoever may write to the delay queue can put anything there: 406 ends the channel."""
    headers = BROKERS_OWN | {"CC": ["a"], "BCC": ["b"], "dtbridge-not-before": 0, "own": 1}
    source = Delivery(
        "", "acme", False, Properties(headers=headers, user_id="gateway", reply_to="amq.gen-1"), b""
    )
    back = after_pause(source, Native().names).properties
    assert (back.headers, back.user_id, back.reply_to) == ({"own": 1}, None, "amq.gen-1")


DEATH = {"count": 1, "queue": "q", "reason": "expired", "exchange": "", "routing-keys": ["q"]}


@pytest.mark.parametrize(
    ("x_death", "honest"),
    [
        ([DEATH], True),
        ([DEATH, DEATH | {"reason": "rejected"}, DEATH | {"queue": "r"}], True),
        ([], True),
        (None, False),
        ("died", False),
        ({"count": 1}, False),
        ([None], False),
        ([DEATH, "died"], False),
        ([[DEATH]], False),
        ([DEATH, DEATH], False),
        ([DEATH | {"count": "1"}], False),
        ([DEATH | {"count": None}], False),
        ([DEATH | {"queue": b"\xff"}], False),
        ([DEATH | {"reason": ["expired"]}], False),
        ([{"count": 1}], False),
    ],
)
def test_only_what_the_broker_has_written_itself_may_be_given_back_to_its_dead_lettering(
    x_death: Any, honest: bool
) -> None:
    forged = Delivery("", "q", False, Properties(headers={"x-death": x_death}), b"")
    assert may_be_rejected(forged) is honest


@pytest.mark.parametrize("headers", [None, {}, {"own": None}])
def test_what_never_died_may_be_rejected(headers: dict[str, Any] | None) -> None:
    assert may_be_rejected(Delivery("", "q", False, Properties(headers=headers), b""))
