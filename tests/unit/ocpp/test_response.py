"""Which DataTransferResponses are valid in each version, read and written."""

from typing import Any, NamedTuple

import msgspec
import pytest
from msgspec import UNSET, Raw

from bridge.ocpp import (
    ACCEPTED,
    REJECTED,
    UNKNOWN_MESSAGE,
    UNKNOWN_VENDOR,
    CallError,
    DataTransferResponse,
    DataTransferStatus,
    ErrorCode,
    InvalidResponse,
    OcppVersion,
    StatusInfo,
    decode_response,
    encode_accepted,
    encode_response,
    rejected,
)

V16, V20, V201, V21 = OcppVersion
Versions = frozenset[OcppVersion]
ALL: Versions = frozenset(OcppVersion)
NONE: Versions = frozenset()
INFO: Versions = frozenset({V201, V21})
NO_INFO: Versions = ALL - INFO
CLOSED: Versions = frozenset({V16, V201, V21})

FORMAT = ErrorCode.FORMAT_VIOLATION
OCCURRENCE = ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION
PROPERTY = ErrorCode.PROPERTY_CONSTRAINT_VIOLATION
TYPE = ErrorCode.TYPE_CONSTRAINT_VIOLATION

NOT_TEXT: Any = None
NUMBER: Any = 5


def payload(**fields: Any) -> bytes:
    return msgspec.json.encode({"status": "Accepted", **fields})


def info(**fields: Any) -> bytes:
    return payload(statusInfo={"reasonCode": "r", **fields})


@pytest.mark.parametrize("version", OcppVersion)
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("status", DataTransferStatus)
def test_the_four_statuses_are_read_in_every_version(
    status: DataTransferStatus, version: OcppVersion, strict: bool
) -> None:
    response = decode_response(b'{"status":"%b"}' % status.encode(), version, strict=strict)
    assert response.status is status
    assert response.data is UNSET


class No(NamedTuple):
    """A refusal, and the versions that give it."""

    code: ErrorCode
    text: str
    lenient: Versions = ALL
    strict: Versions = ALL


NO_STATUS_INFO = No(FORMAT, "statusInfo: unknown field", lenient=NONE, strict=NO_INFO)
NO_CUSTOM_DATA = No(FORMAT, "customData: unknown field", lenient=NONE, strict=NO_INFO)


def bad_info(code: ErrorCode, text: str) -> No:
    return No(code, text, lenient=INFO, strict=INFO)


VERDICTS: tuple[tuple[bytes, *tuple[No, ...]], ...] = (
    (b"{}", No(OCCURRENCE, "status: required field is missing")),
    (b'{"status":"accepted"}', No(PROPERTY, "status: unknown value 'accepted'")),
    (b'{"status":"UnknownVendor"}', No(PROPERTY, "status: unknown value 'UnknownVendor'")),
    (b'{"status":null}', No(TYPE, "status: expected a string, got null")),
    (b"[]", No(TYPE, "payload: expected an object, got an array")),
    (b"{", No(FORMAT, "payload: not valid JSON (")),
    (b'{"status":"Accepted","data":"\xff"}', No(FORMAT, "data: invalid UTF-8")),
    (payload(data="text"),),
    (
        payload(data={}),
        No(TYPE, "data: expected a string, got an object", lenient=NONE, strict=frozenset({V16})),
    ),
    (payload(extra=1), No(FORMAT, "extra: unknown field", lenient=NONE, strict=CLOSED)),
    (payload(customData={"vendorId": "w"}), NO_CUSTOM_DATA),
    (
        payload(customData={}),
        bad_info(OCCURRENCE, "customData.vendorId: required field is missing"),
        NO_CUSTOM_DATA,
    ),
    (info(), NO_STATUS_INFO),
    (
        payload(statusInfo={}),
        bad_info(OCCURRENCE, "statusInfo.reasonCode: required field is missing"),
        NO_STATUS_INFO,
    ),
    (
        payload(statusInfo=None),
        bad_info(TYPE, "statusInfo: expected an object, got null"),
        NO_STATUS_INFO,
    ),
    (info(reasonCode="r" * 20), NO_STATUS_INFO),
    (
        info(reasonCode="r" * 21),
        bad_info(PROPERTY, "statusInfo.reasonCode: expected a string of at most 20 characters"),
        NO_STATUS_INFO,
    ),
    (info(additionalInfo="a" * 512), NO_STATUS_INFO),
    (
        info(additionalInfo="a" * 513),
        No(
            PROPERTY,
            "statusInfo.additionalInfo: expected a string of at most 512 characters",
            lenient=frozenset({V201}),
            strict=frozenset({V201}),
        ),
        NO_STATUS_INFO,
    ),
    (
        info(additionalInfo="a" * 1025),
        bad_info(PROPERTY, "statusInfo.additionalInfo: expected a string of at most "),
        NO_STATUS_INFO,
    ),
    (
        info(extra=1),
        No(FORMAT, "statusInfo.extra: unknown field", lenient=NONE, strict=INFO),
        NO_STATUS_INFO,
    ),
    (
        info(customData={}),
        bad_info(OCCURRENCE, "statusInfo.customData.vendorId: required field is missing"),
        NO_STATUS_INFO,
    ),
)


@pytest.mark.parametrize("version", OcppVersion)
@pytest.mark.parametrize("strict", [False, True], ids=["lenient", "strict"])
@pytest.mark.parametrize("row", VERDICTS, ids=lambda row: row[0][:50].decode("utf-8", "replace"))
def test_a_payload_gets_the_verdict_of_its_version(
    row: tuple[bytes, *tuple[No, ...]], version: OcppVersion, strict: bool
) -> None:
    body, *refusals = row
    expected = [no for no in refusals if version in (no.strict if strict else no.lenient)]
    if not expected:
        assert decode_response(body, version, strict=strict).status is DataTransferStatus.ACCEPTED
        return
    with pytest.raises(CallError) as caught:
        decode_response(body, version, strict=strict)
    assert caught.value.code is expected[0].code
    assert caught.value.description.startswith(expected[0].text)


def test_status_info_and_custom_data_are_read_where_the_version_has_them() -> None:
    custom = {"vendorId": "w", "n": [None]}
    body = payload(
        data={"n": 10**30},
        statusInfo={"reasonCode": "r", "additionalInfo": "a", "customData": custom},
        customData=custom,
    )
    assert decode_response(body, V201) == DataTransferResponse(
        "Accepted", {"n": 10**30}, StatusInfo("r", "a", custom), custom
    )
    assert decode_response(body, V16) == DataTransferResponse("Accepted", {"n": 10**30})


FULL = DataTransferResponse(
    "Rejected",
    {"a": 1},
    StatusInfo("r" * 20, "a" * 512, {"vendorId": "w"}),
    {"vendorId": "w", "x": 1},
)


@pytest.mark.parametrize("version", OcppVersion)
def test_what_is_written_is_valid_strictly(version: OcppVersion) -> None:
    read = decode_response(encode_response(FULL, version), version, strict=True)
    assert read.status is DataTransferStatus.REJECTED
    assert read.data == ('{"a":1}' if version is V16 else {"a": 1})
    assert (read.status_info, read.custom_data) == (
        (FULL.status_info, FULL.custom_data) if version in INFO else (None, None)
    )


@pytest.mark.parametrize("version", OcppVersion)
@pytest.mark.parametrize("status", DataTransferStatus)
def test_a_response_without_data_is_its_status_alone(
    status: DataTransferStatus, version: OcppVersion
) -> None:
    assert (
        encode_response(DataTransferResponse(str(status)), version)
        == b'{"status":"%b"}' % status.encode()
    )


def test_additional_info_may_be_twice_as_long_in_2_1() -> None:
    response = DataTransferResponse("Rejected", status_info=StatusInfo("r", "a" * 1024))
    assert decode_response(encode_response(response, V21), V21, strict=True) == response
    with pytest.raises(
        InvalidResponse, match=r"statusInfo.additionalInfo: expected a string of at most 512"
    ):
        encode_response(response, V201)


@pytest.mark.parametrize(
    ("response", "text"),
    [
        (
            DataTransferResponse("accepted"),
            "status: expected one of Accepted, Rejected, UnknownMessageId, Unknown",
        ),
        (DataTransferResponse(NOT_TEXT), "status: expected one of"),
        (DataTransferResponse("Accepted", object()), "data: "),
        (DataTransferResponse("Accepted", Raw(b"{]")), "data: "),
        (DataTransferResponse("Accepted", b"\xff"), "data: "),
        (
            DataTransferResponse("Accepted", status_info=StatusInfo("r" * 21)),
            "statusInfo.reasonCode: expected a string",
        ),
        (
            DataTransferResponse("Accepted", status_info=StatusInfo(NUMBER)),
            "statusInfo.reasonCode: ",
        ),
        (DataTransferResponse("Accepted", status_info=StatusInfo("\ud800")), "statusInfo: "),
        (
            DataTransferResponse("Accepted", status_info=StatusInfo("r", None, {})),
            "statusInfo.customData.vendorId: ",
        ),
        (
            DataTransferResponse("Accepted", custom_data={"vendorId": "w" * 256}),
            "customData.vendorId: expected a string",
        ),
        (DataTransferResponse("Accepted", custom_data={"vendorId": object()}), "customData: "),
    ],
)
def test_a_response_that_cannot_be_sent_is_refused_by_the_name_of_its_field(
    response: DataTransferResponse, text: str
) -> None:
    with pytest.raises(InvalidResponse) as caught:
        encode_response(response, V201)
    assert str(caught.value).startswith(text)


class Price(msgspec.Struct, rename="camel"):
    flat_fee: float


@pytest.mark.parametrize(
    ("data", "text_form", "json_form"),
    [
        (None, ACCEPTED, ACCEPTED),
        (UNSET, ACCEPTED, ACCEPTED),
        ("x", b'{"status":"Accepted","data":"x"}', b'{"status":"Accepted","data":"x"}'),
        (
            Price(1.5),
            rb'{"status":"Accepted","data":"{\"flatFee\":1.5}"}',
            b'{"status":"Accepted","data":{"flatFee":1.5}}',
        ),
        (
            {"n": 10**30},
            rb'{"status":"Accepted","data":"{\"n\":1%b}"}',
            b'{"status":"Accepted","data":{"n":1%b}}',
        ),
        (Raw(b"[ ]"), b'{"status":"Accepted","data":"[ ]"}', b'{"status":"Accepted","data":[ ]}'),
        (
            b"CSV;1",
            b'{"status":"Accepted","data":"CSV;1"}',
            b'{"status":"Accepted","data":"CSV;1"}',
        ),
    ],
)
def test_accepting_with_data(data: Any, text_form: bytes, json_form: bytes) -> None:
    zeros = b"0" * 30
    assert encode_accepted(data, V16) == text_form.replace(b"%b", zeros)
    for version in (V20, V201, V21):
        assert encode_accepted(data, version) == json_form.replace(b"%b", zeros)


@pytest.mark.parametrize("data", [object(), {"a": object()}, "\ud800", b"\xff", Raw(b"no")])
def test_a_result_without_a_form_in_json_is_our_fault(data: Any) -> None:
    with pytest.raises(InvalidResponse, match=r"^data: "):
        encode_accepted(data, V201)


@pytest.mark.parametrize("version", OcppVersion)
def test_rejecting_says_why_where_the_version_can(version: OcppVersion) -> None:
    limit = 1024 if version is V21 else 512
    read = decode_response(rejected("r" * 30, "\ud800" + "a" * 2000, version), version, strict=True)
    assert read.status is DataTransferStatus.REJECTED
    expected = StatusInfo("r" * 20, "?" + "a" * (limit - 1)) if version in INFO else None
    assert read.status_info == expected


def test_rejecting_without_a_reason_code_has_one_nevertheless() -> None:
    assert rejected(None, None, V201) == REJECTED
    assert decode_response(rejected(None, "why", V201), V201).status_info == StatusInfo(
        "Unspecified", "why"
    )
    assert decode_response(rejected("InvalidData", None, V201), V201).status_info == StatusInfo(
        "InvalidData"
    )


def test_the_answers_to_the_unknown_carry_no_data() -> None:
    assert decode_response(UNKNOWN_VENDOR, V16, strict=True) == DataTransferResponse(
        "UnknownVendorId"
    )
    assert decode_response(UNKNOWN_MESSAGE, V16, strict=True) == DataTransferResponse(
        "UnknownMessageId"
    )
