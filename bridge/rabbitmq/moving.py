"""Moves messages from one queue to another place, and knows when a queue is empty for good.

A message is published first, and acknowledged when the broker has confirmed that: a process that
dies in between leaves it in both places, and in none never.

**When is a queue empty?** It must be before it is deleted, and AMQP does not tell: a passive
declaration counts what is ready, not what workers have in hand. The management API counts both, but
its count of a quorum queue is up to five seconds old (the queue's tick). So the mover puts two
markers of its own into the queue, and takes them itself, by a consumer that goes before all others.
It reads the count, and gives up one marker, so that the true count of an otherwise empty queue is
one that has not been read before. A count read later that is just that was made after the first
reading, while the mover held at least so many markers: nothing else was in the queue then, in hand
or not. This presupposes that nothing is published to the queue any more.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final

import aiormq
import msgspec
from yarl import URL

from bridge.dialects.copies import may_be_rejected, milliseconds_left
from bridge.dialects.headers import DEADLINE, MARKER, MARKER_BODY, PERSISTENT
from bridge.dialects.topology import Purpose
from bridge.rabbitmq.browser import BrowsingLane
from bridge.rabbitmq.changing import Changes
from bridge.rabbitmq.connection import CONNECT_TIMEOUT, never_called
from bridge.rabbitmq.consuming import ConsumeLane
from bridge.rabbitmq.losses import LOST, explain, losses_as_errors
from bridge.rabbitmq.session import Session
from bridge.telemetry.logs import get_logger
from bridge.transport import (
    Confirm,
    Delivery,
    Properties,
    Publishing,
    Subscription,
    TopologyError,
    TransportError,
    Verdict,
)

log = get_logger("bridge.rabbitmq")

PREFETCH: Final = 200
"""Messages of a queue on their way at a time."""
PRIORITY: Final = 100
"""Of the mover's consumers. Workers have 0, so the mover comes first while it has room."""
MARKERS: Final = 2
LOOK_EVERY: Final = 0.1
"""Seconds between two looks at a queue."""
COUNT_EVERY: Final = 0.5
"""Seconds between two questions to the management API."""
SETTLE: Final = 1.0
"""Seconds from an unbinding until what had been routed before it has arrived. It takes a broker
milliseconds, and a busy cluster more."""
TRY_AGAIN: Final = 0.5
"""Seconds after which a message is published again that the broker refused: an election of a
leader takes about as long."""
REFUSALS: Final = 20
"""Refusals of one message until it is left where it is."""

_NOT_KEPT: Final = frozenset({"CC", "BCC"})
"""By these the broker would send a copy to others again."""

Copy = Callable[[Delivery], Publishing]
Count = Callable[[str], Awaitable[int]]
"""Messages of a queue, ready and in hand, as the management API says."""


def copy_of(
    delivery: Delivery, purpose: Purpose, *, exchange: str, routing_key: str | None = None
) -> Publishing:
    """The same message on its way elsewhere.

    `routing_key`: None: its own. What is left of its time goes with it: of a message with a
    deadline, `expiration` is what is left until then. The sender's ``user_id`` stays behind,
    because the broker allows only the publisher's own, and so do ``CC`` and the broker's headers;
    but a dead letter keeps those that tell its story.
    """
    properties = delivery.properties
    headers = properties.headers
    if headers is not None:
        headers = {
            name: value
            for name, value in headers.items()
            if name not in _NOT_KEPT and _stays(name, delivery, purpose)
        }
    expiration = properties.expiration
    deadline = (headers or {}).get(DEADLINE)
    if expiration is not None and type(deadline) is int and expiration.isdecimal():
        expiration = str(min(int(expiration), int(milliseconds_left(deadline / 1000))))
    kept = msgspec.structs.replace(
        properties,
        headers=headers,
        expiration=expiration,
        delivery_mode=PERSISTENT,
        user_id=None,
    )
    key = delivery.routing_key if routing_key is None else routing_key
    return Publishing(key, delivery.body, kept, exchange, mandatory=True)


def _stays(header: str, delivery: Delivery, purpose: Purpose) -> bool:
    if not header.startswith("x-"):
        return True
    tells = header.startswith(("x-death", "x-first-death-", "x-last-death-"))
    return purpose is Purpose.DEAD and tells and may_be_rejected(delivery)


class Mover(Session):
    """Takes what is in some queues, and publishes it elsewhere."""

    def __init__(self, name: str, *, keep_unreadable: bool = False) -> None:
        """`keep_unreadable`: move a message whose headers cannot be read without its headers, and
        do not reject it, as a worker does.
        """
        super().__init__(name, self._say_blocked, lambda: None)
        self.lane_type = BrowsingLane if keep_unreadable else ConsumeLane
        self.moved: Counter[str] = Counter()
        """Messages of each queue that have arrived elsewhere."""
        self.in_hand: Counter[str] = Counter()
        """Messages of each queue that have been taken and not settled, without markers."""
        self.stuck: dict[str, str] = {}
        """Queues with a message that cannot be moved, and why. It stays where it is."""
        self._markers: dict[str, list[Delivery]] = {}
        self._tags: dict[str, str] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self._something = asyncio.Event()
        """A message has arrived elsewhere, or not."""

    async def consume(self, queue: str, copy: Copy) -> None:
        """Begin to move what is in a queue, and what comes to it."""
        if self._watch is not None:
            self._watch.stop_audit()  # consumers come and go here
        tag = f"dtbridge-mover-{len(self._tags)}"
        self._markers[queue] = []
        subscription = Subscription(queue, PREFETCH, partial(self._take, queue, copy))
        self.consume_lane.subscribe(tag, subscription)
        channel = self._consume_channel
        await channel.basic_qos(prefetch_count=PREFETCH)
        try:
            await channel.basic_consume(
                queue, never_called, consumer_tag=tag, arguments={"x-priority": PRIORITY}
            )
        except aiormq.exceptions.AMQPChannelError as error:
            raise TopologyError(f"queue {queue!r} cannot be consumed: {error.args[0]}") from error
        self.consume_lane.draining = True  # acknowledge at once: somebody counts
        self._tags[queue] = tag

    async def cancel(self, queue: str) -> None:
        """Take nothing more, and wait until what has been taken has arrived."""
        for marker in self._markers.pop(queue, []):
            marker.settle(Verdict.ACK)
        if (tag := self._tags.pop(queue, None)) is not None and not self.ended.done():
            await self._consume_channel.basic_cancel(tag)
        while self.in_hand[queue] and queue not in self.stuck and not self.ended.done():
            self._something.clear()
            await self.until(self._something)
        self._consuming.outbox.flush()

    def mark(self, queue: str) -> None:
        """Put the markers into a queue that is being consumed."""
        properties = Properties(headers={MARKER: 1}, delivery_mode=PERSISTENT, type=MARKER)
        for _ in range(MARKERS):
            self.publish(Publishing(queue, MARKER_BODY, properties), lambda _: None)

    def markers(self, queue: str) -> int:
        """Markers of a queue in hand."""
        return len(self._markers.get(queue, ()))

    def give_up_markers(self, queue: str, left: int) -> None:
        """Acknowledge markers until so many are left."""
        while len(self._markers[queue]) > left:
            self._markers[queue].pop().settle(Verdict.ACK)

    def _take(self, queue: str, copy: Copy, delivery: Delivery) -> None:
        if MARKER in (delivery.properties.headers or {}):
            held = self._markers.get(queue)
            if held is None or len(held) >= MARKERS or delivery.redelivered:
                delivery.settle(Verdict.ACK)  # of a mover that died
            else:
                held.append(delivery)
            return
        self.in_hand[queue] += 1
        self._send(queue, delivery, copy, 1)

    def _send(self, queue: str, delivery: Delivery, copy: Copy, tried: int) -> None:
        try:
            self.publish(copy(delivery), partial(self._landed, queue, delivery, copy, tried))
        except ValueError as error:
            self.stuck[queue] = str(error)

    def _landed(
        self, queue: str, delivery: Delivery, copy: Copy, tried: int, confirm: Confirm
    ) -> None:
        if queue in self.stuck:
            return  # a return may have been taken for another's: nothing more is acknowledged
        self._something.set()
        match confirm:
            case Confirm.CONFIRMED:
                delivery.settle(Verdict.ACK)
                self.in_hand[queue] -= 1
                self.moved[queue] += 1
            case Confirm.REFUSED if tried < REFUSALS:
                self._later(partial(self._send, queue, delivery, copy, tried + 1))
            case Confirm.LOST:
                pass  # the session has ended, and everything is still there
            case _:
                self.stuck[queue] = f"the broker has {confirm.value} a message"

    def _later(self, send: Callable[[], None]) -> None:
        def due() -> None:
            self._timers.discard(timer)
            send()

        timer = asyncio.get_running_loop().call_later(TRY_AGAIN, due)
        self._timers.add(timer)

    def end(self, reason: str) -> None:
        super().end(reason)
        for timer in self._timers:
            timer.cancel()

    def check(self) -> None:
        """Raises TransportError if the session has ended."""
        if self.ended.done():
            raise TransportError(
                f"the connection ended ({self.ended.result()}); everything is still there"
            )

    def _say_blocked(self, reason: str | None) -> None:
        if reason is None:
            log.warning("the broker takes publishings again")
        else:
            log.warning("the broker takes no publishings; waiting", reason=reason)


@contextlib.asynccontextmanager
async def moving(url: URL, name: str, *, keep_unreadable: bool = False) -> AsyncIterator[Mover]:
    """A mover, for as long as the block lasts. What it has in hand at the end goes back.

    Raises :class:`~bridge.transport.TransportError` when its connection cannot be had, or ends.
    """
    mover = Mover(name, keep_unreadable=keep_unreadable)
    try:
        with losses_as_errors():
            await mover.open(url, None, (), CONNECT_TIMEOUT)
            yield mover
    except LOST as error:
        if isinstance(error, RuntimeError) and not mover.ended.done():
            raise
        raise TransportError(
            f"the connection ended ({explain(error)}); everything is still there"
        ) from error
    finally:
        await mover.close()


async def until_moved(mover: Mover, changes: Changes, queue: str, *, since: float) -> str:
    """Wait until nothing is left in a queue that only the mover consumes, and nothing comes.

    `since`: when the last message can have been routed to it, by the monotonic clock. Returns why
    it cannot be emptied, or an empty text.
    """
    while True:
        mover.check()
        if queue in mover.stuck:
            return mover.stuck[queue]
        seen = await changes.look(queue)
        empty = seen is None or (seen.ready == 0 and mover.in_hand[queue] == 0)
        if empty and time.monotonic() - since >= SETTLE:
            return ""
        await asyncio.sleep(LOOK_EVERY)


async def until_empty(
    mover: Mover, changes: Changes, queue: str, count: Count, *, since: float, patience: float
) -> str:
    """Wait until a queue that workers may consume too is empty for good. See the top.

    `since`: as in :func:`until_moved`. `patience`: seconds without progress, after which it is
    given up. Returns why it cannot be emptied, or an empty text; then one marker is left at most.
    """
    moved, progress_at = -1, time.monotonic()
    wanted: int | None = None
    marked = False
    counted_at = -COUNT_EVERY
    while True:
        mover.check()
        if queue in mover.stuck:
            return mover.stuck[queue]
        now = time.monotonic()
        if mover.moved[queue] != moved:
            moved, progress_at = mover.moved[queue], now
        if now - progress_at > patience:
            return _why_not_empty(mover, queue, patience)
        seen = await changes.look(queue)
        if seen is None:
            return "it is gone"
        idle = seen.ready == 0 and mover.in_hand[queue] == 0 and now - since >= SETTLE
        if idle and not marked:
            mover.mark(queue)
            marked = True
        elif idle and now - counted_at >= COUNT_EVERY:
            counted_at = now
            if wanted is not None:
                if await count(queue) == wanted:
                    return ""
            elif mover.markers(queue) == MARKERS:
                wanted = 0 if await count(queue) == 1 else 1
                mover.give_up_markers(queue, wanted)
        await asyncio.sleep(LOOK_EVERY)


def _why_not_empty(mover: Mover, queue: str, patience: float) -> str:
    if mover.in_hand[queue]:
        return f"the broker confirms nothing within {patience:g} s"
    return f"workers still have requests of it in hand after {patience:g} s"
