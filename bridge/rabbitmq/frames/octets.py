"""The octets of AMQP frames: numbers in network byte order, and whole messages put together.

Reading beyond the end of the data raises struct.error; compiled (see ``octets.pxd``), IndexError.
"""

import struct
from typing import Final

u16 = struct.Struct(">H").unpack_from
u32 = struct.Struct(">I").unpack_from
u64 = struct.Struct(">Q").unpack_from
tag_bits = struct.Struct(">QB").unpack_from
"""Of Deliver, Ack and Nack: the delivery tag, then their bits."""
frame = struct.Struct(">BHI").unpack_from
"""A frame's type, channel, and size of its payload."""
content = struct.Struct(">HHQH").unpack_from
"""Of a content header: class, weight (always 0), size of the body, property flags."""
content_frame = struct.Struct(">BHIHHQH").unpack_from
"""A frame with a content header."""

_pack_frame = struct.Struct(">BHI").pack
_pack_content_frame = struct.Struct(">BHIHHQH").pack
_LENGTH: Final = tuple(bytes((n,)) for n in range(256))
_END: Final = b"\xce"


def part(data: bytes, at: int, end: int) -> bytes:
    """Some of the data. Raises nothing in Python: what is cut short shows where its end is compared."""
    return data[at:end]


def same(data: bytes, at: int, end: int, known: bytes) -> bool:
    """Whether that part of the data is what is known."""
    return data[at:end] == known


def text(data: bytes, at: int, end: int) -> str:
    """A short string as text. AMQP asks for UTF-8; what is not comes back byte for byte when it is sent again."""
    return str(data[at:end], "utf-8", "surrogateescape")


def text_or_bytes(data: bytes, at: int, end: int) -> str | bytes:
    """A long string as text; or as it is, if it is not UTF-8."""
    value = data[at:end]
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def message(
    method: bytes,
    channel: int,
    limit: int,
    flags: int,
    before: bytes,
    correlation_id: bytes | None,
    between: bytes,
    after: bytes,
    body: bytes,
) -> bytes:
    """A method's frame, its content header and its body frames, as one run.

    The properties are three runs of bytes, with a short string of at most 255 bytes between the first two unless it is None.
    `limit`: bytes of a frame's payload at most. Raises ValueError if the content header does not fit.
    """
    length = 14 + len(before) + len(between) + len(after)
    if correlation_id is not None:
        length += 1 + len(correlation_id)
    if length > limit:
        raise ValueError(f"properties of {length - 14} bytes do not fit a frame of {limit + 8}")
    size = len(body)
    parts = [method, _pack_content_frame(2, channel, length, 60, 0, size, flags), before]
    if correlation_id is not None:
        parts += (_LENGTH[len(correlation_id)], correlation_id)
    if 0 < size <= limit:
        parts += (between, after, _END, _pack_frame(3, channel, size), body, _END)
        return b"".join(parts)
    parts += (between, after, _END)
    for start in range(0, size, limit):
        chunk = body[start : start + limit]
        parts += (_pack_frame(3, channel, len(chunk)), chunk, _END)
    return b"".join(parts)
