"""Replies kept in the memory of this process."""

import time
from collections.abc import Callable
from typing import Final

from bridge.compiled import fields
from bridge.idempotency.store import TTL, Begun, Key, Running
from bridge.request.outcome import Reply

fields.check((Reply,))

ENTRIES: Final = 20_000
"""Replies kept at most: twice what a worker has in hand. About 500 bytes each."""
LARGE: Final = 1024
"""Bytes from which on the size of a reply counts; smaller ones are bounded by their number."""
BYTES: Final = 32 * 1024 * 1024
"""Bytes of large replies kept at most."""

_HERE: Final = Running.HERE
"""A name of its own: a member of an Enum is looked up at each use."""


class MemoryStore:
    """A :class:`~bridge.idempotency.store.Store` in this process, in two generations.

    When the young generation is full or old enough, it takes the place of the old one, which is
    dropped. So a reply costs one dictionary entry, whatever the bounds.
    """

    def __init__(
        self,
        ttl: float = TTL,
        entries: int = ENTRIES,
        max_bytes: int = BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`ttl`: seconds that a reply is kept, unless a bound is reached; at most twice as long.

        `entries`: replies at most. `max_bytes`: bytes of large replies at most. `clock`: gives
        seconds since some moment, and never goes back.
        """
        self._clock = clock
        self._ttl = ttl
        self._entries = max(1, entries // 2)
        self._max_bytes = max_bytes // 2
        self._young: dict[Key, Reply | Running] = {}
        self._old: dict[Key, Reply | Running] = {}
        self._bytes = 0
        self._grown_up_at = clock() + ttl

    def begin(self, key: Key) -> Begun:
        young = self._young
        known = len(young)
        young.setdefault(key, _HERE)
        if len(young) > known:  # it was not there, as almost none is
            if key not in self._old:
                return None
            del young[key]
        return self._unless_aged(key)

    def _unless_aged(self, key: Key) -> Begun:
        """What a known key stands for, unless its time is over.

        A store that nothing is added to must forget as well. It asks for the time only here, where
        it matters.
        """
        now = self._clock()
        if now >= self._grown_up_at:
            self._grow_old(now)
        begun = self._young.get(key) or self._old.get(key)
        if begun is None:
            self._young[key] = _HERE
        return begun

    def finish(self, key: Key, reply: Reply) -> None:
        now = self._clock()
        if now >= self._grown_up_at:
            self._grow_old(now)
        self._young[key] = reply
        if len(reply.body) > LARGE:
            self._bytes += len(reply.body)
        if len(self._young) >= self._entries or self._bytes >= self._max_bytes:
            self._next_generation(now + self._ttl)

    def _grow_old(self, now: float) -> None:
        """Forget the old generation, whose time is over; after a long silence, both."""
        silent = now >= self._grown_up_at + self._ttl
        self._next_generation(now + self._ttl if silent else self._grown_up_at + self._ttl)
        if silent:
            self._old = {key: begun for key, begun in self._old.items() if begun is Running.HERE}

    def _next_generation(self, grown_up_at: float) -> None:
        """Make the young generation the old one. What is being handled is kept, however old."""
        running: dict[Key, Reply | Running] = {}
        running.update(
            (key, begun)
            for key, begun in self._old.items()
            if begun is Running.HERE and key not in self._young
        )
        self._old, self._young = self._young, running
        self._bytes = 0
        self._grown_up_at = grown_up_at

    def forget(self, key: Key) -> None:
        self._young.pop(key, None)
        self._old.pop(key, None)

    def __len__(self) -> int:
        """Replies kept."""
        kept = self._old | self._young
        return sum(begun is not Running.HERE for begun in kept.values())
