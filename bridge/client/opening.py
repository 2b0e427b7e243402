"""The first connection of a client: opened when something is asked, or when that is wanted."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import copy_context

from bridge.client.errors import NoAnswer

CLOSED = "no answer came before the client was closed: it was not connected yet"


class Opening:
    """Connects once, however many wait for it, and again when it is asked for after a failure."""

    def __init__(self, start: Callable[[], Awaitable[None]]) -> None:
        """`start`: connects."""
        self._start = start
        self._task: asyncio.Task[None] | None = None
        self._entered = self._closed = False
        self._context = copy_context()
        self.done = False
        """Whether the client is connected. It stays true while a lost connection is opened again,
        and until the client is closed."""

    def enter(self) -> None:
        """The block of the client begins. Raises RuntimeError if it has begun before."""
        if self._entered:
            raise RuntimeError("a client is entered once: make another Client for another block")
        self._entered = True
        self._context = copy_context()

    def check(self) -> None:
        """Raises RuntimeError outside the block."""
        if not self._entered:
            raise RuntimeError(
                "the client is used outside its block: write `async with Client(...) as client:`"
                " around what asks"
            )
        if self._closed:
            raise RuntimeError(
                "the client is closed, for its block has ended: ask inside the block, or make"
                " another Client"
            )

    async def wait(self, seconds: float | None = None) -> None:
        """Wait until it is connected, so many seconds at most; None: as long as it takes.

        Raises what connecting raises, and NoAnswer after the time-out or if the client is closed.
        """
        self.check()
        if self.done:
            return
        task = self._task
        if task is None:
            # In the context of the block, not of whoever asks first: its tasks outlive the request,
            # and their log lines would be that request's.
            task = self._task = asyncio.create_task(
                self._connect(), name="dtbridge-connect", context=self._context
            )
            task.add_done_callback(_retrieved)
        ended, _ = await asyncio.wait({task}, timeout=seconds)
        if not ended:
            raise NoAnswer(f"no answer within {seconds:.3g} s: the client is not connected yet")
        if task.cancelled() or self._closed:
            raise NoAnswer(CLOSED)
        task.result()

    async def _connect(self) -> None:
        try:
            await self._start()
            self.done = True
        finally:
            self._task = None  # who comes now tries again

    async def close(self) -> None:
        """The block ends."""
        self._closed = True
        self.done = False
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.wait({task})


def _retrieved(task: "asyncio.Task[None]") -> None:
    """Whoever waits has its error. If nobody does any more, the transport has warned of it."""
    if not task.cancelled():
        task.exception()
