"""The stations that a gateway holds, and the requests of the CSMS to them: one at a time for each. No broker, no I/O of its own.

A request ends in one of three ways, whichever comes first, and exactly once: its station answers; its deadline passes; its station
is lost, be it with the whole gateway. It is settled before whatever still runs is cancelled: a handler that will not be
cancelled holds up nobody but its own station.
"""

import asyncio
import time
from collections.abc import Iterator
from typing import Final

from bridge.client.errors import StationOffline
from bridge.dialects.headers import STATION_ID_MAX_LENGTH
from bridge.gateway.station_handler import StationHandler, answer_of, payload_for
from bridge.gateway.turns import Turns
from bridge.ocpp import CallError, ErrorCode, OcppVersion, encode_call_error
from bridge.request.incoming import Request
from bridge.request.outcome import (
    Failure,
    Late,
    Offline,
    Outcome,
    Reason,
    Reply,
    Settle,
    call_error,
    describe_error,
    failed,
    timed_out,
)
from bridge.request.running import start
from bridge.telemetry.logs import get_logger

log = get_logger("bridge.gateway")

STATION_LIMIT: Final = 20
"""Requests to one station that are in hand at a time, the one it works on included: a tenth of what is taken from a queue, so that
one station that is flooded and does not answer leaves the others room. One more is answered at once."""

LONGEST: Final = 300.0
"""Seconds that a request is in hand at most, whatever its deadline: it holds a place that others wait for. Far beyond any station."""

LARGEST: Final = 16 * 1024 * 1024 - 64 * 1024
"""Bytes of a payload at most. RabbitMQ 4 closes the channel of who publishes more than 16 MiB."""

BUSY_TEXT: Final = f"{STATION_LIMIT} requests wait for the station already."


class Station:
    """One that is connected."""

    __slots__ = ("answer", "handler", "station_id", "version")

    def __init__(self, station_id: str, version: OcppVersion, handler: StationHandler) -> None:
        """Raises ValueError for a station id that the contract does not allow, TypeError for a handler that is none."""
        if not 0 < len(station_id) <= STATION_ID_MAX_LENGTH:
            raise ValueError(
                f"a station id has 1 to {STATION_ID_MAX_LENGTH} characters, not {len(station_id)}"
            )
        self.station_id = station_id
        self.version = version
        self.handler = handler
        self.answer = answer_of(handler, version)


class Stations:
    """Gives every request its outcome, exactly one, by calling `settle`."""

    def __init__(self, settle: Settle, timeout: float) -> None:
        """`timeout`: seconds that a request is in hand which says of no deadline."""
        self._settle = settle
        self._timeout = timeout
        self._connected: dict[str, Station] = {}
        self._calls: dict[Station, set[_Call]] = {}
        """Requests in hand, of the stations that have any."""
        self.turns = Turns()

    def __len__(self) -> int:
        """Stations connected."""
        return len(self._connected)

    def __iter__(self) -> Iterator[str]:
        return iter(self._connected)

    def get(self, station_id: str) -> Station | None:
        return self._connected.get(station_id)

    @property
    def in_hand(self) -> int:
        """Requests without an outcome."""
        return sum(map(len, self._calls.values()))

    def connect(self, station: Station) -> None:
        """From now on requests go there. A connection that the station had before is lost."""
        before = self._connected.get(station.station_id)
        self._connected[station.station_id] = station
        if before is not None:
            self._lose(before)

    def disconnect(self, station: Station) -> None:
        """It is gone: whoever waits for it is told at once."""
        if self._connected.get(station.station_id) is station:
            del self._connected[station.station_id]
        self._lose(station)

    def _lose(self, station: Station) -> None:
        for call in tuple(self._calls.get(station, ())):
            call.end(Offline(call.sent))

    def dispatch(self, request: Request) -> None:
        """Pass one request on to its station, in its turn. Settles it now or later. Never raises."""
        now = time.time()
        if request.deadline is None:
            request.deadline = now + self._timeout
        if request.deadline <= now:
            self._settle(request, Late())
            return
        station = self._connected.get(request.station_id)
        if station is not None:
            request.version = station.version
        try:
            payload = _payload_of(request)
        except CallError as error:
            self._settle(request, call_error(error, request.version))
            return
        if station is None:
            self._settle(request, Offline(sent=False))
        elif len(self._calls.get(station, ())) >= STATION_LIMIT:
            busy = encode_call_error(CallError(ErrorCode.GENERIC_ERROR, BUSY_TEXT), request.version)
            self._settle(request, Failure(busy, Reason.OVERLOADED, BUSY_TEXT))
        else:
            _Call(self, request, station, payload, min(request.deadline - now, LONGEST))

    def add(self, call: "_Call") -> None:
        self._calls.setdefault(call.station, set()).add(call)

    def settle(self, call: "_Call", outcome: Outcome) -> None:
        calls = self._calls[call.station]
        calls.discard(call)
        if not calls:
            del self._calls[call.station]
        self._settle(call.request, outcome)

    def close(self) -> None:
        """The gateway ends, and so do the connections of its stations."""
        for station in tuple(self._calls):
            self._lose(station)


class _Call:
    """A request in hand."""

    __slots__ = ("_ended", "_stations", "_task", "_timer", "request", "sent", "station")

    def __init__(
        self, stations: Stations, request: Request, station: Station, payload: bytes, seconds: float
    ) -> None:
        self.request = request
        self.station = station
        self.sent = False
        """The station has been given it."""
        self._stations = stations
        self._ended = False
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(seconds, self._time_out)
        self._task: asyncio.Task[None] | None = None
        stations.add(self)
        self._task = start(self._run(payload, loop.time() + seconds), loop)

    async def _run(self, payload: bytes, until: float) -> None:
        loop = asyncio.get_running_loop()
        if not await self._stations.turns.take(self.station, until - loop.time()):
            return  # the timer sees to it
        try:
            self.sent = True
            self.end(await self._outcome(payload, until - loop.time()))
        finally:
            self._stations.turns.give(self.station)

    async def _outcome(self, payload: bytes, timeout: float) -> Outcome:  # noqa: ASYNC109 - passed on to be told
        request = self.request
        try:
            reply = await self.station.answer(payload, timeout)
        except asyncio.CancelledError:
            if self._ended:
                raise
            return failed(request, "CancelledError: the station's handler was cancelled")
        except BaseException as error:  # noqa: BLE001 - every error of a handler has its outcome
            return outcome_of_error(error, request)
        if type(reply) is not Reply:
            return failed(
                request, f"TypeError: on_payload returned a {type(reply).__name__}, not a Reply"
            )
        if len(reply.body) > LARGEST:
            return failed(
                request, f"the answer has {len(reply.body)} bytes, and at most {LARGEST} are sent"
            )
        return reply

    def _time_out(self) -> None:
        text = (
            "TimeoutError: the station did not answer in time"
            if self.sent
            else "TimeoutError: its turn did not come"
        )
        self.end(timed_out(self.request, time.time(), text))

    def end(self, outcome: Outcome) -> None:
        """The first outcome counts. What still runs is cancelled, and not waited for."""
        if self._ended:
            return
        self._ended = True
        self._timer.cancel()
        self._stations.settle(self, outcome)
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()


def _payload_of(request: Request) -> bytes:
    if request.fault is not None:
        raise CallError(ErrorCode.PROTOCOL_ERROR, request.fault)
    return payload_for(request.version, request.body)


def outcome_of_error(error: BaseException, request: Request) -> Outcome:
    """What a request gets whose station's handler raised `error`. No exception's text goes to the CSMS."""
    match error:
        case StationOffline():
            return Offline(error.sent)
        case ConnectionError():
            return Offline(sent=True)
        case CallError():
            return call_error(error, request.version)
        case TimeoutError():
            return timed_out(request, time.time(), describe_error(error))
        case _:
            return failed(request, describe_error(error))
