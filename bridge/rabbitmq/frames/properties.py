"""A message's properties and its header table, read from the octets of a content header.

The same short strings come again and again: types, the names of headers, reply queues, the
addresses of a worker's queues. A :class:`Decoder` decodes each once and remembers it. There is one
per connection, so what it remembers belongs to one event loop: two loops in two threads share
nothing.
"""

import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from bridge.compiled import fields
from bridge.rabbitmq.frames import octets
from bridge.rabbitmq.frames.ids import (
    HAS_APP_ID,
    HAS_CLUSTER_ID,
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
    NESTED_AT_MOST,
    NO_PROPERTY,
    ProtocolError,
)
from bridge.transport import HeaderValue, Properties

fields.check((Properties,))

_I64 = struct.Struct(">q").unpack_from

_TEXTS_KEPT: Final = 1_024
"""Texts remembered. They come from outside, at up to 255 bytes each: at most half a megabyte."""
_ADDRESSES_KEPT: Final = 4_096
"""Pairs remembered. A routing key comes from outside; at 510 bytes each, at most 4 MiB."""
_NAMES_KEPT: Final = 8
"""Header names with a place of their own; any further ones share the last. The wire contract has
three headers."""


class _Place:
    """A place where messages carry the same short string again and again: what stood there last."""

    __slots__ = ("octets", "text")

    def __init__(self) -> None:
        self.octets = b""
        self.text = ""


class Decoder:
    """Reads properties and addresses for one connection, and remembers what comes again."""

    __slots__ = (
        "_addresses",
        "_app_id",
        "_content_encoding",
        "_content_type",
        "_header_names",
        "_reply_to",
        "_texts",
        "_type",
        "_user_id",
    )

    def __init__(self) -> None:
        self._texts: dict[bytes, str] = {}
        self._addresses: dict[bytes, tuple[str, str]] = {}
        self._header_names = [_Place() for _ in range(_NAMES_KEPT)]
        """Of the first header, of the second, and so on."""
        self._content_type = _Place()
        self._content_encoding = _Place()
        self._reply_to = _Place()
        self._type = _Place()
        self._user_id = _Place()
        self._app_id = _Place()

    def properties(self, data: bytes, at: int, stop: int, flags: int) -> Properties:
        """Read the properties that `flags` names, from `at`.

        Raises ProtocolError if they are malformed or do not end at `stop`.
        """
        content_type = content_encoding = headers = delivery_mode = priority = None
        correlation_id = reply_to = expiration = message_id = timestamp = None
        kind = user_id = app_id = None
        try:
            if flags & HAS_CONTENT_TYPE:
                end = at + 1 + data[at]
                content_type = self._known(data, at + 1, end, self._content_type)
                at = end
            if flags & HAS_CONTENT_ENCODING:
                end = at + 1 + data[at]
                content_encoding = self._known(data, at + 1, end, self._content_encoding)
                at = end
            if flags & HAS_HEADERS:
                end = at + 4 + octets.u32(data, at)[0]
                if end > stop:
                    raise ProtocolError("the header table is longer than its frame")
                headers = self._table(data, at + 4, end, 1)
                at = end
            if flags & HAS_DELIVERY_MODE:
                delivery_mode = data[at]
                at += 1
            if flags & HAS_PRIORITY:
                priority = data[at]
                at += 1
            if flags & HAS_CORRELATION_ID:
                end = at + 1 + data[at]
                correlation_id = octets.text(data, at + 1, end)
                at = end
            if flags & HAS_REPLY_TO:
                end = at + 1 + data[at]
                reply_to = self._known(data, at + 1, end, self._reply_to)
                at = end
            if flags & HAS_EXPIRATION:
                end = at + 1 + data[at]
                expiration = octets.text(data, at + 1, end)
                at = end
            if flags & HAS_MESSAGE_ID:
                end = at + 1 + data[at]
                message_id = octets.text(data, at + 1, end)
                at = end
            if flags & HAS_TIMESTAMP:
                timestamp = octets.u64(data, at)[0]
                at += 8
            if flags & HAS_TYPE:
                end = at + 1 + data[at]
                kind = self._known(data, at + 1, end, self._type)
                at = end
            if flags & HAS_USER_ID:
                end = at + 1 + data[at]
                user_id = self._known(data, at + 1, end, self._user_id)
                at = end
            if flags & HAS_APP_ID:
                end = at + 1 + data[at]
                app_id = self._known(data, at + 1, end, self._app_id)
                at = end
            if flags & HAS_CLUSTER_ID:
                at += 1 + data[at]
        except (IndexError, struct.error):
            raise ProtocolError("the properties are cut short") from None
        if at != stop or flags & NO_PROPERTY:
            raise ProtocolError(f"the properties do not fit their flags {flags:#06x}")
        return Properties(
            content_type, content_encoding, headers, delivery_mode, priority, correlation_id,
            reply_to, expiration, message_id, timestamp, kind, user_id, app_id,
        )  # fmt: skip

    def properties_or_none(self, data: bytes, at: int, stop: int, flags: int) -> Properties | None:
        """As :meth:`properties`; None if they cannot be read."""
        try:
            return self.properties(data, at, stop, flags)
        except ProtocolError:
            return None

    def address(self, data: bytes, at: int, stop: int) -> tuple[str, str]:
        """Exchange and routing key at the end of Basic.Deliver: one pair a queue, for millions.

        Raises ProtocolError if they do not end at `stop`, and what indexing raises.
        """
        key = octets.part(data, at, stop)
        pair = self._addresses.get(key)
        if pair is None:
            middle = at + 1 + data[at]
            end = middle + 1 + data[middle]
            if end != stop:
                raise ProtocolError("Basic.Deliver does not fill its frame")
            if len(self._addresses) >= _ADDRESSES_KEPT:
                self._addresses.clear()
            pair = octets.text(data, at + 1, middle), octets.text(data, middle + 1, end)
            self._addresses[key] = pair
        return pair

    def table(self, data: bytes) -> dict[str, HeaderValue]:
        """Read a field table: a 32-bit length, then names and values.

        AMQP 0-9-1 §4.2.5.5, with RabbitMQ's errata
        (https://www.rabbitmq.com/amqp-0-9-1-errata). Raises ProtocolError.
        """
        try:
            length = octets.u32(data, 0)[0]
        except (IndexError, struct.error):
            raise ProtocolError("the table is cut short") from None
        if length != len(data) - 4:
            raise ProtocolError(f"the table says {length} bytes and has {len(data) - 4}")
        return self._table(data, 4, len(data), 1)

    def _known(self, data: bytes, at: int, end: int, place: _Place) -> str:
        """A short string: what stood in its place last, or anywhere before, or something new."""
        if octets.same(data, at, end, place.octets):
            return place.text
        key = octets.part(data, at, end)
        text = self._texts.get(key)
        if text is None:
            if len(self._texts) >= _TEXTS_KEPT:
                self._texts.clear()
            text = self._texts[key] = octets.text(data, at, end)
        place.octets = key
        place.text = text
        return text

    def _table(self, data: bytes, at: int, stop: int, level: int) -> dict[str, HeaderValue]:
        """`level`: 1 for the header table itself, one more for each table or array around."""
        if level > NESTED_AT_MOST:
            raise ProtocolError("the header table is nested too deeply")
        table: dict[str, HeaderValue] = {}
        number = 0
        try:
            while at < stop:
                end = at + 1 + data[at]
                name = self._known(data, at + 1, end, self._header_names[number])
                number = min(number + 1, _NAMES_KEPT - 1)
                kind = data[end]
                at = end + 1
                if kind == 0x53:  # S: by far the most
                    end = at + 4 + octets.u32(data, at)[0]
                    table[name] = octets.text_or_bytes(data, at + 4, end)
                    at = end
                elif kind == 0x6C:  # l
                    table[name] = _I64(data, at)[0]
                    at += 8
                else:
                    table[name], at = self._value(data, at, stop, kind, level)
        except (IndexError, struct.error):
            raise ProtocolError("the header table is cut short") from None
        if at != stop:
            raise ProtocolError("a header value is longer than its table")
        return table

    def _value(
        self, data: bytes, at: int, stop: int, kind: int, level: int
    ) -> tuple[HeaderValue, int]:
        """A field value of this type (an octet), and where it ends."""
        fixed = _FIXED.get(kind)
        if fixed is not None:
            unpack, size = fixed
            return unpack(data, at)[0], at + size
        if kind == 0x74:  # t
            return data[at] != 0, at + 1
        if kind == 0x56:  # V
            return None, at
        if kind == 0x44:  # D: a scale, then a signed 32-bit number
            scale = data[at]
            return Decimal(struct.unpack_from(">i", data, at + 1)[0]).scaleb(-scale), at + 5
        if kind == 0x54:  # T: seconds
            seconds = octets.u64(data, at)[0]
            try:
                return datetime.fromtimestamp(seconds, UTC), at + 8
            except (OverflowError, OSError, ValueError):  # some clients write milliseconds
                return seconds, at + 8
        end = at + 4 + octets.u32(data, at)[0]
        if end > stop:
            raise ProtocolError("a header value is longer than its table")
        if kind == 0x53:  # S
            return octets.text_or_bytes(data, at + 4, end), end
        if kind == 0x46:  # F
            return self._table(data, at + 4, end, level + 1), end
        if kind == 0x78:  # x
            return bytearray(data[at + 4 : end]), end
        if kind == 0x41:  # A
            if level >= NESTED_AT_MOST:
                raise ProtocolError("the header table is nested too deeply")
            values = []
            at += 4
            while at < end:
                value, at = self._value(data, at + 1, end, data[at], level + 1)
                values.append(value)
            if at != end:
                raise ProtocolError("a header value is longer than its array")
            return values, end
        raise ProtocolError(f"unknown header value type {kind:#04x}")


_FIXED: Final[Mapping[int, tuple[Callable[..., tuple[Any, ...]], int]]] = {
    ord("b"): (struct.Struct(">b").unpack_from, 1),
    ord("B"): (struct.Struct(">B").unpack_from, 1),
    ord("s"): (struct.Struct(">h").unpack_from, 2),
    ord("u"): (struct.Struct(">H").unpack_from, 2),
    ord("I"): (struct.Struct(">i").unpack_from, 4),
    ord("i"): (struct.Struct(">I").unpack_from, 4),
    ord("l"): (struct.Struct(">q").unpack_from, 8),
    ord("L"): (struct.Struct(">q").unpack_from, 8),
    ord("f"): (struct.Struct(">f").unpack_from, 4),
    ord("d"): (struct.Struct(">d").unpack_from, 8),
}
"""A type's octet → how to read its value, and how many bytes that has."""
