"""Properties and header tables by example: readable, odd, and unreadable."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from bridge.rabbitmq.frames.ids import ProtocolError
from bridge.rabbitmq.frames.properties import Decoder
from bridge.rabbitmq.frames.writing import Encoder
from bridge.transport import Properties
from tests.unit.rabbitmq.frames.samples import ALL_FLAGS, ALL_PROPERTIES_BYTES, table
from tests.unit.rabbitmq.wire import (
    Recorder,
    body,
    cut,
    deliver,
    delivered,
    frame,
    header,
    message,
    return_payload,
    short,
)

# ---- headers nobody can read ----


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
    """A bound of our own: compiled code overflows its stack where Python raises RecursionError."""
    value: Any = Decoder().table(table(b"\x01a" + nested(kind, 99)))
    assert Decoder().table(Encoder().table(value)) == value
    for level in range(99):
        value = value["a" if level == 0 else ""] if kind == b"F" or level == 0 else value[0]
    assert value == ({"": None} if kind == b"F" else [None])
    with pytest.raises(ProtocolError, match="nested too deeply"):
        Decoder().table(table(b"\x01a" + nested(kind, 100)))


def test_cluster_id_is_read_over() -> None:
    stream = deliver(1, 1) + header(1, 0, 0x000C, b"\x03app\x07cluster")
    assert Recorder(1).feed(stream) == [delivered(1, 1, b"", Properties(app_id="app"))]


# ---- field values ----

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
    assert Encoder().table({"a": value}) == table(b"\x01a" + data)
    read = Decoder().table(table(b"\x01a" + data))["a"]
    assert (type(read), read) == (type(value), value)


@pytest.mark.parametrize(("data", "value"), READ_ONLY)
def test_a_field_value_of_another_clients_is_read(data: bytes, value: Any) -> None:
    read = Decoder().table(table(b"\x01a" + data + b"\x01bV"))
    assert read == {"a": value, "b": None}
    assert type(read["a"]) is type(value)
    assert Decoder().table(table(b"\x01aA" + table(data)))["a"] == [value]


def test_text_that_is_not_utf_8_goes_out_as_it_came_in() -> None:
    data = table(b"\x02\xff\xfeV")
    assert Encoder().table(Decoder().table(data)) == data
    stream = deliver(1, 1) + header(1, 0, 0x0400, b"\x02\xff\xfe")
    properties = Recorder(1).feed(stream)[0][7]
    assert Encoder().properties(properties) == (0x0400, b"\x02\xff\xfe")


@pytest.mark.parametrize("data", [b"", b"\x00\x00\x00", b"\x00\x00\x00\x01", b"\x00\x00\x00\x00V"])
def test_a_table_that_is_not_as_long_as_it_says_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Decoder().table(data)


def test_a_time_beyond_the_calendar_is_the_number_it_is() -> None:
    """Some clients write milliseconds where AMQP asks for seconds."""
    milliseconds = 1_770_000_000_000
    content = b"\x01aT" + milliseconds.to_bytes(8)
    assert Decoder().table(table(content)) == {"a": milliseconds}


# ---- what is remembered ----


def test_more_texts_and_addresses_than_are_remembered_are_all_right() -> None:
    recorder = Recorder(1)
    keys = [f"key-{number}" for number in range(5_000)]
    for tag, key in enumerate(keys + keys[:3], 1):
        content = header(1, 0, 0x0020, short(key.encode()))
        recorder.feed(deliver(1, tag, key=key.encode()) + content)
    assert [event[6] for event in recorder.events] == keys + keys[:3]
    assert [event[7].type for event in recorder.events] == keys + keys[:3]


def test_header_names_are_told_apart_wherever_they_stand() -> None:
    decoder = Decoder()
    names = [f"name-{number}" for number in range(12)]
    for wanted in (names, names[::-1], names[3:], names):
        content = b"".join(short(name.encode()) + b"V" for name in wanted)
        assert list(decoder.table(table(content))) == wanted
