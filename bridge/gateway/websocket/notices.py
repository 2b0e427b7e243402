"""Log lines about peers that are not let in, or not kept: each is counted, and few are written."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from bridge.gateway.websocket.connection import GatewayCounts
from bridge.telemetry.logs import get_logger

log = get_logger("bridge.gateway")

PERIOD: Final = 60.0
"""Seconds in which lines of one cause are counted together."""

LINES: Final = 10
"""Lines of one cause in a period. What comes beyond is told at its end, as a number."""


CAUSES_MAX: Final = 64
"""Causes of a kind that are counted apart. There are two dozen; should one of them ever hold what a
peer has sent, all others are counted as OTHER."""
OTHER: Final = "other"


class Notices:
    """Tells of refused and cut-off connections, at most LINES times a minute for each cause."""

    def __init__(self, counts: GatewayCounts) -> None:
        self._counts = counts
        self.refusals: dict[str, int] = {}
        """Peers that were not let in, by cause."""
        self.cuts: dict[str, int] = {}
        """Peers that exceeded a limit, by cause."""
        self.holds: dict[str, int] = {}
        """Requests that were refused, by cause."""
        self._periods: dict[tuple[str, str], _Period] = {}

    def refused(self, cause: str, **facts: Any) -> None:
        """A peer was not let in. `cause`: one of a few fixed texts."""
        self._counts.refused += 1
        _count(self.refusals, cause)
        self._tell(log.info, "connection refused", cause, facts)

    def cut_off(self, cause: str, **facts: Any) -> None:
        """A peer exceeded a limit. `cause`: one of a few fixed texts."""
        self._counts.cut_off += 1
        _count(self.cuts, cause)
        self._tell(log.warning, "connection cut off", cause, facts)

    def held_back(self, cause: str, **facts: Any) -> None:
        """Something of a station was refused, and its connection stays."""
        _count(self.holds, cause)
        self._tell(log.warning, "request refused", cause, facts)

    def slowed(self, cause: str, **facts: Any) -> None:
        """A station is read more slowly than it sends, from now on and again and again."""
        self._tell(log.warning, "station slowed down", cause, facts)

    def close(self) -> None:
        """Write what has not been told yet."""
        for key, period in tuple(self._periods.items()):
            period.timer.cancel()
            self._end(key)

    def _tell(
        self, write: Callable[..., None], event: str, cause: str, facts: dict[str, Any]
    ) -> None:
        causes = self._counts.causes
        causes[cause] = causes.get(cause, 0) + 1
        key = event, cause
        period = self._periods.get(key)
        if period is None:
            timer = asyncio.get_running_loop().call_later(PERIOD, self._end, key)
            period = self._periods[key] = _Period(timer)
        period.seen += 1
        if period.seen > LINES:
            write = log.debug
        write(event, reason=cause, **facts)

    def _end(self, key: tuple[str, str]) -> None:
        more = self._periods.pop(key).seen - LINES
        if more > 0:
            event, cause = key
            log.warning("and more like it", of=event, reason=cause, more=more, seconds=PERIOD)


def _count(causes: dict[str, int], cause: str) -> None:
    if cause not in causes and len(causes) >= CAUSES_MAX:
        cause = OTHER
    causes[cause] = causes.get(cause, 0) + 1


class _Period:
    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self.timer = timer
        self.seen = 0
