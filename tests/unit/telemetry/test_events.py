"""Events as values: what is read from others, and what is left out."""

import json
from typing import Any

import pytest

from bridge.telemetry.events import (
    AS_DESIGNED,
    Event,
    answer_body,
    encode_event,
    read_event,
    read_members,
    request_body,
)
from bridge.telemetry.outcomes import KINDS

WHOLE: dict[str, Any] = {
    "time": "2026-03-01T08:15:00.123Z",
    "outcome": "failed",
    "station": "CP001",
    "vendor": "EN+",
    "message": "Read",
    "ocpp_version": "ocpp1.6",
    "ocpp_message_id": "42",
    "code": "InternalError",
    "reason": "failed",
    "error": "ValueError",
    "attempt": 2,
    "redelivered": True,
    "waiting_s": 0.5,
    "handler_s": 0.25,
    "answer_s": 0.75,
    "worker": "dtbridge@host:1",
    "request": '{"vendorId":"EN+"}',
    "answer": "{}",
}


def test_what_is_written_is_read_again() -> None:
    event = read_event(read_members(json.dumps(WHOLE)))
    assert json.loads(encode_event(event)) == WHOLE
    assert (request_body(event), answer_body(event)) == (b'{"vendorId":"EN+"}', b"{}")


def test_a_field_that_has_nothing_to_say_is_left_out() -> None:
    event = Event("2026-03-01T08:15:00.123Z", "accepted")
    assert json.loads(encode_event(event)) == {"time": event.time, "outcome": "accepted"}


def test_a_body_that_is_not_text_comes_back_byte_by_byte() -> None:
    event = Event("t", "failed", request_base64=b"\xff\x00", answer_base64=b"\xfe")
    again = read_event(read_members(encode_event(event)))
    assert (request_body(again), answer_body(again)) == (b"\xff\x00", b"\xfe")


def test_what_a_newer_worker_adds_is_kept() -> None:
    members = read_members(b'{"time":"t","outcome":"new","more":[1]}')
    assert members["more"] == [1]
    assert read_event(members).outcome == "new"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"time":"t"}',
        b'{"time":1,"outcome":"x"}',
        b"[" * 100_000,
        b'{"time":"t","outcome":"accepted","attempt":"two"}',
        b'{"a":' * 100_000,
    ],
    ids=range(9),
)
def test_what_is_no_event_is_a_value_error_with_a_clause(text: bytes) -> None:
    with pytest.raises(ValueError, match="it is"):
        read_members(text)


def test_failures_are_all_that_nobody_meant() -> None:
    assert {KINDS[counted] for counted in AS_DESIGNED} == {"accepted", "rejected", "absorbed"}
