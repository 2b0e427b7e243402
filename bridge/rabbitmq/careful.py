"""Publishings that the broker may refuse for good, each tried alone.

RabbitMQ refuses a publishing for good by closing the channel that it came by (406: it is larger
than ``max_message_size``), or the whole connection (541: it goes to a direct reply-to of a process
that the broker cannot make out), and does not say which of those on their way it was. So whatever
is not known to be harmless is sent alone, and the next when it has its confirm: then it is known
which one was refused, and no other suffers. What has been confirmed is known to be harmless from
then on, and goes the fast way: a size, or the name of a direct reply-to.
"""

import asyncio
import math
import re
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from bridge.backoff import back_off
from bridge.rabbitmq.delivery import Confirmable, Pending
from bridge.rabbitmq.losses import LOST, explain, losses_as_errors
from bridge.rabbitmq.publishing import PublishLane
from bridge.telemetry.logs import get_logger
from bridge.transport import Confirm, Publishing, TransportError

log = get_logger("bridge.rabbitmq")

KNOWN_SIZE: Final = 4_096
"""Bytes of a body that every broker takes. OCPP messages are hardly larger."""
LONGEST_PAUSE: Final = 1.0
"""Seconds between two connections, at most."""
QUIET: Final = 1.0
"""Seconds between two log lines: a flood of refused publishings must not flood the log."""

_CLOSED: Final = re.compile(r"the broker closed the (?:publishing channel|connection): (\d+) (.*)")
TOO_LARGE: Final = re.compile(r"larger than configured max size (\d+)")
"""How the broker says that a message is too large, and its limit in bytes."""
_FORCED: Final = 320
"""CONNECTION_FORCED: an operator has closed it, or the broker stops."""
_ABSENT: Final = frozenset({403, 404})
"""ACCESS_REFUSED and NOT_FOUND are about rights and exchanges, not about a message."""

Value = TypeVar("Value")

Open = Callable[[Callable[[str], None]], Awaitable[PublishLane]]
"""Opens a lane. It is given whom to tell the reason when the lane has ended."""


def refusal(reason: str) -> tuple[int, str] | None:
    """The code and text with which the broker has refused a publishing for good.

    None: the lane has ended for another reason.
    """
    closed = _CLOSED.search(reason)
    if closed is None or int(closed[1]) == _FORCED or int(closed[1]) in _ABSENT:
        return None
    return int(closed[1]), closed[2]


class Careful(ABC):
    """Sends publishings one at a time, on a lane that is opened when the first one comes."""

    TRIES = 3
    """Times that a publishing is sent whose lane ended for another reason."""
    WAITS_AT_MOST = math.inf
    """Seconds that a publishing may wait for those before it. After that it counts as returned."""

    def __init__(self, open_lane: Open, end: Callable[[str], None]) -> None:
        """`end`: called with the reason if the whole session is to end."""
        self._open = open_lane
        self._end = end
        self._waiting: deque[tuple[Publishing, Confirmable, float]] = deque()
        """With when each came, by the loop's clock."""
        self._task: asyncio.Task[None] | None = None
        self._lane: PublishLane | None = None
        self._ended: asyncio.Future[str] | None = None
        """Why the lane has ended."""
        self._closed = False
        self._quiet_until = 0.0

    @abstractmethod
    def takes(self, publishing: Publishing, waiting: Confirmable) -> bool:
        """Take it, unless it is known to be harmless."""

    @abstractmethod
    def _is_known(self, publishing: Publishing, waiting: Confirmable) -> bool:
        """Whether the broker is known to refuse it; then whoever waits for it is told."""

    @abstractmethod
    def _taken(self, publishing: Publishing) -> None:
        """The broker has taken it."""

    @abstractmethod
    def _refused(self, publishing: Publishing, waiting: Confirmable, text: str) -> None:
        """The broker will never take it."""

    def add(self, publishing: Publishing, waiting: Confirmable) -> None:
        """Send it when it is its turn."""
        if self._closed:
            waiting.confirmed(Confirm.LOST)
            return
        loop = asyncio.get_running_loop()
        self._waiting.append((publishing, waiting, loop.time()))
        if self._task is None:
            self._task = loop.create_task(self._send_all())
            self._task.add_done_callback(self._done)

    def close(self) -> None:
        """The session is over. What is not confirmed is lost."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
        if self._lane is not None:
            self._lane.close()
        waiting, self._waiting = self._waiting, deque()
        for _, each, _ in waiting:
            each.confirmed(Confirm.LOST)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("publishing failed", error=repr(error))
            self._end(f"publishing failed: {type(error).__name__}")

    async def _send_all(self) -> None:
        loop = asyncio.get_running_loop()
        failures = tries = 0
        while self._waiting:
            publishing, waiting, since = self._waiting[0]
            if self._is_known(publishing, waiting):
                self._waiting.popleft()
                continue
            if loop.time() - since > self.WAITS_AT_MOST:
                self._waiting.popleft()
                self._say("publishing given up", publishing, "others before it took too long")
                waiting.confirmed(Confirm.RETURNED)
                continue
            fate: asyncio.Future[Confirm] = loop.create_future()
            try:
                ended = await self._open_lane(failures)
                lane = self._lane
                if lane is None:
                    raise ConnectionError("the lane was lost")
                lane.publish(publishing, Pending(publishing, _Once(fate)))
            except ValueError as error:
                self._waiting.popleft()
                waiting.impossible(str(error))
                continue
            except (*LOST, TransportError) as error:
                failures += 1
                tries += 1
                if tries >= self.TRIES:
                    tries = 0
                    self._waiting.popleft()
                    self._say("publishing lost", publishing, explain(error))
                    waiting.confirmed(Confirm.LOST)
                continue
            await asyncio.wait((fate, ended), return_when=asyncio.FIRST_COMPLETED)
            if fate.done() and fate.result() is not Confirm.LOST:
                self._waiting.popleft()
                failures = tries = 0
                self._taken(publishing)
                waiting.confirmed(fate.result())
                continue
            reason = await ended
            self._lane = self._ended = None
            failures += 1
            tries += 1
            refused = refusal(reason)
            if refused is not None:
                tries = 0
                self._waiting.popleft()
                self._say("publishing refused", publishing, reason)
                self._refused(publishing, waiting, f"{refused[0]} {refused[1]}")
            elif tries >= self.TRIES:
                tries = 0
                self._waiting.popleft()
                self._lost(waiting, reason)

    def _lost(self, waiting: Confirmable, reason: str) -> None:
        """Its lane has ended for another reason."""
        waiting.confirmed(Confirm.LOST)

    async def _open_lane(self, failures: int) -> "asyncio.Future[str]":
        """The future that is done when the lane ends."""
        if self._ended is not None and not self._ended.done():
            return self._ended
        if failures:
            await asyncio.sleep(back_off(failures - 1, longest=LONGEST_PAUSE))
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        with losses_as_errors():
            self._lane = await self._open(_Once(ended))
        self._ended = ended
        return ended

    def _say(self, event: str, publishing: Publishing, reason: str) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET
            log.warning(
                event,
                reason=reason,
                exchange=publishing.exchange,
                routing_key=ascii(publishing.routing_key),
                size=len(publishing.body),
            )


class _Once(Generic[Value]):
    """Sets a future's result, the first time that it is called."""

    def __init__(self, future: "asyncio.Future[Value]") -> None:
        self._future = future

    def __call__(self, result: Value) -> None:
        if not self._future.done():
            self._future.set_result(result)


class Sizes(Careful):
    """Publishings larger than any that the broker is known to take, on a channel of their own.

    And all that were on their way when the broker closed the channel for the others.
    """

    TRIES = 1

    def __init__(
        self, open_lane: Open, end: Callable[[str], None], on_proven: Callable[[int], None]
    ) -> None:
        """`on_proven`: called with a size that the broker takes."""
        super().__init__(open_lane, end)
        self._on_proven = on_proven
        self._most: int | None = None
        """Bytes that the broker takes at most, once it has said so."""

    def takes(self, publishing: Publishing, waiting: Confirmable) -> bool:
        """As :meth:`Careful.takes`."""
        if not self._is_known(publishing, waiting):
            self.add(publishing, waiting)
        return True

    def _is_known(self, publishing: Publishing, waiting: Confirmable) -> bool:
        size = len(publishing.body)
        if self._most is None or size <= self._most:
            return False
        waiting.impossible(f"{size} bytes, and the broker takes {self._most}")
        return True

    def _taken(self, publishing: Publishing) -> None:
        self._on_proven(len(publishing.body))

    def _refused(self, publishing: Publishing, waiting: Confirmable, text: str) -> None:
        if (most := TOO_LARGE.search(text)) is not None:
            self._most = int(most[1])
        waiting.impossible(text)

    def _lost(self, waiting: Confirmable, reason: str) -> None:
        """Whatever the reason is, it is not the message: the next session may do better."""
        self._end(reason)
        waiting.confirmed(Confirm.LOST)
