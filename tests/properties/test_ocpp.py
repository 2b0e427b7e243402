"""What is written is read back, and any bytes give a value or the declared error."""

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from bridge.ocpp import (
    CallError,
    CallErrorFrame,
    CallFrame,
    CallResultErrorFrame,
    CallResultFrame,
    DataTransferRequest,
    DataTransferResponse,
    DataTransferStatus,
    ErrorCode,
    Frame,
    FrameError,
    InvalidResponse,
    OcppVersion,
    SendFrame,
    StatusInfo,
    decode_call_error,
    decode_frame,
    decode_request,
    decode_response,
    encode_accepted,
    encode_call_error,
    encode_frame,
    encode_request,
    encode_response,
    error_codes,
    rejected,
)

V16, _, V201, V21 = OcppVersion
HAS_INFO = (V201, V21)

versions = st.sampled_from(OcppVersion)
any_text = st.text(st.characters())  # lone surrogates included
sendable = st.text(st.characters(codec="utf-8"))
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | sendable,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(sendable, inner, max_size=4),
    max_leaves=10,
)


def text(max_size: int) -> st.SearchStrategy[str]:
    return st.text(st.characters(codec="utf-8"), max_size=max_size)


custom_data = st.none() | st.builds(
    lambda fields, vendor: {**fields, "vendorId": vendor},
    st.dictionaries(sendable, json_values, max_size=3),
    text(255),
)
requests = st.builds(
    DataTransferRequest, text(255), st.none() | text(50), st.just(UNSET) | json_values, custom_data
)
responses = st.builds(
    DataTransferResponse,
    st.sampled_from(DataTransferStatus),
    st.just(UNSET) | json_values,
    st.none() | st.builds(StatusInfo, text(20), st.none() | text(512), custom_data),
    custom_data,
)
details = st.dictionaries(sendable, json_values, max_size=3)
payloads = st.builds(Raw, json_values.map(msgspec.json.encode))
message_ids = text(36)
frames: st.SearchStrategy[Frame] = st.one_of(
    st.builds(CallFrame, message_ids, sendable, payloads),
    st.builds(CallResultFrame, message_ids, payloads),
    st.builds(CallErrorFrame, message_ids, sendable, text(255), details),
    st.builds(CallResultErrorFrame, message_ids, sendable, text(255), details),
    st.builds(SendFrame, message_ids, sendable, payloads),
)


def as_read(data: Any, version: OcppVersion) -> Any:
    """`data` as the peer reads it: in 1.6 text stays, null is nothing, all else is JSON text."""
    if version is not V16 or data is UNSET or isinstance(data, str):
        return data
    return UNSET if data is None else msgspec.json.encode(data).decode()


@given(requests, versions)
def test_a_request_written_is_the_request_read(
    request: DataTransferRequest, version: OcppVersion
) -> None:
    if version not in HAS_INFO:
        request.custom_data = None
    read = decode_request(encode_request(request, version), version, strict=True).to_request()
    assert read == msgspec.structs.replace(
        request, message_id=request.message_id or None, data=as_read(request.data, version)
    )


@given(responses, versions)
def test_a_response_written_is_the_response_read(
    response: DataTransferResponse, version: OcppVersion
) -> None:
    read = decode_response(encode_response(response, version), version, strict=True)
    expected = msgspec.structs.replace(response, data=as_read(response.data, version))
    if version not in HAS_INFO:
        expected.status_info = expected.custom_data = None
    assert read == expected


@given(json_values, versions)
def test_accepted_data_is_read_back(data: Any, version: OcppVersion) -> None:
    read = decode_response(encode_accepted(data, version), version, strict=True)
    assert read == DataTransferResponse(
        "Accepted", UNSET if data is None else as_read(data, version)
    )


@given(st.none() | any_text, st.none() | any_text, versions)
def test_any_rejection_is_valid(
    reason_code: str | None, additional_info: str | None, version: OcppVersion
) -> None:
    read = decode_response(rejected(reason_code, additional_info, version), version, strict=True)
    assert read.status is DataTransferStatus.REJECTED


@given(st.sampled_from(ErrorCode) | any_text, any_text, details, versions)
def test_any_call_error_is_written_in_the_words_of_its_version(
    code: str, description: str, parts: dict[str, Any], version: OcppVersion
) -> None:
    body = encode_call_error(CallError(code, description, parts), version)
    assert msgspec.json.decode(body)["errorCode"] in error_codes(version)
    read = decode_call_error(body)
    assert read.details == parts
    assert len(read.description) == min(len(description), 255)


@given(frames)
def test_a_frame_written_is_the_frame_read(frame: Frame) -> None:
    assert decode_frame(encode_frame(frame), V21) == frame


def mostly_valid(body: bytes, position: int, junk: bytes) -> bytes:
    position %= len(body) + 1
    return body[:position] + junk + body[position + len(junk) // 2 :]


anything = st.recursive(
    any_text | st.integers() | st.floats() | st.binary() | st.just(object()) | st.just(UNSET),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(any_text | st.tuples(st.integers()), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.builds(DataTransferRequest, any_text, st.none() | any_text, anything, anything), versions)
def test_anything_to_send_is_written_validly_or_refused(
    request: DataTransferRequest, version: OcppVersion
) -> None:
    try:
        body = encode_request(request, version, strict=False)
    except CallError:
        return
    decode_request(body, version, strict=True)


@given(st.builds(DataTransferResponse, any_text, anything, anything, anything), versions)
def test_anything_to_answer_is_written_validly_or_refused(
    response: DataTransferResponse, version: OcppVersion
) -> None:
    response.status = DataTransferStatus.ACCEPTED
    try:
        body = encode_response(response, version)
    except InvalidResponse:
        return
    decode_response(body, version, strict=True)


@given(any_text, any_text, anything, versions)
def test_any_call_error_at_all_can_be_sent(
    code: str, description: str, details: Any, version: OcppVersion
) -> None:
    decode_call_error(encode_call_error(CallError(code, description, details), version))


seeds = st.sampled_from(
    [
        b'{"vendorId":"v","messageId":"m","data":{"a":[1,null,"x"]},"customData":{"vendorId":"w"}}',
        b'{"status":"Accepted","data":"x","statusInfo":{"reasonCode":"r","additionalInfo":"a"}}',
        b'{"errorCode":"InternalError","errorDescription":"d","errorDetails":{}}',
        b'[2,"19223201","DataTransfer",{"vendorId":"v"}]',
        b'[3,"19223201",{"status":"Accepted"}]',
        b'[4,"19223201","GenericError","d",{"a":1}]',
        b'[6,"19223201","A",{}]',
    ]
)
junk = st.binary(max_size=6) | st.sampled_from(
    [
        b'"',
        b"\\",
        b"\\ud800",
        b"\xff",
        b"[" * 5000,
        b'{"a":' * 5000,
        b"1e9999",
        b"9" * 5000,
        b"null",
        b"\0",
        b",",
        b"}",
    ]
)
hostile = (
    st.binary()
    | json_values.map(msgspec.json.encode)
    | st.builds(mostly_valid, seeds, st.integers(0, 200), junk)
)


def value_or(error: type[Exception], call: Callable[[], object]) -> None:
    """Call it. Any exception but `error` fails the test."""
    with contextlib.suppress(error):
        call()


@given(hostile, versions, st.booleans())
def test_any_bytes_as_request_give_a_request_or_a_call_error(
    body: bytes, version: OcppVersion, strict: bool
) -> None:
    value_or(CallError, lambda: decode_request(body, version, strict=strict).to_request())


@given(hostile, versions, st.booleans())
def test_any_bytes_as_response_give_a_response_or_a_call_error(
    body: bytes, version: OcppVersion, strict: bool
) -> None:
    value_or(CallError, lambda: decode_response(body, version, strict=strict))


@given(hostile)
def test_any_bytes_as_error_body_give_an_error_or_a_value_error(body: bytes) -> None:
    value_or(ValueError, lambda: decode_call_error(body))


@given(hostile, versions)
def test_any_bytes_as_frame_give_a_frame_or_an_answerable_error(
    body: bytes, version: OcppVersion
) -> None:
    try:
        decode_frame(body, version)
    except FrameError as error:
        answer = encode_frame(error.answer(version))
        assert isinstance(decode_frame(answer, version), CallErrorFrame)


@given(any_text, versions)
def test_any_text_as_frame_gives_a_frame_or_a_frame_error(
    message: str, version: OcppVersion
) -> None:
    value_or(FrameError, lambda: decode_frame(message, version))


@given(hostile, versions)
def test_any_bytes_as_raw_data_are_sent_as_json_or_refused(
    data: bytes, version: OcppVersion
) -> None:
    value_or(
        CallError,
        lambda: decode_request(
            encode_request(DataTransferRequest("v", data=Raw(data)), version), version
        ),
    )
    value_or(
        InvalidResponse,
        lambda: msgspec.json.decode(encode_accepted(Raw(data), version), type=dict[str, Raw]),
    )
    value_or(InvalidResponse, lambda: encode_accepted(data, version).decode())
