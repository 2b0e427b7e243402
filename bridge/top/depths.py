"""What the broker says of the queues of vendors: how many requests wait in them, and how long."""

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from bridge.dialects.partitions import own_queue


class QueueDepth(msgspec.Struct, frozen=True):
    """What the broker says of a queue."""

    ready: int = 0
    consumers: int = 0
    in_hand: int | None = None
    """Given to workers and not settled; None: AMQP alone does not tell."""
    oldest: float | None = None
    """Seconds since the timestamp of the oldest message; None: it has none."""
    rate: float | None = None
    """Settled a second, as the broker counts."""


class BrokerCounts(msgspec.Struct, frozen=True):
    """What the broker says of the bridge's queues."""

    queues: dict[str, QueueDepth] = {}
    source: str = ""
    """``management`` or ``amqp``; empty if neither could be asked."""
    error: str = ""
    """Why not, or why only the lesser of the two."""


def by_vendor(queues: Mapping[str, QueueDepth]) -> dict[str, QueueDepth]:
    """The partitions of a vendor as one, under the name of its own queue."""
    together: dict[str, QueueDepth] = {}
    for name, depth in queues.items():
        own = own_queue(name)
        together[own] = _both(together[own], depth) if own in together else depth
    return together


def _both(one: QueueDepth, other: QueueDepth) -> QueueDepth:
    """Workers consume all the partitions of a vendor, so its consumers are not added."""
    return QueueDepth(
        ready=one.ready + other.ready,
        consumers=max(one.consumers, other.consumers),
        in_hand=_added(one.in_hand, other.in_hand),
        oldest=max((each for each in (one.oldest, other.oldest) if each is not None), default=None),
        rate=_added(one.rate, other.rate),
    )


_Number = TypeVar("_Number", int, float)


def _added(one: _Number | None, other: _Number | None) -> _Number | None:
    return other if one is None else one if other is None else one + other
