"""Tries dead letters again: publishes each to where it came from, and then takes it out.

A reading of the queue holds what it has read until it ends, and RabbitMQ up to 4.2 closes a channel
that holds a message for half an hour. So a replay that takes long, because it is held to a rate,
leaves the queue now and then and reads it again from its beginning.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import msgspec

from bridge.dead_letters.destinations import Destinations, describe
from bridge.dead_letters.letter import MARKER, DeadLetter, replayed
from bridge.dead_letters.queue import Choice, Progress, find
from bridge.rabbitmq.browser import Browser
from bridge.request.outcome import Reason
from bridge.transport import Confirm, Delivery, TransportError

IN_FLIGHT: Final = 200
"""Publishings of a replay that wait for their confirm."""
IN_FLIGHT_BYTES: Final = 32 * 1024 * 1024
"""Bytes of their bodies, at most; one that is longer goes alone."""
NAMED_AT_MOST: Final = 1_000
"""Destinations that are counted one by one. Their names come from outside."""
HOLD: Final = 300.0
"""Seconds after which a replay gives back what it has read, and reads the queue again: well below
RabbitMQ's ``consumer_timeout``, 30 minutes unless it is set."""


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
    expired: int = 0
    """They were not tried, because nobody waits for them any more."""
    markers: int = 0
    """They were not tried, because they are no requests: a migration has left them."""
    timed_out: int = 0
    """Of those that were published again: their handlers had run out of time, and may have had
    their effect all the same."""

    @property
    def left(self) -> int:
        """Tried and not replayed."""
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
    expired: int = 0
    """They would not be tried, because nobody waits for them any more."""
    markers: int = 0
    """They would not be tried, because they are no requests."""
    reasons: dict[str, int] = {}
    """How many would be published of those that were given up for each reason."""

    @property
    def replayed(self) -> int:
        """How many would be published."""
        return sum(self.destinations.values())

    @property
    def tried(self) -> int:
        """How many would be published, or would stay for another reason than that they expired."""
        return self.replayed + sum(self.elsewhere.values()) + self.impossible


async def plan(
    queue: Browser,
    wanted: Choice,
    progress: Progress,
    limit: int | None = None,
    allowed: Destinations | None = None,
    *,
    include_expired: bool = True,
) -> Plan:
    """What :func:`replay` would do with the same arguments. Changes nothing."""
    allowed = allowed or Destinations()
    result = Plan()
    async with contextlib.aclosing(find(queue, wanted, progress)) as found:
        async for _, letter in found:
            if is_left_alone(letter, result, include_expired=include_expired):
                continue
            if not letter.replayable:
                result.impossible += 1
            elif allowed.allow(letter):
                _count(result.destinations, describe(letter))
                result.reasons[letter.reason] = result.reasons.get(letter.reason, 0) + 1
            else:
                _count(result.elsewhere, describe(letter))
            if result.tried == limit:
                break
    return result


def is_left_alone(letter: DeadLetter, result: Replayed | Plan, *, include_expired: bool) -> bool:
    """Whether a replay leaves it where it is: nobody waits for it any more, or it is no request.

    Then it is counted in `result`.
    """
    if letter.reason == MARKER:
        result.markers += 1
        return True
    if letter.reason == Reason.EXPIRED and not include_expired:
        result.expired += 1
        return True
    return False


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

    In one reading of the queue, and as fast as the broker takes them. Arguments and errors: as of
    :class:`Replay`.
    """
    run = Replay(wanted, allowed, limit=limit, hold=None)
    await run.go_on(queue, progress)
    return run.result


class Replay:
    """A replay, in one or more readings of the queue."""

    def __init__(
        self,
        wanted: Choice,
        allowed: Destinations | None = None,
        *,
        limit: int | None = None,
        include_expired: bool = True,
        rate: float | None = None,
        hold: float | None = HOLD,
    ) -> None:
        """`allowed`: where they may go; None: the bridge's own exchange and queues of requests.

        `limit`: dead letters that are tried at most, the oldest ones. `include_expired`: try those
        that nobody waits for any more as well. `rate`: publishings a second at most. `hold`:
        seconds that one reading lasts; None: until it is done.
        """
        self._wanted = wanted
        self._allowed = allowed or Destinations()
        self._limit = limit
        self._include_expired = include_expired
        self._pause = 1 / rate if rate else 0.0
        self._hold = hold
        self.result = Replayed()
        """What has become of it so far."""
        self._tried = 0
        self._left: set[str] = set()
        """Ids of those that have been looked at and stay: the next reading meets them again."""
        self._unread: int | None = None
        """Dead letters of the beginning that have not been taken out. What comes later, maybe
        because it was replayed and failed again, is not tried."""
        self._next_at = 0.0
        self._exchanges: dict[str, bool] = {}
        self._in_flight: set[tuple[str, str | None]] = set()
        self._bytes_in_flight = 0
        self._landed = asyncio.Event()
        self._lost = False

    async def go_on(self, queue: Browser, progress: Progress) -> bool:
        """Publish dead letters, oldest first, until all are done or the time of a reading is over.

        Returns whether all are done; if not, this is to be called again, with another reading of
        the queue. Each leaves the queue only when the broker has confirmed its publishing and not
        returned it. A process that dies in between leaves it in both places. Raises
        :class:`~bridge.transport.TransportError` when the connection ends.
        """
        if self._limit == 0:
            return True
        if self._unread is None:
            self._unread = queue.count
        budget = self._unread
        until = None if self._hold is None else asyncio.get_running_loop().time() + self._hold
        known = frozenset(self._left)
        before = self._tried
        done = True
        seen = 0

        def count(number: int) -> None:
            nonlocal seen
            seen = number
            progress(number)

        async with contextlib.aclosing(find(queue, self._wanted, count)) as found:
            async for delivery, letter in found:
                if seen > budget:
                    break
                if letter.id in known:
                    continue
                if is_left_alone(letter, self.result, include_expired=self._include_expired):
                    self._left.add(letter.id)
                    continue
                await self._send(queue, delivery, letter)
                self._tried += 1
                if self._tried == self._limit:
                    break
                if until is not None and asyncio.get_running_loop().time() >= until:
                    done = self._tried == before
                    break
        await self._room(lambda: not self._in_flight)
        return done

    async def _send(self, queue: Browser, delivery: Delivery, letter: DeadLetter) -> None:
        publishing = replayed(delivery, letter)
        if publishing is None:
            self._stays(letter)
            self.result.impossible += 1
            return
        if not self._allowed.allow(letter):
            self._stays(letter)
            self.result.elsewhere += 1
            return
        if not await self._knows(queue, publishing.exchange):
            self._stays(letter)
            self.result.unroutable += 1
            return
        # A return is recognised by these two: no two alike may be on their way at once.
        mark = publishing.routing_key, publishing.properties.correlation_id
        await self._room(lambda: mark not in self._in_flight and self._has_room_for(letter.size))
        await self._wait_for_its_turn()
        self._in_flight.add(mark)
        self._bytes_in_flight += letter.size
        try:
            queue.publish(
                publishing, lambda confirm: self._land(mark, letter, queue, delivery, confirm)
            )
        except ValueError:
            self._take_out(mark, letter.size)
            self._stays(letter)
            self.result.impossible += 1

    def _stays(self, letter: DeadLetter) -> None:
        self._left.add(letter.id)

    async def _wait_for_its_turn(self) -> None:
        """Hold the publishings to the rate; time that was lost is not made up for."""
        if not self._pause:
            return
        now = asyncio.get_running_loop().time()
        at = max(now, self._next_at)
        self._next_at = at + self._pause
        await asyncio.sleep(at - now)

    def _has_room_for(self, size: int) -> bool:
        return not self._in_flight or (
            len(self._in_flight) < IN_FLIGHT and self._bytes_in_flight + size <= IN_FLIGHT_BYTES
        )

    def _take_out(self, mark: tuple[str, str | None], size: int) -> None:
        self._in_flight.discard(mark)
        self._bytes_in_flight -= size

    def _land(
        self,
        mark: tuple[str, str | None],
        letter: DeadLetter,
        queue: Browser,
        delivery: Delivery,
        confirm: Confirm,
    ) -> None:
        self._take_out(mark, letter.size)
        match confirm:
            case Confirm.CONFIRMED:
                queue.forget(delivery)
                self.result.replayed += 1
                self.result.timed_out += letter.reason == Reason.TIMED_OUT
                if self._unread is not None:
                    self._unread -= 1
            case Confirm.RETURNED:
                self.result.unroutable += 1
            case Confirm.REFUSED:
                self.result.refused += 1
            case Confirm.IMPOSSIBLE:
                self.result.impossible += 1
            case Confirm.LOST:
                self._lost = True
        if confirm is not Confirm.CONFIRMED:
            self._stays(letter)
        self._landed.set()

    async def _room(self, there_is: Callable[[], bool]) -> None:
        while not self._lost and not there_is():
            self._landed.clear()
            await self._landed.wait()
        if self._lost:
            raise TransportError(
                f"the connection ended after {self.result.replayed} replayed; "
                "everything else is still there"
            )

    async def _knows(self, queue: Browser, exchange: str) -> bool:
        if exchange not in self._exchanges:
            self._exchanges[exchange] = await queue.has_exchange(exchange)
        return self._exchanges[exchange]
