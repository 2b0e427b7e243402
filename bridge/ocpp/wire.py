"""`data` and `customData` from and to JSON: the parts that requests and responses share.

A vendor's data is not altered: integers of any size stay exact, keys and nulls stay, and
`msgspec.Raw` is sent as it came.
"""

from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec
import orjson
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from bridge.ocpp.codes import ErrorCode
from bridge.ocpp.data_transfer import VENDOR_ID_MAX_LENGTH
from bridge.ocpp.errors import CallError
from bridge.ocpp.faults import DECODE_FAULTS
from bridge.ocpp.versions import OcppVersion

HAS_CUSTOM_DATA = frozenset({OcppVersion.V2_0_1, OcppVersion.V2_1})
"""The versions that have customData. The same versions have statusInfo."""

FORBIDS_UNKNOWN_FIELDS = frozenset({OcppVersion.V1_6, OcppVersion.V2_0_1, OcppVersion.V2_1})
"""The versions whose JSON schemas say `additionalProperties: false`."""

_V1_6 = OcppVersion.V1_6


_QUOTE = ord('"')
_PLUS = ord("+")
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
    """customData may hold anything, but its vendorId is required (OCPP 2.0.1 CustomDataType)."""

    vendor_id: Annotated[str, Meta(max_length=VENDOR_ID_MAX_LENGTH)]


_CUSTOM_DATA = msgspec.json.Decoder(_CustomData)


def decode_data(raw: Raw | UnsetType, field: str = "data") -> Any:
    """The value of `raw`, or UNSET if that is UNSET. Integers of any size are exact.

    Raises CallError, naming `field`, if `raw` cannot be decoded.
    """
    if raw is UNSET:
        return UNSET
    try:
        return _decode_any(raw)
    except DECODE_FAULTS as fault:
        raise CallError.from_fault(fault, field) from fault


def check_custom_data(raw: Raw, field: str = "customData") -> None:
    """Raise CallError unless `raw` is an object with a vendorId of at most 255 characters."""
    try:
        _CUSTOM_DATA.decode(raw)
    except DECODE_FAULTS as fault:
        raise CallError.from_fault(fault, field) from fault


def check_text_data(raw: Raw) -> None:
    """Raise CallError unless `raw` is a string: in OCPP 1.6 `data` must be one."""
    first = memoryview(raw)[0]
    if first != _QUOTE:
        got = _GOT.get(first, "a number")
        raise CallError(ErrorCode.TYPE_CONSTRAINT_VIOLATION, f"data: expected a string, got {got}")


def data_json(data: Any, version: OcppVersion) -> bytes | None:
    """`data` as JSON for `version`, or None if there is nothing to send.

    Bytes are sent as the text that they hold. `msgspec.Raw` is sent as it is, after a check that it
    is JSON; a Raw deeper inside is not checked. In 1.6 the result is always a string: any other
    JSON value is sent as JSON text inside a string, and null is nothing. Raises one of
    ENCODE_FAULTS for a value that has no form in JSON.
    """
    if data is UNSET:
        return None
    encoded = _writer[type(data)](data)
    if version != _V1_6 or encoded[0] == _QUOTE:
        return encoded
    return None if encoded == b"null" else encode_json(encoded.decode())


def _verbatim(data: Raw | bytes | bytearray | memoryview) -> bytes:
    if not isinstance(data, Raw):
        return encode_json(str(data, "utf-8"))
    encoded = bytes(_check_json(data))
    encoded.decode()  # Raw is checked for syntax, but not for UTF-8
    return encoded


_PLAIN: Final = (
    orjson.OPT_PASSTHROUGH_SUBCLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_DATACLASS
)
"""Has orjson refuse with TypeError what it may write in another way than msgspec."""


def _free_form(data: Any) -> bytes:
    """What msgspec writes, by orjson where that writes the same: in about two thirds of the time.

    That is plain JSON values, and enumerations and UUIDs. All else, and what neither can write, is
    msgspec's: other objects, keys that are no strings, integers of more than 64 bits, deep nesting,
    lone surrogates, and floats from 1e16 on, in which orjson has a plus. An orjson.Fragment is
    embedded unchecked, as a Raw deeper inside is.
    """
    try:
        encoded = orjson.dumps(data, option=_PLAIN)
    except TypeError:
        return encode_json(data)
    # The one octet is found at once; the two are looked for only where it is.
    return encode_json(data) if _PLUS in encoded and b"e+" in encoded else encoded


class _Writers(dict[type, Callable[[Any], bytes]]):
    """type → what writes its values: bytes as the text they hold, Raw as JSON, others as values.

    A mapping that fills itself, so that `issubclass` runs once for each type.
    """

    KEPT = 4_096
    """Types that are remembered. There are as many as handlers, unless types are made for each
    message."""

    def __missing__(self, kind: type) -> Callable[[Any], bytes]:
        if len(self) >= self.KEPT:
            self.clear()
        writer: Callable[[Any], bytes] = encode_json
        if issubclass(kind, Raw | bytes | bytearray | memoryview):
            writer = _verbatim
        elif kind in _FREE_FORMS:
            writer = _free_form
        self[kind] = writer
        return writer


_FREE_FORMS: Final = frozenset({dict, list, tuple, str})
"""Types whose values may hold anything, and mostly hold plain JSON values."""
_writer = _Writers()
