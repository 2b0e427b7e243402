"""What a connection still has to send: one write per turn of the event loop.

At 200 messages a turn that is one system call in place of 200. Small parts are joined for it; a
large one is given to the socket as it is.
"""

import asyncio
from collections.abc import Callable
from typing import Final

LARGE: Final = 32 * 1024
"""Bytes of a body, or of a part, from which on it is not copied to be joined with others."""


class Outbox:
    """What one connection still has to send, joined into one write per turn of the loop."""

    __slots__ = ("_sources", "_transport", "due", "large", "loop", "parts", "paused")

    def __init__(self, transport: asyncio.WriteTransport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._sources: list[Callable[[], None]] = []
        self.loop = loop
        self.parts: list[bytes | memoryview] = []
        self.large = False
        """Some of the parts may be large."""
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

    def add_large(self, frames: list[bytes | memoryview]) -> None:
        """Send whole frames, which come in parts, at the end of this turn."""
        self.parts += frames
        self.large = True
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
            large, self.large = self.large, False
            if self._transport.is_closing():
                return
            if large:
                self._transport.writelines(_runs(parts))
            else:
                self._transport.write(parts[0] if len(parts) == 1 else b"".join(parts))


def _runs(parts: list[bytes | memoryview]) -> list[bytes | memoryview]:
    """The same bytes in fewer parts: those between two large ones are joined."""
    runs: list[bytes | memoryview] = []
    small: list[bytes | memoryview] = []
    for part in parts:
        if len(part) < LARGE:
            small.append(part)
            continue
        if small:
            runs.append(b"".join(small))
            small = []
        runs.append(part)
    if small:
        runs.append(b"".join(small))
    return runs
