"""`data` and `customData` on their way from and to JSON: the parts that requests and responses share.

Nothing of a vendor's data is altered: integers of any size stay exact, keys and nulls stay, and `msgspec.Raw` goes out
as it came in.
"""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from bridge.ocpp.codes import ErrorCode
from bridge.ocpp.data_transfer import VENDOR_ID_MAX_LENGTH
from bridge.ocpp.errors import CallError
from bridge.ocpp.faults import DECODE_FAULTS
from bridge.ocpp.versions import OcppVersion

HAS_CUSTOM_DATA = frozenset({OcppVersion.V2_0_1, OcppVersion.V2_1})
"""The versions with customData; they are those with statusInfo, too."""

FORBIDS_UNKNOWN_FIELDS = frozenset({OcppVersion.V1_6, OcppVersion.V2_0_1, OcppVersion.V2_1})
"""The versions whose schemas say `additionalProperties: false`."""

_V1_6 = OcppVersion.V1_6


class _Verbatim(dict[type, bool]):
    """Whether values of a type are sent as they are: bytes as the text they hold, Raw as JSON. Asked once for each type."""

    KEPT = 4_096
    """Types remembered: there are as many as handlers, unless somebody makes them by the message."""

    def __missing__(self, kind: type) -> bool:
        if len(self) >= self.KEPT:
            self.clear()
        self[kind] = answer = issubclass(kind, Raw | bytes | bytearray | memoryview)
        return answer


_is_verbatim = _Verbatim()
_QUOTE = ord('"')
_GOT = {
    ord("{"): "an object",
    ord("["): "an array",
    ord("n"): "null",
    ord("t"): "a boolean",
    ord("f"): "a boolean",
}

encode_json = msgspec.json.Encoder().encode
_decode_any = msgspec.json.Decoder().decode
_check_json = msgspec.json.Decoder(Raw).decode


class _CustomData(Struct, rename="camel"):
    """customData holds anything, but its vendorId is required (OCPP 2.0.1 CustomDataType)."""

    vendor_id: Annotated[str, Meta(max_length=VENDOR_ID_MAX_LENGTH)]


_CUSTOM_DATA = msgspec.json.Decoder(_CustomData)


def decode_data(raw: Raw | UnsetType, field: str = "data") -> Any:
    """The value of a JSON part, exact. Raises CallError naming `field`."""
    if raw is UNSET:
        return UNSET
    try:
        return _decode_any(raw)
    except DECODE_FAULTS as fault:
        raise CallError.from_fault(fault, field) from fault


def check_custom_data(raw: Raw, field: str = "customData") -> None:
    """Raises CallError unless `raw` is an object with a vendorId of at most 255 characters."""
    try:
        _CUSTOM_DATA.decode(raw)
    except DECODE_FAULTS as fault:
        raise CallError.from_fault(fault, field) from fault


def check_text_data(raw: Raw) -> None:
    """Raises CallError unless `data` is a string, as OCPP 1.6 demands."""
    first = memoryview(raw)[0]
    if first != _QUOTE:
        got = _GOT.get(first, "a number")
        raise CallError(ErrorCode.TYPE_CONSTRAINT_VIOLATION, f"data: expected a string, got {got}")


def data_json(data: Any, version: OcppVersion) -> bytes | None:
    """`data` as the JSON of `version`; None where there is nothing to send.

    bytes are sent as the text they hold, `msgspec.Raw` as it is after a check that it is JSON (a Raw deeper inside is
    not checked). In 1.6 the result is always a string: a value that has another form in JSON is wrapped, as JSON text,
    in a string; null is nothing there. Raises one of ENCODE_FAULTS for a value without a JSON form.
    """
    if data is UNSET:
        return None
    encoded = _verbatim(data) if _is_verbatim[type(data)] else encode_json(data)
    if version != _V1_6 or encoded[0] == _QUOTE:
        return encoded
    return None if encoded == b"null" else encode_json(encoded.decode())


def _verbatim(data: Raw | bytes | bytearray | memoryview) -> bytes:
    if not isinstance(data, Raw):
        return encode_json(str(data, "utf-8"))
    encoded = bytes(_check_json(data))
    encoded.decode()  # Raw is checked for syntax but not for UTF-8.
    return encoded
