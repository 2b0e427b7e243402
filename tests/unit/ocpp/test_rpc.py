"""OCPP-J frames of every kind, valid and broken."""

import time
from typing import Any

import pytest
from msgspec import Raw

from bridge.ocpp import (
    CallError,
    CallErrorFrame,
    CallFrame,
    CallResultErrorFrame,
    CallResultFrame,
    ErrorCode,
    Frame,
    FrameError,
    OcppVersion,
    SendFrame,
    call_error_frame,
    decode_frame,
    encode_frame,
)
from bridge.ocpp.rpc import check_message_id

V16, V20, V201, V21 = OcppVersion
ID = "x" * 36

FRAMES: tuple[tuple[bytes, Frame], ...] = (
    (
        b'[2,"1","DataTransfer",{"vendorId":"v"}]',
        CallFrame("1", "DataTransfer", Raw(b'{"vendorId":"v"}')),
    ),
    (b'[2,"","",[1, 2]]', CallFrame("", "", Raw(b"[1, 2]"))),
    (b'[3,"%b",{ }]' % ID.encode(), CallResultFrame(ID, Raw(b"{ }"))),
    (b'[4,"-1","GenericError","",{}]', CallErrorFrame("-1", "GenericError")),
    (b'[4,"1","Odd","why",{"a":[1]}]', CallErrorFrame("1", "Odd", "why", {"a": [1]})),
)
FRAMES_2_1: tuple[tuple[bytes, Frame], ...] = (
    (
        b'[5,"1","GenericError","why",{"a":1}]',
        CallResultErrorFrame("1", "GenericError", "why", {"a": 1}),
    ),
    (
        b'[6,"1","NotifyPeriodicEventStream",{"id":1}]',
        SendFrame("1", "NotifyPeriodicEventStream", Raw(b'{"id":1}')),
    ),
)


@pytest.mark.parametrize("version", OcppVersion)
@pytest.mark.parametrize(("data", "frame"), FRAMES)
def test_frames_are_read_and_written_in_every_version(
    data: bytes, frame: Frame, version: OcppVersion
) -> None:
    assert decode_frame(data, version) == frame
    assert decode_frame(data.decode(), version) == frame
    assert encode_frame(frame) == data


@pytest.mark.parametrize(("data", "frame"), FRAMES_2_1)
def test_2_1_has_two_kinds_more(data: bytes, frame: Frame) -> None:
    assert decode_frame(data, V21) == frame
    assert encode_frame(frame) == data
    for version in (V16, V20, V201):
        with pytest.raises(FrameError, match="unknown message type"):
            decode_frame(data, version)


def test_bytes_as_payload_are_written_verbatim() -> None:
    assert encode_frame(CallFrame("1", "A", b'{ "a":1 }')) == b'[2,"1","A",{ "a":1 }]'
    assert encode_frame(CallResultFrame("1", b"{}")) == b'[3,"1",{}]'


@pytest.mark.parametrize("data", [b'[4,"1","GenericError"]', b'[4,"1","GenericError",""]'])
def test_a_call_error_may_leave_out_its_last_parts(data: bytes) -> None:
    assert decode_frame(data, V16) == CallErrorFrame("1", "GenericError")


@pytest.mark.parametrize("rest", [b"null", b"null,null", b"7,[]", b'[],"text"', b"{},7", b'"",[1]'])
def test_what_is_unusable_beside_an_error_code_is_left_out(rest: bytes) -> None:
    frame = decode_frame(b'[4,"1","GenericError",%b]' % rest, V16)
    assert frame == CallErrorFrame("1", "GenericError")
    frame = decode_frame(b'[5,"1","GenericError",%b]' % rest, V21)
    assert frame == CallResultErrorFrame("1", "GenericError")


def test_details_are_kept_beside_an_unusable_description_and_the_other_way_round() -> None:
    details = b'{"n":%b}' % (b"9" * 400)
    frame = decode_frame(b'[4,"1","Own",null,%b]' % details, V16)
    assert frame == CallErrorFrame("1", "Own", "", {"n": int("9" * 400)})
    frame = decode_frame(b'[4,"1","Own","why",null]', V16)
    assert frame == CallErrorFrame("1", "Own", "why")


@pytest.mark.parametrize("number", [b"2.0", b"2e0", b"0.2e1"])
def test_a_message_type_is_a_number_however_it_is_written(number: bytes) -> None:
    frame = decode_frame(b'[%b, "1","A",{"n": 1e400}]' % number, V16)
    assert frame == CallFrame("1", "A", Raw(b'{"n": 1e400}'))


@pytest.mark.parametrize("text", ["[2" + " " * 4_000, '[2,"' + "\\" * 4_000, "[" + "[" * 4_000])
def test_the_beginning_of_a_broken_frame_is_searched_in_linear_time(text: str) -> None:
    started = time.process_time()
    for _ in range(200):
        with pytest.raises(FrameError):
            decode_frame(text, V16)
    assert time.process_time() - started < 5


def test_a_long_description_is_cut_on_writing() -> None:
    frame = CallErrorFrame("1", "GenericError", "d" * 300)
    assert decode_frame(encode_frame(frame), V201) == CallErrorFrame("1", "GenericError", "d" * 255)
    assert len(frame.error_description) == 300


BROKEN, UNKNOWN = "broken", "unknown type"
CODES = {
    (BROKEN, V16): ErrorCode.FORMAT_VIOLATION,
    (BROKEN, V201): ErrorCode.RPC_FRAMEWORK_ERROR,
    (UNKNOWN, V16): ErrorCode.PROTOCOL_ERROR,
    (UNKNOWN, V201): ErrorCode.MESSAGE_TYPE_NOT_SUPPORTED,
}

# data, what is wrong, the readable message id and message type, the description
HOSTILE: tuple[tuple[bytes | str, str, str, int | None, str], ...] = (
    (b"", BROKEN, "-1", None, "frame: not valid JSON ("),
    (b"hello", BROKEN, "-1", None, "frame: not valid JSON ("),
    (b'[2,"1","A",{}', BROKEN, "1", 2, "frame: not valid JSON ("),
    (b'[2,"1","A",{}]]', BROKEN, "1", 2, "frame: not valid JSON ("),
    (b'[2,"1","A",{}]\0', BROKEN, "1", 2, "frame: not valid JSON ("),
    (b'[2,"1","A",{"data":"\\ud800"}]', BROKEN, "1", 2, "frame: not valid JSON ("),
    (b'[2,"1","A",' + b"[" * 100_000, BROKEN, "1", 2, "frame: nested too deeply"),
    (b'\xef\xbb\xbf [ 2 , "1" ,', BROKEN, "1", 2, "frame: not valid JSON ("),
    (b'[2,"1', BROKEN, "-1", 2, "frame: not valid JSON ("),
    (b"[2", BROKEN, "-1", 2, "frame: not valid JSON ("),
    (b"[", BROKEN, "-1", None, "frame: not valid JSON ("),
    (b'["2","1","A",{}', BROKEN, "1", None, "frame"),
    (b'[2.0,"1","A",{}', BROKEN, "1", 2, "frame"),
    (rb'[2,"\u0031\"]","A",{}', BROKEN, '1"]', 2, "frame: not valid JSON ("),
    (rb'[2,"\ud800","A",{}]', BROKEN, "-1", 2, "frame: not valid JSON ("),
    (b'[2,"\xff","A",{}', BROKEN, "-1", 2, "frame"),
    (b'[2,"%b","A",{}' % (b"x" * 256), BROKEN, "-1", 2, "frame"),
    (b'[3,"1",{"status":"Accepted"', BROKEN, "1", 3, "frame: not valid JSON ("),
    (b'[3,"1",{"status":"Accepted"}]\0', BROKEN, "1", 3, "frame: not valid JSON ("),
    (b'[4,"1","GenericError","', BROKEN, "1", 4, "frame: not valid JSON ("),
    (b"{}", BROKEN, "-1", None, "frame: expected an array, got an object"),
    (b"null", BROKEN, "-1", None, "frame: expected an array, got null"),
    ('[2,"\ud800","A",{}]', BROKEN, "-1", 2, "frame: invalid UTF-8"),
    ('[2,"1","\ud800",{}]', BROKEN, "1", 2, "frame: invalid UTF-8"),
    (b"[]", BROKEN, "-1", None, "message id: expected a string of at most 36 characters"),
    (b"[2]", BROKEN, "-1", 2, "message id: expected a string of at most 36 characters"),
    (b'[2,1,"A",{}]', BROKEN, "-1", 2, "message id: expected a string of at most 36 characters"),
    (b'[2,null,"A",{}]', BROKEN, "-1", 2, "message id: expected a string of at most 36 characters"),
    (
        b'[2,"\xff","A",{}]',
        BROKEN,
        "-1",
        2,
        "message id: expected a string of at most 36 characters",
    ),
    (
        b'[2,"{%b}","A",{}]' % (b"x" * 36),
        BROKEN,
        "{%s}" % ("x" * 36),
        2,
        "message id: expected a string of at most 36 characters",
    ),
    (
        b'[3,"%b",{}]' % (b"x" * 255),
        BROKEN,
        "x" * 255,
        3,
        "message id: expected a string of at most 36 characters",
    ),
    (
        b'[2,"%b","A",{}]' % (b"x" * 256),
        BROKEN,
        "-1",
        2,
        "message id: expected a string of at most 36 characters",
    ),
    (b'[2,"1"]', BROKEN, "1", 2, "frame: expected at least 4 elements"),
    (b'[2,"1","A"]', BROKEN, "1", 2, "frame: expected at least 4 elements"),
    (b'[2,"1","A",{},1]', BROKEN, "1", 2, "frame: too many elements"),
    (b'[2,"1",7,{}]', BROKEN, "1", 2, "frame[2]: expected a string, got an integer"),
    (b'[2,"1","\xff",{}]', BROKEN, "1", 2, "frame: invalid UTF-8"),
    (b'[3,"1"]', BROKEN, "1", 3, "frame: expected at least 3 elements"),
    (b'[3,"1",{},{}]', BROKEN, "1", 3, "frame: too many elements"),
    (b'[4,"1"]', BROKEN, "1", 4, "frame: expected at least 3 elements"),
    (b'[4,"1",null,"",{}]', BROKEN, "1", 4, "frame[2]: expected a string, got null"),
    (b'[4,"1","GenericError","",{},1]', BROKEN, "1", 4, "frame: too many elements"),
    (b'[1,"1","A",{}]', UNKNOWN, "1", 1, "unknown message type"),
    (b'[7,"1","A",{}]', UNKNOWN, "1", 7, "unknown message type"),
    (b'["2","1","A",{}]', UNKNOWN, "1", None, "unknown message type"),
    (b'[null,"1"]', UNKNOWN, "1", None, "unknown message type"),
    (b'[2.5,"1","A",{}]', UNKNOWN, "1", None, "unknown message type"),
    (b'[%b,"1","A",{}]' % (b"9" * 5000), UNKNOWN, "1", None, "unknown message type"),
)


@pytest.mark.parametrize("version", [V16, V201])
@pytest.mark.parametrize(
    ("data", "what", "message_id", "message_type", "text"),
    HOSTILE,
    ids=lambda value: repr(value)[:40],
)
def test_a_broken_frame_says_what_is_wrong_and_how_to_answer(
    data: bytes | str,
    what: str,
    message_id: str,
    message_type: int | None,
    text: str,
    version: OcppVersion,
) -> None:
    with pytest.raises(FrameError) as caught:
        decode_frame(data, version)
    error = caught.value
    assert (error.code, error.message_id, error.message_type) == (
        CODES[what, version],
        message_id,
        message_type,
    )
    assert error.description.startswith(text)
    assert str(error) == f"{error.code}: {error.description}"


def test_the_answer_to_a_broken_call_is_a_call_error_in_the_spelling_of_the_version() -> None:
    with pytest.raises(FrameError) as caught:
        decode_frame(b'[2,"1","A"]', V16)
    assert caught.value.answer(V16) == CallErrorFrame(
        "1", "FormationViolation", "frame: expected at least 4 elements"
    )


@pytest.mark.parametrize(
    ("data", "answered_in"),
    [
        (b"hello", {V16, V201, V21}),
        (b'[2,"1","A"]', {V16, V201, V21}),
        (b'["2","1","A",{}]', {V16, V201, V21}),
        (b'[3,"1"]', set()),
        (b'[4,"1"]', set()),
        (b'[9,"1","A",{}]', {V201}),
        (b'[5,"1"]', {V201}),
        (b'[6,"1"]', {V201}),
    ],
)
@pytest.mark.parametrize("version", [V16, V201, V21])
def test_only_what_ocpp_j_asks_for_is_answered(
    data: bytes, answered_in: set[OcppVersion], version: OcppVersion
) -> None:
    with pytest.raises(FrameError) as caught:
        decode_frame(data, version)
    assert caught.value.wants_answer(version) == (version in answered_in)


@pytest.mark.parametrize("details", [{"a": 1}, {"a": object()}])
def test_a_call_error_can_always_be_framed(details: dict[str, Any]) -> None:
    frame = call_error_frame(
        "1", CallError(ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION, "\ud800", details), V16
    )
    sendable = details if details == {"a": 1} else {}
    assert decode_frame(encode_frame(frame), V16) == CallErrorFrame(
        "1", "OccurenceConstraintViolation", "?", sendable
    )


@pytest.mark.parametrize("message_id", [None, "1", ID, "é" * 36])
def test_what_a_request_can_be_named(message_id: str | None) -> None:
    check_message_id(message_id)


@pytest.mark.parametrize(
    ("message_id", "why"),
    [
        ("", "1 to 36 characters, not 0"),
        (ID + "x", "1 to 36 characters, not 37"),
        ("\ud800", "has no form in UTF-8"),
    ],
)
def test_what_no_request_can_be_named(message_id: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_message_id(message_id)
