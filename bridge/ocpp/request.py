"""DataTransferRequest on the wire: bytes → envelope → request, and request → bytes.

Receiving is the hot path of a worker. The envelope is decoded once, and `data` stays bytes for the
decoder of the handler's own type.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from bridge.ocpp.codes import ErrorCode
from bridge.ocpp.data_transfer import (
    MESSAGE_ID_MAX_LENGTH,
    VENDOR_ID_MAX_LENGTH,
    DataTransferRequest,
)
from bridge.ocpp.errors import CallError
from bridge.ocpp.faults import DECODE_FAULTS, ENCODE_FAULTS
from bridge.ocpp.versions import OcppVersion
from bridge.ocpp.wire import (
    FORBIDS_UNKNOWN_FIELDS,
    HAS_CUSTOM_DATA,
    check_custom_data,
    check_text_data,
    data_json,
    decode_data,
    encode_json,
)

_VendorId = Annotated[str, Meta(max_length=VENDOR_ID_MAX_LENGTH)]
_MessageId = Annotated[str, Meta(max_length=MESSAGE_ID_MAX_LENGTH)]


class RequestEnvelope(Struct, rename="camel", gc=False):
    """A received DataTransferRequest whose `data` is still JSON.

    `data` and `custom_data` are views into the payload and keep it alive. They have been checked
    for JSON syntax, but neither for UTF-8 nor for the range of numbers: decoding them finds those
    faults.

    It holds nothing that could refer back to it, so it is hidden from the garbage collector.
    """

    vendor_id: _VendorId
    """At most 255 characters."""

    message_id: _MessageId | None = None
    """At most 50 characters. None and "" both mean that there is none; see `message`."""

    data: Raw | UnsetType = UNSET
    """JSON. UNSET: absent."""

    custom_data: Raw | UnsetType = UNSET
    """JSON: an object with a `vendorId`. UNSET: absent."""

    @property
    def message(self) -> str | None:
        """The messageId; None if it is absent, null or ""."""
        return self.message_id or None

    def to_request(self) -> DataTransferRequest:
        """The request with its data decoded. Integers of any size are exact.

        Raises CallError if the data holds invalid UTF-8 or a number out of range, or is nested too
        deeply.
        """
        custom_data = decode_data(self.custom_data, "customData")
        return DataTransferRequest(
            self.vendor_id,
            self.message,
            decode_data(self.data),
            None if custom_data is UNSET else custom_data,
        )


class _StrictEnvelope(RequestEnvelope, rename="camel", gc=False):
    """messageId may be absent but not null: a default need not be of the field's type."""

    message_id: _MessageId = None  # type: ignore[assignment]  # so that null is refused


class _ClosedEnvelope(_StrictEnvelope, rename="camel", gc=False, forbid_unknown_fields=True):
    """For the versions whose schema forbids unknown fields."""


_decode_lenient = msgspec.json.Decoder(RequestEnvelope).decode
_STRICT: dict[str, msgspec.json.Decoder[RequestEnvelope]] = {
    version: msgspec.json.Decoder(
        _ClosedEnvelope if version in FORBIDS_UNKNOWN_FIELDS else _StrictEnvelope
    )
    for version in OcppVersion
}


def decode_request(
    payload: bytes | Raw, version: OcppVersion, *, strict: bool = False
) -> RequestEnvelope:
    """The envelope of the DataTransferRequest in `payload`.

    By default it is read leniently: unknown fields are ignored, `data` may be any JSON value in
    every version, and messageId may be null. With `strict`, the payload must match the schema of
    `version`. Raises CallError, with the error code for the kind of fault and a description that
    names the field.
    """
    try:
        envelope = _STRICT[version].decode(payload) if strict else _decode_lenient(payload)
    except DECODE_FAULTS as fault:
        raise CallError.from_fault(fault) from fault
    if envelope.custom_data is not UNSET:
        envelope.custom_data = _settled(envelope.custom_data, version, strict=strict)
    if strict and version == OcppVersion.V1_6 and envelope.data is not UNSET:
        check_text_data(envelope.data)
    return envelope


def decode_known_fields(payload: bytes, version: OcppVersion) -> RequestEnvelope | None:
    """The envelope of a payload that has no field which the schema of `version` does not know.

    In every version `data` may be any JSON value. None: `payload` is something else.
    """
    try:
        envelope = _STRICT[version].decode(payload)
    except DECODE_FAULTS:
        return None
    if envelope.custom_data is not UNSET and version not in HAS_CUSTOM_DATA:
        return None
    return envelope


LARGE: Final = 12 * 1024
"""Bytes of a payload from which on it is cheaper to peel it than to read over its data."""

_MEMBER: Final = (
    rb'(?:"vendorId"_:_"([^"\\\x00-\x1f]{0,255})"|"messageId"_:_"([^"\\\x00-\x1f]{0,50})")'
)
"""A name beside the data. One with an escape in it, or longer in bytes, is read as usual."""


def _pattern(text: bytes) -> re.Pattern[bytes]:
    """`text`, where ``_`` stands for JSON's white space and ``#`` for a member."""
    return re.compile(text.replace(b"#", _MEMBER).replace(b"_", rb"[ \t\n\r]*"))


_HEAD: Final = _pattern(rb'_\{_(?:#_,_){0,2}"data"_:_')
_TAIL: Final = _pattern(rb",_#_(?:,_#_)?\}_\Z")
_BARE_TAIL: Final = _pattern(rb"\}_\Z")
_TAIL_LENGTH: Final = 512
"""Bytes of the end of a payload in which its tail is looked for."""


def peel(payload: bytes) -> RequestEnvelope | None:
    """The envelope of a large payload without a look at the data in it; None: it is read as usual.

    It is the one that :func:`decode_request` makes, provided that its `data` proves to be one JSON
    value: what stands around that is all there is, and is looked at here. If the data does not, the
    envelope means nothing.
    """
    head = _HEAD.match(payload)
    if head is None:
        return None
    names = head.groups()
    tail = None
    if None in names:  # the others stand behind the data
        tail = _TAIL.search(payload, max(head.end(), len(payload) - _TAIL_LENGTH))
    if tail is not None:
        names += tail.groups()
    else:
        tail = _BARE_TAIL.match(payload, payload.rfind(b"}", head.end()))
        if tail is None:
            return None
    try:
        vendor_id, message_id = _last(names[::2]), _last(names[1::2])
    except UnicodeDecodeError:
        return None
    if vendor_id is None or payload[tail.start() - 1] in b" \t\n\r":
        return None  # white space behind the data belongs to no value
    data = Raw(memoryview(payload)[head.end() : tail.start()])
    return RequestEnvelope(vendor_id, message_id, data)


def _last(names: Sequence[bytes | None]) -> str | None:
    """Of a member that comes more than once, the last one counts."""
    return next((name.decode() for name in reversed(names) if name is not None), None)


def _settled(custom_data: Raw, version: OcppVersion, *, strict: bool) -> Raw | UnsetType:
    """customData in the versions that have it; otherwise it is an unknown field."""
    if version in HAS_CUSTOM_DATA:
        check_custom_data(custom_data)
        return custom_data
    if strict:
        raise CallError(ErrorCode.FORMAT_VIOLATION, "customData: unknown field")
    return UNSET


def encode_request(
    request: DataTransferRequest, version: OcppVersion, *, strict: bool = True
) -> bytes:
    """The payload of `request`, valid by the schema of `version`. Absent fields are left out.

    Data given as bytes is sent as the text that they hold, and `msgspec.Raw` is sent verbatim. In
    1.6, structured data is sent as JSON text inside a string. Raises CallError, naming the field,
    for a value that does not fit. In a version without customData, a request that has it does not
    fit; with `strict=False` customData is left out instead.
    """
    parts: dict[str, object] = {
        "vendorId": _text(request.vendor_id, "vendorId", VENDOR_ID_MAX_LENGTH)
    }
    if request.message_id is not None:
        parts["messageId"] = _text(request.message_id, "messageId", MESSAGE_ID_MAX_LENGTH)
    try:
        data = data_json(request.data, version)
    except ENCODE_FAULTS as fault:
        raise CallError(ErrorCode.FORMAT_VIOLATION, f"data: {fault}") from fault
    if data is not None:
        parts["data"] = Raw(data)
    if request.custom_data is not None and (strict or version in HAS_CUSTOM_DATA):
        parts["customData"] = _custom_data(request.custom_data, version)
    return encode_json(parts)


def _text(value: object, field: str, max_length: int) -> str:
    if not isinstance(value, str):
        raise CallError(
            ErrorCode.TYPE_CONSTRAINT_VIOLATION,
            f"{field}: expected a string, got {type(value).__name__}",
        )
    if len(value) > max_length:
        raise CallError(
            ErrorCode.PROPERTY_CONSTRAINT_VIOLATION,
            f"{field}: expected a string of at most {max_length} characters",
        )
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as fault:
            raise CallError(ErrorCode.FORMAT_VIOLATION, f"{field}: {fault}") from fault
    return value


def _custom_data(value: object, version: OcppVersion) -> Raw:
    if version not in HAS_CUSTOM_DATA:
        raise CallError(ErrorCode.FORMAT_VIOLATION, f"customData: not a field of {version}")
    try:
        encoded = Raw(encode_json(value))
    except ENCODE_FAULTS as fault:
        raise CallError(ErrorCode.FORMAT_VIOLATION, f"customData: {fault}") from fault
    check_custom_data(encoded)
    return encoded
