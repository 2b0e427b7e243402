"""How long requests will wait while a queue is migrated, before anything is done. Pure."""

from typing import Final

import msgspec

from bridge.rabbitmq.management import LiveQueue

AT_LEAST: Final = 3.0
"""Seconds for a classic queue that is idle: to see that it is empty, to replace it, and for workers
to come back."""
AT_LEAST_QUORUM: Final = 9.0
"""Likewise for a quorum queue, whose count is up to five seconds old."""


class Expected(msgspec.Struct, frozen=True):
    """What is known of a queue's requests before it is migrated."""

    queue: str
    in_hand: int
    """Requests that workers have in hand: all must be settled before the queue is replaced."""
    rate: float
    """Requests that they settle a second."""
    at_least: float
    """Seconds, if nothing were in hand."""

    @property
    def settling(self) -> float | None:
        """Seconds until what is in hand is settled. None: nothing of it is being settled."""
        if not self.in_hand:
            return 0.0
        return self.in_hand / self.rate if self.rate else None

    @property
    def seconds(self) -> float | None:
        """Seconds that a request waits at most which comes when it begins."""
        settling = self.settling
        return None if settling is None else settling + self.at_least


def expected(live: LiveQueue) -> Expected:
    """What the management API tells of a queue; its counts are some seconds old."""
    return Expected(
        live.name,
        live.messages_unacknowledged,
        live.message_stats.ack_details.rate,
        AT_LEAST_QUORUM if live.type == "quorum" else AT_LEAST,
    )
