"""What a connection still has to send: one write a turn of the event loop."""

import asyncio
from collections.abc import Callable


class Outbox:
    """What one connection still has to send, joined into one write per turn of the loop."""

    __slots__ = ("_transport", "before_flush", "due", "loop", "on_paused", "parts", "paused")

    def __init__(self, transport: asyncio.WriteTransport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self.loop = loop
        self.parts: list[bytes] = []
        self.due = False
        """A flush is on its way: nobody else needs to ask for one."""
        self.paused = False
        """The socket takes no more for now: the broker or the network is slow."""
        self.on_paused: Callable[[], None] = _ignore_all
        """Called when :attr:`paused` has changed."""
        self.before_flush: Callable[[], None] | None = None
        """Adds what is cheaper said once per turn: the acknowledgements."""

    def add(self, frames: bytes) -> None:
        """Send whole frames at the end of this turn."""
        self.parts.append(frames)
        if not self.due:
            self.ask()

    def ask(self) -> None:
        """Have :meth:`flush` called at the end of this turn."""
        if not self.due:
            self.due = True
            self.loop.call_soon(self.flush)

    def flush(self) -> None:
        if self.before_flush is not None:
            self.due = True  # what it adds goes out below, not in a turn of its own
            self.before_flush()
        self.due = False
        parts = self.parts
        if parts:
            self.parts = []
            if not self._transport.is_closing():
                self._transport.write(parts[0] if len(parts) == 1 else b"".join(parts))


def _ignore_all() -> None: ...
