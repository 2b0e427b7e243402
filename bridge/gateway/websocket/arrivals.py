"""Stations that come all at once take turns, so that those that are here are served meanwhile.

After an outage thousands of stations connect within seconds, and in its beginning as many are lost.
Each costs as much as a dozen messages, here and at the broker. So those that come and go get a
share of the time, and no more: who finds it used up waits a moment, in the order of arrival. A
station that comes alone never waits.
"""

import asyncio
from collections import deque
from typing import Final, Protocol

from bridge.telemetry import ticks

SHARE: Final = 1 / 3
"""Of the time of the event loop."""

AT_ONCE: Final = 0.005
"""Seconds of that in one go: a dozen handshakes or so."""


class Arrival(Protocol):
    """A connection whose request has been read, or that has ended."""

    def proceed(self) -> None:
        """It is its turn. Must not raise."""


class Arrivals:
    """Gives arrivals their turns."""

    def __init__(self, share: float = SHARE, at_once: float = AT_ONCE) -> None:
        """`share`: of the time. `at_once`: seconds."""
        self._cost = 1 / share
        self._slack = at_once / share
        self._used_until = 0.0
        """When what has been used of the share is made up for, on the monotonic clock."""
        self._waiting: deque[Arrival] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def enter(self, arrival: Arrival) -> None:
        """Let it proceed, now or as soon as it is its turn."""
        if not self._waiting and self._ahead() <= self._slack:
            self._take(arrival)
            return
        self._waiting.append(arrival)
        if self._timer is None:
            self._wake()

    def close(self) -> None:
        """Nobody waits any more: let all proceed that do."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            self._waiting.popleft().proceed()

    def _ahead(self) -> float:
        """How far more than the share has been used, in seconds."""
        return self._used_until - ticks.now()

    def _take(self, arrival: Arrival) -> None:
        began = ticks.now()
        arrival.proceed()
        used = ticks.now() - began
        self._used_until = max(self._used_until, began) + used * self._cost

    def _wake(self) -> None:
        # Half of the slack at a time, so that not every one of them costs a timer.
        pause = max(0.0, self._ahead() - self._slack / 2)
        self._timer = asyncio.get_running_loop().call_later(pause, self._turn)

    def _turn(self) -> None:
        self._timer = None
        while self._waiting and self._ahead() <= self._slack:
            self._take(self._waiting.popleft())
        if self._waiting:
            self._wake()
