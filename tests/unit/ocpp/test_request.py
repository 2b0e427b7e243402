"""Which DataTransferRequests are valid in each version, read leniently and strictly."""

from typing import Any, NamedTuple

import msgspec
import pytest
from msgspec import UNSET, Raw

from bridge.ocpp import (
    CallError,
    DataTransferRequest,
    ErrorCode,
    OcppVersion,
    RequestEnvelope,
    decode_request,
    encode_request,
)

V16, V20, V201, V21 = OcppVersion
Versions = frozenset[OcppVersion]
ALL: Versions = frozenset(OcppVersion)
NONE: Versions = frozenset()
CUSTOM: Versions = frozenset({V201, V21})
NO_CUSTOM: Versions = ALL - CUSTOM
CLOSED: Versions = frozenset({V16, V201, V21})
ONLY_1_6: Versions = frozenset({V16})

FORMAT = ErrorCode.FORMAT_VIOLATION
OCCURRENCE = ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION
PROPERTY = ErrorCode.PROPERTY_CONSTRAINT_VIOLATION
TYPE = ErrorCode.TYPE_CONSTRAINT_VIOLATION

EMOJI = "\N{ELECTRIC PLUG}"
NOT_TEXT: Any = None
NUMBER: Any = 7


class No(NamedTuple):
    """A refusal, and the versions that give it."""

    code: ErrorCode
    text: str
    lenient: Versions = ALL
    strict: Versions = ALL


def payload(**fields: Any) -> bytes:
    return msgspec.json.encode({"vendorId": "v", **fields})


def not_text(got: str) -> No:
    return No(TYPE, f"data: expected a string, got {got}", lenient=NONE, strict=ONLY_1_6)


TOO_LONG_VENDOR = No(PROPERTY, "vendorId: expected a string of at most 255 characters")
NO_CUSTOM_DATA = No(FORMAT, "customData: unknown field", lenient=NONE, strict=NO_CUSTOM)

VERDICTS: tuple[tuple[bytes, *tuple[No, ...]], ...] = (
    (b'{"vendorId":"v"}',),
    (b' {"vendorId" : "v" }\n',),
    (payload(messageId="m"),),
    (payload(messageId="m", data="text"),),
    (b"{}", No(OCCURRENCE, "vendorId: required field is missing")),
    (payload(vendorId=""),),
    (payload(vendorId=None), No(TYPE, "vendorId: expected a string, got null")),
    (payload(vendorId=12), No(TYPE, "vendorId: expected a string, got an integer")),
    (payload(vendorId=1.5), No(TYPE, "vendorId: expected a string, got a number")),
    (payload(vendorId=True), No(TYPE, "vendorId: expected a string, got a boolean")),
    (payload(vendorId=["v"]), No(TYPE, "vendorId: expected a string, got an array")),
    (payload(vendorId={}), No(TYPE, "vendorId: expected a string, got an object")),
    (payload(vendorId="v" * 255),),
    (payload(vendorId="é" * 255),),
    (payload(vendorId=EMOJI * 255),),
    (b'{"vendorId":"' + rb"\ud83d\ude00" * 255 + b'"}',),
    (payload(vendorId="v" * 256), TOO_LONG_VENDOR),
    (payload(vendorId="é" * 256), TOO_LONG_VENDOR),
    (payload(vendorId=EMOJI * 256), TOO_LONG_VENDOR),
    (payload(messageId="m" * 50),),
    (payload(messageId=EMOJI * 50),),
    (
        payload(messageId="m" * 51),
        No(PROPERTY, "messageId: expected a string of at most 50 characters"),
    ),
    (payload(messageId=""),),
    (payload(messageId=None), No(TYPE, "messageId: expected a string, got null", lenient=NONE)),
    (
        payload(messageId=7),
        No(TYPE, "messageId: expected a string or null, got an integer", strict=NONE),
        No(TYPE, "messageId: expected a string, got an integer", lenient=NONE),
    ),
    (payload(data=""),),
    (payload(data=None), not_text("null")),
    (payload(data={"a": 1}), not_text("an object")),
    (payload(data=[1]), not_text("an array")),
    (payload(data=1), not_text("a number")),
    (payload(data=-1.5), not_text("a number")),
    (payload(data=True), not_text("a boolean")),
    (payload(data=False), not_text("a boolean")),
    (payload(extra=1), No(FORMAT, "extra: unknown field", lenient=NONE, strict=CLOSED)),
    (
        b'{"VendorID":"v"}',
        No(OCCURRENCE, "vendorId: required field is missing", strict=ALL - CLOSED),
        No(FORMAT, "VendorID: unknown field", lenient=NONE, strict=CLOSED),
    ),
    (payload(customData={"vendorId": "w", "any": [1]}), NO_CUSTOM_DATA),
    (
        payload(customData={}),
        No(
            OCCURRENCE,
            "customData.vendorId: required field is missing",
            lenient=CUSTOM,
            strict=CUSTOM,
        ),
        NO_CUSTOM_DATA,
    ),
    (
        payload(customData=None),
        No(TYPE, "customData: expected an object, got null", lenient=CUSTOM, strict=CUSTOM),
        NO_CUSTOM_DATA,
    ),
    (
        payload(customData={"vendorId": 1}),
        No(
            TYPE,
            "customData.vendorId: expected a string, got an integer",
            lenient=CUSTOM,
            strict=CUSTOM,
        ),
        NO_CUSTOM_DATA,
    ),
    (
        payload(customData={"vendorId": "w" * 256}),
        No(
            PROPERTY,
            "customData.vendorId: expected a string of at most 255 characters",
            lenient=CUSTOM,
            strict=CUSTOM,
        ),
        NO_CUSTOM_DATA,
    ),
    (b"[]", No(TYPE, "payload: expected an object, got an array")),
    (b'"x"', No(TYPE, "payload: expected an object, got a string")),
    (b"null", No(TYPE, "payload: expected an object, got null")),
    (b"7", No(TYPE, "payload: expected an object, got an integer")),
    (b"", No(FORMAT, "payload: not valid JSON (")),
    (b'{"vendorId":"v"', No(FORMAT, "payload: not valid JSON (")),
    (b'{"vendorId":"v"}}', No(FORMAT, "payload: not valid JSON (")),
    (b"\xef\xbb\xbf" + payload(), No(FORMAT, "payload: not valid JSON (")),
    (b'{"vendorId":"v","data":NaN}', No(FORMAT, "payload: not valid JSON (")),
    (b'{"vendorId":"v","data":{"a":1,}}', No(FORMAT, "payload: not valid JSON (")),
    (b'{"vendorId":"\xff"}', No(FORMAT, "payload: invalid UTF-8")),
    (b'{"vendorId":"\\ud800"}', No(FORMAT, "payload: not valid JSON (")),
    (b'{"vendorId":"v","data":' + b"[" * 100_000, No(FORMAT, "payload: nested too deeply")),
    (
        b'{"extra":' + b'{"a":' * 100_000,
        No(FORMAT, "payload: nested too deeply", strict=ALL - CLOSED),
        No(FORMAT, "extra: unknown field", lenient=NONE, strict=CLOSED),
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
        assert isinstance(decode_request(body, version, strict=strict), RequestEnvelope)
        return
    with pytest.raises(CallError) as caught:
        decode_request(body, version, strict=strict)
    assert caught.value.code is expected[0].code
    assert caught.value.description.startswith(expected[0].text)


def test_the_envelope_keeps_data_byte_for_byte() -> None:
    envelope = decode_request(
        b'{"vendorId":"v","messageId":"m","data": {"a" : 1.0, "b":null} }', V201
    )
    assert (envelope.vendor_id, envelope.message) == ("v", "m")
    assert isinstance(envelope.data, Raw)
    assert bytes(envelope.data) == b'{"a" : 1.0, "b":null}'


@pytest.mark.parametrize("body", [payload(), payload(messageId=None), payload(messageId="")])
def test_no_null_and_empty_message_id_are_one(body: bytes) -> None:
    envelope = decode_request(body, V201)
    assert envelope.message is None
    assert envelope.to_request() == DataTransferRequest("v")


def test_absent_data_and_null_are_two_things() -> None:
    assert decode_request(payload(), V201).to_request().data is UNSET
    assert decode_request(payload(data=None), V201).to_request().data is None


def test_integers_of_any_size_survive() -> None:
    assert decode_request(payload(data=[2**53 + 1, 10**30]), V201).to_request().data == [
        2**53 + 1,
        10**30,
    ]


def test_custom_data_is_carried_through_where_the_version_has_it() -> None:
    custom = {"vendorId": "w", "PnCEnabled": None}
    body = payload(customData=custom)
    assert decode_request(body, V201).to_request().custom_data == custom
    assert decode_request(body, V16).to_request().custom_data is None


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'"\xff"', "data: invalid UTF-8"),
        (b"[1e999999]", "data[0]: number out of range"),
    ],
)
def test_faults_inside_data_show_when_it_is_decoded(data: bytes, text: str) -> None:
    envelope = decode_request(b'{"vendorId":"v","data":%b}' % data, V201)
    with pytest.raises(CallError) as caught:
        envelope.to_request()
    assert caught.value.description.startswith(text)


def test_the_description_of_a_megabyte_field_name_stays_short() -> None:
    with pytest.raises(CallError) as caught:
        decode_request(payload(**{"x" * 1_000_000: 1}), V16, strict=True)
    assert len(caught.value.description) == 255


# data, its JSON in 1.6, its JSON in 2.x; None: no data
WRITTEN: tuple[tuple[Any, bytes | None, bytes | None], ...] = (
    (UNSET, None, None),
    (None, None, b"null"),
    ("", b'""', b'""'),
    ('say "hi"', rb'"say \"hi\""', rb'"say \"hi\""'),
    ({"kWhPrice": None}, rb'"{\"kWhPrice\":null}"', b'{"kWhPrice":null}'),
    ([1, 2.5], b'"[1,2.5]"', b"[1,2.5]"),
    (10**30, b'"1%b"' % (b"0" * 30), b"1" + b"0" * 30),
    (False, b'"false"', b"false"),
    (b"SN;1;\xc3\xa9", '"SN;1;é"'.encode(), '"SN;1;é"'.encode()),
    (bytearray(b"a"), b'"a"', b'"a"'),
    (memoryview(b"a"), b'"a"', b'"a"'),
    (Raw(b'{"a" : 1}'), rb'"{\"a\" : 1}"', b'{"a" : 1}'),
    (Raw(rb'"\u0041"'), rb'"\u0041"', rb'"\u0041"'),
    (Raw(b"null"), None, b"null"),
)


@pytest.mark.parametrize("version", OcppVersion)
@pytest.mark.parametrize(("data", "text_form", "json_form"), WRITTEN)
def test_data_is_written_as_its_version_demands(
    data: Any, text_form: bytes | None, json_form: bytes | None, version: OcppVersion
) -> None:
    form = text_form if version is V16 else json_form
    written = encode_request(DataTransferRequest("v", data=data), version)
    assert written == (
        b'{"vendorId":"v"}' if form is None else b'{"vendorId":"v","data":%b}' % form
    )


@pytest.mark.parametrize("version", OcppVersion)
def test_what_is_written_is_valid_strictly(version: OcppVersion) -> None:
    custom = {"vendorId": "w", "n": 1} if version in CUSTOM else None
    request = DataTransferRequest(EMOJI * 255, "m" * 50, {"a": [1]}, custom)
    read = decode_request(encode_request(request, version), version, strict=True).to_request()
    assert read == (
        msgspec.structs.replace(request, data='{"a":[1]}') if version is V16 else request
    )


class Unencodable:
    pass


cyclic: list[Any] = []
cyclic.append(cyclic)


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        (
            DataTransferRequest("v" * 256),
            PROPERTY,
            "vendorId: expected a string of at most 255 characters",
        ),
        (DataTransferRequest(NOT_TEXT), TYPE, "vendorId: expected a string, got NoneType"),
        (DataTransferRequest("\ud800"), FORMAT, "vendorId: "),
        (
            DataTransferRequest("v", "m" * 51),
            PROPERTY,
            "messageId: expected a string of at most 50 characters",
        ),
        (DataTransferRequest("v", NUMBER), TYPE, "messageId: expected a string, got int"),
        (DataTransferRequest("v", data=Unencodable()), FORMAT, "data: "),
        (DataTransferRequest("v", data=cyclic), FORMAT, "data: "),
        (DataTransferRequest("v", data=10**5000), FORMAT, "data: "),
        (DataTransferRequest("v", data="\udfff"), FORMAT, "data: "),
        (DataTransferRequest("v", data=b"\xff"), FORMAT, "data: "),
        (DataTransferRequest("v", data=Raw(b"{")), FORMAT, "data: "),
        (DataTransferRequest("v", data=Raw(b"")), FORMAT, "data: "),
        (DataTransferRequest("v", data=Raw(b'"\xff"')), FORMAT, "data: "),
        (
            DataTransferRequest("v", custom_data={}),
            OCCURRENCE,
            "customData.vendorId: required field is missing",
        ),
        (DataTransferRequest("v", custom_data={"vendorId": Unencodable()}), FORMAT, "customData: "),
    ],
)
def test_a_request_that_does_not_fit_is_refused_by_the_name_of_its_field(
    request_: DataTransferRequest, code: ErrorCode, text: str
) -> None:
    with pytest.raises(CallError) as caught:
        encode_request(request_, V201)
    assert caught.value.code is code
    assert caught.value.description.startswith(text)


@pytest.mark.parametrize("version", sorted(NO_CUSTOM))
def test_custom_data_is_refused_in_a_version_without_it_or_left_out_when_not_strict(
    version: OcppVersion,
) -> None:
    request = DataTransferRequest("v", custom_data={"vendorId": "w"})
    with pytest.raises(CallError, match=f"customData: not a field of {version}"):
        encode_request(request, version)
    assert encode_request(request, version, strict=False) == b'{"vendorId":"v"}'
