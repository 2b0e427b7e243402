"""The dead-letter queue of a RabbitMQ: find some of it, replay some of it, purge some of it.

:mod:`bridge.rabbitmq.browser` reads the queue, and gives back what is not done with.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Final

import msgspec
from yarl import URL

from bridge.dead_letters.destinations import Destinations, describe
from bridge.dead_letters.letter import DeadLetter, read, replayed
from bridge.rabbitmq.browser import Browser, browse
from bridge.rabbitmq.connection import CONNECT_TIMEOUT
from bridge.transport import Confirm, Delivery, TransportError

IN_FLIGHT: Final = 200
"""Publishings of a replay that wait for their confirm."""
IN_FLIGHT_BYTES: Final = 32 * 1024 * 1024
"""Bytes of their bodies, at most; one that is longer goes alone."""
NAMED_AT_MOST: Final = 1_000
"""Destinations that are counted one by one. Their names come from outside."""

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


class Replayed(msgspec.Struct):
    """What became of a replay. Whatever was not replayed is still in the dead-letter queue."""

    replayed: int = 0
    """Published again, confirmed by the broker, and taken out of the dead-letter queue."""
    unroutable: int = 0
    """The exchange is gone, or no queue takes what is published there."""
    refused: int = 0
    """The broker said no: a queue is full."""
    impossible: int = 0
    """They do not say where they came from, or cannot be published."""
    elsewhere: int = 0
    """They would go to an exchange or queue that is not allowed."""

    @property
    def left(self) -> int:
        """Wanted and not replayed."""
        return self.unroutable + self.refused + self.impossible + self.elsewhere


class Plan(msgspec.Struct):
    """What a replay would do, as far as that is known without publishing."""

    destinations: dict[str, int] = {}
    """How many would be published to where, in words. At most :data:`NAMED_AT_MOST`; the rest are
    counted under the empty text."""
    elsewhere: dict[str, int] = {}
    """How many would stay because they say they came from there, which is not allowed. Likewise."""
    impossible: int = 0
    """They do not say where they came from."""

    @property
    def replayed(self) -> int:
        """How many would be published."""
        return sum(self.destinations.values())


async def plan(
    queue: Browser,
    wanted: Choice,
    progress: Progress,
    limit: int | None = None,
    allowed: Destinations | None = None,
) -> Plan:
    """What :func:`replay` would do with the same arguments. Changes nothing."""
    allowed = allowed or Destinations()
    result = Plan()
    tried = 0
    async with contextlib.aclosing(find(queue, wanted, progress)) as found:
        async for _, letter in found:
            if not letter.replayable:
                result.impossible += 1
            elif allowed.allow(letter):
                _count(result.destinations, describe(letter))
            else:
                _count(result.elsewhere, describe(letter))
            tried += 1
            if tried == limit:
                break
    return result


def _count(counts: dict[str, int], name: str) -> None:
    if name not in counts and len(counts) >= NAMED_AT_MOST:
        name = ""
    counts[name] = counts.get(name, 0) + 1


async def replay(
    queue: Browser,
    wanted: Choice,
    progress: Progress,
    limit: int | None = None,
    allowed: Destinations | None = None,
) -> Replayed:
    """Publish the oldest `limit` dead letters that are wanted to where they came from.

    `allowed`: where they may go; None: the bridge's own exchange and queues of requests. Each
    leaves the dead-letter queue only when the broker has confirmed its publishing and not returned
    it. A process that dies in between leaves it in both places. Raises
    :class:`~bridge.transport.TransportError` when the connection ends.
    """
    return await _Replay(queue, allowed or Destinations()).run(wanted, progress, limit)


class _Replay:
    """One run of :func:`replay`."""

    def __init__(self, queue: Browser, allowed: Destinations) -> None:
        self._queue = queue
        self._allowed = allowed
        self._result = Replayed()
        self._exchanges: dict[str, bool] = {}
        self._in_flight: set[tuple[str, str | None]] = set()
        self._bytes_in_flight = 0
        self._landed = asyncio.Event()
        self._lost = False

    async def run(self, wanted: Choice, progress: Progress, limit: int | None) -> Replayed:
        tried = 0
        if limit == 0:
            return self._result
        async with contextlib.aclosing(find(self._queue, wanted, progress)) as found:
            async for delivery, letter in found:
                await self._send(delivery, letter)
                tried += 1
                if tried == limit:
                    break
        await self._room(lambda: not self._in_flight)
        return self._result

    async def _send(self, delivery: Delivery, letter: DeadLetter) -> None:
        publishing = replayed(delivery, letter)
        if publishing is None:
            self._result.impossible += 1
            return
        if not self._allowed.allow(letter):
            self._result.elsewhere += 1
            return
        if not await self._knows(publishing.exchange):
            self._result.unroutable += 1
            return
        # A return is recognised by these two: no two alike may be on their way at once.
        mark = publishing.routing_key, publishing.properties.correlation_id
        await self._room(lambda: mark not in self._in_flight and self._has_room_for(letter.size))
        self._in_flight.add(mark)
        self._bytes_in_flight += letter.size
        try:
            self._queue.publish(
                publishing, lambda confirm: self._land(mark, letter.size, delivery, confirm)
            )
        except ValueError:
            self._take_out(mark, letter.size)
            self._result.impossible += 1

    def _has_room_for(self, size: int) -> bool:
        return not self._in_flight or (
            len(self._in_flight) < IN_FLIGHT and self._bytes_in_flight + size <= IN_FLIGHT_BYTES
        )

    def _take_out(self, mark: tuple[str, str | None], size: int) -> None:
        self._in_flight.discard(mark)
        self._bytes_in_flight -= size

    def _land(
        self, mark: tuple[str, str | None], size: int, delivery: Delivery, confirm: Confirm
    ) -> None:
        self._take_out(mark, size)
        match confirm:
            case Confirm.CONFIRMED:
                self._queue.forget(delivery)
                self._result.replayed += 1
            case Confirm.RETURNED:
                self._result.unroutable += 1
            case Confirm.REFUSED:
                self._result.refused += 1
            case Confirm.IMPOSSIBLE:
                self._result.impossible += 1
            case Confirm.LOST:
                self._lost = True
        self._landed.set()

    async def _room(self, there_is: Callable[[], bool]) -> None:
        while not self._lost and not there_is():
            self._landed.clear()
            await self._landed.wait()
        if self._lost:
            raise TransportError(
                f"the connection ended after {self._result.replayed} replayed; "
                "everything else is still there"
            )

    async def _knows(self, exchange: str) -> bool:
        if exchange not in self._exchanges:
            self._exchanges[exchange] = await self._queue.has_exchange(exchange)
        return self._exchanges[exchange]


def choice(takes: Callable[[DeadLetter, datetime], bool]) -> Choice:
    """A filter as of now: ages are counted up to this call, not up to when a message is read."""
    now = datetime.now(UTC)
    return lambda letter: takes(letter, now)
