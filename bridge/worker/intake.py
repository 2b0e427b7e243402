"""One queue's way through the worker: delivery → request → dispatch → outcome → settle.

An intake is the first step of a chain (:func:`~bridge.request.chain.chain`). It lets no more than
its vendor's `concurrency` of handlers run; what else has arrived, at most the queue's prefetch,
waits in it. So a vendor whose handlers all hang holds up its own requests and nobody else's.

When more comes than can be handled, requests wait until their deadlines are near. If all were still
tried, all would be answered too late. So a busy intake (:data:`BUSY`) measures how long handling
takes, and does not begin with a request whose deadline is nearer than that: it answers that one
with a CALLERROR at once, and gives the time to a younger one that can still be answered.

A vendor may have a rate: so many requests a second are begun, and what is beyond waits as it does
for a handler. While a vendor is paused none is begun, and what waits goes back to its queue.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from bridge.compiled import fields
from bridge.dialects.copies import may_be_rejected
from bridge.dialects.dialect import Dialect
from bridge.ocpp.errors import encodable
from bridge.request import counting
from bridge.request.chain import Dispatch
from bridge.request.failures import Failures
from bridge.request.incoming import Request
from bridge.request.outcome import (
    Dropped,
    Failure,
    Kind,
    Late,
    Outcome,
    Reason,
    Reply,
    RetryLater,
    impossible,
    overloaded,
)
from bridge.telemetry.causes import Causes
from bridge.telemetry.counts import WorkerCounts
from bridge.telemetry.logs import get_logger
from bridge.telemetry.outcomes import Counted
from bridge.transport import Delivery, Publishing, Verdict
from bridge.worker.ledger import Ledger
from bridge.worker.pace import Pace, Rate
from bridge.worker.room import LARGE, Room

log = get_logger("bridge.worker")

fields.check((WorkerCounts, Reply, Request))

_ACK: Final = Verdict.ACK
"""A name of its own: a member of an Enum is looked up at each use."""

_ABSORBED: Final = Counted.ABSORBED.value

Told = Callable[[Request, Outcome, int], None]
"""Is told what became of a request, before the broker is: the request, its outcome, and the
:class:`~bridge.telemetry.outcomes.Counted` of that. Never raises."""

BUSY: Final = 0.75
"""The part of its handlers at work from which on an intake counts as busy."""


class Intake:
    """The requests of one queue."""

    EXPIRED_BY_BROKER = True
    """Whether an expired request is rejected, so that the broker keeps it. A copy of our own would
    say more, and cost more."""

    def __init__(
        self,
        queue: str,
        *,
        dialect: Dialect,
        counts: WorkerCounts,
        prefetch: int,
        concurrency: int,
        lacks: Callable[[str], bool],
        worker: str,
        room: Room | None = None,
        ledger: Ledger | None = None,
        told: Told | None = None,
        rate: Rate | None = None,
    ) -> None:
        """`queue`: its name, for logs. `prefetch`: deliveries in hand at most.

        `concurrency`: handlers running at most. `lacks`: whether the broker is known to have no
        exchange of that name. `worker`: who we are, for dead letters. `room`: for large payloads;
        None: as much as a worker has, for this intake alone. `ledger`: where requests are counted.
        `told`: called with each request, its outcome and how that is counted; None: nobody asks.
        `rate`: how often a request is begun; None: as often as one comes.
        """
        self.next: Dispatch
        """Where requests go: see :func:`~bridge.request.chain.chain`."""
        self.queue = queue
        self.prefetch = prefetch
        self.ledger = Ledger() if ledger is None else ledger
        self._dialect = dialect
        self._read = dialect.request
        self._make_reply = dialect.reply
        self._counts = counts
        self.concurrency = concurrency
        """Handlers running at most."""
        self.paused = False
        """Whether the vendor is paused: none is begun."""
        self._limit = concurrency
        """As :attr:`concurrency`; 0 while the vendor is paused."""
        self._busy = max(1, int(BUSY * min(concurrency, prefetch)))
        self._pace = Pace()
        self._rate = rate
        self._pacing: asyncio.TimerHandle | None = None
        """When one more may begin that waits for that alone."""
        self.held_back = 0
        """Requests that have waited because of the rate."""
        self._running = 0
        self._waiting: deque[Request] = deque()
        self._starting = False
        self._lacks = lacks
        self._worker = worker
        self._room = Room() if room is None else room
        self._told = told
        self._forbidden = Causes()
        self._failures = Failures(log, queue=queue)
        self._delayed: dict[asyncio.TimerHandle, Delivery] = {}

    @property
    def rate(self) -> float:
        """Requests that are begun in a second at most; 0: no bound."""
        return 0.0 if self._rate is None else self._rate.per_second

    @property
    def running(self) -> int:
        """Requests begun and not settled."""
        return self._running

    @property
    def waiting(self) -> int:
        """Requests that wait for a handler to finish."""
        return len(self._waiting)

    @property
    def in_hand(self) -> int:
        """Requests that run, wait for a handler, or wait here for their next try."""
        return self._running + len(self._waiting) + len(self._delayed)

    def on_delivery(self, delivery: Delivery) -> None:
        """Take a delivery."""
        self._counts.received += 1
        request = self._read(delivery)
        self.ledger.arrived(request)
        self.take(request)

    def take(self, request: Request) -> None:
        """Handle a request now, or when a handler of this vendor has finished."""
        if len(request.body) > LARGE and not self._room.take(len(request.body)):
            self._room.wait(request.source)
            return
        if self._rate is not None and self._waits_for_rate(request):
            return
        if self._running < self._busy:
            self._running += 1
            self.next(request)
        elif self._running < self._limit:
            self._begin_if_in_time(request)
        elif self.paused:
            self._turn_away(request)
        else:
            self._waiting.append(request)

    def _waits_for_rate(self, request: Request) -> bool:
        """Have a request wait that could begin, if its vendor has had its share of this moment."""
        if self._running >= self._limit or (not self._waiting and self._may_begin()):
            return False
        self.held_back += 1
        self._waiting.append(request)
        return True

    def _may_begin(self) -> bool:
        """Whether one more may begin by the rate. If not, what waits does when it may."""
        left = 0.0 if self._rate is None else self._rate.take()
        if left > 0.0 and self._pacing is None:
            self._pacing = asyncio.get_running_loop().call_later(left, self._go_on)
        return left <= 0.0

    def _go_on(self) -> None:
        self._pacing = None
        if not self._starting:
            self._start_waiting()

    def pause(self) -> int:
        """Begin with none from now on, and give back what waits. What runs goes on.

        Returns how many went back.
        """
        if self.paused:
            return 0
        self.paused = True
        self._limit = self._busy = 0
        waiting = len(self._waiting)
        while self._waiting:
            self._turn_away(self._waiting.popleft())
        return waiting

    def resume(self) -> None:
        """Take back :meth:`pause`."""
        if self.paused:
            self.paused = False
            self._limit = self.concurrency
            self._busy = max(1, int(BUSY * min(self.concurrency, self.prefetch)))

    def _turn_away(self, request: Request) -> None:
        if len(request.body) > LARGE:
            self._room.give(len(request.body))
        self._put_back(request)

    def _put_back(self, request: Request) -> None:
        """Give back a request whose vendor is paused."""
        request.source.settle(Verdict.REQUEUE)

    def void(self) -> None:
        """Forget what waits: the connection is gone, and the broker delivers it again.

        What runs goes on, for its effect.
        """
        large = sum(len(request.body) for request in self._waiting if len(request.body) > LARGE)
        self._waiting.clear()
        if large:
            self._room.give(large)
        for timer in self._delayed:
            timer.cancel()
        self._delayed.clear()
        if self._pacing is not None:
            self._pacing.cancel()
            self._pacing = None
        self._failures.close()

    def give_back(self) -> None:
        """Requeue what waits here for its next try: the worker is to stop."""
        for timer, delivery in self._delayed.items():
            timer.cancel()
            delivery.settle(Verdict.REQUEUE)
        self._delayed.clear()

    def _begin_if_in_time(self, request: Request) -> None:
        """Begin with a request, or answer at once that there is no time for it."""
        self._running += 1
        deadline = request.deadline
        left = math.inf if deadline is None else deadline - time.time()
        if 0 < left < self._pace.needed:
            text = f"{left:.3f} s were left, and handling takes up to {self._pace.needed:.3f} s"
            self._pace.fade()
            self.settled(request, overloaded(request, text))
            return
        if left > 0:
            request.started = time.monotonic()
        self.next(request)

    def settled(self, request: Request, outcome: Outcome) -> None:
        """Tell the broker the outcome of a request, and begin with the next that waits."""
        self._running -= 1
        if request.started is not None:
            self._pace.took(time.monotonic() - request.started)
        if isinstance(outcome, Reply):
            # Publish the answer where somebody waits for it; then, once it is safe, acknowledge.
            reply: Reply = outcome
            counted = _ABSORBED if request.absorbed else counting.of_reply(reply)
            if self._told is not None:
                self._told(request, outcome, counted)
            try:
                request.source.settle(_ACK, self._reply(request, reply.body, reply.kind))
            except ValueError as error:
                self._leave_unanswered(request.source, _ACK, error)
        else:
            counted = counting.of_other(outcome)
            if self._told is not None:
                self._told(request, outcome, counted)
            self._settle_otherwise(request, outcome)
        self.ledger.settled(request, counted)
        if len(request.body) > LARGE:
            self._room.give(len(request.body))
        if self._waiting and not self._starting:
            self._start_waiting()

    def on_impossible(self, delivery: Delivery, reason: str) -> None:
        """The broker will never take the answer to this delivery."""
        self.answer_impossible(self._read(delivery), reason)

    def answer_impossible(self, request: Request, reason: str) -> None:
        """Keep the request as a dead letter, and answer with a CALLERROR in place of the answer."""
        self._counts.replied -= 1
        self.ledger.not_sent("impossible")
        self._counts.failed += 1
        failure = impossible(request, f"the broker does not take the answer: {reason}")
        self._failures.failed(request, failure)
        self._give_up(request, failure)
        if self._told is not None:
            self._told(request, failure, counting.of_other(failure))

    def _settle_otherwise(self, request: Request, outcome: Outcome) -> None:
        counts = self._counts
        match outcome:
            case Failure():
                counts.failed += 1
                counts.overloaded += outcome.reason is Reason.OVERLOADED
                self._failures.failed(request, outcome)
                self._give_up(request, outcome)
            case RetryLater():
                counts.retried += 1
                if outcome.counts:
                    self._failures.tried_again(request, outcome)
                self._try_again(request, outcome)
            case Late():
                counts.late += 1
                request.source.settle(Verdict.ACK)
            case Dropped():
                counts.dropped += 1
                request.source.settle(Verdict.ACK)

    def _reply(self, request: Request, body: bytes | None, kind: Kind) -> Publishing | None:
        if not request.reply_wanted:
            self._counts.unasked += 1
        elif body is not None:
            reply = self._make_reply(request, body, kind)
            if reply is not None:
                self._counts.replied += 1
                return reply
            self._counts.forbidden += 1
            self.ledger.not_sent("forbidden")
            self._tell_forbidden(request)
        return None

    def _give_up(self, request: Request, failure: Failure) -> None:
        """Keep the request as a dead letter, answer, and be done with it."""
        self._keep(request, failure, self._reply(request, failure.body, Kind.CALL_ERROR))

    def _keep(self, request: Request, failure: Failure, reply: Publishing | None) -> None:
        self.ledger.dead_lettered(failure.reason.value.replace("-", "_"))
        source = request.source
        expired = self.EXPIRED_BY_BROKER and failure.reason is Reason.EXPIRED
        expired = expired and request.tally is None  # else there is more to say of it
        if self._lacks(self._dialect.names.dead) or (expired and may_be_rejected(source)):
            self._reject(source, reply)
            return
        copy = self._dialect.dead_letter(request, failure, self._worker)
        try:
            source.settle(Verdict.ACK, reply, copy)
        except ValueError:  # its own headers fill a frame, and leave no room for ours
            self._reject(source, reply)

    def _reject(self, delivery: Delivery, reply: Publishing | None) -> None:
        """Leave it to the queue's own dead-lettering: that is cheap, and the broker says why.

        What the broker could not bear is dropped instead.
        """
        verdict = Verdict.REJECT
        if not may_be_rejected(delivery):
            verdict = Verdict.ACK
            log.warning("forged request dropped", queue=self.queue, reason="its x-death is broken")
        try:
            delivery.settle(verdict, reply)
        except ValueError as error:
            self._leave_unanswered(delivery, verdict, error)

    def _leave_unanswered(self, delivery: Delivery, verdict: Verdict, error: ValueError) -> None:
        self.ledger.not_sent("unwritable")
        log.warning("answer not sent", queue=self.queue, reason=str(error))
        delivery.settle(verdict)

    def _try_again(self, request: Request, outcome: RetryLater) -> None:
        """Have the request wait for its next try: in the broker, or here if there is no queue."""
        if self._lacks(self._dialect.names.retry(outcome.after)):
            self._requeue(request.source, outcome.after)
        else:
            copy = self._dialect.again(request, outcome.after, counts=outcome.counts)
            try:
                request.source.settle(Verdict.ACK, None, copy)
            except ValueError:  # as in _keep
                self._requeue(request.source, outcome.after)

    def _requeue(self, delivery: Delivery, after: float) -> None:
        """Give the delivery back after a pause; given back at once, it would come again at once."""

        def requeue() -> None:
            del self._delayed[timer]
            delivery.settle(Verdict.REQUEUE)

        timer = asyncio.get_running_loop().call_later(after, requeue)
        self._delayed[timer] = delivery

    def _is_in_time(self, request: Request) -> bool:
        """Whether it would be handled if it began now; if not, it counts against no rate."""
        deadline = request.deadline
        return deadline is None or deadline - time.time() >= max(self._pace.needed, 0.001)

    def _start_waiting(self) -> None:
        """Begin with what waits, in one loop.

        A handler that never waits settles within `next`, which would call this anew each time.
        """
        self._starting = True
        try:
            while self._waiting and self._running < self._limit:
                if (
                    self._rate is not None
                    and self._is_in_time(self._waiting[0])
                    and not self._may_begin()
                ):
                    break
                self._begin_if_in_time(self._waiting.popleft())
        finally:
            self._starting = False

    def _tell_forbidden(self, request: Request) -> None:
        """Say once for each kind of reply queue that its answers are not sent, and why."""
        cause, sentence = self._dialect.why_not_answered(request)
        if self._forbidden.is_new(cause):
            log.warning(
                "answer not sent",
                reason=sentence,
                queue=self.queue,
                station=encodable(request.station_id),
                so_far=self._counts.forbidden,
            )
