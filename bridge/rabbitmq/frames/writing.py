"""AMQP 0-9-1 frames, written: the mirror image of :mod:`bridge.rabbitmq.frames.reading`."""

import struct
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Final

import msgspec

from bridge.compiled import fields
from bridge.rabbitmq.frames import octets
from bridge.rabbitmq.frames.ids import (
    BASIC_ACK,
    BASIC_NACK,
    BASIC_PUBLISH,
    BASIC_REJECT,
    BODY,
    FRAME_END,
    FRAME_MAX,
    FRAME_OVERHEAD,
    HAS_APP_ID,
    HAS_CONTENT_ENCODING,
    HAS_CONTENT_TYPE,
    HAS_CORRELATION_ID,
    HAS_DELIVERY_MODE,
    HAS_EXPIRATION,
    HAS_HEADERS,
    HAS_MESSAGE_ID,
    HAS_PRIORITY,
    HAS_REPLY_TO,
    HAS_TIMESTAMP,
    HAS_TYPE,
    HAS_USER_ID,
    METHOD,
    NESTED_AT_MOST,
)
from bridge.transport import HeaderValue, Properties, Publishing

fields.check((Properties, Publishing))

_PACK_FRAME = struct.Struct(">BHI").pack
_PACK_SETTLING = struct.Struct(">BHIIQBB").pack
"""A whole frame of Basic.Ack, Basic.Nack or Basic.Reject."""
_SETTLING_SIZE: Final = 13
"""Bytes of its payload: method (4), delivery tag (8), bits (1)."""
_PACK_U32 = struct.Struct(">I").pack
_PACK_U64 = struct.Struct(">Q").pack
_PACK_I64 = struct.Struct(">q").pack
_PACK_METHOD = struct.Struct(">IH").pack
"""A method, and the short integer after it that AMQP 0-9-1 reserves (once an access ticket)."""
_LENGTH: Final = tuple(bytes((n,)) for n in range(256))
_END: Final = b"\xce"

_METHODS_KEPT: Final = 4_096
"""Basic.Publish frames remembered, of about 200 bytes each."""
_SHARED_KEPT: Final = 4_096
"""Encoded properties remembered."""
_SHORT_STRINGS_KEPT: Final = 64
"""Short strings remembered."""


def encode_ack(channel: int, delivery_tag: int, *, multiple: bool) -> bytes:
    """Basic.Ack of this delivery, or (`multiple`) of every unsettled one up to it."""
    return _PACK_SETTLING(
        METHOD, channel, _SETTLING_SIZE, BASIC_ACK, delivery_tag, multiple, FRAME_END
    )


def encode_nack(channel: int, delivery_tag: int, *, multiple: bool, requeue: bool) -> bytes:
    """Basic.Nack of the same."""
    bits = multiple | requeue << 1
    return _PACK_SETTLING(
        METHOD, channel, _SETTLING_SIZE, BASIC_NACK, delivery_tag, bits, FRAME_END
    )


def encode_reject(channel: int, delivery_tag: int, *, requeue: bool) -> bytes:
    """Basic.Reject of this delivery."""
    return _PACK_SETTLING(
        METHOD, channel, _SETTLING_SIZE, BASIC_REJECT, delivery_tag, requeue, FRAME_END
    )


def encode_method(channel: int, method: int, arguments: bytes) -> bytes:
    """A method whose first argument is the reserved short integer, with the arguments after it."""
    payload = _PACK_METHOD(method, 0) + arguments
    return b"%b%b%b" % (_PACK_FRAME(METHOD, channel, len(payload)), payload, _END)


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


def _encode_decimal(value: Decimal) -> bytes:
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int):
        scale = max(0, -exponent)
        # A huge exponent is refused first: the integer that it stands for may not fit the memory.
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
        arguments = short_string(exchange) + short_string(routing_key) + _LENGTH[mandatory]
        self.frame = encode_method(channel, BASIC_PUBLISH, arguments)


class _Shared:
    """Properties that many publishings share, encoded around the two that they do not.

    Those are the correlation id and the expiration, with reply_to between them.
    """

    __slots__ = ("after", "before", "between", "flags", "properties")

    def __init__(
        self, properties: Properties, flags: int, before: bytes, between: bytes, after: bytes
    ) -> None:
        self.properties = properties
        self.flags = flags
        """With that of the correlation id, without that of the expiration."""
        self.before = before
        self.between = between
        self.after = after


class Encoder:
    """Writes the publishings of one connection, and remembers what comes again and again.

    Reply queues are few and used for millions of publishings; so are the properties of replies. As
    for reading, the memory belongs to a connection and so to one event loop.
    """

    __slots__ = ("_last_method", "_limit", "_methods", "_shared", "_short_strings")

    def __init__(self, frame_max: int = FRAME_MAX) -> None:
        """`frame_max`: the largest frame in bytes, as Connection.Tune negotiated it; not 0."""
        self._limit = frame_max - FRAME_OVERHEAD
        self._methods: dict[tuple[int, str, str, bool], _Method] = {}
        self._last_method = _Method(0, "", "", False)
        self._shared: dict[int, _Shared] = {}
        """By the identity of the properties, which each entry keeps alive."""
        self._short_strings: dict[str, bytes] = {}
        """What every message carries: its type, its content type, the names of its headers."""

    def publish(self, channel: int, publishing: Publishing) -> bytes:
        """Basic.Publish, content header and body frames, as one run of whole frames.

        Raises ValueError for what AMQP cannot carry.
        """
        return self._publish(channel, publishing, publishing.body)

    def publish_large(self, channel: int, publishing: Publishing) -> list[bytes | memoryview]:
        """As :meth:`publish`, in parts: those of the body are views of it, and no copies."""
        parts: list[bytes | memoryview] = [self._publish(channel, publishing, b"")]
        body = memoryview(publishing.body)
        for start in range(0, len(body), self._limit):
            chunk = body[start : start + self._limit]
            parts += (_PACK_FRAME(BODY, channel, len(chunk)), chunk, _END)
        return parts

    def _publish(self, channel: int, publishing: Publishing, body: bytes) -> bytes:
        """All of it up to the body, and the frames of `body`, which may be left out."""
        method = self._method(
            channel, publishing.exchange, publishing.routing_key, publishing.mandatory
        )
        properties = publishing.properties
        expiration = publishing.expiration
        correlation_id = publishing.correlation_id
        own: bytes | None = None
        if correlation_id is None:
            if expiration is not None:
                properties = msgspec.structs.replace(properties, expiration=expiration)
            flags, before = self.properties(properties)
            between = after = b""
        else:
            shared = self._shared_of(properties)
            flags, before = shared.flags, shared.before
            between, after = shared.between, shared.after
            own = correlation_id.encode("utf-8", "surrogateescape")
            if len(own) > 255:
                raise ValueError(f"a correlation_id of {len(own)} bytes, and AMQP allows 255")
            if expiration is not None or (expiration := properties.expiration) is not None:
                between += short_string(expiration)
                flags |= HAS_EXPIRATION
        size = len(publishing.body)
        return octets.message(
            method, channel, self._limit, flags, before, own, between, after, size, body
        )

    def properties(self, properties: Properties) -> tuple[int, bytes]:
        """Property flags, and the properties in wire order.

        Raises ValueError for what AMQP cannot carry.
        """
        flags = 0
        parts: list[bytes] = []
        if properties.content_type is not None:
            flags = HAS_CONTENT_TYPE
            parts.append(self._known(properties.content_type))
        if properties.content_encoding is not None:
            flags |= HAS_CONTENT_ENCODING
            parts.append(self._known(properties.content_encoding))
        if properties.headers is not None:
            flags |= HAS_HEADERS
            parts.append(self.table(properties.headers))
        if properties.delivery_mode is not None:
            flags |= HAS_DELIVERY_MODE
            parts.append(_octet(properties.delivery_mode))
        if properties.priority is not None:
            flags |= HAS_PRIORITY
            parts.append(_octet(properties.priority))
        if properties.correlation_id is not None:
            flags |= HAS_CORRELATION_ID
            parts.append(short_string(properties.correlation_id))
        if properties.reply_to is not None:
            flags |= HAS_REPLY_TO
            parts.append(short_string(properties.reply_to))
        if properties.expiration is not None:
            flags |= HAS_EXPIRATION
            parts.append(short_string(properties.expiration))
        if properties.message_id is not None:
            flags |= HAS_MESSAGE_ID
            parts.append(short_string(properties.message_id))
        if properties.timestamp is not None:
            flags |= HAS_TIMESTAMP
            parts.append(_seconds(properties.timestamp))
        if properties.type is not None:
            flags |= HAS_TYPE
            parts.append(self._known(properties.type))
        if properties.user_id is not None:
            flags |= HAS_USER_ID
            parts.append(short_string(properties.user_id))
        if properties.app_id is not None:
            flags |= HAS_APP_ID
            parts.append(short_string(properties.app_id))
        return flags, b"".join(parts)

    def table(self, table: Mapping[str, HeaderValue], level: int = 1) -> bytes:
        """A field table, with its length before it (AMQP 0-9-1 §4.2.5.5).

        `level`: 1 for the header table itself, one more for each table or array around. Raises
        ValueError for a name or value that AMQP cannot carry.
        """
        if level > NESTED_AT_MOST:
            raise ValueError(f"a header table is nested in at most {NESTED_AT_MOST} levels")
        parts = [b""]
        for name, value in table.items():
            parts.append(self._known(name))
            if type(value) is str:
                text = value.encode("utf-8", "surrogateescape")
                parts += (b"S", _PACK_U32(len(text)), text)
            elif type(value) is int and -(2**63) <= value < 2**63:
                parts += (b"l", _PACK_I64(value))
            else:
                parts.append(self._value(value, level))
        parts[0] = _PACK_U32(sum(map(len, parts)))
        return b"".join(parts)

    def _value(self, value: HeaderValue, level: int) -> bytes:
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
                return b"F" + self.table(value, level + 1)
            case list() | tuple():
                if level >= NESTED_AT_MOST:
                    raise ValueError(f"a header table is nested in at most {NESTED_AT_MOST} levels")
                items = b"".join([self._value(item, level + 1) for item in value])
                return b"A" + _PACK_U32(len(items)) + items
            case _:
                raise ValueError(f"a header cannot carry a {type(value).__name__}")

    def _known(self, text: str) -> bytes:
        """:func:`short_string` of a text that is likely to come again."""
        encoded = self._short_strings.get(text)
        if encoded is None:
            encoded = short_string(text)
            if len(self._short_strings) < _SHORT_STRINGS_KEPT:
                self._short_strings[text] = encoded
        return encoded

    def _method(self, channel: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:
        """The frame of Basic.Publish: the last one again, in most cases; or one remembered."""
        method = self._last_method
        if (
            method.routing_key is routing_key
            and method.exchange is exchange
            and method.channel == channel
            and method.mandatory == mandatory
        ):
            return method.frame
        key = (channel, exchange, routing_key, mandatory)
        known = self._methods.get(key)
        if known is None:
            if len(self._methods) >= _METHODS_KEPT:
                self._methods.clear()
            known = self._methods[key] = _Method(channel, exchange, routing_key, mandatory)
        self._last_method = known
        return known.frame

    def _shared_of(self, properties: Properties) -> _Shared:
        shared = self._shared.get(id(properties))
        if shared is None or shared.properties is not properties:
            if len(self._shared) >= _SHARED_KEPT:
                self._shared.clear()
            shared = self._shared[id(properties)] = self._share(properties)
        return shared

    def _share(self, properties: Properties) -> _Shared:
        absent: str | None = None
        first, before = self.properties(
            msgspec.structs.replace(
                properties, correlation_id=absent, reply_to=absent, expiration=absent,
                message_id=absent, timestamp=absent, type=absent, user_id=absent, app_id=absent,
            )
        )  # fmt: skip
        middle, between = self.properties(Properties(reply_to=properties.reply_to))
        last, after = self.properties(
            Properties(
                message_id=properties.message_id, timestamp=properties.timestamp,
                type=properties.type, user_id=properties.user_id, app_id=properties.app_id,
            )
        )  # fmt: skip
        flags = first | middle | last | HAS_CORRELATION_ID
        return _Shared(properties, flags, before, between, after)
