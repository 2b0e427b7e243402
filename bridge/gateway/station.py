"""One charging station that is connected: what its :class:`~bridge.gateway.conversation.Conversation` decides, done.

Its socket and the bridge are two small protocols, so that this is tested without either.
"""

import asyncio
import contextlib
import datetime as dt
import itertools
import logging
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, Final, Protocol

import msgspec
import structlog

from bridge.broker.session import back_off
from bridge.client import NoAnswer, NotAccepted
from bridge.gateway.conversation import Answer, Conversation, Forward, Ignored, Settled
from bridge.ocpp import CallError, ErrorCode, OcppVersion
from bridge.outcome import COULD_NOT_PROCESS, TOOK_TOO_LONG, Reply, call_error, describe

log = structlog.get_logger("bridge.gateway")

CALL_TIMEOUT: Final = 25.0
"""Seconds a DataTransfer may take until the station gets a CALLERROR: longer than a handler of the bridge may (20), shorter than
stations wait (30 in the common libraries)."""


class Gone(Exception):
    """The station's connection has ended."""


class Socket(Protocol):
    """A WebSocket connection that is open."""

    def messages(self) -> AsyncIterator[str | bytes]:
        """What the station sends, until the connection ends."""

    async def send(self, frame: str) -> None:
        """Send a text message; returns when there is room for the next. Raises Gone if the connection ends before."""

    async def close(self, code: int, reason: str) -> None:
        """Close in order. Never raises."""


class Link(Protocol):
    """The bridge, as one station sees it; :class:`~bridge.gateway.link.GatewayLink` is one."""

    async def forward(
        self,
        station_id: str,
        version: OcppVersion | str,
        payload: bytes,
        *,
        message_id: str,
        timeout: float | None = None,  # noqa: ASYNC109 - it travels with the request, as its deadline
    ) -> Reply:
        """The answer to a station's DataTransfer. Raises NoAnswer, and NotAccepted if the broker will not have it."""


class Counts(msgspec.Struct):
    """What a gateway has done since it started."""

    connected: int = 0
    """Connections of stations."""
    refused: int = 0
    """Connections that were not let in."""
    replaced: int = 0
    """Connections that a newer one of the same station took the place of."""
    cut_off: int = 0
    """Connections that were ended because their peer broke a limit."""
    answered: int = 0
    """CALLs of stations that were answered without the bridge, broken frames included."""
    forwarded: int = 0
    """DataTransfers of stations that were given to the bridge."""
    unanswered: int = 0
    """Those of them that the bridge did not answer in time; the station got a CALLERROR."""
    calls: int = 0
    """CALLs to stations."""
    late: int = 0
    """Answers of stations that nobody waited for."""
    ignored: int = 0
    """Other messages of stations that ask for nothing."""


class Station:
    """Serves one connection of one station. It is the handler of the requests that the CSMS has for the station, too."""

    def __init__(
        self,
        station_id: str,
        socket: Socket,
        link: Link,
        conversation: Conversation,
        *,
        counts: Counts,
        call_timeout: float = CALL_TIMEOUT,
    ) -> None:
        """`call_timeout`: seconds that the bridge may take to answer a CALL of the station."""
        self.station_id = station_id
        self.version = conversation.version
        self._socket = socket
        self._link = link
        self._conversation = conversation
        self._counts = counts
        self._call_timeout = call_timeout
        self._inward = asyncio.Lock()
        self._outward = asyncio.Lock()
        self._answer: asyncio.Future[Reply] | None = None
        self._gone = False
        self._forwards: set[asyncio.Task[None]] = set()
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self) -> None:
        """Serve until the connection ends; then whatever waits for the station ends, too."""
        try:
            async for message in self._socket.messages():
                await self._receive(message)
                await asyncio.sleep(0)  # one that sends a thousand at once must not keep the others from their turn
        except Gone:
            pass
        finally:
            self._gone = True
            if self._answer is not None and not self._answer.done():
                self._answer.set_exception(_disconnected())
                self._answer.exception()  # whoever waits has perhaps ended already: then nobody misses it
            forwards = tuple(self._forwards)
            for task in forwards:
                task.cancel()
            await asyncio.gather(*forwards, return_exceptions=True)

    async def close_when_idle(self, code: int, reason: str, deadline: float) -> None:
        """Close the connection when no CALL is outstanding in either direction, or at `deadline` (on the loop's clock)."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await self._idle.wait()
        await self._socket.close(code, reason)

    @contextlib.contextmanager
    def _work(self) -> Iterator[None]:
        """While it lasts, the connection is needed."""
        self._busy += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._busy -= 1
            if not self._busy:
                self._idle.set()

    # ---- from the station ----

    async def _receive(self, message: str | bytes) -> None:
        decision = self._conversation.receive(message, dt.datetime.now(dt.UTC))
        match decision:
            case Answer():
                self._counts.answered += 1
                self._tell(decision)
                await self._socket.send(decision.frame)
            case Forward():
                self._counts.forwarded += 1
                self._start(self._forward(decision, asyncio.get_running_loop().time() + self._call_timeout))
            case Settled() if self._answer is not None and not self._answer.done():
                self._answer.set_result(decision.reply)
            case Settled() | Ignored.LATE:  # a wait that ends in this very moment is over, too
                self._counts.late += 1
            case Ignored():
                self._counts.ignored += 1
                log.debug("message ignored", station=self.station_id, reason=decision.value)

    def _tell(self, answer: Answer) -> None:
        if answer.error:
            log.debug("call refused", station=self.station_id, action=answer.action, error=answer.error)
        elif answer.action == "BootNotification":
            log.info("station booted", station=self.station_id, **answer.facts)
        else:
            log.debug("call answered", station=self.station_id, action=answer.action, **answer.facts)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._forwards.add(task)
        task.add_done_callback(self._forwards.discard)

    async def _forward(self, call: Forward, deadline: float) -> None:
        with self._work():
            reply = await self._ask_bridge(call, deadline)
            with contextlib.suppress(Gone):
                await self._socket.send(self._conversation.reply(call.message_id, reply))

    async def _ask_bridge(self, call: Forward, deadline: float) -> Reply:
        """Its reply, or the CALLERROR that says why there is none. One at a time, in the order they came."""
        try:
            async with asyncio.timeout_at(deadline), self._inward:
                return await self._ask_until_accepted(call, deadline)
        except TimeoutError:  # NoAnswer is one
            self._counts.unanswered += 1
            return call_error(CallError(ErrorCode.GENERIC_ERROR, TOOK_TOO_LONG), self.version)
        except CallError as error:
            return call_error(error, self.version)
        except Exception as error:
            log.exception("request failed", station=self.station_id, error=describe(error))
            self._counts.unanswered += 1
            return call_error(CallError(ErrorCode.INTERNAL_ERROR, COULD_NOT_PROCESS), self.version)

    async def _ask_until_accepted(self, call: Forward, deadline: float) -> Reply:
        """Where no worker has ever been there is no queue: one may come while the station waits."""
        clock = asyncio.get_running_loop().time
        for failures in itertools.count(1):
            try:
                return await self._link.forward(
                    self.station_id,
                    self.version,
                    call.payload,
                    message_id=call.message_id,
                    timeout=deadline - clock(),
                )
            except NotAccepted as error:
                level = logging.WARNING if failures == 1 else logging.DEBUG
                log.log(level, "request not accepted", station=self.station_id, error=str(error))
            await asyncio.sleep(back_off(failures))
        raise AssertionError  # the count has no end

    # ---- to the station ----

    async def on_payload(self, payload: bytes, timeout: float) -> Reply:  # noqa: ASYNC109 - it ends with an answer of its own
        """Send the station a DataTransfer and await its answer, at most `timeout` seconds. One at a time, in their order.

        Raises NoAnswer, and CallError if `payload` is not JSON or the station disconnects.
        """
        started = time.monotonic()
        with self._work():
            try:
                async with asyncio.timeout(timeout), self._outward:
                    return await self._call(payload)
            except Gone:
                raise _disconnected() from None
            except TimeoutError:
                waited = time.monotonic() - started
                raise NoAnswer(f"the station did not answer within {waited:.3g} s") from None

    async def _call(self, payload: bytes) -> Reply:
        if self._gone:
            raise Gone
        self._counts.calls += 1
        self._answer = asyncio.get_running_loop().create_future()
        try:
            await self._socket.send(self._conversation.call(payload))
            return await self._answer
        finally:
            self._conversation.give_up()
            self._answer = None


def _disconnected() -> CallError:
    return CallError(ErrorCode.GENERIC_ERROR, "The charging station has disconnected.")
