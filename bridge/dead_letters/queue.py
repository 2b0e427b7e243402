"""The dead-letter queue of a RabbitMQ: find some of it, purge some of it.

:mod:`bridge.rabbitmq.browser` reads the queue, and gives back what is not done with.
:mod:`bridge.dead_letters.replay` tries some of it again.
"""

import contextlib
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Final

import msgspec
from yarl import URL

from bridge.dead_letters.letter import DeadLetter, read
from bridge.rabbitmq.browser import Browser, browse
from bridge.rabbitmq.connection import CONNECT_TIMEOUT
from bridge.transport import Delivery

ALIKE_AT_MOST: Final = 1_000
"""Ids that are kept of those that begin alike."""

NAMES_AT_MOST: Final = 1_000
"""Names that are noted: they come from outside."""

Choice = Callable[[DeadLetter], bool]
Progress = Callable[[int], None]
"""Told how many messages have been read so far."""


def open_dead_queue(
    urls: Sequence[URL], queue: str, connect_timeout: float = CONNECT_TIMEOUT
) -> AbstractAsyncContextManager[Browser]:
    """The queue, for as long as the block lasts. Leaving it gives back what is not done with.

    Arguments and errors: as :func:`~bridge.rabbitmq.browser.browse`.
    """
    return browse(urls, queue, "dtbridge dead", connect_timeout)


async def find(
    queue: Browser, wanted: Choice, progress: Progress
) -> AsyncGenerator[tuple[Delivery, DeadLetter]]:
    """The dead letters that are wanted, oldest first, each with its delivery."""
    seen = 0
    async for delivery in queue.deliveries():
        letter = read(delivery)
        seen += 1
        progress(seen)
        if wanted(letter):
            yield delivery, letter


async def purge(
    queue: Browser, wanted: Choice, progress: Progress, limit: int | None = None
) -> int:
    """Delete the oldest `limit` dead letters that are wanted. Returns how many were deleted."""
    done = 0
    if limit == 0:
        return done
    async with contextlib.aclosing(find(queue, wanted, progress)) as found:
        async for delivery, _ in found:
            queue.forget(delivery)
            done += 1
            if done == limit:
                break
    return done


class Newest(msgspec.Struct):
    """The dead letters that are wanted and came last."""

    letters: list[DeadLetter]
    """The newest first."""
    count: int
    """How many are wanted in all."""


async def newest(queue: Browser, wanted: Choice, progress: Progress, limit: int) -> Newest:
    """The newest `limit` dead letters that are wanted.

    The queue gives the oldest first, so all of it is read, and no more than `limit` are kept.
    """
    kept: deque[DeadLetter] = deque(maxlen=limit)
    count = 0
    async with contextlib.aclosing(find(queue, wanted, progress)) as found:
        async for _, letter in found:
            kept.append(letter)
            count += 1
    return Newest(list(reversed(kept)), count)


async def count(
    queue: Browser, wanted: Choice, progress: Progress, limit: int | None = None
) -> int:
    """How many dead letters are wanted, `limit` at most."""
    seen = 0
    async with contextlib.aclosing(find(queue, wanted, progress)) as found:
        async for _ in found:
            seen += 1
            if seen == limit:
                break
    return seen


async def resolve(
    queue: Browser, starts: Iterable[str], progress: Progress
) -> dict[str, frozenset[str]]:
    """The ids that begin so, for each of `starts`; :data:`ALIKE_AT_MOST` of them at most."""
    found: dict[str, set[str]] = {start: set() for start in starts}
    lengths = sorted({len(start) for start in found})
    seen = 0
    async for delivery in queue.deliveries():
        letter_id = read(delivery).id
        for length in lengths:
            ids = found.get(letter_id[:length])
            if ids is not None and len(ids) < ALIKE_AT_MOST:
                ids.add(letter_id)
        seen += 1
        progress(seen)
    return {start: frozenset(ids) for start, ids in found.items()}


class Sights:
    """A choice that notes which vendors, or messages, it has been shown.

    For who has chosen something of which there is nothing.
    """

    def __init__(self, wanted: Choice, name: Callable[[DeadLetter], str]) -> None:
        """`name`: what is noted of a dead letter."""
        self._wanted = wanted
        self._name = name
        self.counts: Counter[str] = Counter()
        """How often each name was seen: the first :data:`NAMES_AT_MOST` of them."""

    def __call__(self, letter: DeadLetter) -> bool:
        name = self._name(letter)
        if name in self.counts or len(self.counts) < NAMES_AT_MOST:
            self.counts[name] += 1
        return self._wanted(letter)


def choice(takes: Callable[[DeadLetter, datetime], bool]) -> Choice:
    """A filter as of now: ages are counted up to this call, not up to when a message is read."""
    now = datetime.now(UTC)
    return lambda letter: takes(letter, now)
