"""One request to its outcome: decode, resolve, decode data, call, encode. No broker, no I/O of its own.

A handler is started at once, within :meth:`Dispatcher.dispatch`, where the interpreter can (CPython 3.12 and later): one that
never waits costs no turn of the event loop, and its outcome is settled before ``dispatch`` returns. Only a handler that
does wait gets a timer and a callback.
"""

import asyncio
import enum
import inspect
import time
from asyncio import Task, get_running_loop
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from bridge.compiled import fields
from bridge.ocpp import (
    CallError,
    ErrorCode,
    decode_request,
    encode_accepted,
    encode_response,
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
    Settle,
    call_error,
    describe_error,
    failed,
    outcome_of_error,
    timed_out,
)
from bridge.request.retry import RetryPolicy
from bridge.request.running import EAGER
from bridge.routing.errors import InvalidData
from bridge.routing.handler import Handler
from bridge.routing.router import Routes

fields.check((DataTransferResponse, Handler, Reply, Request, RequestEnvelope))


INVALID_DATA: Final = "InvalidData"
"""The reasonCode for data that does not fit the handler's type (OCPP 2.0.1 Appendix 5 leaves the codes open)."""

MAX_BODY: Final = 4 * 1024 * 1024
"""Bytes of a payload that are decoded by default. OCPP messages are a few kB; firmware logs and certificates have been
seen near 1 MiB; RabbitMQ itself takes 16 MiB."""


THREADS: Final = 8
"""Plain ``def`` handlers of one vendor that run at a time by default. They wait for I/O, mostly, and each is a thread."""


class Expired(enum.StrEnum):
    """What to do with a request whose deadline passed before it was handled."""

    DEAD_LETTER = "dead-letter"
    """Keep it where somebody can look at it."""
    DROP = "drop"
    """Forget it."""
    HANDLE = "handle"
    """Call the handler all the same: its effect matters more than its answer."""


class Dispatcher:
    """Gives every request its outcome, exactly one, by calling `settle`."""

    def __init__(
        self,
        routes: Routes,
        settle: Settle,
        *,
        strict: bool = False,
        expired: Expired = Expired.DEAD_LETTER,
        max_body: int = MAX_BODY,
        policy: RetryPolicy | None = None,
        threads: int = THREADS,
    ) -> None:
        """`strict`: refuse what the schema of the request's OCPP version does not allow. `max_body`: bytes, both ways.

        `policy`: when a handler without a policy of its own is tried again. `threads`: how many plain ``def`` handlers run at a time; more wait their turn.
        """
        self._routes = routes
        self._settle = settle
        self._decode = partial(decode_request, strict=True) if strict else decode_request
        self._expired = expired
        self._handles_expired = expired is Expired.HANDLE
        self._max_body = max_body
        self._policy = policy or RetryPolicy()
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self.waiting: set[_Waiting] = set()
        """Handlers that have not returned yet."""

    def dispatch(self, request: Request) -> None:
        """Answer one request. Settles it now, or when its handler has returned or run out of time. Never raises."""
        if (
            request.deadline is not None
            and request.deadline <= time.time()
            and not self._handles_expired
        ):
            self._settle(request, _expired_outcome(self._expired))
            return
        if request.fault is not None or len(request.body) > self._max_body:
            self._settle(request, call_error(self._refusal(request), request.version))
            return
        try:
            envelope: RequestEnvelope = self._decode(request.body, request.version)
        except CallError as error:
            self._settle(request, call_error(error, request.version))
            return
        found = self._routes.resolve(envelope.vendor_id, envelope.message_id)
        if isinstance(found, Reply):
            self._settle(request, found)
            return
        handler: Handler = found
        arguments: tuple[Any, ...]
        if handler.read_data is None:
            arguments = (Call(request, envelope),)
        else:
            try:
                arguments = (Call(request, envelope), handler.read_data(envelope.data))
            except InvalidData as error:
                self._settle(request, Reply(rejected(INVALID_DATA, str(error), request.version)))
                return
            except Exception as error:  # noqa: BLE001 - decoding runs the code of the handler's type, its __post_init__
                self._settle(
                    request, outcome_of_error(error, request, self._policy_of(handler), time.time())
                )
                return
        self._call(request, handler, arguments)

    def _refusal(self, request: Request) -> CallError:
        if request.fault is not None:
            return CallError(ErrorCode.PROTOCOL_ERROR, request.fault)
        text = f"payload: {len(request.body)} bytes, and at most {self._max_body} are taken"
        return CallError(ErrorCode.PROPERTY_CONSTRAINT_VIOLATION, text)

    def _call(self, request: Request, handler: Handler, arguments: tuple[Any, ...]) -> None:
        loop = get_running_loop()
        try:
            coroutine = (
                handler.function(*arguments)
                if handler.is_async
                else self._in_thread(handler, arguments)
            )
            task = running.start(coroutine, loop)
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001
            # A decorated function may raise before it is a coroutine; and a task lets these two through, past its owner.
            self._settle(
                request, outcome_of_error(error, request, self._policy_of(handler), time.time())
            )
            return
        if task.done():
            self._settle(request, self._outcome(request, handler, task))
        else:
            _Waiting(self, request, handler, task, loop)

    def _policy_of(self, handler: Handler) -> RetryPolicy:
        return handler.retry or self._policy

    def _outcome(self, request: Request, handler: Handler, task: "Task[Any]") -> Outcome:
        """What a handler that has ended says."""
        try:
            result = task.result()
        except asyncio.CancelledError:
            return failed(request, "CancelledError: the handler was cancelled")
        except BaseException as error:  # noqa: BLE001 - every error of a handler has its outcome, a group of them too
            return outcome_of_error(error, request, self._policy_of(handler), time.time())
        if request.deadline is not None and request.deadline <= time.time():
            return Late()
        try:
            if isinstance(result, DataTransferResponse):
                body = encode_response(result, request.version)
            else:
                body = encode_accepted(result, request.version)
        except Exception as fault:  # noqa: BLE001 - mostly InvalidResponse, but encoding may run the code of a vendor's type
            return failed(request, describe_error(fault))
        if len(body) > self._max_body:
            return failed(
                request, f"the answer has {len(body)} bytes, and at most {self._max_body} are sent"
            )
        return Reply(body)

    async def _in_thread(self, handler: Handler, arguments: tuple[Any, ...]) -> Any:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="handler")
        result = await asyncio.get_running_loop().run_in_executor(
            self._pool, _in_thread, handler, arguments
        )
        return await result if inspect.isawaitable(result) else result

    def close(self) -> None:
        """Stop what still runs. Its requests are not settled: the broker delivers them again."""
        for waiting in tuple(self.waiting):
            waiting.abandon()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def _in_thread(handler: Handler, arguments: tuple[Any, ...]) -> Any:
    """A StopIteration cannot leave through a future: on CPython 3.11 whoever waits for it would wait for ever."""
    try:
        return handler.function(*arguments)
    except StopIteration as error:
        raise RuntimeError("the handler raised StopIteration") from error


def _expired_outcome(policy: Expired) -> Outcome:
    if policy is Expired.DROP:
        return Dropped()
    return Failure(None, Reason.EXPIRED, "its deadline had passed when it arrived")


class _Waiting:
    """A handler that has not returned: its time is measured, and the first of answer and time-out settles the request."""

    __slots__ = ("_dispatcher", "_handler", "_loop", "_request", "_settled", "_task", "_timer")

    def __init__(
        self,
        dispatcher: Dispatcher,
        request: Request,
        handler: Handler,
        task: "Task[Any]",
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._dispatcher = dispatcher
        self._request = request
        self._handler = handler
        self._task = task
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._settled = False
        dispatcher.waiting.add(self)
        if EAGER:
            self._watch()
        else:
            loop.call_soon(self._watch)

    def _watch(self) -> None:
        """Wait for it and measure its time; unless it is done, for before CPython 3.12 its first step comes only just before this."""
        task = self._task
        if task.done():
            self._returned(task)
            return
        if not self._settled:
            seconds = self._handler.timeout
            if self._request.deadline is not None and not self._dispatcher._handles_expired:  # noqa: SLF001 - its other half
                seconds = min(seconds, max(0.0, self._request.deadline - time.time()))
            self._timer = self._loop.call_later(seconds, self._time_out)
        task.add_done_callback(self._returned)

    def _returned(self, task: "Task[Any]") -> None:
        if self._settled:  # by the time-out, or abandoned
            if not task.cancelled():
                task.exception()  # seen; a handler may do as it likes once it is cancelled
            return
        self._end()
        dispatcher = self._dispatcher
        dispatcher._settle(self._request, dispatcher._outcome(self._request, self._handler, task))  # noqa: SLF001 - its other half

    def _time_out(self) -> None:
        """Settle first: a handler that will not be cancelled must not keep the station waiting."""
        if self._task.done():  # in this very turn, in which a handler that blocked the loop held up both: `_returned` follows
            return
        self.abandon()
        text = f"TimeoutError: {self._handler.name} took longer than {self._handler.timeout:g} s or its deadline"
        self._dispatcher._settle(self._request, timed_out(self._request, time.time(), text))  # noqa: SLF001

    def abandon(self) -> None:
        """Cancel the handler, and do not wait for it."""
        self._end()
        self._task.cancel()

    def _end(self) -> None:
        self._settled = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._dispatcher.waiting.discard(self)
