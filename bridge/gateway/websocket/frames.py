"""The frames of a WebSocket, as a server reads and writes them (RFC 6455 §5, RFC 7692).

No socket, clock or task: bytes in, messages out. Whoever reads a connection feeds what has come,
and then reads until there is nothing more. So it is free to stop between two messages, and what is
left waits as it came: nothing is decompressed that nobody has room for.
"""

import struct
from typing import Final, NoReturn

from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import CloseCode, Frame, Opcode

from bridge.gateway.websocket.opcodes import (
    BINARY,
    CLOSE,
    CONTINUATION,
    NO_STATUS,
    NOTHING,
    PONG,
    TEXT,
    BrokenFrame,
)

try:
    from websockets.speedups import apply_mask
except ImportError:  # there was no C compiler for it
    from websockets.utils import apply_mask

EMPTY_FRAGMENTS: Final = 64
"""Fragments of a message that may be empty. They add nothing to it, so its size does not bound
them."""

_FIN, _RSV, _RSV1, _OPCODE, _MASKED, _LENGTH = 0x80, 0x70, 0x40, 0x0F, 0x80, 0x7F
_SHORT, _TWO, _EIGHT = 125, 126, 127
_CONTROL = 8
"""The opcodes of control frames have this bit."""
_KEY = 4
"""Bytes of the masking key."""
_OWN_CODES = range(3000, 5000)
_CLOSE_CODES: Final = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015), *_OWN_CODES})
"""The codes that a closing frame may have (RFC 6455 §7.4, and the registry of IANA)."""

_u16 = struct.Struct("!H")
_u64 = struct.Struct("!Q")


class FrameReader:
    """Takes a client's bytes apart. What it holds is bounded by the longest message."""

    __slots__ = (
        "_at",
        "_compressed",
        "_data",
        "_deflate",
        "_empty",
        "_fragments",
        "_max",
        "_needed",
        "_opcode",
        "_part",
        "code",
        "dropping",
        "message",
        "payload",
    )

    def __init__(self, max_message: int, deflate: PerMessageDeflate | None = None) -> None:
        """`max_message`: bytes, decompressed. `deflate`: what was agreed on; None: nothing."""
        self._max = max_message
        self._deflate = deflate
        self._data = b""
        self._at = 0
        """How far the data has been read."""
        self._part: bytearray | None = None
        """The beginning of a frame, grown in place: what comes byte by byte costs no more."""
        self._needed = 0
        """How many bytes that must have before it is worth a look."""
        self._opcode = 0
        """Of the message whose fragments come; 0: none."""
        self._fragments: bytearray | None = None
        self._compressed = False
        self._empty = 0
        self.message: str | bytes = b""
        """The message that was read last: text, or bytes of a binary one."""
        self.payload = b""
        """Of the control frame that was read last: the reason, of a closing frame."""
        self.code = NO_STATUS
        """Of the closing frame."""
        self.dropping = False
        """Drop messages, and read nothing but control frames: the connection is being closed."""

    @property
    def unread(self) -> int:
        """Bytes that were fed and wait to be read."""
        part = 0 if self._part is None else len(self._part)
        return len(self._data) - self._at + part

    def feed(self, data: bytes) -> None:
        """Take what has come."""
        part = self._part
        if part is not None:
            part += data
            if len(part) < self._needed:
                return
            data = bytes(part)
            self._part = None
        elif self._at < len(self._data):
            data = self._data[self._at :] + data
        self._data = data
        self._at = 0

    def read(self) -> int:
        """Read the next message or control frame.

        Returns its opcode, or NOTHING if it has not come yet. Raises BrokenFrame.
        """
        while True:
            data = self._data
            at = self._at
            left = len(data) - at
            if left < 2:
                return self._wait(left, 2)
            first = data[at]
            second = data[at + 1]
            opcode = first & _OPCODE
            size = second & _LENGTH
            self._check_head(first, second, opcode, size)
            start = 2 + _KEY
            if size == _TWO:
                start = 4 + _KEY
            elif size == _EIGHT:
                start = 10 + _KEY
            if left < start:
                return self._wait(left, start)
            if size == _TWO:
                size = _u16.unpack_from(data, at + 2)[0]
            elif size == _EIGHT:
                size = self._check_size(_u64.unpack_from(data, at + 2)[0])
            if not opcode & _CONTROL:
                self._check_room(size)
            if left < start + size:
                return self._wait(left, start + size)
            key = at + start
            self._at = key + size
            payload = apply_mask(data[key : key + size], data[key - _KEY : key]) if size else b""
            if self._at == len(data):
                self._data = b""
                self._at = 0
            if opcode & _CONTROL:
                if opcode == CLOSE:
                    self._read_close(payload)
                else:
                    self.payload = payload
                return opcode
            kind = self._take(first, opcode, payload)
            if kind != NOTHING:
                return kind

    def _wait(self, left: int, needed: int) -> int:
        """Keep the beginning of a frame, in a form that can grow."""
        if left:
            self._part = bytearray(self._data[self._at :])
            self._needed = needed
        self._data = b""
        self._at = 0
        return NOTHING

    def _check_head(self, first: int, second: int, opcode: int, size: int) -> None:
        reserved = first & _RSV
        if reserved and not (
            reserved == _RSV1 and self._deflate is not None and opcode in {TEXT, BINARY}
        ):
            raise BrokenFrame(CloseCode.PROTOCOL_ERROR, "reserved bits must be 0")
        if not second & _MASKED:
            raise BrokenFrame(CloseCode.PROTOCOL_ERROR, "incorrect masking")
        if opcode & _CONTROL:
            if opcode > PONG:
                raise BrokenFrame(CloseCode.PROTOCOL_ERROR, f"invalid opcode: {opcode:#04x}")
            if not first & _FIN:
                raise BrokenFrame(CloseCode.PROTOCOL_ERROR, "fragmented control frame")
            if size > _SHORT:
                raise BrokenFrame(CloseCode.PROTOCOL_ERROR, "control frame too long")
        elif opcode > BINARY:
            raise BrokenFrame(CloseCode.PROTOCOL_ERROR, f"invalid opcode: {opcode:#04x}")
        elif opcode == CONTINUATION:
            if not self._opcode:
                raise BrokenFrame(CloseCode.PROTOCOL_ERROR, "unexpected continuation frame")
        elif self._opcode:
            raise BrokenFrame(CloseCode.PROTOCOL_ERROR, "expected a continuation frame")

    def _check_size(self, size: int) -> int:
        """A number that fits into the types of the compiled reader, too."""
        if size >> 63:
            raise BrokenFrame(CloseCode.PROTOCOL_ERROR, "invalid length")
        if size > self._max:
            self._too_big()
        return size

    def _check_room(self, size: int) -> None:
        fragments = self._fragments
        if size > self._max - (0 if fragments is None else len(fragments)):
            self._too_big()

    def _too_big(self) -> NoReturn:
        raise BrokenFrame(CloseCode.MESSAGE_TOO_BIG, f"over {self._max} bytes")

    def _read_close(self, payload: bytes) -> None:
        self.code = NO_STATUS
        self.payload = b""
        if not payload:
            return
        if len(payload) < 2:
            raise BrokenFrame(CloseCode.PROTOCOL_ERROR, "close frame too short")
        code = _u16.unpack_from(payload)[0]
        if code not in _CLOSE_CODES:
            raise BrokenFrame(CloseCode.PROTOCOL_ERROR, "invalid status code")
        reason = payload[2:]
        _text(reason)
        self.code = code
        self.payload = reason

    def _take(self, first: int, opcode: int, payload: bytes) -> int:
        """Take a data frame in. Returns the opcode of the message that it ends, or NOTHING."""
        whole = first & _FIN != 0
        kind = opcode
        if opcode != CONTINUATION:
            self._compressed = first & _RSV1 != 0
            if whole and not self._compressed:
                return self._finish(kind, payload)
            self._fragments = bytearray()
            self._opcode = opcode
            self._empty = 0
        else:
            kind = self._opcode
        if not self.dropping:
            self._add(first, opcode, payload)
        if not whole:
            return NOTHING
        message = bytes(self._fragments or b"")
        self._fragments = None
        self._opcode = 0
        return self._finish(kind, message)

    def _add(self, first: int, opcode: int, payload: bytes) -> None:
        """Add a fragment to its message."""
        fragments = self._fragments
        assert fragments is not None  # noqa: S101 - it has begun
        if self._compressed:
            payload = self._inflate(first, opcode, payload, self._max - len(fragments))
        if payload:
            fragments += payload
            return
        self._empty += 1
        if self._empty > EMPTY_FRAGMENTS:
            raise BrokenFrame(CloseCode.POLICY_VIOLATION, "too many empty fragments")

    def _inflate(self, first: int, opcode: int, payload: bytes, room: int) -> bytes:
        """Decompress a fragment, as far as there is room for one byte more than there may be."""
        deflate = self._deflate
        assert deflate is not None  # noqa: S101 - else the bit that says so is reserved
        frame = Frame(Opcode(opcode), payload, first & _FIN != 0, first & _RSV1 != 0)
        try:
            # Never 0: zlib takes that for no bound at all.
            inflated = bytes(deflate.decode(frame, max_size=room + 1).data)
        except PayloadTooBig:
            inflated = None
        except ProtocolError as error:
            raise BrokenFrame(CloseCode.PROTOCOL_ERROR, str(error)) from error
        if inflated is None or len(inflated) > room:
            self._too_big()
        return inflated

    def _finish(self, kind: int, message: bytes) -> int:
        if self.dropping:
            return NOTHING
        self.message = _text(message) if kind == TEXT else message
        return kind


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BrokenFrame(CloseCode.INVALID_DATA, "invalid UTF-8") from error


def control_frame(opcode: int, payload: bytes = b"") -> bytes:
    """A control frame. `payload`: at most 125 bytes."""
    return bytes((_FIN | opcode, len(payload))) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """A closing frame. `code`: NO_STATUS: without one. `reason`: at most 123 bytes of UTF-8."""
    payload = b"" if code == NO_STATUS else _u16.pack(code) + reason.encode()
    return control_frame(CLOSE, payload)


def text_frame(payload: bytes, deflate: PerMessageDeflate | None = None) -> bytes:
    """A text message in one frame. `payload`: UTF-8. `deflate`: compresses it."""
    if deflate is not None:
        return Frame(Opcode.TEXT, payload).serialize(mask=False, extensions=[deflate])
    size = len(payload)
    if size <= _SHORT:
        return bytes((_FIN | TEXT, size)) + payload
    if size < 1 << 16:
        return bytes((_FIN | TEXT, _TWO, size >> 8, size & 0xFF)) + payload
    return bytes((_FIN | TEXT, _EIGHT)) + _u64.pack(size) + payload
