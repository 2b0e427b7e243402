"""The stations that a gateway holds, and the requests of the CSMS to them: one at a time for each.

No broker, no I/O of its own. A request ends in one of three ways, whichever comes first, and
exactly once: its station answers, its deadline passes, or its station is lost, alone or with the
whole gateway (:class:`~bridge.request.running.Race`).
"""

import asyncio
import time
from asyncio import Task
from collections.abc import Iterator
from functools import partial
from typing import Final

from bridge.client.errors import StationOffline
from bridge.dialects.headers import STATION_ID_MAX_LENGTH
from bridge.gateway.connection_id import ConnectionId
from bridge.gateway.station_handler import StationHandler, answer_of, function_of, payload_for
from bridge.gateway.turns import Turns
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
from bridge.request.running import Race, start
from bridge.telemetry.handled import HANDLED

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

BUSY_TEXT: Final = f"{STATION_LIMIT} requests wait for the station already."


class Station:
    """A station that is connected."""

    __slots__ = ("answer", "connection_id", "handler", "station_id", "version")

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
        self.answer = answer_of(handler, version)
        self.connection_id = ConnectionId()


class Stations:
    """Gives every request its outcome, exactly one, by calling :attr:`settle`."""

    def __init__(self, timeout: float) -> None:
        """`timeout`: seconds that a request without a deadline is in hand."""
        self.settle: Settle
        """Whom it tells each outcome: see :func:`~bridge.request.chain.chain`."""
        self._timeout = timeout
        self._connected: dict[str, Station] = {}
        self._calls: dict[Station, set[Race]] = {}
        """Requests in hand, by station; only stations that have any."""
        self.turns = Turns()

    def __len__(self) -> int:
        """Stations connected."""
        return len(self._connected)

    def __iter__(self) -> Iterator[str]:
        """The ids of the stations connected."""
        return iter(self._connected)

    def get(self, station_id: str) -> Station | None:
        """The station that is connected with this id."""
        return self._connected.get(station_id)

    @property
    def in_hand(self) -> int:
        """Requests without an outcome."""
        return sum(map(len, self._calls.values()))

    def connect(self, station: Station) -> None:
        """From now on requests go there. A connection that it had before counts as lost."""
        before = self._connected.get(station.station_id)
        self._connected[station.station_id] = station
        if before is not None:
            self._lose(before)

    def disconnect(self, station: Station) -> None:
        """The station is gone: whoever waits for it is told at once."""
        if self._connected.get(station.station_id) is station:
            del self._connected[station.station_id]
        self._lose(station)

    def _lose(self, station: Station) -> None:
        for race in tuple(self._calls.get(station, ())):
            race.lose()

    def dispatch(self, request: Request) -> None:
        """Pass a request on to its station, in its turn; settle it, now or later. Never raises."""
        now = time.time()
        if request.deadline is None:
            request.deadline = now + self._timeout
        if request.deadline <= now:
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
        elif len(self._calls.get(station, ())) >= STATION_LIMIT:
            busy = encode_call_error(CallError(ErrorCode.GENERIC_ERROR, BUSY_TEXT), request.version)
            self.settle(request, Failure(busy, Reason.OVERLOADED, BUSY_TEXT))
        else:
            self._call(request, station, payload, min(request.deadline - now, LONGEST))

    def _call(self, request: Request, station: Station, payload: bytes, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        call = _Call(request, station, self.turns)
        calls = self._calls.setdefault(station, set())
        race = Race(
            request, call, calls, partial(self._settled, station), _answer, _time_out, _loss
        )
        token = HANDLED.set(Facts(request))  # the task copies the context that it is made in
        try:
            task = start(call.run(payload, loop.time() + seconds), loop)
        finally:
            HANDLED.reset(token)
        race.follow(task, loop, LONGEST, request.deadline)

    def _settled(self, station: Station, request: Request, outcome: Outcome) -> None:
        if not self._calls[station]:
            del self._calls[station]
        self.settle(request, outcome)

    def close(self) -> None:
        """Lose all stations: the gateway ends, and with it their connections."""
        for station in tuple(self._calls):
            self._lose(station)


class _Call:
    """A request on its way to its station."""

    __slots__ = ("request", "sent", "station", "turns")

    def __init__(self, request: Request, station: Station, turns: Turns) -> None:
        self.request = request
        self.station = station
        self.turns = turns
        self.sent = False
        """The station has been given it."""

    async def run(self, payload: bytes, until: float) -> Outcome:
        """Have the station answer, in its turn. `until`: by the clock of the event loop."""
        loop = asyncio.get_running_loop()
        if not await self.turns.take(self.station, until - loop.time()):
            return _time_out(self.request, self)
        try:
            self.sent = True
            return await self._outcome(payload, until - loop.time())
        finally:
            self.turns.give(self.station)

    async def _outcome(self, payload: bytes, timeout: float) -> Outcome:
        request = self.request
        try:
            reply = await self.station.answer(payload, timeout)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - every error of a handler has its outcome
            outcome = outcome_of_error(error, request)
            if isinstance(outcome, Failure) and outcome.reason is Reason.FAILED:
                return raised_by(function_of(self.station.handler), error, outcome)
            return outcome
        if type(reply) is not Reply:
            return failed(
                request, f"TypeError: on_payload returned a {type(reply).__name__}, not a Reply"
            )
        if len(reply.body) > LARGEST:
            return failed(
                request, f"the answer has {len(reply.body)} bytes, and at most {LARGEST} are sent"
            )
        return reply


def _answer(request: Request, _: _Call, task: "Task[Outcome]") -> Outcome:
    try:
        return task.result()
    except asyncio.CancelledError:
        return failed(request, "CancelledError: the station's handler was cancelled")


def _time_out(request: Request, call: _Call) -> Outcome:
    text = "the station did not answer in time" if call.sent else "its turn did not come"
    return timed_out(request, time.time(), f"TimeoutError: {text}")


def _loss(_: Request, call: _Call) -> Outcome:
    return Offline(call.sent)


def _payload_of(request: Request) -> bytes:
    if request.fault is not None:
        raise CallError(ErrorCode.PROTOCOL_ERROR, request.fault)
    return payload_for(request.version, request.body)


def outcome_of_error(error: BaseException, request: Request) -> Outcome:
    """The outcome of a request whose station's handler raised `error`.

    The text of an exception never goes to the CSMS.
    """
    match error:
        case StationOffline():
            return Offline(error.sent)
        case ConnectionError():
            return Offline(sent=True)
        case CallError():
            # Most often it is the station's own, whose code is kept.
            body = encode_call_error(error, request.version, own_codes=True)
            return Reply(body, Kind.CALL_ERROR)
        case TimeoutError():
            return timed_out(request, time.time(), describe_error(error))
        case _:
            return failed(request, describe_error(error))
