"""The octets of AMQP frames: numbers in network byte order, texts, and whole messages.

Numbers are read as tuples. Reading one beyond the end of the data raises struct.error; compiled
(see ``octets.pxd``), it raises IndexError.
"""

import struct
from typing import Final

u16 = struct.Struct(">H").unpack_from
u32 = struct.Struct(">I").unpack_from
u64 = struct.Struct(">Q").unpack_from
tag_bits = struct.Struct(">QB").unpack_from
"""Of Deliver, Ack and Nack: the delivery tag, then the bits."""
frame = struct.Struct(">BHI").unpack_from
"""A frame's type, channel, and the size of its payload."""
content = struct.Struct(">HHQH").unpack_from
"""Of a content header: class, weight (always 0), size of the body, property flags."""
content_frame = struct.Struct(">BHIHHQH").unpack_from
"""A frame with a content header."""

_pack_frame = struct.Struct(">BHI").pack
_pack_content_frame = struct.Struct(">BHIHHQH").pack
_LENGTH: Final = tuple(bytes((n,)) for n in range(256))
_END: Final = b"\xce"


def part(data: bytes, at: int, end: int) -> bytes:
    """Some of the data.

    Where the data ends early it is shorter; compiled, that is an IndexError. So callers compare the
    end with what follows.
    """
    return data[at:end]


def same(data: bytes, at: int, end: int, known: bytes) -> bool:
    """Whether that part of the data equals `known`."""
    return data[at:end] == known


def text(data: bytes, at: int, end: int) -> str:
    """A short string as text.

    AMQP asks for UTF-8. Bytes that are not come back as they were when the text is sent again.
    """
    return str(data[at:end], "utf-8", "surrogateescape")


def text_or_bytes(data: bytes, at: int, end: int) -> str | bytes:
    """A long string as text, or as bytes if it is not UTF-8."""
    value = data[at:end]
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def room(size: int) -> bytearray:
    """Where a body of `size` bytes is put together, piece by piece, until it is :func:`whole`."""
    return bytearray(size)


def put(room: bytearray, at: int, data: bytes, start: int, end: int) -> None:
    """Some of the data into the room, at its place there."""
    room[at : at + end - start] = memoryview(data)[start:end]


def whole(room: bytearray) -> bytes:
    """What has been put together. The room is of no use after it: compiled, it is the body."""
    return bytes(room)


def message(
    method: bytes,
    channel: int,
    limit: int,
    flags: int,
    before: bytes,
    correlation_id: bytes | None,
    between: bytes,
    after: bytes,
    size: int,
    body: bytes,
) -> bytes:
    """A method's frame, its content header and its body frames, as one run of bytes.

    `size`: bytes of the body. Where `body` is empty all the same, its frames are not in the run.

    The properties are three runs of bytes. Between the first two comes the correlation id, of at
    most 255 bytes, unless it is None. `limit`: the most bytes of a frame's payload. Raises
    ValueError if the content header does not fit.
    """
    length = 14 + len(before) + len(between) + len(after)
    if correlation_id is not None:
        length += 1 + len(correlation_id)
    if length > limit:
        raise ValueError(f"properties of {length - 14} bytes do not fit a frame of {limit + 8}")
    parts = [method, _pack_content_frame(2, channel, length, 60, 0, size, flags), before]
    if correlation_id is not None:
        parts += (_LENGTH[len(correlation_id)], correlation_id)
    if body and size <= limit:
        parts += (between, after, _END, _pack_frame(3, channel, size), body, _END)
        return b"".join(parts)
    parts += (between, after, _END)
    for start in range(0, len(body), limit):
        chunk = body[start : start + limit]
        parts += (_pack_frame(3, channel, len(chunk)), chunk, _END)
    return b"".join(parts)
