"""The broker's side of the wire: frames packed by hand, and sinks that write down what is told.

Nothing here encodes with the code under test, so that a fault in it cannot hide itself.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Any

from bridge.rabbitmq.frames.reading import FrameStream
from bridge.transport import Properties

Event = tuple[Any, ...]
NO_PROPERTIES = Properties()
HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"


class Recorder:
    """Listens to a connection and to its lanes, with one list so that their order shows too."""

    def __init__(self, *lanes: int, frame_max: int = 131_072) -> None:
        self.events: list[Event] = []
        self.stream = FrameStream(self, frame_max)
        for channel in lanes:
            self.register(channel)

    def register(self, channel: int) -> None:
        self.stream.register(channel, Channel(channel, self.events))

    def feed(self, *chunks: bytes) -> list[Event]:
        for chunk in chunks:
            self.stream.feed(chunk)
        return self.events

    def on_frame(self, frame: bytes) -> None:
        self.events.append(("frame", frame))

    def on_connection_close(self, reply_code: int, reply_text: str) -> None:
        self.events.append(("connection close", reply_code, reply_text))

    def on_blocked(self, reason: str | None) -> None:
        self.events.append(("blocked", reason))


class Channel:
    """One lane's sink."""

    def __init__(self, channel: int, events: list[Event]) -> None:
        self._channel = channel
        self._events = events

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
        content = (consumer_tag, delivery_tag, redelivered, exchange, routing_key, properties, body)
        self._events.append(("deliver", self._channel, *content))

    def on_confirm(self, delivery_tag: int, multiple: bool, ok: bool) -> None:
        self._events.append(("confirm", self._channel, delivery_tag, multiple, ok))

    def on_return(
        self,
        reply_code: int,
        reply_text: str,
        exchange: str,
        routing_key: str,
        properties: Properties | None,
    ) -> None:
        self._events.append(
            ("return", self._channel, reply_code, reply_text, exchange, routing_key, properties)
        )

    def on_cancel(self, consumer_tag: bytes) -> None:
        self._events.append(("cancel", self._channel, consumer_tag))

    def on_channel_close(self, reply_code: int, reply_text: str) -> None:
        self._events.append(("channel close", self._channel, reply_code, reply_text))

    def on_other(self, method: int, arguments: bytes) -> bool:
        return False


def frame(kind: int, channel: int, payload: bytes, end: int = 0xCE) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + bytes((end,))


def short(text: bytes) -> bytes:
    return bytes((len(text),)) + text


def method(class_id: int, method_id: int, *arguments: bytes) -> bytes:
    """A method frame's payload."""
    return struct.pack(">HH", class_id, method_id) + b"".join(arguments)


def deliver_payload(tag: int, key: bytes = b"key", consumer: bytes = b"ctag") -> bytes:
    return method(60, 60, short(consumer), struct.pack(">QB", tag, 0), short(b"x"), short(key))


def return_payload(key: bytes = b"key", exchange: bytes = b"") -> bytes:
    return method(60, 50, struct.pack(">H", 312), short(b"NO_ROUTE"), short(exchange), short(key))


def header_payload(size: int, flags: int = 0, properties: bytes = b"") -> bytes:
    return struct.pack(">HHQH", 60, 0, size, flags) + properties


def deliver(channel: int, tag: int, **arguments: bytes) -> bytes:
    return frame(1, channel, deliver_payload(tag, **arguments))


def header(channel: int, size: int, flags: int = 0, properties: bytes = b"") -> bytes:
    return frame(2, channel, header_payload(size, flags, properties))


def body(channel: int, data: bytes) -> bytes:
    return frame(3, channel, data)


def ack(channel: int, tag: int, *, multiple: bool = False) -> bytes:
    return frame(1, channel, method(60, 80, struct.pack(">QB", tag, multiple)))


def nack(channel: int, tag: int, *, multiple: bool = False) -> bytes:
    return frame(1, channel, method(60, 120, struct.pack(">QB", tag, multiple)))


def message(channel: int, tag: int, data: bytes, frame_max: int = 131_072) -> bytes:
    """Basic.Deliver with its content, without properties."""
    step = frame_max - 8
    bodies = (body(channel, data[start : start + step]) for start in range(0, len(data), step))
    return b"".join((deliver(channel, tag), header(channel, len(data)), *bodies))


def delivered(
    channel: int, tag: int, data: bytes, properties: Properties | None = NO_PROPERTIES
) -> Event:
    """What a sink is told of :func:`message`."""
    return ("deliver", channel, b"ctag", tag, False, "x", "key", properties, data)


def frames_of(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Cut a run of whole frames into kind, channel and payload. Fails if they are not whole."""
    at = 0
    while at < len(data):
        kind, channel, size = struct.unpack_from(">BHI", data, at)
        stop = at + 7 + size
        assert data[stop] == 0xCE
        yield kind, channel, data[at + 7 : stop]
        at = stop + 1


def cut(data: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    """`data` in pieces of these sizes, and what is left of it."""
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size
    yield data[at:]
