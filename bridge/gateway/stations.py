"""The stations that a gateway holds, and the requests of the CSMS to them: one at a time for each.

No broker, no I/O of its own. A request ends in one of three ways, whichever comes first, and
exactly once: its station answers, its deadline passes, or its station is lost, alone or with the
whole gateway.

A station may have one CALL outstanding in each direction (OCPP-J 1.6 §4.1.1, 2.0.1 §4.1.2), so it
works on one request, and the others wait for their turn in their order. A handler with callbacks
(:class:`~bridge.gateway.station_handler.CallHandler`) costs a request no task, no future and no
timer; for every other handler a task runs.
"""

import asyncio
import time
from asyncio import Task
from collections.abc import Iterator
from contextvars import Context, copy_context
from typing import Final

from bridge.client.errors import StationOffline
from bridge.compiled import fields
from bridge.dialects.headers import STATION_ID_MAX_LENGTH
from bridge.gateway.connection_id import ConnectionId
from bridge.gateway.station_handler import (
    Answer,
    CallHandler,
    StationHandler,
    answer_of,
    function_of,
    payload_for,
)
from bridge.ocpp import CallError, ErrorCode, OcppVersion, encode_call_error
from bridge.request.failures import Facts
from bridge.request.incoming import Request
from bridge.request.outcome import (
    Failure,
    Kind,
    Late,
    Offline,
    Outcome,
    Reason,
    Reply,
    Settle,
    call_error,
    describe_error,
    failed,
    raised_by,
    timed_out,
)
from bridge.request.running import TURNS, start
from bridge.request.wheel import Timed, Wheel
from bridge.telemetry.handled import HANDLED

fields.check((Reply, Request))

_bind: Final = HANDLED.set
_unbind: Final = HANDLED.reset

STATION_LIMIT: Final = 20
"""Requests to one station that are in hand at a time, the one it works on included. A tenth of what
is taken from a queue: a station that is flooded and does not answer leaves the others room. One
more is answered at once."""

LONGEST: Final = 300.0
"""Seconds that a request is in hand at most, whatever its deadline: it holds a place that others
wait for. No station takes nearly that long."""

LARGEST: Final = 16 * 1024 * 1024 - 64 * 1024
"""Bytes of a payload at most. RabbitMQ 4 closes the channel on which more than 16 MiB is
published."""

_NO_ANSWER: Final = "TimeoutError: the station did not answer in time"
_NO_TURN: Final = "TimeoutError: its turn did not come"

BUSY_TEXT: Final = f"{STATION_LIMIT} requests wait for the station already."


class Station:
    """A station that is connected, and the requests that it has in hand."""

    __slots__ = (
        "answer",
        "callbacks",
        "connection_id",
        "handler",
        "in_hand",
        "in_turn",
        "station_id",
        "version",
        "waiting",
    )

    def __init__(self, station_id: str, version: OcppVersion, handler: StationHandler) -> None:
        """Raises ValueError for a station id that the wire contract does not allow.

        Raises TypeError if `handler` is not a station handler.
        """
        if not 0 < len(station_id) <= STATION_ID_MAX_LENGTH:
            raise ValueError(
                f"a station id has 1 to {STATION_ID_MAX_LENGTH} characters, not {len(station_id)}"
            )
        self.station_id = station_id
        self.version = version
        self.handler = handler
        self.callbacks: CallHandler | None = None
        """The handler, if it has callbacks."""
        self.answer: Answer
        """If not: what a task runs for each request."""
        if isinstance(handler, CallHandler):
            self.callbacks = handler
        else:
            self.answer = answer_of(handler, version)
        self.connection_id = ConnectionId()
        self.in_hand = 0
        """Requests without an outcome."""
        self.in_turn: _Call | None = None
        """The request that it works on."""
        self.waiting: list[_Call] = []
        """Those that wait for their turn, in their order."""

    def give_turn(self) -> None:
        """Nobody has the turn any more: give it to the one that has waited longest."""
        self.in_turn = None
        while self.waiting and self.in_turn is None:
            call = self.waiting.pop(0)
            call.begin_in_time()


class Stations:
    """Gives every request its outcome, exactly one, by calling :attr:`settle`."""

    def __init__(self, timeout: float) -> None:
        """`timeout`: seconds that a request without a deadline is in hand."""
        self.settle: Settle
        """Whom it tells each outcome: see :func:`~bridge.request.chain.chain`."""
        self._timeout = timeout
        self._connected: dict[str, Station] = {}
        self.in_hand = 0
        """Requests without an outcome."""
        self._wheel: Wheel | None = None
        """The time-outs of the requests in hand. Made on the event loop, with the first."""

    def __len__(self) -> int:
        """Stations connected."""
        return len(self._connected)

    def __iter__(self) -> Iterator[str]:
        """The ids of the stations connected."""
        return iter(self._connected)

    def get(self, station_id: str) -> Station | None:
        """The station that is connected with this id."""
        return self._connected.get(station_id)

    def connect(self, station: Station) -> None:
        """From now on requests go there. A connection that it had before counts as lost."""
        before = self._connected.get(station.station_id)
        self._connected[station.station_id] = station
        if before is not None:
            _lose(before)

    def disconnect(self, station: Station) -> None:
        """The station is gone: whoever waits for it is told at once."""
        if self._connected.get(station.station_id) is station:
            del self._connected[station.station_id]
        _lose(station)

    def dispatch(self, request: Request) -> None:
        """Pass a request on to its station, in its turn; settle it, now or later. Never raises."""
        now = time.time()
        if request.deadline is None:
            request.deadline = now + self._timeout
        left: float = request.deadline - now
        if left <= 0:
            self.settle(request, Late())
            return
        station = self._connected.get(request.station_id)
        if station is not None:
            request.version = station.version
        try:
            payload = _payload_of(request)
        except CallError as error:
            self.settle(request, call_error(error, request.version))
            return
        if station is None:
            self.settle(request, Offline(sent=False))
        elif station.in_hand >= STATION_LIMIT:
            busy = encode_call_error(CallError(ErrorCode.GENERIC_ERROR, BUSY_TEXT), request.version)
            self.settle(request, Failure(busy, Reason.OVERLOADED, BUSY_TEXT))
        else:
            self._call(request, station, payload, min(left, LONGEST))

    def _call(self, request: Request, station: Station, payload: bytes, seconds: float) -> None:
        """Have the station answer, in its turn, within so many seconds."""
        wheel = self._wheel
        if wheel is None:
            wheel = self._wheel = Wheel()
        if station.callbacks is not None:
            call: _Call = _CallbackCall(self, request, station, payload, station.callbacks)
        else:
            call = _TaskCall(self, request, station, payload, seconds)
        station.in_hand += 1
        self.in_hand += 1
        if station.in_turn is None:
            call.begin()
        else:
            call.context = copy_context()
            station.waiting.append(call)
        if not call.over:
            wheel.add(call, seconds)

    def ended(self, call: "_Call", outcome: Outcome) -> None:
        """A request has its outcome: tell it."""
        self.in_hand -= 1
        if self._wheel is not None:
            self._wheel.remove(call)
        self.settle(call.request, outcome)

    def close(self) -> None:
        """Lose all stations: the gateway ends, and with it their connections."""
        for station in tuple(self._connected.values()):
            _lose(station)
        if self._wheel is not None:
            self._wheel.close()
            self._wheel = None


class _Call(Timed):
    """A request in hand."""

    __slots__ = ("context", "over", "payload", "request", "station", "stations")

    def __init__(
        self, stations: Stations, request: Request, station: Station, payload: bytes
    ) -> None:
        super().__init__()
        self.stations = stations
        self.request = request
        self.station = station
        self.payload = payload
        self.over = False
        """Whether it has its outcome."""
        self.context: Context
        """That in which it came, of one that waits for its turn."""

    def begin(self) -> None:
        """Its turn has come: give it to the station's handler."""
        raise NotImplementedError

    def give_up(self) -> None:
        """It is over, and nobody waits any more for what the handler makes of it."""
        raise NotImplementedError

    def look(self) -> None:
        """Take an answer that is there, though the loop has not come to tell it: it counts."""

    def begin_in_time(self) -> None:
        """Its turn has come after it has waited: begin, if there is time left."""
        now = time.time()
        if self.request.deadline is not None and self.request.deadline <= now:
            self.end(timed_out(self.request, now, _NO_TURN))  # the wheel is about to turn
        else:
            self.context.run(self.begin)

    def end(self, outcome: Outcome) -> None:
        """Settle it. It must not be over."""
        self.over = True
        self.station.in_hand -= 1
        self.stations.ended(self, outcome)

    def outcome_of(self, answer: object) -> Outcome:
        """The outcome of a request whose station's handler answered so, or raised that."""
        request = self.request
        if isinstance(answer, Reply):
            reply: Reply = answer
            if type(reply.body) is not bytes:
                kind = type(reply.body).__name__
                return failed(request, f"TypeError: the body of the answer is a {kind}, not bytes")
            if len(reply.body) > LARGEST:
                text = f"the answer has {len(reply.body)} bytes, and at most {LARGEST} are sent"
                return failed(request, text)
            return reply
        if isinstance(answer, BaseException):
            outcome = outcome_of_error(answer, request)
            if isinstance(outcome, Failure) and outcome.reason is Reason.FAILED:
                return raised_by(function_of(self.station.handler), answer, outcome)
            return outcome
        kind = type(answer).__name__
        return failed(request, f"TypeError: the handler answered with a {kind}, not with a Reply")

    def out_of_time(self) -> None:
        """Its time is over. If the station works on it, look once more what has come.

        Where something held up the loop, the wheel may turn before what has come meanwhile is read.
        """
        if self.station.in_turn is self:
            asyncio.get_running_loop().call_soon(self.look_again, TURNS - 1)
        else:
            self.station.waiting.remove(self)
            self.end(timed_out(self.request, time.time(), _NO_TURN))

    def look_again(self, turns: int) -> None:
        """Time it out, after so many turns of the loop."""
        self.look()
        if self.over:
            return
        if turns:
            asyncio.get_running_loop().call_soon(self.look_again, turns - 1)
        else:
            self.end(timed_out(self.request, time.time(), _NO_ANSWER))
            self.give_up()

    def lose(self) -> None:
        """The station is lost that works on it."""
        self.look()
        if not self.over:
            self.end(Offline(sent=True))
            self.give_up()


class _CallbackCall(_Call):
    """A request in hand of a station whose handler has callbacks."""

    __slots__ = ("_handler",)

    def __init__(
        self,
        stations: Stations,
        request: Request,
        station: Station,
        payload: bytes,
        handler: CallHandler,
    ) -> None:
        super().__init__(stations, request, station, payload)
        self._handler = handler

    def begin(self) -> None:
        self.station.in_turn = self
        token = _bind(Facts(self.request))
        try:
            self._handler.start_call(self.payload, self.answered)
        except BaseException as error:  # noqa: BLE001 - every error of a handler has its outcome
            self.answered(error)
        finally:
            _unbind(token)

    def answered(self, answer: Reply | BaseException) -> None:
        """What the handler has for it. Nothing counts after the first."""
        if not self.over:
            self.end(self.outcome_of(answer))
            self.station.give_turn()

    def give_up(self) -> None:
        try:
            self._handler.give_up_call()
        finally:
            self.station.give_turn()


class _TaskCall(_Call):
    """A request in hand of a station for whose handler a task runs.

    The turn ends with the task: nobody waits for one that will not be cancelled, but no other
    begins beside it.
    """

    __slots__ = ("_task", "_until")

    def __init__(
        self, stations: Stations, request: Request, station: Station, payload: bytes, seconds: float
    ) -> None:
        """`seconds`: until its time is over."""
        super().__init__(stations, request, station, payload)
        self._until = asyncio.get_running_loop().time() + seconds
        self._task: Task[Reply | BaseException] | None = None

    def begin(self) -> None:
        self.station.in_turn = self
        loop = asyncio.get_running_loop()
        token = _bind(Facts(self.request))  # the task copies the context that it is made in
        try:
            task = start(self._run(self._until - loop.time()), loop)
        finally:
            _unbind(token)
        self._task = task
        if task.done():
            self._ended(task)
        else:
            task.add_done_callback(self._ended)

    async def _run(self, timeout: float) -> Reply | BaseException:
        try:
            return await self.station.answer(self.payload, timeout)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - every error of a handler has its outcome
            return error

    def _ended(self, task: "Task[Reply | BaseException]") -> None:
        if self._task is None:
            return  # it was looked at before the loop came to this
        self._task = None
        if not self.over:
            answer: Reply | BaseException
            try:
                answer = task.result()
            except asyncio.CancelledError as error:
                answer = error
            self.end(self.outcome_of(answer))
        self.station.give_turn()

    def look(self) -> None:
        if self._task is not None and self._task.done():
            self._ended(self._task)

    def give_up(self) -> None:
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()


def _lose(station: Station) -> None:
    """End all that a station has in hand."""
    waiting, station.waiting = station.waiting, []
    for call in waiting:
        call.end(Offline(sent=False))
    if station.in_turn is not None:
        station.in_turn.lose()


def _payload_of(request: Request) -> bytes:
    if request.fault is not None:
        raise CallError(ErrorCode.PROTOCOL_ERROR, request.fault)
    return payload_for(request.version, request.body)


def outcome_of_error(error: BaseException, request: Request) -> Outcome:
    """The outcome of a request whose station's handler raised `error`.

    The text of an exception never goes to the CSMS.
    """
    if isinstance(error, StationOffline):
        return Offline(error.sent)
    if isinstance(error, ConnectionError):
        return Offline(sent=True)
    if isinstance(error, CallError):
        # Most often it is the station's own, whose code is kept.
        body = encode_call_error(error, request.version, own_codes=True)
        return Reply(body, Kind.CALL_ERROR)
    if isinstance(error, TimeoutError):
        return timed_out(request, time.time(), describe_error(error))
    if isinstance(error, asyncio.CancelledError):
        return failed(request, "CancelledError: the station's handler was cancelled")
    return failed(request, describe_error(error))
