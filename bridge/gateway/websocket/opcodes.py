"""What kinds of frames there are on a WebSocket, and the error for those that are none."""

from typing import Final

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

NOTHING: Final = -1
"""In place of an opcode: there is no whole message or control frame yet."""

NO_STATUS: Final = 1005
"""The code of a closing frame that has none (RFC 6455 §7.1.5)."""

NO_CLOSE: Final = 1006
"""The code of a connection that ended without a closing frame."""


class BrokenFrame(Exception):
    """The peer breaks the protocol or exceeds a limit: the connection must be closed."""

    def __init__(self, code: int, reason: str) -> None:
        """`code`: of the closing frame. `reason`: a clause."""
        super().__init__(reason)
        self.code = code
        self.reason = reason
