"""The frames of a WebSocket, as a server reads and writes them."""

import os
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Close, Frame, Opcode

from bridge.gateway.websocket.frames import (
    EMPTY_FRAGMENTS,
    FrameReader,
    close_frame,
    control_frame,
    text_frame,
)
from bridge.gateway.websocket.opcodes import (
    BINARY,
    CLOSE,
    CONTINUATION,
    NO_STATUS,
    NOTHING,
    PING,
    PONG,
    TEXT,
    BrokenFrame,
)

MAX = 1000


def masked(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv1: bool = False) -> bytes:
    """A frame as a client writes it, by another implementation."""
    frame = bytearray(Frame(Opcode(opcode), payload, fin).serialize(mask=True))
    frame[0] |= 0x40 * rsv1  # the other implementation writes no such bit by hand
    return bytes(frame)


def deflate() -> PerMessageDeflate:
    return PerMessageDeflate(False, False, 15, 15)


def deflated(payload: bytes) -> bytes:
    packer = zlib.compressobj(9, wbits=-15)
    return (packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def read_all(reader: FrameReader) -> list[tuple[int, Any]]:
    """All that is there: opcodes with messages, or with the payloads of control frames."""
    found: list[tuple[int, Any]] = []
    while (opcode := reader.read()) != NOTHING:
        found.append((opcode, reader.message if opcode in {TEXT, BINARY} else reader.payload))
    return found


def read_by_bytes(data: bytes) -> list[tuple[int, Any]]:
    reader = FrameReader(MAX)
    found = []
    for byte in data:
        reader.feed(bytes([byte]))
        found += read_all(reader)
    return found


def broken(data: bytes, reader: FrameReader | None = None) -> tuple[int, str]:
    reader = reader or FrameReader(MAX)
    reader.feed(data)
    with pytest.raises(BrokenFrame) as caught:
        read_all(reader)
    return caught.value.code, caught.value.reason


# ---- messages ----


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 999, 1000])
def test_a_message_of_any_length_is_read(size: int) -> None:
    text = "é" * (size // 2) + "x" * (size % 2)
    reader = FrameReader(MAX)
    reader.feed(masked(TEXT, text.encode()))
    assert read_all(reader) == [(TEXT, text)]
    reader.feed(masked(BINARY, b"\xff" * size))
    assert read_all(reader) == [(BINARY, b"\xff" * size)]


def test_a_message_of_more_than_64_kib_is_read() -> None:
    reader = FrameReader(1 << 20)
    reader.feed(masked(TEXT, b"x" * 70_000))
    assert read_all(reader) == [(TEXT, "x" * 70_000)]


def test_fragments_are_one_message_and_control_frames_may_come_between_them() -> None:
    reader = FrameReader(MAX)
    reader.feed(
        masked(TEXT, "é".encode()[:1], fin=False)
        + masked(PING, b"1")
        + masked(CONTINUATION, "é".encode()[1:], fin=False)
        + masked(PONG, b"2")
        + masked(CONTINUATION, b"!")
        + masked(TEXT, b"next")
    )
    assert read_all(reader) == [(PING, b"1"), (PONG, b"2"), (TEXT, "é!"), (TEXT, "next")]


_frames = st.lists(
    st.tuples(st.sampled_from([TEXT, BINARY, PING]), st.binary(max_size=125)), max_size=8
)


@given(_frames, st.data())
def test_the_bytes_may_be_split_anywhere(
    frames: list[tuple[int, bytes]], choice: st.DataObject
) -> None:
    texts = [(kind, b"".join(b"%02x" % byte for byte in data)[:125]) for kind, data in frames]
    data = b"".join(masked(kind, payload) for kind, payload in texts)
    reader, found = FrameReader(MAX), []
    while data:
        size = choice.draw(st.integers(1, len(data)))
        reader.feed(data[:size])
        if choice.draw(st.booleans()):
            found += read_all(reader)
        data = data[size:]
    found += read_all(reader)
    assert found == [
        (kind, payload.decode() if kind == TEXT else payload) for kind, payload in texts
    ]


def test_what_is_not_read_yet_waits() -> None:
    reader = FrameReader(MAX)
    frame = masked(TEXT, b"x" * 10)
    reader.feed(frame + frame)
    assert reader.read() == TEXT
    assert reader.unread == len(frame)
    reader.feed(frame[:5])
    assert reader.read() == TEXT
    assert reader.read() == NOTHING
    assert reader.unread == 5
    reader.feed(frame[5:])
    assert read_all(reader) == [(TEXT, "x" * 10)]
    assert reader.unread == 0


# ---- what breaks the protocol ----


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"\x81\x02hi", 1002, id="not masked"),
        pytest.param(b"\x83\x80", 1002, id="a reserved opcode of data"),
        pytest.param(b"\x8b\x80", 1002, id="a reserved opcode of control"),
        pytest.param(b"\xc1\x80", 1002, id="compressed, and nothing was agreed on"),
        pytest.param(b"\xa1\x80", 1002, id="a reserved bit"),
        pytest.param(b"\x80\x80", 1002, id="a continuation of nothing"),
        pytest.param(b"\x09\x80", 1002, id="a fragmented ping"),
        pytest.param(b"\x89\xfe", 1002, id="a long ping"),
        pytest.param(b"\x81\xff" + (1 << 63).to_bytes(8) + b"mask", 1002, id="a negative length"),
        pytest.param(b"\x81\xff" + (1 << 62).to_bytes(8) + b"mask", 1009, id="an endless length"),
        pytest.param(b"\x81\xfe\x03\xe9mask", 1009, id="a byte too long"),
        pytest.param(masked(TEXT, b"\xff"), 1007, id="not UTF-8"),
        pytest.param(masked(TEXT, b"\xed\xa0\x80"), 1007, id="a lone surrogate"),
        pytest.param(masked(TEXT, b"", fin=False) + masked(TEXT, b""), 1002, id="two at once"),
        pytest.param(masked(CLOSE, b"\x03"), 1002, id="half a close code"),
        pytest.param(masked(CLOSE, b"\x03\xed"), 1002, id="the close code 1005"),
        pytest.param(masked(CLOSE, b"\x03\xe7"), 1002, id="the close code 999"),
        pytest.param(masked(CLOSE, b"\x13\x88"), 1002, id="the close code 5000"),
        pytest.param(masked(CLOSE, b"\x03\xe8\xff"), 1007, id="a reason that is not UTF-8"),
    ],
)
def test_a_frame_that_breaks_the_protocol_is_told_by_its_close_code(data: bytes, code: int) -> None:
    assert broken(data)[0] == code
    with pytest.raises(BrokenFrame) as caught:
        read_by_bytes(data)
    assert caught.value.code == code


def test_a_message_is_bounded_over_all_of_its_fragments() -> None:
    reader = FrameReader(MAX)
    reader.feed(masked(TEXT, b"x" * 999, fin=False) + masked(CONTINUATION, b"x", fin=False))
    assert read_all(reader) == []
    assert broken(masked(CONTINUATION, b"x"), reader)[0] == 1009


def test_fragments_without_anything_in_them_are_bounded() -> None:
    reader = FrameReader(MAX)
    reader.feed(masked(TEXT, b"", fin=False))
    for _ in range(EMPTY_FRAGMENTS - 1):
        reader.feed(masked(CONTINUATION, b"", fin=False))
    reader.feed(masked(CONTINUATION, b"x"))
    assert read_all(reader) == [(TEXT, "x")]
    endless = masked(TEXT, b"", fin=False) + masked(CONTINUATION, b"", fin=False) * EMPTY_FRAGMENTS
    assert broken(endless, reader) == (1008, "too many empty fragments")


# ---- compression ----


def test_a_compressed_message_is_read_in_one_frame_or_in_several() -> None:
    reader = FrameReader(MAX, deflate())
    packed = deflated(b"x" * MAX)
    reader.feed(masked(TEXT, packed, rsv1=True))
    assert read_all(reader) == [(TEXT, "x" * MAX)]
    reader = FrameReader(MAX, deflate())
    reader.feed(masked(TEXT, packed[:3], fin=False, rsv1=True) + masked(CONTINUATION, packed[3:]))
    assert read_all(reader) == [(TEXT, "x" * MAX)]
    reader.feed(masked(TEXT, b"plain"))
    assert read_all(reader) == [(TEXT, "plain")]


def test_few_compressed_bytes_do_not_become_more_than_a_message_may_have() -> None:
    for size in (MAX + 1, 2 * MAX, 10_000_000):
        reader = FrameReader(MAX, deflate())
        assert broken(masked(TEXT, deflated(b"x" * size), rsv1=True), reader)[0] == 1009


def test_no_room_at_all_is_not_taken_for_no_bound() -> None:
    packed = deflated(b"x" * 10_000_000)
    full = deflated(b"x" * MAX)
    for first in range(len(full)):
        reader = FrameReader(MAX, deflate())
        begun = masked(TEXT, full[:first], fin=False, rsv1=True)
        rest = masked(CONTINUATION, full[first:] + b"\0\0\xff\xff", fin=False)
        assert broken(begun + rest + masked(CONTINUATION, packed), reader)[0] == 1009


@pytest.mark.parametrize(
    "frames",
    [
        masked(TEXT, b"\xff\xff\xff", rsv1=True),
        masked(PING, b"", rsv1=True),
        masked(TEXT, b"\0", fin=False, rsv1=True) + masked(CONTINUATION, b"\0", rsv1=True),
    ],
    ids=["garbage", "a compressed ping", "a continuation that says so again"],
)
def test_what_cannot_be_decompressed_breaks_the_protocol(frames: bytes) -> None:
    assert broken(frames, FrameReader(MAX, deflate()))[0] == 1002


# ---- the end ----


def test_a_closing_frame_has_a_code_and_a_reason_or_neither() -> None:
    reader = FrameReader(MAX)
    reader.feed(masked(CLOSE, Close(1001, "bye é").serialize()))
    assert reader.read() == CLOSE
    assert (reader.code, reader.payload.decode()) == (1001, "bye é")
    reader.feed(masked(CLOSE))
    assert reader.read() == CLOSE
    assert (reader.code, reader.payload) == (NO_STATUS, b"")


def test_while_it_is_closed_messages_are_dropped_and_nothing_is_decompressed() -> None:
    reader = FrameReader(MAX, deflate())
    reader.feed(masked(TEXT, b"begun", fin=False))
    assert reader.read() == NOTHING
    reader.dropping = True
    reader.feed(
        masked(CONTINUATION, b"\xff" * 900)
        + masked(TEXT, deflated(b"x" * 10_000_000)[:900], rsv1=True)
        + masked(TEXT, b"\xff")
        + masked(CLOSE)
    )
    assert read_all(reader) == [(CLOSE, b"")]


# ---- written ----


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536, 100_000])
def test_a_text_message_is_written_as_another_implementation_writes_it(size: int) -> None:
    payload = os.urandom(size // 2).hex().encode().ljust(size, b"x")
    assert text_frame(payload) == Frame(Opcode.TEXT, payload).serialize(mask=False)
    packed = text_frame(payload, deflate())
    assert packed[0] == 0xC1
    assert packed == Frame(Opcode.TEXT, payload).serialize(mask=False, extensions=[deflate()])


def test_control_frames_are_written_as_another_implementation_writes_them() -> None:
    for opcode in (PING, PONG):
        written = Frame(Opcode(opcode), b"abc").serialize(mask=False)
        assert control_frame(opcode, b"abc") == written
    closing = Frame(Opcode.CLOSE, Close(1001, "restart").serialize()).serialize(mask=False)
    assert close_frame(1001, "restart") == closing
    assert close_frame(NO_STATUS) == Frame(Opcode.CLOSE, b"").serialize(mask=False)
