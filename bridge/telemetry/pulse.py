"""Whether an event loop turns. It beats; others look at it, from any thread."""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final

BEAT: Final = 0.25
"""Seconds from one beat to the next."""
HELD_UP: Final = 1.0
"""Seconds by which a beat is late from which on its loop counts as held up."""


class Pulse:
    """Beats on an event loop while it is started."""

    def __init__(
        self, every: float = BEAT, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`every`: seconds between two beats. `monotonic`: the clock, in seconds."""
        self._every = every
        self._monotonic = monotonic
        self._due = math.inf
        self._held_until = -math.inf
        self._timer: asyncio.TimerHandle | None = None
        self.beats = 0
        """Beats so far."""
        self.held_for = 0.0
        """Seconds, at least, for which the loop was held up the last time; 0: it never was."""

    def start(self) -> None:
        """Begin to beat. Call it on the event loop."""
        self._beat()

    def stop(self) -> None:
        """Beat no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due = math.inf

    def _beat(self) -> None:
        now = self._monotonic()
        late = now - self._due
        if late >= HELD_UP:
            self.held_for, self._held_until = late, now
        self.beats += 1
        self._due = now + self._every
        self._timer = asyncio.get_running_loop().call_later(self._every, self._beat)

    @property
    def due(self) -> float:
        """When the next beat is due, by the monotonic clock; infinity: there is none."""
        return self._due

    @property
    def late(self) -> float:
        """Seconds by which the next beat is late; 0: it is not due yet."""
        return max(0.0, self._monotonic() - self._due)

    @property
    def silent_for(self) -> float:
        """Seconds since the last beat."""
        return max(0.0, self._monotonic() - self._due + self._every)

    @property
    def turning_for(self) -> float:
        """Seconds since the loop was held up; 0: it still is; infinity: it never was."""
        if self.late >= HELD_UP:
            return 0.0
        return self._monotonic() - self._held_until

    @property
    def last_hold_up(self) -> float:
        """Seconds, at least, for which it is held up, or was the last time; 0: it never was."""
        late = self.late
        return late if late >= HELD_UP else self.held_for
