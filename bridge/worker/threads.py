"""The threads of one vendor, in which its plain ``def`` handlers run.

Only a free thread is given a function; what else there is to call waits here, in order. So it is
known when each has begun: its time counts from then, and what has not begun in as long is given up
without having run. A thread cannot be stopped. One that is still at work when the time of its
handler is over is stuck: it stays taken until the handler returns.
"""

import asyncio
import inspect
import math
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, Final

from bridge.request.incoming import Request
from bridge.request.outcome import (
    Failure,
    Outcome,
    Reason,
    Settle,
    describe_error,
    failed,
    overloaded,
    timed_out,
)
from bridge.request.running import Answer, Race, in_thread, start
from bridge.routing.handler import Handler
from bridge.telemetry import ticks
from bridge.telemetry.counts import WorkerCounts
from bridge.telemetry.logs import get_logger
from bridge.telemetry.measures import Histogram

log = get_logger("bridge.worker")

LONG_WAIT: Final = 1.0
"""Seconds of waiting for a thread from which on it is told."""
QUIET: Final = 60.0
"""Seconds after a line about busy threads until there is another."""


class _Call:
    """A function to call for a request."""

    __slots__ = (
        "arguments",
        "context",
        "handler",
        "request",
        "returned",
        "settle",
        "since",
        "timer",
    )

    def __init__(
        self, request: Request, handler: Handler, arguments: tuple[Any, ...], settle: Settle
    ) -> None:
        self.request = request
        self.handler = handler
        self.arguments = arguments
        self.context = copy_context()
        """That in which it is called. It is its own: a thread is used again, and what one call sets
        there would be seen by the next."""
        self.settle = settle
        self.since = ticks.now()
        """When it came, by the monotonic clock."""
        self.timer: asyncio.TimerHandle | None = None
        """When it is given up; None: it does not wait for a thread."""
        self.returned: asyncio.Future[Any] | None = None
        """Is done when the thread is free again; None: it has not begun."""


class Threads:
    """Calls plain functions, so many at a time."""

    def __init__(
        self,
        count: int,
        *,
        held: set[Race],
        answer: Answer,
        handles_expired: bool,
        counts: WorkerCounts,
    ) -> None:
        """`count`: threads at most. `held`: the races that are not over. `answer`: as in `Race`.

        `handles_expired`: whether a handler is called though the deadline has passed.
        """
        self.count = count
        """Threads at most."""
        self.waits = Histogram()
        """How long requests waited for a thread, in seconds; 0: one was free."""
        self._held = held
        self._answer = answer
        self._handles_expired = handles_expired
        self._counts = counts
        self._pool: ThreadPoolExecutor | None = None
        self._at_work: dict[asyncio.Future[Any], Race] = {}
        self._waiting: dict[_Call, None] = {}
        self._told = False
        self._told_busy_at = -math.inf
        self._closed = False

    @property
    def stuck(self) -> int:
        """Threads that are still at work though their request has its outcome."""
        return sum(race.over for race in tuple(self._at_work.values()))

    @property
    def busy(self) -> int:
        """Threads at work, those included that are stuck."""
        return len(self._at_work)

    @property
    def waiting(self) -> int:
        """Calls that wait for a thread."""
        return len(self._waiting)

    def call(
        self, request: Request, handler: Handler, arguments: tuple[Any, ...], settle: Settle
    ) -> None:
        """Call a handler in a thread, now or when one is free; settle its request. Never raises."""
        call = _Call(request, handler, arguments, settle)
        if len(self._at_work) < self.count:
            self.waits.observe(0.0)
            self._begin(call)
            return
        seconds = handler.timeout
        if request.deadline is not None and not self._handles_expired:
            seconds = min(seconds, max(0.0, request.deadline - time.time()))
        loop = asyncio.get_running_loop()
        call.timer = loop.call_later(seconds, self._give_up, call)
        self._waiting[call] = None

    def _begin(self, call: _Call) -> None:
        request, handler, settle = call.request, call.handler, call.settle
        loop = asyncio.get_running_loop()
        if request.arrived is not None:
            request.begun = ticks.now()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.count, thread_name_prefix="handler")
        race = Race(
            request,
            handler,
            self._held,
            settle,
            self._answer,
            lambda _, __: self._took_too_long(call),
        )
        deadline = None if self._handles_expired else request.deadline
        if handler.around is not None:
            surrounded = Surrounded(call, self._pool, loop)
            self._at_work[surrounded.over] = race
            surrounded.over.add_done_callback(self._returned)
            race.follow(surrounded.start(), loop, handler.timeout, deadline)
            return
        try:
            returned = loop.run_in_executor(
                self._pool, call.context.run, in_thread, handler.function, *call.arguments
            )
        except RuntimeError as error:  # no thread can be started
            race.abandon()
            settle(request, failed(request, describe_error(error)))
            return
        call.returned = returned
        self._at_work[returned] = race
        returned.add_done_callback(self._returned)
        result = call.context.copy().run(start, result_of(returned), loop)
        race.follow(result, loop, handler.timeout, deadline)

    def _returned(self, returned: "asyncio.Future[Any]") -> None:
        """A thread is free again."""
        del self._at_work[returned]
        self._told = self._told and self.stuck > 0
        while self._waiting and not self._closed and len(self._at_work) < self.count:
            call = next(iter(self._waiting))
            deadline = call.request.deadline
            if deadline is not None and deadline <= time.time() and not self._handles_expired:
                self._give_up(call)
            else:
                self._remove(call)
                self._begin(call)

    def _remove(self, call: _Call) -> None:
        """It waits no more."""
        del self._waiting[call]
        if call.timer is not None:
            call.timer.cancel()
        if self._closed:
            return
        waited = ticks.now() - call.since
        self.waits.observe(waited)
        if waited >= LONG_WAIT:
            self._tell_busy(call.handler, waited)

    def _tell_busy(self, handler: Handler, waited: float) -> None:
        now = time.monotonic()
        if now - self._told_busy_at < QUIET:
            return
        self._told_busy_at = now
        log.warning(
            "all threads are busy",
            handler=handler.name,
            threads=self.count,
            waited_s=round(waited, 1),
            waiting=len(self._waiting),
            hint="give its vendor more threads, or make the handler async",
        )

    def _give_up(self, call: _Call) -> None:
        self._remove(call)
        request = call.request
        text = (
            f"none of its vendor's {self.count} threads came free within"
            f" {call.handler.timeout:g} s or before its deadline ({self.stuck} are stuck):"
            f" {call.handler.name} was not begun"
        )
        if request.deadline is not None and request.deadline <= time.time():
            call.settle(request, Failure(None, Reason.EXPIRED, text))
        else:
            call.settle(request, overloaded(request, text))

    def _took_too_long(self, call: _Call) -> Outcome:
        handler = call.handler
        text = f"{handler.name} took longer than {handler.timeout:g} s or its deadline"
        if call.returned is not None and not call.returned.done():
            self._counts.stuck += 1
            stuck = self.stuck
            text += (
                f", and cannot be stopped; {stuck} of its vendor's {self.count} threads are stuck"
            )
            if stuck == self.count and not self._told:
                self._told = True
                log.warning(
                    "all threads are stuck",
                    handler=handler.name,
                    threads=self.count,
                    hint="requests wait until one returns: bound what handlers wait for",
                )
        return timed_out(call.request, time.time(), f"TimeoutError: {text}")

    def close(self) -> None:
        """Begin nothing more. What waits is not settled; what runs cannot be stopped."""
        self._closed = True
        for call in tuple(self._waiting):
            self._remove(call)
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


class Surrounded:
    """A function whose middleware runs on the event loop, and calls it in a thread.

    Its thread is kept for it from the beginning until all is over: so nothing waits for one while
    the middleware holds a transaction open.
    """

    def __init__(
        self, call: _Call, pool: ThreadPoolExecutor, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.over: asyncio.Future[Any] = loop.create_future()
        """Is done when the middleware has ended, and the thread is free again."""
        self._call = call
        self._pool = pool
        self._loop = loop
        self._at_work = 1
        """Of the middleware and what it has called, how many are at work."""

    def start(self) -> "asyncio.Task[Any]":
        """Begin with the middleware. Returns its task."""
        task = self._call.context.copy().run(start, self._run(), self._loop)
        task.add_done_callback(self._ended)
        return task

    async def _run(self) -> Any:
        call, *data = self._call.arguments
        around: Any = self._call.handler.around
        try:
            return await around(call, data[0] if data else None, self._next)
        except (SystemExit, KeyboardInterrupt) as error:  # as in a thread
            raise RuntimeError(f"the middleware raised {describe_error(error)}") from error

    async def _next(self, call: Any, data: Any) -> Any:
        handler = self._call.handler
        arguments = (call,) if handler.read_data is None else (call, data)
        # In the context that the middleware has made, as if it had called the function itself.
        returned = self._loop.run_in_executor(
            self._pool, copy_context().run, in_thread, handler.function, *arguments
        )
        self._call.returned = returned
        self._at_work += 1
        returned.add_done_callback(self._ended)
        return await result_of(returned)

    def _ended(self, _: "asyncio.Future[Any]") -> None:
        self._at_work -= 1
        if not self._at_work and not self.over.done():
            self.over.set_result(None)


async def result_of(returned: "asyncio.Future[Any]") -> Any:
    """What a function returns, or what that gives if it is awaited."""
    # Shielded, so that its end is that of the thread, also when nobody waits for it any more.
    result = await asyncio.shield(returned)
    return await result if inspect.isawaitable(result) else result
