"""Frames read by example: whole, cut anywhere, and hostile."""

import struct
from unittest.mock import Mock

import pytest

from bridge.rabbitmq.frames.ids import BODY_AT_MOST, HEADER_AT_MOST, HEADER_READ, ProtocolError
from bridge.rabbitmq.frames.reading import FrameStream
from bridge.transport import Properties
from tests.unit.rabbitmq.frames.samples import (
    ALL_FLAGS,
    ALL_PROPERTIES,
    ALL_PROPERTIES_BYTES,
    FRAME_MAX,
    MAX_PAYLOAD,
    MIB,
    SIZES,
)
from tests.unit.rabbitmq.wire import (
    HEARTBEAT,
    Channel,
    Event,
    Recorder,
    ack,
    body,
    cut,
    deliver,
    deliver_payload,
    delivered,
    frame,
    header,
    header_payload,
    message,
    method,
    nack,
    return_payload,
    short,
)

# ---- what is sound ----

FOREIGN = frame(1, 7, method(50, 11, short(b"queue"), bytes(8)))
FOREIGN_BODY = frame(3, 7, b"\xce not ours \xce")
UNKNOWN_METHOD = frame(1, 1, method(60, 21, short(b"ctag")))

STREAM: tuple[tuple[bytes, tuple[Event, ...]], ...] = (
    # What comes, frame by frame; what the sinks are told when that frame is complete.
    (HEARTBEAT, (("frame", HEARTBEAT),)),
    (deliver(1, 1), ()),
    (header(1, 9, ALL_FLAGS, ALL_PROPERTIES_BYTES), ()),
    (FOREIGN, (("frame", FOREIGN),)),
    (body(1, b"three"), ()),
    (ack(2, 5), (("confirm", 2, 5, False, True),)),
    (deliver(2, 9), ()),
    (body(1, b""), ()),
    (body(1, b" now"), (delivered(1, 1, b"three now", ALL_PROPERTIES),)),
    (header(2, 0), (delivered(2, 9, b""),)),
    (nack(2, 2**64 - 1, multiple=True), (("confirm", 2, 2**64 - 1, True, False),)),
    (frame(1, 2, return_payload(b"gone")), ()),
    (header(2, 2, 0x0400, b"\x01c"), ()),
    (FOREIGN_BODY, (("frame", FOREIGN_BODY),)),
    (HEARTBEAT, (("frame", HEARTBEAT),)),
    (body(2, b"hi"), (("return", 2, 312, "NO_ROUTE", "", "gone", Properties(correlation_id="c")),)),
    (ack(2, 6, multiple=True), (("confirm", 2, 6, True, True),)),
    (UNKNOWN_METHOD, (("frame", UNKNOWN_METHOD),)),
    (deliver(1, 2), ()),
    (header(1, 1), ()),
    (body(1, b"\xce"), (delivered(1, 2, b"\xce"),)),
)
STREAM_BYTES = b"".join(piece for piece, _ in STREAM)
STREAM_EVENTS = [event for _, events in STREAM for event in events]


def events_within(size: int) -> list[Event]:
    """What must have been told after so many bytes: everything complete, and nothing else."""
    told: list[Event] = []
    for piece, events in STREAM:
        size -= len(piece)
        if size < 0:
            break
        told += events
    return told


def test_a_stream_split_in_two_at_any_byte_says_the_same_and_says_it_as_soon_as_it_can() -> None:
    for at in range(len(STREAM_BYTES) + 1):
        recorder = Recorder(1, 2)
        assert recorder.feed(STREAM_BYTES[:at]) == events_within(at), at
        assert recorder.feed(STREAM_BYTES[at:]) == STREAM_EVENTS, at


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 31, 64])
def test_a_stream_in_pieces_of_any_one_size_says_the_same(size: int) -> None:
    recorder = Recorder(1, 2)
    assert recorder.feed(*cut(STREAM_BYTES, [size] * (len(STREAM_BYTES) // size))) == STREAM_EVENTS


def test_an_empty_piece_changes_nothing() -> None:
    recorder = Recorder(1, 2)
    assert recorder.feed(b"", STREAM_BYTES[:5], b"", STREAM_BYTES[5:], b"") == STREAM_EVENTS


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("piece", [FRAME_MAX * 4, 1000])
def test_a_body_around_the_size_of_a_frame_arrives_whole(size: int, piece: int) -> None:
    data = bytes(n & 0xFF for n in range(size))
    stream = message(1, 1, data, FRAME_MAX) + message(1, 2, b"next", FRAME_MAX)
    recorder = Recorder(1, frame_max=FRAME_MAX)
    recorder.feed(*cut(stream, [piece] * (len(stream) // piece)))
    assert recorder.events == [delivered(1, 1, data), delivered(1, 2, b"next")]


@pytest.mark.parametrize("frame_max", [FRAME_MAX, 131_072])
@pytest.mark.parametrize("piece", [64 * 1024, 5 * MIB + 200_000])
def test_a_body_of_5_mib_arrives_whole(piece: int, frame_max: int) -> None:
    data = bytes(range(251)) * (5 * MIB // 251 + 1)
    data = data[: 5 * MIB]
    stream = message(1, 1, data, frame_max)
    recorder = Recorder(1, frame_max=frame_max)
    recorder.feed(*cut(stream, [piece] * (len(stream) // piece)))
    assert recorder.events == [delivered(1, 1, data)]


def test_a_body_in_frames_of_one_byte_arrives_whole() -> None:
    data = b"one at a time"
    stream = (
        deliver(1, 1) + header(1, len(data)) + b"".join(body(1, bytes((byte,))) for byte in data)
    )
    assert Recorder(1).feed(stream) == [delivered(1, 1, data)]


def test_a_redelivered_message_says_so() -> None:
    payload = method(
        60, 60, short(b""), struct.pack(">QB", 2**63, 1), short(b""), short(b"\xc3\xa9")
    )
    assert Recorder(1).feed(frame(1, 1, payload) + header(1, 0)) == [
        ("deliver", 1, b"", 2**63, True, "", "é", Properties(), b"")
    ]


NEWS: tuple[tuple[str, bytes, Event], ...] = (
    # Methods that the library acts on: the sink is told of them, and they are handed on.
    ("cancel", frame(1, 1, method(60, 30, short(b"ctag"), b"\x01")), ("cancel", 1, b"ctag")),
    (
        "channel close",
        frame(
            1, 1, method(20, 40, struct.pack(">H", 406), short(b"PRECONDITION_FAILED"), bytes(4))
        ),
        ("channel close", 1, 406, "PRECONDITION_FAILED"),
    ),
    (
        "connection close",
        frame(1, 0, method(10, 50, struct.pack(">H", 320), short(b"CONNECTION_FORCED"), bytes(4))),
        ("connection close", 320, "CONNECTION_FORCED"),
    ),
    ("blocked", frame(1, 0, method(10, 60, short(b"low on memory"))), ("blocked", "low on memory")),
    ("unblocked", frame(1, 0, method(10, 61)), ("blocked", None)),
)


@pytest.mark.parametrize(
    ("data", "event"), [case[1:] for case in NEWS], ids=[case[0] for case in NEWS]
)
def test_news_of_channel_and_connection_is_told_and_handed_on(data: bytes, event: Event) -> None:
    for at in range(len(data)):
        assert Recorder(1).feed(data[:at], data[at:]) == [event, ("frame", data)]


def test_a_channel_is_a_lane_only_while_it_is_registered() -> None:
    recorder = Recorder()
    first, second = message(3, 1, b"before"), message(3, 2, b"after")
    recorder.feed(first)
    assert b"".join(event[1] for event in recorder.events) == first
    recorder.register(3)
    del recorder.events[:]
    recorder.feed(second)
    assert recorder.events == [delivered(3, 2, b"after")]
    recorder.stream.unregister(3)
    del recorder.events[:]
    recorder.feed(first)
    assert b"".join(event[1] for event in recorder.events) == first


def test_a_frame_of_the_agreed_size_passes_and_one_byte_more_does_not() -> None:
    recorder = Recorder(frame_max=FRAME_MAX)
    whole = frame(3, 9, bytes(MAX_PAYLOAD))
    assert recorder.feed(whole) == [("frame", whole)]
    with pytest.raises(ProtocolError, match="4089 bytes"):
        recorder.feed(frame(3, 9, bytes(MAX_PAYLOAD + 1)))


@pytest.mark.parametrize("piece", [10**9, 4096, 1000])
@pytest.mark.parametrize("size", [MAX_PAYLOAD - 14, MAX_PAYLOAD - 13, 100_000, HEADER_READ - 14])
def test_a_content_header_above_the_agreed_size_is_read(size: int, piece: int) -> None:
    """The broker itself makes it: it adds its own headers to one that fills a frame."""
    table = _table_of(size)
    big = deliver(1, 1) + header(1, 2, 0x2000, table) + body(1, b"ok")
    stream = big + message(1, 2, b"next")
    recorder = Recorder(1, frame_max=FRAME_MAX)
    events = recorder.feed(*(stream[at : at + piece] for at in range(0, len(stream), piece)))
    text = {"h": "x" * (size - 4 - 2 - 1 - 4)}
    assert events == [delivered(1, 1, b"ok", Properties(headers=text)), delivered(1, 2, b"next")]


def test_a_content_header_that_is_too_large_is_read_over_and_its_message_cannot_be_read() -> None:
    big = deliver(1, 1) + header(1, 2, 0x2000, _table_of(HEADER_READ)) + body(1, b"ok")
    recorder = Recorder(1, frame_max=FRAME_MAX)
    events = recorder.feed(big + message(1, 2, b"next"))
    assert events == [delivered(1, 1, b"ok", None), delivered(1, 2, b"next")]


def test_no_content_header_is_taken_without_bound() -> None:
    recorder = Recorder(1, frame_max=FRAME_MAX)
    recorder.feed(deliver(1, 1))
    with pytest.raises(ProtocolError, match="a frame of 16777217 bytes, and 4088 are agreed"):
        recorder.feed(struct.pack(">BHI", 2, 1, HEADER_AT_MOST + 1) + b"\0")


def _table_of(size: int) -> bytes:
    """A header table that has so many bytes, its length included: one long string."""
    text = b"x" * (size - 4 - 2 - 1 - 4)
    entries = short(b"h") + b"S" + struct.pack(">I", len(text)) + text
    return struct.pack(">I", len(entries)) + entries


def test_the_agreed_size_can_change_and_none_means_no_limit() -> None:
    large = frame(3, 9, bytes(200_000))
    for frame_max in (0, 262_144):
        recorder = Recorder()
        recorder.stream.limit(frame_max)
        assert recorder.feed(large) == [("frame", large)]


# ---- what breaks the protocol ----

CONTENT = deliver(1, 1) + header(1, 4)
WHOLE = CONTENT + body(1, b"body")
WHOLE_EVENTS = [delivered(1, 1, b"body")]

HOSTILE: tuple[tuple[str, list[Event], bytes, str], ...] = (
    # What is broken, what was told before, the bytes, a word of the reason.
    ("end octet of a lane's method", [], frame(1, 1, deliver_payload(1), end=0xCF), "0xCE"),
    (
        "end octet of a lane's header",
        [],
        deliver(1, 1) + frame(2, 1, header_payload(1), end=0) + body(1, b"x"),
        "0xCE",
    ),
    ("end octet of a lane's body", [], CONTENT + frame(3, 1, b"body", end=0x00), "0xCE"),
    ("end octet of a foreign frame", [], frame(3, 9, b"body", end=0x00), "0xCE"),
    ("end octet of a heartbeat", [], frame(8, 0, b"", end=0xCD), "0xCE"),
    (
        "length one byte too small",
        [],
        frame(1, 1, deliver_payload(1))[:6] + b"\x13" + deliver_payload(1),
        "0xCE",
    ),
    (
        "length over the limit on a lane",
        [],
        b"\x03\x00\x01\x00\x00\x0f\xf9" + bytes(MAX_PAYLOAD + 2),
        "4089 bytes",
    ),
    (
        "body over the limit",
        [],
        deliver(1, 1) + header(1, 4089) + body(1, bytes(4089)),
        "4089 bytes",
    ),
    (
        "length over the limit elsewhere",
        [],
        b"\x03\x00\x09\xff\xff\xff\xff" + bytes(50),
        "4294967295 bytes",
    ),
    ("type 0 on a lane", [], frame(0, 1, b""), "frame type 0"),
    ("type 4 on a lane", [], frame(4, 1, b"x"), "frame type 4"),
    ("type 255 on a lane", [], frame(255, 1, b"x"), "frame type 255"),
    ("type 5 on a foreign channel", [], frame(5, 9, b"x"), "frame type 5"),
    ("type 9 on channel 0", [], frame(9, 0, b""), "frame type 9"),
    ("heartbeat on a lane", [], frame(8, 1, b""), "frame type 8"),
    ("an HTTP server", [], b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "bytes"),
    ("header without a method", [], header(1, 4), "header without"),
    ("header twice", [], CONTENT + header(1, 4), "header without"),
    ("header after a whole message", WHOLE_EVENTS, WHOLE + header(1, 4), "header without"),
    ("body without anything", [], body(1, b"body"), "without its content header"),
    ("body without a header", [], deliver(1, 1) + body(1, b"body"), "without its content header"),
    (
        "body after a whole message",
        WHOLE_EVENTS,
        WHOLE + body(1, b"body"),
        "without its content header",
    ),
    (
        "body where none was announced",
        [delivered(1, 1, b"")],
        deliver(1, 1) + header(1, 0) + body(1, b"x"),
        "without",
    ),
    ("body longer than announced", [], CONTENT + body(1, b"body!"), "longer"),
    ("body larger than any", [], deliver(1, 1) + header(1, BODY_AT_MOST + 1), "at most"),
    ("body without end", [], deliver(1, 1) + header(1, 2**64 - 1) + body(1, b"x"), "at most"),
    (
        "end octet of a body's second frame",
        [],
        CONTENT + body(1, b"bo") + frame(3, 1, b"dy", end=0x00),
        "0xCE",
    ),
    ("bodies longer than announced", [], CONTENT + body(1, b"bod") + body(1, b"y!"), "longer"),
    ("deliver upon deliver", [], deliver(1, 1) + deliver(1, 2), "before the one before"),
    ("deliver in place of a body", [], CONTENT + deliver(1, 2), "before the one before"),
    (
        "deliver within a body",
        [],
        CONTENT + body(1, b"bo") + deliver(1, 2),
        "before the one before",
    ),
    (
        "return within a delivery",
        [],
        CONTENT + frame(1, 1, return_payload()),
        "before the one before",
    ),
    (
        "deliver within a return",
        [],
        frame(1, 1, return_payload()) + deliver(1, 1),
        "before the one before",
    ),
    ("a lane's header on another lane", [], deliver(1, 1) + header(2, 4), "header without"),
    ("a lane's body on another lane", [], CONTENT + body(2, b"body"), "without its content header"),
    (
        "consumer tag beyond the frame",
        [],
        frame(1, 1, method(60, 60, b"\xff", bytes(14))),
        "cut short|fill",
    ),
    (
        "exchange beyond the frame",
        [],
        frame(1, 1, method(60, 60, short(b"c"), bytes(9), b"\xff", bytes(3))),
        "cut short|fill",
    ),
    (
        "reply text beyond the frame",
        [],
        frame(1, 1, method(60, 50, b"\x01\x38\xffNO_ROUTE")),
        "cut short",
    ),
    (
        "consumer beyond its cancel",
        [],
        frame(1, 1, method(60, 30, b"\x09ctag\x00")),
        "Basic.Cancel",
    ),
    (
        "text beyond a channel close",
        [],
        frame(1, 1, method(20, 40, b"\x01\x96\xffoops", bytes(4))),
        "cut short",
    ),
    (
        "text beyond a connection close",
        [],
        frame(1, 0, method(10, 50, b"\x01\x40\xffoops", bytes(4))),
        "cut short",
    ),
    ("reason beyond a blocked", [], frame(1, 0, method(10, 60, b"\xfflow")), "cut short"),
)


@pytest.mark.parametrize(
    ("before", "data", "reason"),
    [case[1:] for case in HOSTILE],
    ids=[case[0].replace(" ", "-") for case in HOSTILE],
)
def test_a_broken_stream_is_refused_with_a_reason_wherever_it_is_split(
    before: list[Event], data: bytes, reason: str
) -> None:
    for at in range(len(data)):
        for rest in (b"", HEARTBEAT, bytes(64)):
            recorder = Recorder(1, 2, frame_max=FRAME_MAX)
            with pytest.raises(ProtocolError, match=reason):
                recorder.feed(data[:at], data[at:] + rest)
            assert recorder.events == before


METHODS: tuple[tuple[str, int, bytes], ...] = (
    ("deliver", 1, deliver_payload(1)),
    ("ack", 1, method(60, 80, struct.pack(">QB", 1, 0))),
    ("nack", 1, method(60, 120, struct.pack(">QB", 1, 0))),
    ("return", 1, return_payload()),
    ("cancel", 1, method(60, 30, short(b"ctag"), b"\x00")),
    ("channel-close", 1, method(20, 40, b"\x01\x96", short(b"oops"), bytes(4))),
    ("connection-close", 0, method(10, 50, b"\x01\x40", short(b"oops"), bytes(4))),
)


@pytest.mark.parametrize(
    ("channel", "payload"), [case[1:] for case in METHODS], ids=[case[0] for case in METHODS]
)
def test_a_method_cut_anywhere_or_too_long_is_refused_whatever_follows_it(
    channel: int, payload: bytes
) -> None:
    for wrong in [payload[:size] for size in range(len(payload))] + [payload + b"\x00"]:
        for rest in (b"", HEARTBEAT, bytes(300)):
            recorder = Recorder(1)
            with pytest.raises(ProtocolError):
                recorder.feed(frame(1, channel, wrong) + rest)
            assert recorder.events == []


def test_a_content_header_cut_before_its_flags_is_refused_whatever_follows_it() -> None:
    for size in range(14):
        for rest in (b"", HEARTBEAT, bytes(300)):
            recorder = Recorder(1)
            with pytest.raises(ProtocolError, match="content header is cut short"):
                recorder.feed(deliver(1, 1) + frame(2, 1, header_payload(4)[:size]) + rest)
            assert recorder.events == []


def test_an_error_of_the_sinks_own_does_not_pass_for_a_broken_frame() -> None:
    careless = Mock()
    for told in (
        "deliver",
        "confirm",
        "return",
        "cancel",
        "channel_close",
        "connection_close",
        "blocked",
        "other",
    ):
        getattr(careless, f"on_{told}").side_effect = IndexError("mine")
    returned = frame(1, 1, return_payload()) + header(1, 0)
    for data in (
        ack(1, 1),
        message(1, 1, b""),
        message(1, 1, b"x"),
        returned,
        UNKNOWN_METHOD,
        *(case[1] for case in NEWS),
    ):
        stream = FrameStream(careless)
        stream.register(1, careless)
        with pytest.raises(IndexError, match="mine"):
            stream.feed(data)


def test_a_method_that_the_sink_takes_is_not_handed_on() -> None:
    class Taker(Channel):
        def on_other(self, method: int, arguments: bytes) -> bool:
            events.append(("other", method, arguments))
            return arguments == short(b"ctag")

    events: list[Event] = []
    recorder = Recorder()
    recorder.stream.register(1, Taker(1, events))
    left = frame(1, 1, method(60, 21, short(b"other")))
    recorder.feed(UNKNOWN_METHOD + left)
    assert recorder.events == [("frame", left)]
    assert events == [("other", 60 << 16 | 21, b"\x04ctag"), ("other", 60 << 16 | 21, b"\x05other")]
