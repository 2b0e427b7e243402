"""Notices what nobody else would: a clock that is set, and an event loop that is held up.

Durations are measured by the monotonic clock. Deadlines are times of day, agreed with gateways, so
a clock that is wrong makes requests look expired, or endless.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from bridge.telemetry.logs import get_logger
from bridge.telemetry.measures import Histogram

log = get_logger("bridge.clock")

LOOK: Final = 1.0
"""Seconds between two looks at the clocks."""
STEP: Final = 1.0
"""Seconds by which a clock is set, or a loop held up, from which on somebody is told. Clocks that
are kept right drift by milliseconds; no deadline is as near as that."""
QUIET: Final = 60.0
"""Seconds after a line about a loop that is held up until there is another one."""


class ClockWatch:
    """Looks at the clocks from time to time while it is started."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        told_since: Callable[[float], bool] = lambda _: False,
    ) -> None:
        """`wall`: the time of day; `monotonic`: the clock that is never set. Both in seconds.

        `told_since`: whether somebody has told since then, by `monotonic`, that the loop is held
        up; then that need not be told again.
        """
        self._wall = wall
        self._monotonic = monotonic
        self.told_since = told_since
        self._apart = 0.0
        self._looked = 0.0
        self._quiet_until = -QUIET
        self._timer: asyncio.TimerHandle | None = None
        self.lag = Histogram()
        """How late the event loop was for each look, in seconds."""

    def start(self) -> None:
        """Begin to look. Call it on the event loop."""
        self._looked = self._monotonic()
        self._apart = self._wall() - self._looked
        self._timer = asyncio.get_running_loop().call_later(LOOK, self._again)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _again(self) -> None:
        self.look()
        self._timer = asyncio.get_running_loop().call_later(LOOK, self._again)

    def look(self) -> None:
        """Compare the clocks with what they showed last time, and tell of what is amiss."""
        now = self._monotonic()
        apart = self._wall() - now
        stepped, self._apart = apart - self._apart, apart
        late, self._looked = now - self._looked - LOOK, now
        self.lag.observe(max(0.0, late))
        if abs(stepped) >= STEP:
            log.warning(
                "the clock was set, or the machine slept",
                seconds=round(stepped, 1),
                hint="deadlines of requests are times of day: keep the clocks of gateways and"
                " workers together, by NTP",
            )
        if late >= STEP and now >= self._quiet_until and not self.told_since(now - late - LOOK):
            self._quiet_until = now + QUIET
            log.warning(
                "the event loop was held up",
                seconds=round(late, 1),
                hint="a handler waits without await, or the processor is short: make such a handler"
                " a plain def",
            )
