"""What a connection still has to send: one write per turn of the event loop.

At 200 messages a turn that is one system call in place of 200.
"""

import asyncio
from collections.abc import Callable


class Outbox:
    """What one connection still has to send, joined into one write per turn of the loop."""

    __slots__ = ("_sources", "_transport", "due", "loop", "parts", "paused")

    def __init__(self, transport: asyncio.WriteTransport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._sources: list[Callable[[], None]] = []
        self.loop = loop
        self.parts: list[bytes] = []
        self.due = False
        """A flush will come by itself: nobody needs to ask for one."""
        self.paused = False
        """The socket takes no more for now: the broker or the network is slow."""

    def add_source(self, add_more: Callable[[], None]) -> None:
        """Have `add_more` called before each flush, so that it can :meth:`add` to it.

        For what is cheaper said once per turn: acknowledgements.
        """
        self._sources.append(add_more)

    def remove_source(self, add_more: Callable[[], None]) -> None:
        """Call it no more."""
        self._sources = [each for each in self._sources if each != add_more]

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
        """Write what is there now."""
        self.due = True  # what the sources add goes out below, and asks for no turn of its own
        for add_more in self._sources:
            add_more()
        self.due = False
        parts = self.parts
        if parts:
            self.parts = []
            if not self._transport.is_closing():
                self._transport.write(parts[0] if len(parts) == 1 else b"".join(parts))
