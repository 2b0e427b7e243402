"""Whether what is behind a network can be reached, found out before a request needs it."""

import asyncio
from typing import Final, Protocol, Self, runtime_checkable

from bridge.telemetry.health import Finding
from bridge.telemetry.pulse import HELD_UP, Pulse

EVERY: Final = 0.5
"""Seconds from one answer to the next question."""
PATIENCE: Final = 1.0
"""Seconds that an answer may take. With :data:`EVERY` that is less than the two seconds within
which a worker that misses something is to be known as not ready."""
LONGEST: Final = 300
"""Characters of an error that are told."""


@runtime_checkable
class Pingable(Protocol):
    """What can be asked whether it is there: a store of replies, a transport."""

    async def ping(self, timeout: float) -> None:
        """Return when it answers. Raises whatever keeps it from it; TimeoutError after `timeout`
        seconds.
        """


class Reachability:
    """Asks again and again, within an ``async with`` block."""

    def __init__(
        self, asked: Pingable, *, every: float = EVERY, patience: float = PATIENCE
    ) -> None:
        """`every`: seconds between two questions. `patience`: seconds that an answer may take."""
        self._asked = asked
        self._every = every
        self._patience = patience
        self._pulse = Pulse()
        self._task: asyncio.Task[None] | None = None
        self._finding = Finding(False, "it has not answered yet")

    async def __aenter__(self) -> Self:
        self._pulse.start()
        self._task = asyncio.create_task(self._ask())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._pulse.stop()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    def check(self) -> Finding:
        """What is known. Can be called from any thread."""
        return self._finding

    async def _ask(self) -> None:
        while True:
            self._finding = await self._once()
            await asyncio.sleep(self._every if self._finding.ok else self._every / 5)

    async def _once(self) -> Finding:
        try:
            await self._asked.ping(self._patience)
        except TimeoutError:
            if self._pulse.turning_for < self._patience + HELD_UP:
                return self._finding  # the loop was blocked: it may have answered meanwhile
            return Finding(False, f"it does not answer within {self._patience:g} s")
        except Exception as error:  # noqa: BLE001 - whatever its library raises
            if type(error) is ConnectionError:  # the bridge's own, and a clause by itself
                return Finding(False, str(error)[:LONGEST])
            return Finding(False, f"{type(error).__name__}: {error}"[:LONGEST])
        return Finding(True, "it answers")
