"""The way of the CSMS's requests through a gateway: delivery → request → … → outcome → answer.

The queues of a gateway die with their connection, so no request is ever delivered again, and an
acknowledgement only says that there is room for another. An answer is therefore published on
whichever connection is open when it is there.
"""

import asyncio
import time
from typing import Final

from bridge.backoff import back_off
from bridge.client.requester import REFUSALS
from bridge.compiled import fields
from bridge.dialects.native import Native
from bridge.gateway.counts import LinkCounts
from bridge.ocpp.errors import encodable
from bridge.request.chain import Dispatch
from bridge.request.failures import Failures
from bridge.request.incoming import Request
from bridge.request.outcome import Failure, Kind, Offline, Outcome, Reason, Reply, impossible
from bridge.telemetry import ticks
from bridge.telemetry.causes import Causes
from bridge.telemetry.logs import get_logger
from bridge.telemetry.measures import Tally
from bridge.transport import Confirm, Delivery, Properties, Publishing, Transport, Verdict

log = get_logger("bridge.gateway")

fields.check((Delivery, LinkCounts, Properties, Reply, Request))

_ACK: Final = Verdict.ACK
_CONFIRMED: Final = Confirm.CONFIRMED
_CALL_ERROR_KIND: Final = Kind.CALL_ERROR
"""Names of their own: a member of an Enum is looked up at each use."""


KINDS: Final = (
    "response",
    "call_error",
    "offline",
    "absorbed",
    "failed",
    "timed_out",
    "overloaded",
    "late",
)
"""What became of a request to a station, as metrics name it."""
_RESPONSE, _CALL_ERROR, _OFFLINE, _ABSORBED, _FAILED, _TIMED_OUT, _OVERLOADED, _LATE = range(8)
_BY_REASON: Final = {Reason.TIMED_OUT: _TIMED_OUT, Reason.OVERLOADED: _OVERLOADED}


def to_stations() -> Tally:
    """A tally of the requests of the CSMS to stations."""
    return Tally(("to_station",), KINDS)


class StationIntake:
    """The first step of a gateway's chain: takes requests in, and publishes their answers."""

    def __init__(
        self, dialect: Native, transport: Transport, counts: LinkCounts, tally: Tally | None = None
    ) -> None:
        """`tally`: where each request is counted once, when it has ended."""
        self.next: Dispatch
        """Where requests go: see :func:`~bridge.request.chain.chain`."""
        self._dialect = dialect
        self._read = dialect.request
        self._transport = transport
        self._counts = counts
        self._tally = to_stations() if tally is None else tally
        self._unsent: list[_Answer] = []
        """Answers that were there while no connection was."""
        self._forbidden = Causes()
        self._failures = Failures(log, event="request to a station failed")
        self._unasked = Causes()
        self._pauses: set[asyncio.TimerHandle] = set()
        self._leaving: dict[str, _Leaving] = {}
        """Stations that the broker is just unbinding."""

    def on_delivery(self, delivery: Delivery) -> None:
        """Take a delivery."""
        self._counts.received += 1
        request = self._read(delivery)
        request.arrived = ticks.now()
        # The message id of the CSMS is enough of a name, as the contract has it; no connection of a
        # station plays a part in it.
        properties = delivery.properties
        request.origin = properties.user_id
        request.told_apart = True
        self.next(request)

    def settled(self, request: Request, outcome: Outcome) -> None:
        """Answer a request, and make room for the next."""
        counts = self._counts
        if isinstance(outcome, Reply):
            self._count_reply(request, outcome)
            counts.answered += 1
            self._answer(request, outcome)
        elif isinstance(outcome, Failure) and outcome.body is not None:
            self._tally.count(_BY_REASON.get(outcome.reason, _FAILED))
            counts.failed += 1
            counts.answered += 1
            self._failures.failed(request, outcome)
            self._answer(request, Reply(outcome.body, Kind.CALL_ERROR))
        elif isinstance(outcome, Offline):
            self._tally.count(_OFFLINE)
            counts.offline += 1
            leaving = self._leaving.get(request.station_id)
            self._answer(request, outcome, None if leaving is None else leaving.answers)
        else:
            self._tally.count(_LATE)
            counts.late += 1
        request.source.settle(_ACK)

    def _count_reply(self, request: Request, reply: Reply) -> None:
        kind = _CALL_ERROR if reply.kind is _CALL_ERROR_KIND else _RESPONSE
        if request.absorbed:
            kind = _ABSORBED
        elif request.arrived is not None:
            arrived: float = request.arrived
            self._tally.seconds.observe(ticks.now() - arrived)
        self._tally.count(kind)

    def hold_offline(self, station_id: str) -> None:
        """Tell nobody that this station is offline until :meth:`tell_offline`.

        A station may leave, come back and leave again before the broker has unbound it once: then
        that counts which is told last.
        """
        leaving = self._leaving.get(station_id)
        if leaving is None:
            leaving = self._leaving[station_id] = _Leaving()
        leaving.times += 1

    def tell_offline(self, station_id: str) -> None:
        """Tell all who are still to be told that this station is offline."""
        leaving = self._leaving[station_id]
        leaving.times -= 1
        if leaving.times:
            return
        del self._leaving[station_id]
        for answer in leaving.answers:
            self._send_if_in_time(answer)

    def send_unsent(self) -> None:
        """A connection is open: send the answers that found none."""
        unsent, self._unsent = self._unsent, []
        for answer in unsent:
            self._send_if_in_time(answer)

    def close(self) -> None:
        """Send no refused answer again."""
        for pause in self._pauses:
            pause.cancel()
        self._failures.close()

    def _answer(
        self, request: Request, outcome: Reply | Offline, later: "list[_Answer] | None" = None
    ) -> None:
        """Publish an answer, or put it with those that are published `later`."""
        if not request.reply_wanted:
            if request.fault is not None and self._unasked.is_new(request.fault):
                log.warning("request of the CSMS not handled", reason=request.fault)
            return
        answer = _Answer(self, request, outcome)
        if later is None:
            self._send(answer)
        else:
            later.append(answer)

    def _send(self, answer: "_Answer") -> None:
        publishing = self._publishing(answer)
        if publishing is not None:
            self._transport.publish(publishing, answer.confirmed)
            return
        self._counts.forbidden += 1
        cause, sentence = self._dialect.why_not_answered(answer.request)
        if self._forbidden.is_new(cause):
            station = encodable(answer.request.station_id)
            log.warning("answer to the CSMS not sent", reason=sentence, station=station)

    def _publishing(self, answer: "_Answer") -> Publishing | None:
        """It is made anew each time, with what is left of its time. None: it may not be sent."""
        outcome = answer.outcome
        if isinstance(outcome, Reply):
            reply: Reply = outcome
            return self._dialect.station_reply(answer.request, reply.body, reply.kind)
        return self._dialect.offline_reply(answer.request, sent=outcome.sent)

    def not_confirmed(self, answer: "_Answer", confirm: Confirm) -> None:
        """The broker does not have an answer that was sent."""
        if confirm is Confirm.LOST:
            self._unsent.append(answer)
        elif confirm is Confirm.REFUSED and answer.refusals < REFUSALS:
            answer.refusals += 1
            self._send_in(back_off(answer.refusals), answer)
        elif confirm is Confirm.IMPOSSIBLE and not answer.is_replaced:
            self._replace(answer)
        else:
            self._counts.unroutable += 1

    def _replace(self, answer: "_Answer") -> None:
        """Tell the CSMS by a CALLERROR that its answer is larger than the broker takes."""
        request = answer.request
        failure = impossible(request, "the broker does not take the answer: it is too large")
        self._failures.failed(request, failure)
        answer.is_replaced = True
        answer.outcome = Reply(failure.body or b"", Kind.CALL_ERROR)
        self._send(answer)

    def _send_in(self, seconds: float, answer: "_Answer") -> None:
        """Send it after a pause. A queue whose leader is gone refuses until it has another."""

        def send() -> None:
            self._pauses.discard(timer)
            self._send_if_in_time(answer)

        timer = asyncio.get_running_loop().call_later(seconds, send)
        self._pauses.add(timer)

    def _send_if_in_time(self, answer: "_Answer") -> None:
        """Send it, unless nobody waits for it any more. It has been counted."""
        deadline = answer.request.deadline
        if deadline is None or deadline > time.time():
            self._send(answer)


class _Leaving:
    """A station that the broker is just unbinding."""

    __slots__ = ("answers", "times")

    def __init__(self) -> None:
        self.times = 0
        """How often it is being unbound."""
        self.answers: list[_Answer] = []
        """Those that wait for it."""


class _Answer:
    """An answer on its way to the CSMS."""

    __slots__ = ("_intake", "is_replaced", "outcome", "refusals", "request")

    def __init__(self, intake: StationIntake, request: Request, outcome: Reply | Offline) -> None:
        self._intake = intake
        self.request = request
        self.outcome = outcome
        """What it says."""
        self.refusals = 0
        self.is_replaced = False
        """By a CALLERROR, because the broker will never take it."""

    def confirmed(self, confirm: Confirm) -> None:
        """What became of it."""
        if confirm is not _CONFIRMED:
            self._intake.not_confirmed(self, confirm)
