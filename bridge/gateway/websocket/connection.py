"""One station's connection at work: it carries out what the Conversation decides.

The socket and the bridge are two small protocols, so this module is tested without either. Nothing
here waits: a message is taken, what it asks for is begun, and the answer is sent when it is there.
"""

import asyncio
import contextlib
import datetime as dt
from collections.abc import Callable
from typing import Final, Protocol

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
from bridge.telemetry.logs import LogLevel, get_logger
from bridge.transport import TransportError
from bridge.worker.pace import Rate

log = get_logger("bridge.gateway")

CALL_TIMEOUT: Final = 25.0
"""Seconds that the bridge may take to answer a DataTransfer before the station gets a CALLERROR.
This is longer than a handler of the bridge may take (20 s) and shorter than stations wait (30 s in
the common libraries)."""


class Socket(Protocol):
    """A WebSocket connection."""

    def send(self, frame: bytes) -> bool:
        """Send a text message, in UTF-8.

        False: the connection has ended or is ending, and nothing is sent. It never waits. While the
        station does not read, it is not read either, so what may be waiting for it is bounded.
        """

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake. Never raises."""

    async def wait_closed(self) -> None:
        """Wait until the connection has ended. Never raises."""


class Forwarding(Protocol):
    """A request of a station that the bridge has been asked to answer."""

    def abandon(self) -> None:
        """Nobody wants the answer any more, and none is given."""


class Link(Protocol):
    """The bridge as one station sees it. `bridge.gateway.GatewayLink` implements it."""

    def start_forward(
        self,
        station_id: str,
        version: OcppVersion,
        payload: bytes,
        message_id: str,
        timeout: float,
        on_reply: Callable[[Reply | Exception], None],
    ) -> Forwarding:
        """Ask the bridge, in the station's turn, to answer its DataTransfer.

        `timeout`: seconds. `on_reply` is called once, with the answer, or with NoAnswer if there is
        none in time, or with NotAccepted if the broker does not accept the request. That may be
        before this returns.
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

    __slots__ = (
        "_busy",
        "_call_timeout",
        "_called_at",
        "_conversation",
        "_counts",
        "_forwards",
        "_gone",
        "_idle",
        "_link",
        "_on_answer",
        "_on_slowed",
        "_rate",
        "_socket",
        "_traffic",
        "_warned",
        "station_id",
        "version",
    )

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
        on_slowed: Callable[[str], None] | None = None,
    ) -> None:
        """`call_timeout`: seconds that the bridge may take to answer a CALL of the station.

        `max_rate`: messages of the station that are read in a second; 0: no bound. `on_slowed`:
        called with the station's id when one is read later because of that, once.
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
        self._on_slowed = on_slowed
        self._on_answer: Callable[[Reply | BaseException], None] | None = None
        """Whom to tell the answer to the CALL that the station was sent; None: there is none."""
        self._called_at = 0.0
        self._gone = False
        self._warned = False
        """That this station sends frames that cannot be read has been logged."""
        self._forwards: set[_Forward] | None = None
        """Requests of the station that the bridge has not answered; None: there was none yet."""
        self._busy = 0
        """CALLs without an answer, in both directions."""
        self._idle: asyncio.Event | None = None
        """Is set when there are none; None: nobody waits for that."""

    # ---- its life ----

    def lose(self) -> None:
        """The connection has ended, or is ending: the station is sent no CALL any more."""
        self._gone = True

    def abandon(self) -> None:
        """Give the connection up: end at once whatever waits for the station or for the bridge."""
        self.lose()
        if self._on_answer is not None:
            self._called(StationOffline(self.station_id, sent=True), OFFLINE)
        for forward in tuple(self._forwards or ()):
            forward.abandon()

    def close(self, code: int, reason: str) -> None:
        """End the connection. Never raises."""
        self._socket.close(code, reason)

    async def close_when_idle(self, code: int, reason: str, deadline: float) -> None:
        """End the connection when no CALL is outstanding in either direction, or at `deadline`.

        `deadline`: seconds on the event loop's clock. Never raises.
        """
        if self._busy:
            self._idle = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self._idle.wait()
        self.close(code, reason)
        await self._socket.wait_closed()

    def _done(self) -> None:
        """A CALL has its answer, or will have none."""
        self._busy -= 1
        if not self._busy and self._idle is not None:
            self._idle.set()

    # ---- from the station ----

    def on_message(self, message: str | bytes) -> float:
        """Take a message of the station. Returns in how many seconds it may be read again."""
        decision = self._conversation.receive(message, dt.datetime.now(dt.UTC))
        if type(decision) is Forward:
            self._counts.forwarded += 1
            self._forward(decision)
        elif type(decision) is Answer:
            self._answer(decision)
        elif type(decision) is Settled:
            self._settle(decision)
        elif decision is Ignored.LATE:
            self._counts.late += 1
        else:
            self._counts.ignored += 1
            log.debug("message ignored", station=self.station_id, reason=str(decision))
        return 0.0 if self._rate is None else self._slow_down(self._rate)

    def _slow_down(self, rate: Rate) -> float:
        """Seconds until the next message may be read. Till then TCP holds the station up.

        It is not refused: a station that is told no sends the message again, and one that waits a
        moment for its answer notices nothing.
        """
        left = rate.take()
        if left <= 0.0:
            return 0.0
        self._counts.slowed += 1
        if self._on_slowed is not None:
            tell, self._on_slowed = self._on_slowed, None
            tell(self.station_id)
        return left

    def read_again(self) -> None:
        """The time that :meth:`on_message` has said is over."""
        if self._rate is not None:
            self._rate.take()

    def _answer(self, answer: Answer) -> None:
        self._counts.answered += 1
        outcome = CALL_ERROR if answer.error else RESPONSE
        self._traffic.count(FROM_STATION, answer.action, outcome)
        self._tell(answer)
        self._socket.send(answer.frame)

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

    def _settle(self, answer: Settled) -> None:
        if self._on_answer is None:  # the wait has just ended
            self._counts.late += 1
        else:
            self._called(answer.reply, outcome_of(answer.reply))
        if answer.complaint:
            self._socket.send(answer.complaint)

    def _forward(self, call: Forward) -> None:
        forward = _Forward(self, call.message_id)
        if self._forwards is None:
            self._forwards = set()
        self._forwards.add(forward)
        self._busy += 1
        forward.begin(self._link, self.station_id, self.version, call.payload, self._call_timeout)

    def replied(self, forward: "_Forward", result: Reply | Exception, seconds: float) -> None:
        """The bridge has answered, or will not, after so many seconds."""
        self._ended(forward)
        message_id = forward.message_id
        if isinstance(result, Reply):
            reply, outcome = result, outcome_of(result)
        else:
            reply, outcome = self._failed(result), UNANSWERED
            self._counts.unanswered += 1
        self._traffic.forward(outcome, seconds)
        try:
            frame = self._conversation.reply(message_id, reply)
        except ValueError as fault:
            log.warning("reply not sent", station=self.station_id, reason=describe_error(fault))
            frame = self._conversation.reply(message_id, self._could_not())
        self._socket.send(frame)
        self._done()

    def abandoned(self, forward: "_Forward") -> None:
        """The station is gone before the bridge has answered."""
        self._ended(forward)
        self._traffic.forward(OFFLINE, 0.0)
        self._done()

    def _ended(self, forward: "_Forward") -> None:
        if self._forwards is not None:
            self._forwards.discard(forward)

    def _failed(self, error: Exception) -> Reply:
        """The CALLERROR that says why the bridge has not answered."""
        if isinstance(error, NoAnswer):
            return call_error(CallError(ErrorCode.GENERIC_ERROR, TOOK_TOO_LONG), self.version)
        if isinstance(error, TransportError):
            log.warning("request not accepted", station=self.station_id, error=str(error))
            return call_error(CallError(ErrorCode.GENERIC_ERROR, COULD_NOT_PROCESS), self.version)
        log.raised(
            LogLevel.ERROR,
            "request failed",
            error,
            station=self.station_id,
            error=describe_error(error),
        )
        return self._could_not()

    def _could_not(self) -> Reply:
        return call_error(CallError(ErrorCode.INTERNAL_ERROR, COULD_NOT_PROCESS), self.version)

    # ---- to the station ----

    def start_call(
        self, payload: bytes, on_answer: Callable[[Reply | BaseException], None]
    ) -> None:
        """Send the station a DataTransfer, and tell its answer.

        The link sends one request at a time. `on_answer` is called with the answer, or with
        StationOffline if the connection ends first. Raises StationOffline if it has ended already,
        and CallError if `payload` is not JSON or too long.
        """
        if self._gone:
            raise StationOffline(self.station_id)
        call = self._conversation.call(payload)
        self._counts.calls += 1
        if not self._socket.send(call):
            self._conversation.give_up()
            self._traffic.call(OFFLINE, 0.0)
            raise StationOffline(self.station_id)
        self._on_answer = on_answer
        self._called_at = ticks.now()
        self._busy += 1

    def give_up_call(self) -> None:
        """Nobody waits any more for the answer to the CALL that the station was sent."""
        if self._on_answer is not None:
            self._end_call(OFFLINE if self._gone else UNANSWERED)

    def _called(self, answer: Reply | BaseException, outcome: str) -> None:
        tell = self._on_answer
        self._end_call(outcome)
        if tell is not None:
            tell(answer)

    def _end_call(self, outcome: str) -> None:
        self._on_answer = None
        self._traffic.call(outcome, ticks.now() - self._called_at)
        self._conversation.give_up()
        self._done()

    async def on_payload(self, payload: bytes, timeout: float) -> Reply:
        """Send the station a DataTransfer and await its answer.

        As :meth:`start_call`, for whoever would rather wait. Cancel it to give the call up.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Reply] = loop.create_future()

        def tell(result: Reply | BaseException) -> None:
            if answer.done():
                return
            if isinstance(result, Reply):
                answer.set_result(result)
            else:
                answer.set_exception(result)

        self.start_call(payload, tell)
        try:
            return await answer
        finally:
            if self._on_answer is tell:
                self.give_up_call()


class _Forward:
    """A request of a station that the bridge has not answered yet."""

    __slots__ = ("_began", "_connection", "_forwarding", "_over", "message_id")

    def __init__(self, connection: StationConnection, message_id: str) -> None:
        self.message_id = message_id
        self._connection = connection
        self._began = ticks.now()
        self._forwarding: Forwarding | None = None
        self._over = False

    def begin(
        self, link: Link, station_id: str, version: OcppVersion, payload: bytes, timeout: float
    ) -> None:
        """Ask the bridge."""
        try:
            forwarding = link.start_forward(
                station_id,
                version,
                payload,
                self.message_id,
                timeout,
                self.on_reply,
            )
        except Exception as error:  # noqa: BLE001 - it is told as any other
            self.on_reply(error)
            return
        if not self._over:
            self._forwarding = forwarding

    def on_reply(self, result: Reply | Exception) -> None:
        """The bridge has answered, or will not."""
        if self._over:
            return
        self._over = True
        self._forwarding = None
        self._connection.replied(self, result, ticks.now() - self._began)

    def abandon(self) -> None:
        """The station is gone."""
        if self._over:
            return
        self._over = True
        forwarding, self._forwarding = self._forwarding, None
        if forwarding is not None:
            forwarding.abandon()
        self._connection.abandoned(self)
