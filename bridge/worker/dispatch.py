"""One request to its outcome: decode, resolve, decode data, call, encode.

No broker, no I/O of its own. Where the interpreter can (CPython 3.12 and later), a handler starts
at once, within :meth:`Dispatcher.dispatch`: one that never waits costs no turn of the event loop,
and its request is settled before ``dispatch`` returns. Only a handler that waits gets a timer and a
callback: a :class:`~bridge.request.running.Race`.
"""

import asyncio
import enum
import time
from asyncio import Task, get_running_loop
from functools import partial
from typing import Any, Final

from bridge.compiled import fields
from bridge.ocpp import (
    LARGE,
    CallError,
    ErrorCode,
    decode_request,
    encode_accepted,
    encode_response,
    peel,
    rejected,
)
from bridge.ocpp.data_transfer import DataTransferResponse
from bridge.ocpp.request import RequestEnvelope
from bridge.request import running
from bridge.request.incoming import Call, Request
from bridge.request.outcome import (
    Dropped,
    Failure,
    Late,
    Outcome,
    Reason,
    Reply,
    RetryLater,
    Settle,
    call_error,
    describe_error,
    failed,
    outcome_of_error,
    raised_by,
    timed_out,
)
from bridge.request.retry import RetryPolicy
from bridge.routing.errors import InvalidData
from bridge.routing.handler import Handler
from bridge.routing.router import THREADS, Routes
from bridge.telemetry import ticks
from bridge.telemetry.counts import WorkerCounts
from bridge.telemetry.handled import HANDLED
from bridge.telemetry.measures import Tally
from bridge.worker.threads import Threads

fields.check((DataTransferResponse, Handler, Reply, Request, RequestEnvelope))

_bind: Final = HANDLED.set
_unbind: Final = HANDLED.reset

_OUTCOMES: Final = (Reply, RetryLater)
"""What a middleware may return in place of an answer, because it keeps replies itself."""

INVALID_DATA: Final = "InvalidData"
"""The reasonCode for data that does not fit the handler's type (OCPP 2.0.1 Appendix 5 leaves the
codes open)."""

MAX_BODY: Final = 4 * 1024 * 1024
"""Bytes of a payload that are decoded by default. OCPP messages are a few kB; firmware logs and
certificates have been seen near 1 MiB; RabbitMQ itself takes 16 MiB."""


class Expired(enum.StrEnum):
    """What happens to a request whose deadline passed before it was handled."""

    DEAD_LETTER = "dead-letter"
    """It is kept where somebody can look at it."""
    DROP = "drop"
    """It is forgotten."""
    HANDLE = "handle"
    """Its handler is called all the same: the effect matters more than the answer."""


class Dispatcher:
    """Gives every request its outcome, exactly one, by calling :attr:`settle`."""

    def __init__(
        self,
        routes: Routes,
        *,
        strict: bool = False,
        expired: Expired = Expired.DEAD_LETTER,
        max_body: int = MAX_BODY,
        policy: RetryPolicy | None = None,
        threads: int = THREADS,
        counts: WorkerCounts | None = None,
        tallies: dict[Handler, Tally] | None = None,
    ) -> None:
        """`strict`: refuse what the schema of the request's OCPP version does not allow.

        `max_body`: bytes at most, of a payload and of an answer. `policy`: when a handler without a
        policy of its own is tried again. `threads`: how many plain ``def`` handlers run at a time;
        more wait their turn. `counts`: where threads are counted that do not return. `tallies`:
        where requests are counted, by handler.
        """
        self.settle: Settle
        """Whom it tells each outcome: see :func:`~bridge.request.chain.chain`."""
        self._answer = self._outcome
        self._tallies = {} if tallies is None else tallies
        self._routes = routes
        self._decode = partial(decode_request, strict=True) if strict else decode_request
        self._peels = not strict
        self._expired = expired
        self._handles_expired = expired is Expired.HANDLE
        self._max_body = max_body
        self._policy = policy or RetryPolicy()
        self.waiting: set[running.Race] = set()
        """Of handlers that have not returned yet."""
        self.threads = Threads(
            threads,
            held=self.waiting,
            answer=self._answer,
            handles_expired=self._handles_expired,
            counts=WorkerCounts() if counts is None else counts,
        )
        """Of its plain ``def`` handlers."""

    @property
    def stuck(self) -> int:
        """Threads that are still at work though their request has its outcome."""
        return self.threads.stuck

    def dispatch(self, request: Request) -> None:
        """Answer one request: now, or when its handler has returned or run out of time.

        Never raises.
        """
        if (
            request.deadline is not None
            and request.deadline <= time.time()
            and not self._handles_expired
        ):
            self.settle(request, _expired_outcome(self._expired))
            return
        if request.fault is not None or len(request.body) > self._max_body:
            self.settle(request, _refused(request, self._refusal(request)))
            return
        if len(request.body) >= LARGE and self._peels and self._dispatch_peeled(request):
            return
        try:
            envelope: RequestEnvelope = self._decode(request.body, request.version)
        except CallError as error:
            self.settle(request, _refused(request, error))
            return
        found = self._routes.resolve(envelope.vendor_id, envelope.message_id)
        if isinstance(found, Reply):
            self.settle(request, found)
            return
        handler: Handler = found
        request.tally = self._tallies.get(handler)
        arguments: tuple[Any, ...]
        if handler.read_data is None:
            arguments = (Call(request, envelope, handler.state),)
        else:
            try:
                call = Call(request, envelope, handler.state)
                arguments = (call, handler.read_data(envelope.data))
            except InvalidData as error:
                self.settle(request, Reply(rejected(INVALID_DATA, str(error), request.version)))
                return
            except BaseException as error:  # noqa: BLE001 - decoding runs the type's __post_init__
                self.settle(request, self._outcome_of(error, request, handler))
                return
        self._call(request, handler, arguments)

    def _dispatch_peeled(self, request: Request) -> bool:
        """Dispatch a large request with one pass over its body in place of two.

        False: that cannot be done, or the data does not fit. Then nothing has become of it, and the
        usual way finds out what is wrong.
        """
        envelope: RequestEnvelope | None = peel(request.body)
        if envelope is None:
            return False
        found = self._routes.resolve(envelope.vendor_id, envelope.message_id)
        if isinstance(found, Reply) or found.read_data is None or not found.reads_all:
            return False
        handler: Handler = found
        call: Call[Any] = Call(request, envelope, handler.state)
        try:
            data = found.read_data(envelope.data)
        except BaseException:  # noqa: BLE001 - decoding runs the type's __post_init__
            return False
        request.tally = self._tallies.get(handler)
        self._call(request, handler, (call, data))
        return True

    def _refusal(self, request: Request) -> CallError:
        if request.fault is not None:
            return CallError(ErrorCode.PROTOCOL_ERROR, request.fault)
        text = f"payload: {len(request.body)} bytes, and at most {self._max_body} are taken"
        return CallError(ErrorCode.PROPERTY_CONSTRAINT_VIOLATION, text)

    def _call(self, request: Request, handler: Handler, arguments: tuple[Any, ...]) -> None:
        token = _bind(arguments[0])  # a task, or a thread's call, copies the context that it is in
        try:
            if not handler.is_async:
                self.threads.call(request, handler, arguments, self.settle)
                return
            loop = get_running_loop()
            if request.arrived is not None:
                request.begun = ticks.now()
            task = running.start(handler.function(*arguments), loop)
        except BaseException as error:  # noqa: BLE001
            # A decorated function may raise before it is a coroutine. And a task lets SystemExit
            # and KeyboardInterrupt through, past its owner.
            self.settle(request, self._outcome_of(error, request, handler))
            return
        finally:
            _unbind(token)
        if task.done():
            self.settle(request, self._outcome(request, handler, task))
            del task  # the frames of its exception lead back to this one, which would keep it
        else:
            race = running.Race(
                request, handler, self.waiting, self.settle, self._answer, _took_too_long
            )
            race.times_handler = request.begun is not None
            deadline = None if self._handles_expired else request.deadline
            race.follow(task, loop, handler.timeout, deadline)

    def _outcome_of(self, error: BaseException, request: Request, handler: Handler) -> Outcome:
        policy = handler.retry or self._policy
        outcome = outcome_of_error(error, request, policy, time.time())
        return raised_by(handler.function, error, outcome)

    def _outcome(self, request: Request, handler: Handler, task: "Task[Any]") -> Outcome:
        """The outcome of a handler that has ended."""
        if request.begun is not None:
            request.ended = ticks.now()
        try:
            result = task.result()
        except asyncio.CancelledError:
            return failed(request, "CancelledError: the handler was cancelled")
        except BaseException as error:  # noqa: BLE001 - every error has its outcome, a group too
            return self._outcome_of(error, request, handler)
        if request.deadline is not None and request.deadline <= time.time():
            return Late()
        if isinstance(result, _OUTCOMES):
            outcome: Outcome = result
            return outcome
        try:
            if isinstance(result, DataTransferResponse):
                body = encode_response(result, request.version)
            else:
                body = encode_accepted(result, request.version)
        except BaseException as fault:  # noqa: BLE001 - encoding may run code of a vendor's type
            return raised_by(handler.function, fault, failed(request, describe_error(fault)))
        if len(body) > self._max_body:
            return failed(
                request, f"the answer has {len(body)} bytes, and at most {self._max_body} are sent"
            )
        return Reply(body)

    def close(self) -> None:
        """Stop what still runs. Its requests are not settled: the broker delivers them again."""
        for race in tuple(self.waiting):
            race.abandon()
        self.threads.close()


def _refused(request: Request, error: CallError) -> Outcome:
    """The outcome of a request that cannot be read. If nobody is told so, it is kept."""
    if request.reply_wanted:
        return call_error(error, request.version)
    return Failure(None, Reason.BROKEN, describe_error(error))


def _expired_outcome(policy: Expired) -> Outcome:
    if policy is Expired.DROP:
        return Dropped()
    return Failure(None, Reason.EXPIRED, "its deadline had passed before it was begun")


def _took_too_long(request: Request, handler: Handler) -> Outcome:
    text = f"{handler.name} took longer than {handler.timeout:g} s or its deadline"
    return timed_out(request, time.time(), f"TimeoutError: {text}")
