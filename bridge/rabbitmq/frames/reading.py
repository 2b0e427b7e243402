"""The AMQP 0-9-1 frames that carry the traffic, read from bytes. No I/O.

A connection moves millions of messages through a handful of frames: Basic.Deliver, Basic.Publish,
Basic.Ack, Basic.Nack, Basic.Reject, Basic.Return, content headers, bodies and heartbeats. A general
client library builds a tree of objects for each. This codec reads and writes just these, and hands
every other frame on untouched.

A message comes as three kinds of frames on one channel (AMQP 0-9-1 §4.2): a method (Deliver or
Return), a content header with the body's size and the properties, then as many body frames as the
size asks for (none if it is zero). Frames of other channels may come between them, and the bytes
may be split anywhere. So:

* :class:`FrameStream` cuts the bytes of a connection into frames, and gives those of a registered
  channel to that channel's reader;
* :class:`ContentReader` is the state of one such channel, and calls its sink once per message or
  confirm;
* :class:`~bridge.rabbitmq.frames.properties.Decoder` reads the properties, and is the memory of the
  connection;
* :mod:`bridge.rabbitmq.frames.writing` is the mirror image, for what is sent.

Bytes that break the protocol raise :class:`ProtocolError`, and the connection cannot go on. A
header table that cannot be read does not: the frames around it are sound. The message arrives with
``properties=None`` and its consumer can refuse it, so that not every worker dies of it in turn. Nor
does a content header above the agreed frame size, which the broker itself makes
(:data:`~bridge.rabbitmq.frames.ids.HEADER_READ`).
"""

import struct
from typing import Final, Protocol

from bridge.rabbitmq.frames import octets
from bridge.rabbitmq.frames.ids import (
    BASIC_ACK,
    BASIC_CANCEL,
    BASIC_DELIVER,
    BASIC_NACK,
    BASIC_RETURN,
    BODY,
    BODY_AT_MOST,
    CHANNEL_CLOSE,
    CONNECTION_BLOCKED,
    CONNECTION_CLOSE,
    CONNECTION_UNBLOCKED,
    FRAME_END,
    FRAME_MAX,
    FRAME_OVERHEAD,
    HEADER,
    HEADER_AT_MOST,
    HEADER_READ,
    HEARTBEAT,
    METHOD,
    ProtocolError,
)
from bridge.rabbitmq.frames.properties import Decoder
from bridge.transport import Properties


class ContentSink(Protocol):
    """Told what a registered channel receives."""

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
        """Basic.Return of a mandatory publishing. Its confirm follows."""

    def on_cancel(self, consumer_tag: bytes) -> None:
        """Basic.Cancel: the broker ended a consumer, for example because its queue was deleted."""

    def on_channel_close(self, reply_code: int, reply_text: str) -> None:
        """Channel.Close from the broker."""

    def on_other(self, method: int, arguments: bytes) -> bool:
        """Any other method. Returns whether it was taken; if not, it goes to the library."""


class ContentReader:
    """The state of one channel between frames: the method that came, the rest of its content."""

    __slots__ = (
        "_channel",
        "_decoder",
        "_header",
        "_method",
        "_missing",
        "_on_confirm",
        "_on_deliver",
        "_returned",
        "_room",
        "_sink",
        "_size",
        "_takes",
    )

    def __init__(self, sink: ContentSink, channel: int, decoder: Decoder) -> None:
        self._sink = sink
        self._channel = channel
        self._decoder = decoder
        self._on_deliver = sink.on_deliver
        self._on_confirm = sink.on_confirm
        self._takes = METHOD
        """The type of the frame that must come next."""
        self._method: tuple[bytes, int, bool, str, str] = (b"", 0, False, "", "")
        """The Basic.Deliver whose content is due."""
        self._returned: tuple[int, str, str, str] | None = None
        """The Basic.Return whose content is due, if it is one."""
        self._header: Properties | None = None
        self._size = 0
        """Bytes of the body."""
        self._missing = 0
        """Those of them that are still to come."""
        self._room: bytearray | None = None
        """Where a body is put together that does not come at once."""

    def on_method(self, data: bytes, at: int, stop: int, limit: int) -> int:
        """Take a method frame's payload, and the content that follows it if all of that is there.

        `limit`: the most bytes of a frame's payload. Returns the index of the last octet taken:
        `stop`, which is the frame's end octet, or the end octet of the body's last frame. 0: the
        method is not one of ours, and goes to the library.
        """
        if stop - at < 4:
            raise ProtocolError("a method is cut short")
        method = octets.u32(data, at)[0]
        if method == BASIC_DELIVER:
            if self._takes != METHOD:
                raise ProtocolError("a message began before the one before it was complete")
            try:
                end = at + 5 + data[at + 4]
                consumer_tag = octets.part(data, at + 5, end)
                delivery_tag, redelivered = octets.tag_bits(data, end)
                exchange, routing_key = self._decoder.address(data, end + 9, stop)
            except (IndexError, struct.error):
                raise ProtocolError("Basic.Deliver is cut short") from None
            at = stop + 1
            if len(data) - at >= 30:  # a header frame without properties, an empty body frame
                # The common case in one step: a header frame and one body frame, both complete.
                # If anything about them is different or wrong, the code below sees to it.
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
                            header = self._decoder.properties_or_none(
                                data, at + 21, header_stop, flags
                            )
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
                raise ProtocolError("Basic.Ack does not fill its frame")
            delivery_tag, bits = octets.tag_bits(data, at + 4)
            self._on_confirm(delivery_tag, (bits & 1) != 0, method == BASIC_ACK)
            return stop
        if method == BASIC_RETURN:
            if self._takes != METHOD:
                raise ProtocolError("a message began before the one before it was complete")
            self._takes = HEADER
            self._returned = _return(data, at + 4, stop)
            return stop
        if method == BASIC_CANCEL:
            self._sink.on_cancel(_cancel(data, at + 4, stop))
        elif method == CHANNEL_CLOSE:
            self._sink.on_channel_close(*_close(data, at + 4, stop))
        elif self._sink.on_other(method, octets.part(data, at + 4, stop)):
            return stop
        return 0

    def on_header(self, data: bytes, at: int, stop: int) -> None:
        """Take a content header's payload."""
        if self._takes != HEADER:
            raise ProtocolError("a content header without its method")
        if at + 14 > stop:
            raise ProtocolError("a content header is cut short")
        _class, _weight, size, flags = octets.content(data, at)
        self._header = None
        if stop - at <= HEADER_READ:
            self._header = self._decoder.properties_or_none(data, at + 14, stop, flags)
        if size > BODY_AT_MOST:
            raise ProtocolError(f"a body of {size} bytes, and {BODY_AT_MOST} are taken at most")
        if size:
            self._size = self._missing = size
            self._takes = BODY
        else:
            self._complete(b"")

    def on_body(self, data: bytes, at: int, stop: int) -> None:
        """Take a body frame's payload."""
        size = stop - at
        self.begin_body(size)
        if size == self._size:
            self._complete(octets.part(data, at, stop))
        else:
            self.put_body(data, at, stop)
            self.end_body()

    def begin_body(self, size: int) -> None:
        """A body frame with a payload of so many bytes comes.

        :meth:`put_body` takes the payload, in any pieces, and :meth:`end_body` the frame's end.
        """
        if self._takes != BODY:
            raise ProtocolError("a body frame without its content header")
        if size > self._missing:
            raise ProtocolError("a body is longer than its content header says")

    def put_body(self, data: bytes, at: int, stop: int) -> None:
        """Put some of a body frame's payload in its place: the one copy that is made of it."""
        if self._room is None:
            self._room = octets.room(self._size)
        octets.put(self._room, self._size - self._missing, data, at, stop)
        self._missing -= stop - at

    def end_body(self) -> None:
        """A body frame has come to its end, and perhaps the body with it."""
        if self._room is not None and not self._missing:
            room, self._room = self._room, None
            self._complete(octets.whole(room))

    def _complete(self, body: bytes) -> None:
        self._takes = METHOD
        if self._returned is None:
            self._on_deliver(*self._method, self._header, body)
        else:
            returned, self._returned = self._returned, None
            self._sink.on_return(*returned, self._header)


def _short(data: bytes, at: int, stop: int) -> tuple[str, int]:
    """A short string, and where it ends. Raises ProtocolError if that is behind `stop`."""
    if at >= stop or (end := at + 1 + data[at]) > stop:
        raise ProtocolError("a method is cut short")
    return octets.text(data, at + 1, end), end


def _reply(data: bytes, at: int, stop: int) -> tuple[int, str, int]:
    """Reply code and text, and where they end."""
    if at + 2 > stop:
        raise ProtocolError("a method is cut short")
    text, end = _short(data, at + 2, stop)
    return octets.u16(data, at)[0], text, end


def _return(data: bytes, at: int, stop: int) -> tuple[int, str, str, str]:
    """Basic.Return's reply code, reply text, exchange and routing key."""
    reply_code, reply_text, at = _reply(data, at, stop)
    exchange, at = _short(data, at, stop)
    routing_key, at = _short(data, at, stop)
    if at != stop:
        raise ProtocolError("Basic.Return does not fill its frame")
    return reply_code, reply_text, exchange, routing_key


def _cancel(data: bytes, at: int, stop: int) -> bytes:
    """Basic.Cancel's consumer tag, which one octet follows: no-wait."""
    if at >= stop or (end := at + 1 + data[at]) + 1 != stop:
        raise ProtocolError("Basic.Cancel does not fill its frame")
    return data[at + 1 : end]


def _close(data: bytes, at: int, stop: int) -> tuple[int, str]:
    """Reply code and text of Channel.Close or Connection.Close.

    After them come the class and the method that failed, two octets each.
    """
    reply_code, reply_text, end = _reply(data, at, stop)
    if end + 4 != stop:
        raise ProtocolError("a close method does not fill its frame")
    return reply_code, reply_text


class ConnectionSink(Protocol):
    """Told what a connection receives besides the content of its registered channels."""

    def on_frame(self, frame: bytes) -> None:
        """A whole frame for the library."""

    def on_connection_close(self, reply_code: int, reply_text: str) -> None:
        """Connection.Close from the broker."""

    def on_blocked(self, reason: str | None) -> None:
        """Connection.Blocked with its reason, or None: Connection.Unblocked."""


class FrameStream:
    """Cuts what a connection receives into frames. Bytes may arrive in pieces of any size."""

    __slots__ = (
        "_decoder",
        "_limit",
        "_needed",
        "_open",
        "_pieces",
        "_readers",
        "_received",
        "_rest",
        "_sink",
    )

    def __init__(self, sink: ConnectionSink, frame_max: int = FRAME_MAX) -> None:
        """`frame_max`: the largest frame in bytes, as :meth:`limit` takes it."""
        self._sink = sink
        self.limit(frame_max)
        self._decoder = Decoder()
        self._readers: dict[int, ContentReader] = {}
        """By channel number."""
        self._pieces: list[bytes] = []
        """What has come of a frame that is not complete."""
        self._received = 0
        """Bytes of these pieces."""
        self._needed = 0
        """Bytes from which on the frame may be complete."""
        self._open: ContentReader | None = None
        """Whose body frame is not complete. Of such a frame no pieces are kept."""
        self._rest = 0
        """Bytes of its payload that are still to come; then comes its end octet."""

    def limit(self, frame_max: int) -> None:
        """Take over the frame size that Connection.Tune negotiated, in bytes.

        0: no limit (AMQP 0-9-1 §4.2.3).
        """
        self._limit = frame_max - FRAME_OVERHEAD if frame_max else 0xFFFF_FFFF

    def register(self, channel: int, sink: ContentSink) -> None:
        """Give the content of this channel to `sink` from now on, instead of to the library."""
        self._readers[channel] = ContentReader(sink, channel, self._decoder)

    def unregister(self, channel: int) -> None:
        """Give everything of this channel to the library again."""
        self._readers.pop(channel, None)

    @property
    def has_channels(self) -> bool:
        """Whether any channel is registered."""
        return bool(self._readers)

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises ProtocolError, and the stream is of no use after it."""
        at = 0
        if self._open is not None:
            at = self._go_on(self._open, data)
        elif self._pieces:
            self._pieces.append(data)
            self._received += len(data)
            if self._received < self._needed:
                return
            data = b"".join(self._pieces)
            self._pieces = []
        readers = self._readers
        size = len(data)
        while size - at >= FRAME_OVERHEAD:
            kind, channel, length = octets.frame(data, at)
            if length > self._limit and (kind != HEADER or length > HEADER_AT_MOST):
                raise ProtocolError(f"a frame of {length} bytes, and {self._limit} are agreed")
            stop = at + 7 + length
            reader = readers.get(channel)
            if stop >= size:
                if kind == BODY and reader is not None:
                    reader.begin_body(length)
                    at += 7
                    reader.put_body(data, at, min(stop, size))
                    self._open = reader
                    self._rest = stop - size
                    return
                break
            if data[stop] != FRAME_END:
                raise ProtocolError("a frame does not end with 0xCE")
            if reader is None:
                if channel == 0 and kind == METHOD:
                    self._peek(data, at + 7, stop)
                elif kind not in _KINDS:
                    raise ProtocolError(f"unknown frame type {kind}")
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
                raise ProtocolError(f"unknown frame type {kind}")
            at = stop + 1
        rest = size - at
        if rest:
            self._pieces = [data[at:] if at else data]
            self._received = rest
            self._needed = FRAME_OVERHEAD + (
                octets.u32(data, at + 3)[0] if rest >= FRAME_OVERHEAD else 0
            )

    def _go_on(self, reader: ContentReader, data: bytes) -> int:
        """Take what comes of its open body frame, and return where in `data` the next begins."""
        size = len(data)
        at = min(self._rest, size)
        reader.put_body(data, 0, at)
        self._rest -= at
        if at == size:
            return at
        if data[at] != FRAME_END:
            raise ProtocolError("a frame does not end with 0xCE")
        self._open = None
        reader.end_body()
        return at + 1

    def _peek(self, data: bytes, at: int, stop: int) -> None:
        """Tell what a method on channel 0 says. The library, whose channel it is, gets it too."""
        if stop - at < 4:
            raise ProtocolError("a method is cut short")
        method = octets.u32(data, at)[0]
        if method == CONNECTION_BLOCKED:
            self._sink.on_blocked(_short(data, at + 4, stop)[0])
        elif method == CONNECTION_UNBLOCKED:
            self._sink.on_blocked(None)
        elif method == CONNECTION_CLOSE:
            self._sink.on_connection_close(*_close(data, at + 4, stop))


_KINDS: Final = frozenset({METHOD, HEADER, BODY, HEARTBEAT})
