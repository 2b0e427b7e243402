"""AMQP 0-9-1 frames out: the mirror image of reading."""

import struct
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Final

import msgspec

from bridge.compiled import fields
from bridge.rabbitmq.frames import octets
from bridge.rabbitmq.frames.ids import (
    FRAME_END,
    FRAME_OVERHEAD,
    METHOD,
    NESTED_AT_MOST,
)
from bridge.transport import HeaderValue, Properties, Publishing

fields.check((Properties, Publishing))

_PACK_FRAME = struct.Struct(">BHI").pack
_PACK_ACK = struct.Struct(">BHIHHQBB").pack
_PACK_U32 = struct.Struct(">I").pack
_PACK_U64 = struct.Struct(">Q").pack
_PACK_I64 = struct.Struct(">q").pack
_LENGTH: Final = tuple(bytes((n,)) for n in range(256))
_END: Final = b"\xce"


def encode_ack(channel: int, delivery_tag: int, *, multiple: bool) -> bytes:
    """Basic.Ack: this delivery, or every unsettled one up to it."""
    return _PACK_ACK(METHOD, channel, 13, 60, 80, delivery_tag, multiple, FRAME_END)


def encode_nack(channel: int, delivery_tag: int, *, multiple: bool, requeue: bool) -> bytes:
    """Basic.Nack."""
    return _PACK_ACK(METHOD, channel, 13, 60, 120, delivery_tag, multiple | requeue << 1, FRAME_END)


def encode_reject(channel: int, delivery_tag: int, *, requeue: bool) -> bytes:
    """Basic.Reject."""
    return _PACK_ACK(METHOD, channel, 13, 60, 90, delivery_tag, requeue, FRAME_END)


def encode_method(channel: int, payload: bytes) -> bytes:
    """Any method, given its class and method ids and its arguments."""
    return b"%b%b%b" % (_PACK_FRAME(METHOD, channel, len(payload)), payload, _END)


_short_strings: dict[str, bytes] = {}
"""The texts that every message carries (its type, its content type), encoded once. Bounded by their use."""


def _constant(text: str) -> bytes:
    encoded = _short_strings.get(text)
    if encoded is None:
        encoded = short_string(text)
        if len(_short_strings) < 64:
            _short_strings[text] = encoded
    return encoded


def short_string(text: str) -> bytes:
    """With its length before it (AMQP 0-9-1 §4.2.5.3). Raises ValueError above 255 bytes."""
    encoded = text.encode("utf-8", "surrogateescape")
    if len(encoded) > 255:
        raise ValueError(
            f"a short string of {len(encoded)} bytes, and AMQP allows 255: {text[:40]!r}…"
        )
    return _LENGTH[len(encoded)] + encoded


def _octet(value: int) -> bytes:
    if not 0 <= value <= 255:
        raise ValueError(f"delivery mode and priority are one byte, and {value} does not fit")
    return _LENGTH[value]


def _seconds(value: int) -> bytes:
    if not 0 <= value < 2**64:
        raise ValueError(f"a timestamp is in seconds since 1970, and {value} is not")
    return _PACK_U64(value)


def encode_properties(properties: Properties) -> tuple[int, bytes]:
    """Property flags, and the properties in wire order. Raises ValueError for what AMQP cannot carry."""
    flags = 0
    parts: list[bytes] = []
    if properties.content_type is not None:
        flags = 0x8000
        parts.append(_constant(properties.content_type))
    if properties.content_encoding is not None:
        flags |= 0x4000
        parts.append(_constant(properties.content_encoding))
    if properties.headers is not None:
        flags |= 0x2000
        parts.append(encode_table(properties.headers))
    if properties.delivery_mode is not None:
        flags |= 0x1000
        parts.append(_octet(properties.delivery_mode))
    if properties.priority is not None:
        flags |= 0x0800
        parts.append(_octet(properties.priority))
    if properties.correlation_id is not None:
        flags |= 0x0400
        parts.append(short_string(properties.correlation_id))
    if properties.reply_to is not None:
        flags |= 0x0200
        parts.append(short_string(properties.reply_to))
    if properties.expiration is not None:
        flags |= 0x0100
        parts.append(short_string(properties.expiration))
    if properties.message_id is not None:
        flags |= 0x0080
        parts.append(short_string(properties.message_id))
    if properties.timestamp is not None:
        flags |= 0x0040
        parts.append(_seconds(properties.timestamp))
    if properties.type is not None:
        flags |= 0x0020
        parts.append(_constant(properties.type))
    if properties.user_id is not None:
        flags |= 0x0010
        parts.append(short_string(properties.user_id))
    if properties.app_id is not None:
        flags |= 0x0008
        parts.append(short_string(properties.app_id))
    return flags, b"".join(parts)


def encode_table(table: Mapping[str, HeaderValue], level: int = 1) -> bytes:
    """A field table. Raises ValueError for a value or name AMQP cannot carry. `level`: as in reading."""
    if level > NESTED_AT_MOST:
        raise ValueError(f"a header table is nested in at most {NESTED_AT_MOST} levels")
    parts = [b""]
    for name, value in table.items():
        parts.append(_constant(name))
        if type(value) is str:
            text = value.encode("utf-8", "surrogateescape")
            parts += (b"S", _PACK_U32(len(text)), text)
        else:
            parts.append(_encode_value(value, level))
    parts[0] = _PACK_U32(sum(map(len, parts)))
    return b"".join(parts)


def _encode_value(value: HeaderValue, level: int) -> bytes:
    match value:
        case None:
            return b"V"
        case bool():
            return b"t\x01" if value else b"t\x00"
        case str():
            text = value.encode("utf-8", "surrogateescape")
            return b"S" + _PACK_U32(len(text)) + text
        case int():
            if not -(2**63) <= value < 2**63:
                raise ValueError(f"a header integer must fit 64 bits, and {value} does not")
            return b"l" + _PACK_I64(value)
        case float():
            return b"d" + struct.pack(">d", value)
        case bytearray():
            return b"x" + _PACK_U32(len(value)) + value
        case bytes():
            return b"S" + _PACK_U32(len(value)) + value
        case datetime():
            return b"T" + _seconds(int(value.timestamp()))
        case Decimal():
            return _encode_decimal(value)
        case dict():
            return b"F" + encode_table(value, level + 1)
        case list() | tuple():
            if level >= NESTED_AT_MOST:
                raise ValueError(f"a header table is nested in at most {NESTED_AT_MOST} levels")
            items = b"".join([_encode_value(item, level + 1) for item in value])
            return b"A" + _PACK_U32(len(items)) + items
        case _:
            raise ValueError(f"a header cannot carry a {type(value).__name__}")


def _encode_decimal(value: Decimal) -> bytes:
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int):
        scale = max(0, -exponent)
        # A huge exponent is refused first: the integer it stands for may not fit the memory.
        if (
            scale <= 255
            and value.adjusted() < 10
            and -(2**31) <= (number := int(value.scaleb(scale))) < 2**31
        ):
            return b"D" + _LENGTH[scale] + struct.pack(">i", number)
    raise ValueError(
        f"a header decimal must be a 32-bit number with a scale of at most 255, and {value} is not"
    )


class _Method:
    """The frame of Basic.Publish for one address."""

    __slots__ = ("channel", "exchange", "frame", "mandatory", "routing_key")

    def __init__(self, channel: int, exchange: str, routing_key: str, mandatory: bool) -> None:
        self.channel = channel
        self.exchange = exchange
        self.routing_key = routing_key
        self.mandatory = mandatory
        names = short_string(exchange) + short_string(routing_key)
        self.frame = encode_method(
            channel, b"\x00\x3c\x00\x28\x00\x00" + names + _LENGTH[mandatory]
        )


_methods: dict[tuple[int, str, str, bool], _Method] = {}
_METHODS_KEPT: Final = 4_096
"""Frames kept, about 200 bytes each."""
_last_method = _Method(0, "", "", False)


def _publish_method(channel: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:
    """The frame of Basic.Publish: reply queues are few and used for millions, and for many in a row."""
    global _last_method  # noqa: PLW0603 - the commonest case by far, and a dictionary would have to hash four values for it
    method = _last_method
    if (
        method.routing_key is routing_key
        and method.exchange is exchange
        and method.channel == channel
        and method.mandatory == mandatory
    ):
        return method.frame
    key = (channel, exchange, routing_key, mandatory)
    known = _methods.get(key)
    if known is None:
        if len(_methods) >= _METHODS_KEPT:
            _methods.clear()
        known = _methods[key] = _Method(channel, exchange, routing_key, mandatory)
    _last_method = known
    return known.frame


class _Shared:
    """Properties that many publishings share, encoded around the two that they do not."""

    __slots__ = ("after", "before", "between", "flags", "properties")

    def __init__(self, properties: Properties) -> None:
        absent: str | None = None
        until_them = msgspec.structs.replace(
            properties, correlation_id=absent, reply_to=absent, expiration=absent, message_id=absent, timestamp=absent,
            type=absent, user_id=absent, app_id=absent,
        )  # fmt: skip
        after_them = Properties(
            message_id=properties.message_id, timestamp=properties.timestamp, type=properties.type,
            user_id=properties.user_id, app_id=properties.app_id,
        )  # fmt: skip
        first, self.before = encode_properties(until_them)
        """Up to correlation_id."""
        middle, self.between = encode_properties(Properties(reply_to=properties.reply_to))
        """reply_to."""
        last, self.after = encode_properties(after_them)
        """From message_id on."""
        self.flags = first | middle | last | 0x0400
        self.properties = properties


_shared: dict[int, _Shared] = {}
"""By the identity of the properties, which each entry keeps alive."""
_SHARED_KEPT: Final = 4_096


def _shared_of(properties: Properties) -> _Shared:
    shared = _shared.get(id(properties))
    if shared is None or shared.properties is not properties:
        if len(_shared) >= _SHARED_KEPT:
            _shared.clear()
        shared = _shared[id(properties)] = _Shared(properties)
    return shared


def encode_publish(channel: int, publishing: Publishing, frame_max: int = 131_072) -> bytes:
    """Basic.Publish, content header and body frames, as one run of whole frames. Raises ValueError."""
    method = _publish_method(
        channel, publishing.exchange, publishing.routing_key, publishing.mandatory
    )
    properties = publishing.properties
    expiration = publishing.expiration
    correlation_id = publishing.correlation_id
    own: bytes | None = None
    if correlation_id is None:
        if expiration is not None:
            properties = msgspec.structs.replace(properties, expiration=expiration)
        flags, before = encode_properties(properties)
        between = after = b""
    else:
        shared = _shared_of(properties)
        flags, before, between, after = shared.flags, shared.before, shared.between, shared.after
        own = correlation_id.encode("utf-8", "surrogateescape")
        if len(own) > 255:
            raise ValueError(f"a correlation_id of {len(own)} bytes, and AMQP allows 255")
        if expiration is not None or (expiration := properties.expiration) is not None:
            between += short_string(expiration)
            flags |= 0x0100
    limit = frame_max - FRAME_OVERHEAD
    return octets.message(
        method, channel, limit, flags, before, own, between, after, publishing.body
    )
