"""CALLERROR bodies and the spelling of their codes."""

from typing import Any, cast

import msgspec
import pytest

from bridge.ocpp import (
    CallError,
    ErrorCode,
    OcppVersion,
    decode_call_error,
    encode_call_error,
    error_codes,
)

V16, V20, V201, V21 = OcppVersion

CODES_1_6 = {
    "FormationViolation",
    "GenericError",
    "InternalError",
    "NotImplemented",
    "NotSupported",
    "OccurenceConstraintViolation",
    "PropertyConstraintViolation",
    "ProtocolError",
    "SecurityError",
    "TypeConstraintViolation",
}
CODES_2 = {
    "FormatViolation",
    "GenericError",
    "InternalError",
    "MessageTypeNotSupported",
    "NotImplemented",
    "NotSupported",
    "OccurrenceConstraintViolation",
    "PropertyConstraintViolation",
    "ProtocolError",
    "RpcFrameworkError",
    "SecurityError",
    "TypeConstraintViolation",
}


def test_each_version_has_its_codes() -> None:
    assert error_codes(V16) == CODES_1_6
    assert error_codes(V20) == error_codes(V201) == error_codes(V21) == CODES_2


@pytest.mark.parametrize(
    ("code", "spelled"),
    [
        (ErrorCode.FORMAT_VIOLATION, "FormationViolation"),
        (ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION, "OccurenceConstraintViolation"),
        (ErrorCode.MESSAGE_TYPE_NOT_SUPPORTED, "GenericError"),
        (ErrorCode.RPC_FRAMEWORK_ERROR, "GenericError"),
        (ErrorCode.INTERNAL_ERROR, "InternalError"),
        ("FormatViolation", "FormationViolation"),
        ("FormationViolation", "FormationViolation"),
        ("VendorSpecial", "GenericError"),
    ],
)
def test_a_code_is_spelled_as_1_6_does(code: str, spelled: str) -> None:
    assert CallError(code).for_version(V16) == spelled


@pytest.mark.parametrize("version", OcppVersion)
@pytest.mark.parametrize("code", [*ErrorCode, "FormationViolation", "nonsense"])
def test_only_codes_of_the_version_are_written(code: str, version: OcppVersion) -> None:
    assert CallError(code).for_version(version) in error_codes(version)


def test_the_body_has_all_three_parts() -> None:
    body = encode_call_error(CallError(ErrorCode.INTERNAL_ERROR), V201)
    assert body == b'{"errorCode":"InternalError","errorDescription":"","errorDetails":{}}'


def test_a_long_description_is_cut() -> None:
    body = encode_call_error(CallError("GenericError", "\N{ELECTRIC PLUG}" * 300), V201)
    assert decode_call_error(body).description == "\N{ELECTRIC PLUG}" * 255


@pytest.mark.parametrize("details", [{"a": object()}, {"a": "\ud800"}, ["no object"]])
def test_what_cannot_be_sent_does_not_keep_the_answer_back(details: object) -> None:
    error = CallError("GenericError", "\ud800", cast("dict[str, Any]", details))
    read = decode_call_error(encode_call_error(error, V201))
    assert (read.code, read.description, read.details) == (ErrorCode.GENERIC_ERROR, "?", {})


@pytest.mark.parametrize(
    ("text", "code"), [("FormationViolation", ErrorCode.FORMAT_VIOLATION), ("Odd", "Odd")]
)
def test_every_spelling_is_read(text: str, code: str) -> None:
    error = decode_call_error(msgspec.json.encode({"errorCode": text, "errorDetails": {"a": 1}}))
    assert (error.code, error.description, error.details) == (code, "", {"a": 1})
    assert str(error) == str(code)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "Not a CALLERROR body: payload: not valid JSON"),
        (b"[]", "Not a CALLERROR body: payload: expected an object, got an array."),
        (b"{}", "Not a CALLERROR body: errorCode: required field is missing."),
        (b'{"errorCode":1}', "Not a CALLERROR body: errorCode: expected a string, got an integer."),
        (b'{"errorCode":"\xff"}', "Not a CALLERROR body: payload: invalid UTF-8."),
    ],
)
def test_another_body_is_refused_with_a_sentence(body: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=r"^Not a CALLERROR body") as caught:
        decode_call_error(body)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("unusable", [None, [], "text", 7])
def test_unusable_parts_of_a_body_are_read_as_empty(unusable: object) -> None:
    body = {"errorCode": "Own", "errorDescription": "why", "errorDetails": unusable}
    error = decode_call_error(msgspec.json.encode(body))
    assert (error.code, error.description, error.details) == ("Own", "why", {})
    body = {"errorCode": "Own", "errorDescription": [unusable], "errorDetails": {"a": 1}}
    error = decode_call_error(msgspec.json.encode(body))
    assert (error.code, error.description, error.details) == ("Own", "", {"a": 1})


def test_a_stations_own_code_is_passed_on_to_the_csms_alone() -> None:
    for code in ("Own", "RpcFrameworkError", "GenericError"):
        error = CallError(code, "why")
        assert decode_call_error(encode_call_error(error, V16, own_codes=True)).code == code
        assert decode_call_error(encode_call_error(error, V16)).code == ErrorCode.GENERIC_ERROR
    spelled = encode_call_error(CallError("FormatViolation"), V16, own_codes=True)
    assert b'"errorCode":"FormationViolation"' in spelled
    long = encode_call_error(CallError("\ud800" + "x" * 300), V16, own_codes=True)
    assert decode_call_error(long).code == "?" + "x" * 254


def test_an_error_reads_as_its_code_and_description() -> None:
    assert (
        str(CallError("FormationViolation", "vendorId: too long"))
        == "FormatViolation: vendorId: too long"
    )
