"""One station's connection at work: it carries out what the Conversation decides.

The socket and the bridge are two small protocols, so this module is tested without either.
"""

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Final, Protocol

import msgspec

from bridge.client.errors import NoAnswer, StationOffline
from bridge.gateway.websocket.conversation import Answer, Conversation, Forward, Ignored, Settled
from bridge.gateway.websocket.traffic import (
    CALL_ERROR,
    FROM_STATION,
    OFFLINE,
    RESPONSE,
    UNANSWERED,
    Traffic,
    outcome_of,
)
from bridge.ocpp import CallError, ErrorCode, OcppVersion
from bridge.request.outcome import (
    COULD_NOT_PROCESS,
    TOOK_TOO_LONG,
    Reply,
    call_error,
    describe_error,
)
from bridge.telemetry import ticks
from bridge.telemetry.logs import get_logger
from bridge.transport import TransportError
from bridge.worker.pace import Rate

log = get_logger("bridge.gateway")

CALL_TIMEOUT: Final = 25.0
"""Seconds that the bridge may take to answer a DataTransfer before the station gets a CALLERROR.
This is longer than a handler of the bridge may take (20 s) and shorter than stations wait (30 s in
the common libraries)."""


class Gone(Exception):
    """The station's connection has ended."""


class Socket(Protocol):
    """An open WebSocket connection."""

    def messages(self) -> AsyncIterator[str | bytes]:
        """What the station sends, until the connection ends."""

    async def send(self, frame: str) -> None:
        """Send a text message. Returns when there is room for the next.

        Raises Gone if the connection ends first.
        """

    async def close(self, code: int, reason: str) -> None:
        """Perform the closing handshake. Never raises."""


class Link(Protocol):
    """The bridge as one station sees it. `bridge.gateway.GatewayLink` implements it."""

    async def forward(
        self,
        station_id: str,
        version: OcppVersion | str,
        payload: bytes,
        *,
        message_id: str,
        timeout: float | None = None,
    ) -> Reply:
        """Ask the bridge, in the station's turn, and return the answer to its DataTransfer.

        `timeout`: seconds. Raises NoAnswer if there is none in time, and NotAccepted if the broker
        does not accept the request.
        """


class GatewayCounts(msgspec.Struct):
    """What a gateway has done since it started."""

    connected: int = 0
    """Connections of stations that were let in."""
    refused: int = 0
    """Connections that were not let in."""
    replaced: int = 0
    """Connections that were replaced by a newer one of the same station."""
    cut_off: int = 0
    """Connections that were ended because the peer exceeded a limit."""
    causes: dict[str, int] = msgspec.field(default_factory=dict)
    """How often each cause has refused or ended a connection, or refused a request."""
    answered: int = 0
    """CALLs from stations that were answered without the bridge, broken frames included."""
    forwarded: int = 0
    """DataTransfers from stations that were passed to the bridge."""
    unanswered: int = 0
    """Forwarded DataTransfers that the bridge did not answer; the station got a CALLERROR."""
    calls: int = 0
    """CALLs to stations."""
    slowed: int = 0
    """Times that a station was read later because it had sent more than it may in a second."""
    late: int = 0
    """Answers from stations that nobody was waiting for."""
    ignored: int = 0
    """Other messages from stations that need no answer."""


class StationConnection:
    """Serves one connection of one station, and handles the CSMS's requests for that station."""

    def __init__(
        self,
        station_id: str,
        socket: Socket,
        link: Link,
        conversation: Conversation,
        *,
        counts: GatewayCounts,
        traffic: Traffic | None = None,
        call_timeout: float = CALL_TIMEOUT,
        max_rate: float = 0.0,
        on_slowed: Callable[[], None] = lambda: None,
    ) -> None:
        """`call_timeout`: seconds that the bridge may take to answer a CALL of the station.

        `max_rate`: messages of the station that are read in a second; 0: no bound. `on_slowed`:
        called when one is read later because of that, once.
        """
        self.station_id = station_id
        self.version = conversation.version
        self._socket = socket
        self._link = link
        self._conversation = conversation
        self._counts = counts
        self._traffic = Traffic() if traffic is None else traffic
        self._call_timeout = call_timeout
        self._rate = Rate(max_rate) if max_rate else None
        self._on_slowed: Callable[[], None] | None = on_slowed
        self._answer: asyncio.Future[Reply] | None = None
        self._gone = False
        self._warned = False
        """That this station sends frames that cannot be read has been logged."""
        self._forwards: set[asyncio.Task[None]] = set()
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self) -> None:
        """Serve until the connection ends."""
        try:
            async for message in self._socket.messages():
                await self._receive(message)
                if self._rate is not None:
                    await self._slow_down(self._rate)
                # A station that sends a thousand messages at once must not starve the others.
                await asyncio.sleep(0)
        except Gone:
            pass
        finally:
            forwards = tuple(self._forwards)
            self.abandon()
            await asyncio.gather(*forwards, return_exceptions=True)

    async def _slow_down(self, rate: Rate) -> None:
        """Read the next message when it may be read. Till then TCP holds the station up.

        It is not refused: a station that is told no sends the message again, and one that waits a
        moment for its answer notices nothing.
        """
        left = rate.take()
        if left > 0.0:
            self._counts.slowed += 1
            if self._on_slowed is not None:
                tell, self._on_slowed = self._on_slowed, None
                tell()
            await asyncio.sleep(left)
            rate.take()

    def abandon(self) -> None:
        """Give the connection up: end at once whatever waits for the station or for the bridge."""
        self._gone = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(StationOffline(self.station_id, sent=True))
            # Mark the exception as retrieved: the caller may have ended already.
            self._answer.exception()
        for task in self._forwards:
            task.cancel()

    async def close(self, code: int, reason: str) -> None:
        """End the connection. Never raises."""
        await self._socket.close(code, reason)

    async def close_when_idle(self, code: int, reason: str, deadline: float) -> None:
        """End the connection when no CALL is outstanding in either direction, or at `deadline`.

        `deadline`: seconds on the event loop's clock. Never raises.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await self._idle.wait()
        await self.close(code, reason)

    @contextlib.contextmanager
    def _work(self) -> Iterator[None]:
        """Keep the connection from being idle."""
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
                self._traffic.count(
                    FROM_STATION, decision.action, CALL_ERROR if decision.error else RESPONSE
                )
                self._tell(decision)
                await self._socket.send(decision.frame)
            case Forward():
                self._counts.forwarded += 1
                self._start(
                    self._forward(decision, asyncio.get_running_loop().time() + self._call_timeout)
                )
            case Settled():
                if self._answer is not None and not self._answer.done():
                    self._answer.set_result(decision.reply)
                else:  # the wait has just ended
                    self._counts.late += 1
                if decision.complaint:
                    await self._socket.send(decision.complaint)
            case Ignored.LATE:
                self._counts.late += 1
            case Ignored():
                self._counts.ignored += 1
                log.debug("message ignored", station=self.station_id, reason=decision.value)

    def _tell(self, answer: Answer) -> None:
        if answer.error and not answer.action and not self._warned:
            self._warned = True
            log.warning(
                "frame refused",
                station=self.station_id,
                error=answer.error,
                advice="further ones of this connection are logged at debug level only",
            )
        elif answer.error:
            log.debug(
                "call refused", station=self.station_id, action=answer.action, error=answer.error
            )
        elif answer.action == "BootNotification":
            log.info("station booted", station=self.station_id, **answer.facts)
        else:
            log.debug(
                "call answered", station=self.station_id, action=answer.action, **answer.facts
            )

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._forwards.add(task)
        task.add_done_callback(self._forwards.discard)

    async def _forward(self, call: Forward, deadline: float) -> None:
        began = ticks.now()
        with self._work():
            try:
                reply, outcome = await self._ask_bridge(call, deadline)
            except asyncio.CancelledError:
                self._traffic.forward(OFFLINE, 0.0)
                raise
            self._traffic.forward(outcome, ticks.now() - began)
            try:
                frame = self._conversation.reply(call.message_id, reply)
            except ValueError as fault:
                log.warning("reply not sent", station=self.station_id, reason=describe_error(fault))
                frame = self._conversation.reply(call.message_id, self._could_not())
            with contextlib.suppress(Gone):
                await self._socket.send(frame)

    async def _ask_bridge(self, call: Forward, deadline: float) -> tuple[Reply, str]:
        """The bridge's reply, or the CALLERROR that says why there is none; and how it counts."""
        try:
            reply = await self._link.forward(
                self.station_id,
                self.version,
                call.payload,
                message_id=call.message_id,
                timeout=deadline - asyncio.get_running_loop().time(),
            )
        except NoAnswer:
            reply = call_error(CallError(ErrorCode.GENERIC_ERROR, TOOK_TOO_LONG), self.version)
        except TransportError as fault:
            log.warning("request not accepted", station=self.station_id, error=str(fault))
            reply = call_error(CallError(ErrorCode.GENERIC_ERROR, COULD_NOT_PROCESS), self.version)
        except Exception as fault:
            log.exception("request failed", station=self.station_id, error=describe_error(fault))
            reply = self._could_not()
        else:
            return reply, outcome_of(reply)
        self._counts.unanswered += 1
        return reply, UNANSWERED

    def _could_not(self) -> Reply:
        return call_error(CallError(ErrorCode.INTERNAL_ERROR, COULD_NOT_PROCESS), self.version)

    # ---- to the station ----

    async def on_payload(
        self,
        payload: bytes,
        timeout: float,
    ) -> Reply:
        """Send the station a DataTransfer and await its answer.

        The link sends one request at a time, and cancels this call after `timeout` seconds. Raises
        StationOffline if the connection ends, and CallError if `payload` is not JSON or too long.
        """
        if self._gone:
            raise StationOffline(self.station_id)
        call = self._conversation.call(payload)
        self._counts.calls += 1
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._answer = answer
        began, outcome = ticks.now(), UNANSWERED
        with self._work():
            try:
                await self._socket.send(call)
                reply = await answer
            except StationOffline:
                outcome = OFFLINE
                raise
            except Gone:
                outcome = OFFLINE
                raise StationOffline(self.station_id, sent=True) from None
            else:
                outcome = outcome_of(reply)
                return reply
            finally:
                self._traffic.call(outcome, ticks.now() - began)
                self._conversation.give_up()
                self._answer = None
