"""The AMQP 0-9-1 frames that carry the traffic, as bytes. No I/O.

A connection moves millions of messages through a handful of frames: Basic.Deliver, Basic.Publish, Basic.Ack, Basic.Nack,
Basic.Reject, Basic.Return, content headers, bodies and heartbeats. A general client library builds a tree of objects for each;
this codec reads and writes just these, and hands every other frame on untouched.

A message received is three kinds of frames on one channel (AMQP 0-9-1 §4.2): a method (Deliver or Return), a content
header with the body's size and the properties, then as many body frames as the size asks for, none if it is zero. Frames of
other channels may come between them, and the bytes of all may be split anywhere. So:

* :class:`FrameStream` cuts the bytes of a connection into frames, and gives those of a registered channel to its reader;
* :class:`ContentReader` is the state of one such channel, and calls its sink once per message or confirm;
* the ``encode_*`` functions are its mirror image for what is sent.

Bytes that break the protocol raise :class:`FrameError`; the connection cannot go on after it. A header table that
cannot be read is not that: the frames around it are sound, so the message arrives with ``properties=None`` and its
consumer can refuse it, instead of every worker dying of it in turn.
"""

import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, Protocol

from bridge.compiled import fields
from bridge.rabbitmq.frames import octets
from bridge.rabbitmq.frames.ids import (
    BASIC_ACK,
    BASIC_CANCEL,
    BASIC_DELIVER,
    BASIC_NACK,
    BASIC_RETURN,
    BODY,
    CHANNEL_CLOSE,
    CONNECTION_BLOCKED,
    CONNECTION_CLOSE,
    CONNECTION_UNBLOCKED,
    FRAME_END,
    FRAME_OVERHEAD,
    HEADER,
    HEARTBEAT,
    METHOD,
    NESTED_AT_MOST,
    FrameError,
)
from bridge.transport import HeaderValue, Properties

fields.check((Properties,))

_I64 = struct.Struct(">q").unpack_from


class ContentSink(Protocol):
    """Who a channel's reader tells."""

    def on_deliver(
        self,
        consumer_tag: bytes,
        delivery_tag: int,
        redelivered: bool,
        exchange: str,
        routing_key: str,
        properties: Properties | None,
        body: bytes,
    ) -> None:
        """Basic.Deliver with its content. `properties` is None if they cannot be read."""

    def on_confirm(self, delivery_tag: int, multiple: bool, ok: bool) -> None:
        """Basic.Ack (`ok`) or Basic.Nack of what this side published."""

    def on_return(
        self,
        reply_code: int,
        reply_text: str,
        exchange: str,
        routing_key: str,
        properties: Properties | None,
    ) -> None:
        """Basic.Return of a mandatory publishing; its confirm follows."""

    def on_cancel(self, consumer_tag: bytes) -> None:
        """Basic.Cancel: the broker ended a consumer, for example because its queue was deleted."""

    def on_channel_close(self, reply_code: int, reply_text: str) -> None:
        """Channel.Close from the broker."""


class _Place:
    """A place in messages where the same short string stands again and again: a type, the name of a header, a reply queue."""

    __slots__ = ("octets", "text")

    def __init__(self) -> None:
        self.octets = b""
        self.text = ""
        """What stood there last."""


_texts: dict[bytes, str] = {}
_TEXTS_KEPT: Final = 1_024
"""Texts kept, because they come from outside: with 255 bytes each at most half a megabyte."""


def _known(data: bytes, at: int, end: int, place: _Place) -> str:
    """Such a string, decoded once: what stood in its place last, or anywhere before."""
    if octets.same(data, at, end, place.octets):
        return place.text
    key = octets.part(data, at, end)
    text = _texts.get(key)
    if text is None:
        if len(_texts) >= _TEXTS_KEPT:
            _texts.clear()
        text = _texts[key] = octets.text(data, at, end)
    place.octets = key
    place.text = text
    return text


_content_type, _content_encoding, _reply_to, _type, _user_id, _app_id = (_Place() for _ in range(6))
_PLACES: Final = 8
_header_names: Final = [_Place() for _ in range(_PLACES)]
"""Of the first header, and so on; those after the last share its place. The contract has three."""


def decode_properties(data: bytes, at: int, stop: int, flags: int) -> Properties:
    """Read the properties that `flags` names, from `at`. Raises FrameError if they do not end at `stop`."""
    content_type = content_encoding = headers = delivery_mode = priority = correlation_id = (
        reply_to
    ) = None
    expiration = message_id = timestamp = kind = user_id = app_id = None
    try:
        if flags & 0x8000:
            end = at + 1 + data[at]
            content_type = _known(data, at + 1, end, _content_type)
            at = end
        if flags & 0x4000:
            end = at + 1 + data[at]
            content_encoding = _known(data, at + 1, end, _content_encoding)
            at = end
        if flags & 0x2000:
            end = at + 4 + octets.u32(data, at)[0]
            if end > stop:
                raise FrameError("the header table is longer than its frame")
            headers = _table(data, at + 4, end, 1)
            at = end
        if flags & 0x1000:
            delivery_mode = data[at]
            at += 1
        if flags & 0x0800:
            priority = data[at]
            at += 1
        if flags & 0x0400:
            end = at + 1 + data[at]
            correlation_id = octets.text(data, at + 1, end)
            at = end
        if flags & 0x0200:
            end = at + 1 + data[at]
            reply_to = _known(data, at + 1, end, _reply_to)
            at = end
        if flags & 0x0100:
            end = at + 1 + data[at]
            expiration = octets.text(data, at + 1, end)
            at = end
        if flags & 0x0080:
            end = at + 1 + data[at]
            message_id = octets.text(data, at + 1, end)
            at = end
        if flags & 0x0040:
            timestamp = octets.u64(data, at)[0]
            at += 8
        if flags & 0x0020:
            end = at + 1 + data[at]
            kind = _known(data, at + 1, end, _type)
            at = end
        if flags & 0x001C:
            if flags & 0x0010:
                end = at + 1 + data[at]
                user_id = _known(data, at + 1, end, _user_id)
                at = end
            if flags & 0x0008:
                end = at + 1 + data[at]
                app_id = _known(data, at + 1, end, _app_id)
                at = end
            if flags & 0x0004:  # cluster-id: deprecated, nobody's business
                at += 1 + data[at]
    except (IndexError, struct.error):
        raise FrameError("the properties are cut short") from None
    if at != stop or flags & 0x0003:
        raise FrameError(f"the properties do not fit their flags {flags:#06x}")
    return Properties(
        content_type, content_encoding, headers, delivery_mode, priority, correlation_id, reply_to, expiration, message_id,
        timestamp, kind, user_id, app_id,
    )  # fmt: skip


def _properties_or_none(data: bytes, at: int, stop: int, flags: int) -> Properties | None:
    try:
        return decode_properties(data, at, stop, flags)
    except FrameError:
        return None


def decode_table(data: bytes) -> dict[str, HeaderValue]:
    """Read a field table: a 32-bit length, then names and values (AMQP 0-9-1 §4.2.5.5, with RabbitMQ's errata)."""
    try:
        length = octets.u32(data, 0)[0]
    except (IndexError, struct.error):
        raise FrameError("the table is cut short") from None
    if length != len(data) - 4:
        raise FrameError(f"the table says {length} bytes and has {len(data) - 4}")
    return _table(data, 4, len(data), 1)


def _table(data: bytes, at: int, stop: int, level: int) -> dict[str, HeaderValue]:
    """`level`: 1 for the header table itself, one more for each table or array around."""
    if level > NESTED_AT_MOST:
        raise FrameError("the header table is nested too deeply")
    table: dict[str, HeaderValue] = {}
    number = 0
    try:
        while at < stop:
            end = at + 1 + data[at]
            name = _known(data, at + 1, end, _header_names[number])
            number = min(number + 1, _PLACES - 1)
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
                table[name], at = _value(data, at, stop, kind, level)
    except (IndexError, struct.error):
        raise FrameError("the header table is cut short") from None
    if at != stop:
        raise FrameError("a header value is longer than its table")
    return table


def _value(data: bytes, at: int, stop: int, kind: int, level: int) -> tuple[HeaderValue, int]:
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
    if (
        kind == 0x54
    ):  # T: seconds; some clients write milliseconds, which are no date: left as the number they are
        seconds = octets.u64(data, at)[0]
        try:
            return datetime.fromtimestamp(seconds, UTC), at + 8
        except (OverflowError, OSError, ValueError):
            return seconds, at + 8
    end = at + 4 + octets.u32(data, at)[0]
    if end > stop:
        raise FrameError("a header value is longer than its table")
    if kind == 0x53:  # S
        return octets.text_or_bytes(data, at + 4, end), end
    if kind == 0x46:  # F
        return _table(data, at + 4, end, level + 1), end
    if kind == 0x78:  # x
        return bytearray(data[at + 4 : end]), end
    if kind == 0x41:  # A
        if level >= NESTED_AT_MOST:
            raise FrameError("the header table is nested too deeply")
        values = []
        at += 4
        while at < end:
            value, at = _value(data, at + 1, end, data[at], level + 1)
            values.append(value)
        if at != end:
            raise FrameError("a header value is longer than its array")
        return values, end
    raise FrameError(f"unknown header value type {kind:#04x}")


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


_addresses: dict[bytes, tuple[str, str]] = {}
_ADDRESSES_KEPT: Final = 4_096
"""Pairs kept, because a routing key comes from outside: with 510 bytes each at most 4 MiB."""


def _address(data: bytes, at: int, stop: int) -> tuple[str, str]:
    """Exchange and routing key as Basic.Deliver has them: each of a worker's queues has one pair, for millions."""
    key = octets.part(data, at, stop)
    pair = _addresses.get(key)
    if pair is None:
        exchange, end = _short(data, at, stop)
        routing_key, end = _short(data, end, stop)
        if end != stop:
            raise FrameError("Basic.Deliver does not fill its frame")
        if len(_addresses) >= _ADDRESSES_KEPT:
            _addresses.clear()
        pair = _addresses[key] = (exchange, routing_key)
    return pair


class ContentReader:
    """The state of one channel between frames: which method came, how much of its body is still to come."""

    __slots__ = (
        "_channel",
        "_chunks",
        "_header",
        "_method",
        "_missing",
        "_on_confirm",
        "_on_deliver",
        "_returned",
        "_sink",
        "_takes",
    )

    def __init__(self, sink: ContentSink, channel: int) -> None:
        self._sink = sink
        self._channel = channel
        self._on_deliver = sink.on_deliver
        self._on_confirm = sink.on_confirm
        self._takes = METHOD
        """The kind of frame this channel must send next."""
        self._method: tuple[bytes, int, bool, str, str] = (b"", 0, False, "", "")
        """The Basic.Deliver whose content comes."""
        self._returned: tuple[int, str, str, str] | None = None
        """Or the Basic.Return."""
        self._header: Properties | None = None
        self._missing = 0
        self._chunks: list[bytes] = []

    def on_method(self, data: bytes, at: int, stop: int, limit: int) -> int:
        """Take a method frame's payload, and the content that follows it if that is all there.

        Returns the index of the last octet taken: `stop`, the frame's end octet, or that of the body's last frame. 0: the
        method is not one of ours, hand it on. `limit`: bytes of a frame's payload at most.
        """
        if stop - at < 4:
            raise FrameError("a method is cut short")
        method = octets.u32(data, at)[0]
        if method == BASIC_DELIVER:
            if self._takes != METHOD:
                raise FrameError("a message began before the one before it was complete")
            try:
                end = at + 5 + data[at + 4]
                consumer_tag = octets.part(data, at + 5, end)
                delivery_tag, redelivered = octets.tag_bits(data, end)
                exchange, routing_key = _address(data, end + 9, stop)
            except (IndexError, struct.error):
                raise FrameError("Basic.Deliver is cut short") from None
            at = stop + 1
            if len(data) - at >= 30:  # a header frame without properties and an empty body frame
                # The common case in one step: a header frame and one body frame follow at once, and both are all there.
                # If not, or if something about them is wrong, the long way sees to it.
                kind, channel, length, _class, _weight, size, flags = octets.content_frame(data, at)
                if (
                    kind == HEADER
                    and channel == self._channel
                    and 14 <= length <= limit
                    and 0 < size <= limit
                ):
                    header_stop = at + 7 + length
                    body_stop: int = header_stop + FRAME_OVERHEAD + size
                    if (
                        body_stop < len(data)
                        and data[header_stop] == FRAME_END
                        and data[body_stop] == FRAME_END
                    ):
                        kind, channel, length = octets.frame(data, header_stop + 1)
                        if kind == BODY and channel == self._channel and length == size:
                            header = _properties_or_none(data, at + 21, header_stop, flags)
                            body = octets.part(data, header_stop + FRAME_OVERHEAD, body_stop)
                            self._on_deliver(
                                consumer_tag,
                                delivery_tag,
                                redelivered != 0,
                                exchange,
                                routing_key,
                                header,
                                body,
                            )
                            return body_stop
            self._takes = HEADER
            self._method = (consumer_tag, delivery_tag, redelivered != 0, exchange, routing_key)
            return stop
        if method in (BASIC_ACK, BASIC_NACK):
            if stop - at != 13:
                raise FrameError("Basic.Ack does not fill its frame")
            delivery_tag, bits = octets.tag_bits(data, at + 4)
            self._on_confirm(delivery_tag, (bits & 1) != 0, method == BASIC_ACK)
            return stop
        if method == BASIC_RETURN:
            if self._takes != METHOD:
                raise FrameError("a message began before the one before it was complete")
            self._takes = HEADER
            self._returned = _return(data, at + 4, stop)
            return stop
        if method == BASIC_CANCEL:
            self._sink.on_cancel(_cancel(data, at + 4, stop))
        elif method == CHANNEL_CLOSE:
            self._sink.on_channel_close(*_close(data, at + 4, stop))
        return 0

    def on_header(self, data: bytes, at: int, stop: int) -> None:
        """Take a content header's payload."""
        if self._takes != HEADER:
            raise FrameError("a content header without its method")
        if at + 14 > stop:
            raise FrameError("a content header is cut short")
        _class, _weight, size, flags = octets.content(data, at)
        self._header = _properties_or_none(data, at + 14, stop, flags)
        if size:
            self._missing = size
            self._takes = BODY
        else:
            self._complete(b"")

    def on_body(self, data: bytes, at: int, stop: int) -> None:
        """Take a body frame's payload."""
        if self._takes != BODY:
            raise FrameError("a body frame without its content header")
        size = stop - at
        if size > self._missing:
            raise FrameError("a body is longer than its content header says")
        self._missing -= size
        self._chunks.append(octets.part(data, at, stop))
        if not self._missing:
            chunks, self._chunks = self._chunks, []
            self._complete(chunks[0] if len(chunks) == 1 else b"".join(chunks))

    def _complete(self, body: bytes) -> None:
        self._takes = METHOD
        if self._returned is None:
            self._on_deliver(*self._method, self._header, body)
        else:
            returned, self._returned = self._returned, None
            self._sink.on_return(*returned, self._header)


def _short(data: bytes, at: int, stop: int) -> tuple[str, int]:
    """A short string, and where it ends. Raises FrameError if that is behind `stop`."""
    if at >= stop or (end := at + 1 + data[at]) > stop:
        raise FrameError("a method is cut short")
    return octets.text(data, at + 1, end), end


def _reply(data: bytes, at: int, stop: int) -> tuple[int, str, int]:
    """Reply code and text, and where they end."""
    if at + 2 > stop:
        raise FrameError("a method is cut short")
    text, end = _short(data, at + 2, stop)
    return octets.u16(data, at)[0], text, end


def _return(data: bytes, at: int, stop: int) -> tuple[int, str, str, str]:
    """Basic.Return's reply code, reply text, exchange and routing key."""
    reply_code, reply_text, at = _reply(data, at, stop)
    exchange, at = _short(data, at, stop)
    routing_key, at = _short(data, at, stop)
    if at != stop:
        raise FrameError("Basic.Return does not fill its frame")
    return reply_code, reply_text, exchange, routing_key


def _cancel(data: bytes, at: int, stop: int) -> bytes:
    """Basic.Cancel's consumer tag, before its one bit."""
    if at >= stop or (end := at + 1 + data[at]) + 1 != stop:
        raise FrameError("Basic.Cancel does not fill its frame")
    return data[at + 1 : end]


def _close(data: bytes, at: int, stop: int) -> tuple[int, str]:
    """Reply code and text of Channel.Close or Connection.Close, before the class and method that failed."""
    reply_code, reply_text, end = _reply(data, at, stop)
    if end + 4 != stop:
        raise FrameError("a close method does not fill its frame")
    return reply_code, reply_text


class ConnectionSink(Protocol):
    """Who a connection's stream tells."""

    def on_frame(self, frame: bytes) -> None:
        """A whole frame that is no registered channel's."""

    def on_connection_close(self, reply_code: int, reply_text: str) -> None:
        """Connection.Close from the broker."""

    def on_blocked(self, reason: str | None) -> None:
        """Connection.Blocked with its reason, or None: Connection.Unblocked."""


class FrameStream:
    """Cuts what a connection receives into frames. Bytes may arrive in pieces of any size."""

    __slots__ = ("_limit", "_needed", "_pieces", "_received", "_sink", "readers")

    def __init__(self, sink: ConnectionSink, frame_max: int = 131_072) -> None:
        """`frame_max`: the largest frame in bytes, as negotiated by Connection.Tune."""
        self._sink = sink
        self.limit(frame_max)
        self._pieces: list[bytes] = []
        """What has come of a frame that is not complete."""
        self._received = 0
        self._needed = 0
        self.readers: dict[int, ContentReader] = {}
        """Channel number → its reader."""

    def limit(self, frame_max: int) -> None:
        """Take over the frame size that Connection.Tune agreed on, in bytes; 0: no limit (AMQP 0-9-1 §4.2.3)."""
        self._limit = frame_max - FRAME_OVERHEAD if frame_max else 0xFFFF_FFFF

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises FrameError; the stream is of no use after it."""
        if self._pieces:
            self._pieces.append(data)
            self._received += len(data)
            if self._received < self._needed:
                return
            data = b"".join(self._pieces)
            self._pieces = []
        readers = self.readers
        at, size = 0, len(data)
        while size - at >= FRAME_OVERHEAD:
            kind, channel, length = octets.frame(data, at)
            if length > self._limit:
                raise FrameError(f"a frame of {length} bytes, and {self._limit} are agreed")
            stop = at + 7 + length
            if stop >= size:
                break
            if data[stop] != FRAME_END:
                raise FrameError("a frame does not end with 0xCE")
            reader = readers.get(channel)
            if reader is None:
                if channel == 0 and kind == METHOD:
                    self._peek(data, at + 7, stop)
                elif kind not in _KINDS:
                    raise FrameError(f"unknown frame type {kind}")
                self._sink.on_frame(data[at : stop + 1])
            elif kind == METHOD:
                taken = reader.on_method(data, at + 7, stop, self._limit)
                if taken:
                    stop = taken
                else:
                    self._sink.on_frame(data[at : stop + 1])
            elif kind == HEADER:
                reader.on_header(data, at + 7, stop)
            elif kind == BODY:
                reader.on_body(data, at + 7, stop)
            else:
                raise FrameError(f"unknown frame type {kind}")
            at = stop + 1
        rest = size - at
        if rest:
            self._pieces = [data[at:] if at else data]
            self._received = rest
            self._needed = FRAME_OVERHEAD + (
                octets.u32(data, at + 3)[0] if rest >= FRAME_OVERHEAD else 0
            )

    def _peek(self, data: bytes, at: int, stop: int) -> None:
        """Channel 0 belongs to the library; its news is ours too."""
        if stop - at < 4:
            raise FrameError("a method is cut short")
        method = octets.u32(data, at)[0]
        if method == CONNECTION_BLOCKED:
            self._sink.on_blocked(_short(data, at + 4, stop)[0])
        elif method == CONNECTION_UNBLOCKED:
            self._sink.on_blocked(None)
        elif method == CONNECTION_CLOSE:
            self._sink.on_connection_close(*_close(data, at + 4, stop))


_KINDS: Final = frozenset({METHOD, HEADER, BODY, HEARTBEAT})
