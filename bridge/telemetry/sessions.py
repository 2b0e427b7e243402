"""What has become of a transport's sessions: kept by whoever listens to its states."""

import time
from collections.abc import Callable
from typing import Final

from bridge.telemetry.measures import Histogram

CONNECTING: Final = "connecting"
CONSUMING: Final = "consuming"
BLOCKED: Final = "blocked"
STATES: Final = (CONNECTING, CONSUMING, BLOCKED, "draining", "stopped")
"""The values of :class:`bridge.transport.State`."""

OTHER: Final = "other"
CAUSES: Final = {
    "no sign of life from the broker": "silent",
    "the broker has confirmed nothing": "unconfirmed",
    "not consuming:": "not_consuming",
    "the broker cancelled the consumer": "consumer_cancelled",
    "the broker closed the connection": "closed_by_broker",
    "the broker closed the ": "channel_closed",
    "the broker sent a broken frame": "protocol_error",
    "a delivery could not be taken": "internal_error",
    "publishing failed": "internal_error",
    "the connection was lost": "connection_lost",
    "the connection was closed": "connection_lost",
}
"""The words by which a reason begins that ends a session, after the connection's name → its cause.
Any other reason is :data:`OTHER`."""


def cause_of(reason: str) -> str:
    """The cause in the reason that ends a session: the first of :data:`CAUSES` that it has."""
    found = ((reason.find(words), cause) for words, cause in CAUSES.items() if words in reason)
    return min(found, default=(0, OTHER), key=lambda each: each[0])[1]


class Sessions:
    """How many there were, why they ended, and how long the broker took no publishings."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`wall`: the time of day; `monotonic`: the clock that is never set. Both in seconds."""
        self._wall = wall
        self._monotonic = monotonic
        self._state = CONNECTING
        self._blocked_before = 0.0
        self._blocked_at: float | None = None
        self.opened = 0
        """Sessions that came to consume."""
        self.began_at = 0.0
        """When the last of them did, in seconds of Unix time; 0: there was none."""
        self.lost = dict.fromkeys((*dict.fromkeys(CAUSES.values()), OTHER), 0)
        """Sessions that ended by themselves, by cause."""
        self.confirms = Histogram()
        """How long publishings waited for their confirms. One at a time is timed."""

    @property
    def blocked_seconds(self) -> float:
        """Seconds in which the broker took no publishings, up to now."""
        since = self._blocked_at
        return self._blocked_before + (0.0 if since is None else self._monotonic() - since)

    def enter(self, state: str, reason: str) -> None:
        """A state has been entered. `state`: one of :data:`STATES`; `reason`: why."""
        before, self._state = self._state, state
        if self._blocked_at is not None:
            self._blocked_before, self._blocked_at = self.blocked_seconds, None
        if state == BLOCKED:
            self._blocked_at = self._monotonic()
        elif state == CONSUMING and before == CONNECTING:
            self.opened += 1
            self.began_at = self._wall()
        elif state == CONNECTING and before in {CONSUMING, BLOCKED}:
            self.lost[cause_of(reason)] += 1
