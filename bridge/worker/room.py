"""Bounds the bytes that a worker has in hand, beside the number of its requests."""

from collections import deque
from typing import Final

from bridge.transport import Delivery, Verdict

LARGE: Final = 16 * 1024
"""Bytes from which on a payload counts; smaller ones are bounded by their number."""
BYTES: Final = 64 * 1024 * 1024
"""Bytes of large payloads in hand at most. What Python and the sockets add is about as much."""


class Room:
    """The room for large payloads, which the intakes of a worker share.

    RabbitMQ knows no prefetch in bytes. So a delivery that there is no room for gives up its body
    and waits without it, and goes back to its queue when there is room. Each counts as delivered
    once more then, so they go back one by one, the oldest first, as room for them comes free.
    """

    def __init__(self, limit: int = BYTES) -> None:
        """`limit`: bytes. One payload is always taken, however large."""
        self._limit = limit
        self.used = 0
        """Bytes in hand."""
        self._credit = 0
        """Bytes that came free since, and that no delivery has gone back for."""
        self._outside: deque[tuple[Delivery, int]] = deque()

    @property
    def waiting(self) -> int:
        """Deliveries that wait for room."""
        return len(self._outside)

    def take(self, size: int) -> bool:
        """Have room for `size` bytes, until :meth:`give`. False: there is none."""
        if self.used and self.used + size > self._limit:
            return False
        self.used += size
        return True

    def hold(self, size: int) -> None:
        """Have `size` bytes in hand until :meth:`give`, whether there is room or not."""
        self.used += size

    def wait(self, delivery: Delivery) -> None:
        """Have a delivery wait without its body until there is room for it, in its turn."""
        self._outside.append((delivery, len(delivery.body)))
        delivery.body = b""

    def give(self, size: int) -> None:
        """So many bytes are not in hand any more."""
        self.used -= size
        self._credit += size
        while self._outside and (self._credit >= self._outside[0][1] or not self.used):
            delivery, needed = self._outside.popleft()
            self._credit = max(0, self._credit - needed)
            delivery.settle(Verdict.REQUEUE)
            if not self.used:
                break
        if not self._outside:
            self._credit = 0

    def give_back(self) -> None:
        """Requeue all that waits: the worker is to stop."""
        while self._outside:
            self._outside.popleft()[0].settle(Verdict.REQUEUE)

    def void(self) -> None:
        """Forget what waits: the connection is gone, and the broker delivers it again."""
        self._outside.clear()
        self._credit = 0
