"""The numbers of AMQP 0-9-1's frames and methods."""

from typing import Final

METHOD: Final = 1
HEADER: Final = 2
BODY: Final = 3
HEARTBEAT: Final = 8
FRAME_END: Final = 0xCE
FRAME_OVERHEAD: Final = 8
"""Bytes around a payload: type (1), channel (2), size (4), end (1)."""

HEARTBEAT_FRAME: Final = b"\x08\x00\x00\x00\x00\x00\x00\xce"

BASIC_DELIVER: Final = 60 << 16 | 60
BASIC_RETURN: Final = 60 << 16 | 50
BASIC_CANCEL: Final = 60 << 16 | 30
BASIC_ACK: Final = 60 << 16 | 80
BASIC_NACK: Final = 60 << 16 | 120
CHANNEL_CLOSE: Final = 20 << 16 | 40
CONNECTION_CLOSE: Final = 10 << 16 | 50
CONNECTION_BLOCKED: Final = 10 << 16 | 60
CONNECTION_UNBLOCKED: Final = 10 << 16 | 61

NESTED_AT_MOST: Final = 100
"""Levels of tables and arrays in a header table. The broker's own x-death has three; a bound, because what is compiled has no
RecursionError before its stack ends."""


class FrameError(Exception):
    """The peer sent bytes that are not AMQP 0-9-1. The connection cannot be read any further."""
