"""The codec of the hot frames by example: whole, cut anywhere, and hostile."""

import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from unittest.mock import Mock

import pytest

from bridge.rabbitmq.frames.ids import HEARTBEAT_FRAME, FrameError
from bridge.rabbitmq.frames.reading import ContentReader, FrameStream, decode_table
from bridge.rabbitmq.frames.writing import (
    encode_ack,
    encode_nack,
    encode_properties,
    encode_publish,
    encode_reject,
    encode_table,
)
from bridge.transport import Properties, Publishing
from tests.unit.rabbitmq.wire import (
    HEARTBEAT,
    Event,
    Recorder,
    ack,
    body,
    cut,
    deliver,
    deliver_payload,
    delivered,
    frame,
    frames_of,
    header,
    header_payload,
    message,
    method,
    nack,
    return_payload,
    short,
)

FRAME_MAX = 4096
MAX_PAYLOAD = FRAME_MAX - 8
MIB = 1024 * 1024


# ---- reading what is sound -----------------------------------------------------------------------------------------

ALL_PROPERTIES = Properties(
    content_type="application/json",
    content_encoding="utf-8",
    headers={"ocpp-station-id": "CS-1"},
    delivery_mode=2,
    priority=9,
    correlation_id="corr",
    reply_to="amq.gen-reply",
    expiration="30000",
    message_id="m1",
    timestamp=1_700_000_000,
    type="DataTransfer",
    user_id="guest",
    app_id="gateway",
)
ALL_PROPERTIES_BYTES = (
    b"\x10application/json\x05utf-8"
    b"\x00\x00\x00\x19\x0focpp-station-idS\x00\x00\x00\x04CS-1"
    b"\x02\x09\x04corr\x0damq.gen-reply\x0530000\x02m1"
    b"\x00\x00\x00\x00\x65\x53\xf1\x00\x0cDataTransfer\x05guest\x07gateway"
)
ALL_FLAGS = 0xFFF8

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
    """What must have been told after that many bytes: everything that is complete, and nothing else."""
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


SIZES = [
    0,
    1,
    MAX_PAYLOAD - 1,
    MAX_PAYLOAD,
    MAX_PAYLOAD + 1,
    FRAME_MAX - 1,
    FRAME_MAX,
    FRAME_MAX + 1,
    2 * MAX_PAYLOAD,
]


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
    # Methods that the library acts on; we are told of them, and hand them on.
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
    recorder.stream.readers.update(Recorder(3).stream.readers)
    del recorder.events[:]
    recorder.feed(second)
    assert recorder.events == []


def test_a_frame_of_the_agreed_size_passes_and_one_byte_more_does_not() -> None:
    recorder = Recorder(frame_max=FRAME_MAX)
    whole = frame(3, 9, bytes(MAX_PAYLOAD))
    assert recorder.feed(whole) == [("frame", whole)]
    with pytest.raises(FrameError, match="4089 bytes"):
        recorder.feed(frame(3, 9, bytes(MAX_PAYLOAD + 1)))


def test_the_agreed_size_can_change_and_none_means_no_limit() -> None:
    large = frame(3, 9, bytes(200_000))
    for frame_max in (0, 262_144):
        recorder = Recorder()
        recorder.stream.limit(frame_max)
        assert recorder.feed(large) == [("frame", large)]


# ---- reading what breaks the protocol ------------------------------------------------------------------------------

CONTENT = deliver(1, 1) + header(1, 4)
WHOLE = CONTENT + body(1, b"body")
WHOLE_EVENTS = [delivered(1, 1, b"body")]

LONG_TABLE = b"\x00\x00\x0f\xe7\x01aS\x00\x00\x0f\xe0" + bytes(4064)

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
        "header over the limit",
        [],
        deliver(1, 1) + frame(2, 1, header_payload(1, 0x2000, LONG_TABLE)) + body(1, b"x"),
        "4089 by",
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
            with pytest.raises(FrameError, match=reason):
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
            with pytest.raises(FrameError):
                recorder.feed(frame(1, channel, wrong) + rest)
            assert recorder.events == []


def test_a_content_header_cut_before_its_flags_is_refused_whatever_follows_it() -> None:
    for size in range(14):
        for rest in (b"", HEARTBEAT, bytes(300)):
            recorder = Recorder(1)
            with pytest.raises(FrameError, match="content header is cut short"):
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
    ):
        getattr(careless, f"on_{told}").side_effect = IndexError("mine")
    returned = frame(1, 1, return_payload()) + header(1, 0)
    for data in (
        ack(1, 1),
        message(1, 1, b""),
        message(1, 1, b"x"),
        returned,
        *(case[1] for case in NEWS),
    ):
        stream = FrameStream(careless)
        stream.readers[1] = ContentReader(careless, 1)
        with pytest.raises(IndexError, match="mine"):
            stream.feed(data)


# ---- headers nobody can read ---------------------------------------------------------------------------------------


def table(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def nested(kind: bytes, depth: int) -> bytes:
    """A field value within `depth` tables (F) or arrays (A)."""
    value = b"V"
    for _ in range(depth):
        value = kind + table((b"\x00" if kind == b"F" else b"") + value)
    return value


UNREADABLE: tuple[tuple[str, int, bytes], ...] = (
    ("flags with a continuation", 0x8001, b"\x01a\x00\x00"),
    ("flags with an unknown bit", 0x8002, b"\x01a"),
    ("flags without their properties", 0xFFF8, b""),
    ("properties cut short", ALL_FLAGS, ALL_PROPERTIES_BYTES[:-1]),
    ("properties without their flags", 0x0000, b"\x01a"),
    ("short string beyond the frame", 0x8000, b"\xffa"),
    ("timestamp cut short", 0x0040, bytes(7)),
    ("table beyond the frame", 0x2000, b"\x00\x00\x00\x09\x01aV"),
    ("table of 4 GiB", 0x2000, b"\xff\xff\xff\xff\x01aV"),
    ("table shorter than its content", 0x2000, b"\x00\x00\x00\x02\x01aV"),
    ("table without its length", 0x2000, b"\x00\x00"),
    ("name beyond the table", 0x2000, table(b"\x09aV")),
    ("name without a value", 0x2000, table(b"\x01a")),
    ("text beyond the table", 0x2000, table(b"\x01aS\x00\x00\x00\x09text")),
    ("number beyond the table", 0x2000, table(b"\x01al\x00\x00")),
    ("inner table beyond the outer", 0x2000, table(b"\x01aF\x00\x00\x00\x09\x01bV")),
    ("inner table shorter than its content", 0x2000, table(b"\x01aF\x00\x00\x00\x02\x01bV")),
    ("array beyond the table", 0x2000, table(b"\x01aA\x00\x00\x00\x09V")),
    ("item beyond the array", 0x2000, table(b"\x01aA\x00\x00\x00\x02Ix\x01b" + bytes(3))),
    ("item beyond the array, where a name is due", 0x2000, table(b"\x01cA\x00\x00\x00\x01b\x01aV")),
    ("text beyond the array", 0x2000, table(b"\x01aA\x00\x00\x00\x05S\x00\x00\x00\x04" + bytes(4))),
    ("unknown value type", 0x2000, table(b"\x01aZ")),
    ("tables nested 15,000 deep", 0x2000, table(b"\x01a" + nested(b"F", 15_000))),
    ("arrays nested 20,000 deep", 0x2000, table(b"\x01a" + nested(b"A", 20_000))),
)


@pytest.mark.parametrize(
    ("flags", "properties"),
    [case[1:] for case in UNREADABLE],
    ids=[case[0].replace(" ", "-") for case in UNREADABLE],
)
def test_a_message_whose_headers_cannot_be_read_arrives_without_them_and_the_stream_goes_on(
    flags: int, properties: bytes
) -> None:
    first = deliver(1, 1) + header(1, 2, flags, properties) + body(1, b"hi")
    returned = frame(1, 1, return_payload()) + header(1, 0, flags, properties)
    events = [
        delivered(1, 1, b"hi", None),
        ("return", 1, 312, "NO_ROUTE", "", "key", None),
        delivered(1, 2, b"next"),
    ]
    stream = first + returned + message(1, 2, b"next")
    assert Recorder(1).feed(stream) == events
    assert Recorder(1).feed(*cut(stream, [7] * 12)) == events


@pytest.mark.parametrize("kind", [b"F", b"A"])
def test_a_header_table_is_nested_in_a_hundred_levels_and_no_more(kind: bytes) -> None:
    """A bound of our own: compiled code would run out of its stack where Python raises RecursionError."""
    value: Any = decode_table(table(b"\x01a" + nested(kind, 99)))
    assert decode_table(encode_table(value)) == value
    for level in range(99):
        value = value["a" if level == 0 else ""] if kind == b"F" or level == 0 else value[0]
    assert value == ({"": None} if kind == b"F" else [None])
    with pytest.raises(FrameError, match="nested too deeply"):
        decode_table(table(b"\x01a" + nested(kind, 100)))


def test_a_header_that_contains_itself_is_refused() -> None:
    table_of_itself: dict[str, Any] = {}
    table_of_itself["a"] = [table_of_itself]
    with pytest.raises(ValueError, match="at most 100 levels"):
        encode_table(table_of_itself)


def test_cluster_id_is_read_over() -> None:
    stream = deliver(1, 1) + header(1, 0, 0x000C, b"\x03app\x07cluster")
    assert Recorder(1).feed(stream) == [delivered(1, 1, b"", Properties(app_id="app"))]


# ---- field values --------------------------------------------------------------------------------------------------

BOTH_WAYS: tuple[tuple[bytes, Any], ...] = (
    (b"S\x00\x00\x00\x00", ""),
    (b"S\x00\x00\x00\x04\xc3\xa9\xc3\xa9", "éé"),
    (b"S\x00\x00\x00\x01\xff", b"\xff"),
    (b"l" + b"\x00" * 8, 0),
    (b"l\x7f" + b"\xff" * 7, 2**63 - 1),
    (b"l\x80" + b"\x00" * 7, -(2**63)),
    (b"t\x01", True),
    (b"t\x00", False),
    (b"V", None),
    (b"d\x3f\xf8" + b"\x00" * 6, 1.5),
    (b"D\x02\x00\x00\x01\x3a", Decimal("3.14")),
    (b"D\x00\x80\x00\x00\x00", Decimal(-(2**31))),
    (b"D\xff\x00\x00\x00\x01", Decimal("1e-255")),
    (b"T" + (1_700_000_000).to_bytes(8), datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
    (b"x\x00\x00\x00\x02\x00\xff", bytearray(b"\x00\xff")),
    (b"F\x00\x00\x00\x00", {}),
    (b"F\x00\x00\x00\x03\x01bV", {"b": None}),
    (b"A\x00\x00\x00\x00", []),
    (b"A\x00\x00\x00\x08Vt\x01S\x00\x00\x00\x00", [None, True, ""]),
    (b"A\x00\x00\x00\x08F\x00\x00\x00\x03\x01bV", [{"b": None}]),
    (b"A\x00\x00\x00\x06A\x00\x00\x00\x01V", [[None]]),
)
READ_ONLY: tuple[tuple[bytes, Any], ...] = (
    # Types that other clients write. RabbitMQ's errata: https://www.rabbitmq.com/amqp-0-9-1-errata
    (b"b\xff", -1),
    (b"B\xff", 255),
    (b"s\xff\xff", -1),
    (b"u\xff\xff", 65_535),
    (b"I\xff\xff\xff\xff", -1),
    (b"i\xff\xff\xff\xff", 2**32 - 1),
    (b"L" + b"\xff" * 8, -1),
    (b"f\x3f\xc0\x00\x00", 1.5),
    (b"t\x02", True),
)


@pytest.mark.parametrize(("data", "value"), BOTH_WAYS)
def test_a_field_value_is_written_and_read(data: bytes, value: Any) -> None:
    assert encode_table({"a": value}) == table(b"\x01a" + data)
    read = decode_table(table(b"\x01a" + data))["a"]
    assert (type(read), read) == (type(value), value)


@pytest.mark.parametrize(("data", "value"), READ_ONLY)
def test_a_field_value_of_another_clients_is_read(data: bytes, value: Any) -> None:
    read = decode_table(table(b"\x01a" + data + b"\x01bV"))
    assert read == {"a": value, "b": None}
    assert type(read["a"]) is type(value)
    assert decode_table(table(b"\x01aA" + table(data)))["a"] == [value]


def test_text_that_is_not_utf_8_goes_out_as_it_came_in() -> None:
    data = table(b"\x02\xff\xfeV")
    assert encode_table(decode_table(data)) == data
    stream = deliver(1, 1) + header(1, 0, 0x0400, b"\x02\xff\xfe")
    properties = Recorder(1).feed(stream)[0][7]
    assert encode_properties(properties) == (0x0400, b"\x02\xff\xfe")


@pytest.mark.parametrize("data", [b"", b"\x00\x00\x00", b"\x00\x00\x00\x01", b"\x00\x00\x00\x00V"])
def test_a_table_that_is_not_as_long_as_it_says_is_refused(data: bytes) -> None:
    with pytest.raises(FrameError):
        decode_table(data)


# ---- writing -------------------------------------------------------------------------------------------------------


def test_acknowledgements_are_these_bytes() -> None:
    assert encode_ack(1, 5, multiple=False) == ack(1, 5)
    assert encode_ack(65_535, 2**64 - 1, multiple=True) == ack(65_535, 2**64 - 1, multiple=True)
    tag = struct.pack(">Q", 7)
    assert encode_nack(1, 7, multiple=True, requeue=False) == frame(
        1, 1, method(60, 120, tag, b"\x01")
    )
    assert encode_nack(1, 7, multiple=False, requeue=True) == frame(
        1, 1, method(60, 120, tag, b"\x02")
    )
    assert encode_nack(1, 7, multiple=True, requeue=True) == frame(
        1, 1, method(60, 120, tag, b"\x03")
    )
    assert encode_reject(1, 7, requeue=False) == frame(1, 1, method(60, 90, tag, b"\x00"))
    assert encode_reject(1, 7, requeue=True) == frame(1, 1, method(60, 90, tag, b"\x01"))
    assert HEARTBEAT_FRAME == HEARTBEAT


def test_every_property_has_its_flag_and_its_place() -> None:
    assert encode_properties(Properties()) == (0, b"")
    assert encode_properties(ALL_PROPERTIES) == (ALL_FLAGS, ALL_PROPERTIES_BYTES)


@pytest.mark.parametrize("mandatory", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_a_publishing_is_method_header_and_as_many_bodies_as_it_needs(
    size: int, mandatory: bool
) -> None:
    data = bytes(n & 0xFF for n in range(size))
    publishing = Publishing("key", data, ALL_PROPERTIES, exchange="x", mandatory=mandatory)
    sent = list(frames_of(encode_publish(3, publishing, FRAME_MAX)))
    assert sent[:2] == [
        (1, 3, method(60, 40, b"\x00\x00", short(b"x"), short(b"key"), bytes((mandatory,)))),
        (2, 3, header_payload(size, ALL_FLAGS, ALL_PROPERTIES_BYTES)),
    ]
    assert [(kind, channel) for kind, channel, _ in sent[2:]] == [(3, 3)] * -(-size // MAX_PAYLOAD)
    assert all(0 < len(payload) <= MAX_PAYLOAD for _, _, payload in sent[2:])
    assert b"".join(payload for _, _, payload in sent[2:]) == data


def test_a_publishing_of_5_mib_fits_the_frames() -> None:
    data = bytes(5 * MIB)
    sent = list(frames_of(encode_publish(1, Publishing("key", data, Properties()))))
    assert [len(payload) for _, _, payload in sent[2:-1]] == [131_064] * (5 * MIB // 131_064)
    assert b"".join(payload for _, _, payload in sent[2:]) == data


def test_publishings_to_more_queues_than_are_remembered_are_all_right() -> None:
    keys = [f"reply-{n}" for n in range(5_000)]
    for key in keys + keys[:3]:
        _, _, payload = next(frames_of(encode_publish(1, Publishing(key, b"", Properties()))))
        assert payload == method(60, 40, b"\x00\x00\x00", short(key.encode()), b"\x00")


def test_channel_exchange_and_mandatory_are_not_mixed_up_for_one_routing_key() -> None:
    for channel in (1, 2):
        for exchange in ("", "x"):
            for mandatory in (False, True):
                publishing = Publishing(
                    "same", b"", Properties(), exchange=exchange, mandatory=mandatory
                )
                first = next(frames_of(encode_publish(channel, publishing)))
                arguments = (
                    b"\x00\x00",
                    short(exchange.encode()),
                    short(b"same"),
                    bytes((mandatory,)),
                )
                assert first == (1, channel, method(60, 40, *arguments))


def test_properties_fill_a_frame_to_the_last_byte_and_no_further() -> None:
    headers = {"a": "x" * (FRAME_MAX - 8 - 14 - 11)}
    _, (kind, _, payload) = frames_of(
        encode_publish(1, Publishing("k", b"", Properties(headers=headers)), FRAME_MAX)
    )
    assert (kind, len(payload)) == (2, MAX_PAYLOAD)
    headers["a"] += "x"
    with pytest.raises(ValueError, match="do not fit a frame"):
        encode_publish(1, Publishing("k", b"", Properties(headers=headers)), FRAME_MAX)


UNSENDABLE: tuple[Publishing, ...] = (
    Publishing("k" * 256, b"", Properties()),
    Publishing("é" * 128, b"", Properties()),
    Publishing("k", b"", Properties(), exchange="x" * 256),
    Publishing("k", b"", Properties(correlation_id="c" * 256)),
    Publishing("k", b"", Properties(type="t" * 256)),
    Publishing("k", b"", Properties(reply_to="\ud800")),
    Publishing("k", b"", Properties(delivery_mode=256)),
    Publishing("k", b"", Properties(delivery_mode=-1)),
    Publishing("k", b"", Properties(priority=256)),
    Publishing("k", b"", Properties(priority=-1)),
    Publishing("k", b"", Properties(timestamp=-1)),
    Publishing("k", b"", Properties(timestamp=2**64)),
    *(
        Publishing("k", b"", Properties(headers={"a": value}))
        for value in (
            2**63,
            -(2**63) - 1,
            Decimal(2**31),
            Decimal("1e-256"),
            Decimal("1e+999999"),
            Decimal("1e-999999"),
            Decimal("NaN"),
            Decimal("Infinity"),
            Decimal("0." + "0" * 30 + "12345678901"),
            datetime(1969, 12, 31, tzinfo=UTC),
            "\ud800",
            object(),
            [object()],
            {"b": {1, 2}},
            {"n" * 256: None},
        )
    ),
)


@pytest.mark.parametrize("publishing", UNSENDABLE)
def test_what_amqp_cannot_carry_is_a_value_error(publishing: Publishing) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of whatever kind and text
        encode_publish(1, publishing)


def test_a_text_too_long_is_named_with_its_size() -> None:
    with pytest.raises(ValueError, match="short string of 256 bytes"):
        encode_publish(1, Publishing("k" * 256, b"", Properties()))


def test_a_time_beyond_the_calendar_is_the_number_it_is() -> None:
    """Some clients write milliseconds where AMQP asks for seconds."""
    milliseconds = 1_770_000_000_000
    content = b"\x01aT" + milliseconds.to_bytes(8)
    assert decode_table(table(content)) == {"a": milliseconds}
