"""What runs for a request: a task that begins at once, and the race that ends it.

Whoever runs a coroutine for a request (a handler, or a station's answer) starts it with
:func:`start`. If it ends before it first waits, there is nothing to race against. If not, a
:class:`Race` measures its time, and gives the request the first outcome that there is.
"""

import asyncio
import sys
import time
from asyncio import Task
from collections.abc import Callable, Coroutine
from typing import Any, Final

from bridge.request.incoming import Request
from bridge.request.outcome import Outcome, Settle, describe_error
from bridge.telemetry import ticks

Answer = Callable[[Request, Any, "Task[Any]"], Outcome]
"""Makes the outcome of a task that has ended: `answer` of a :class:`Race`."""

_EAGER: Final = sys.version_info >= (3, 12)
"""Whether the interpreter can run a task's first step while the task is made."""
TURNS: Final = 4
"""Turns of the loop that pass at most between the end of a thread and that of the task that waits
for it: the loop is told, the future is done, its shield is, the task runs."""


class _Turn:
    """When the loop came to the tasks that begin in this turn. Needed before CPython 3.12 alone.

    There a task begins in a later turn than it is made in. Tasks that are made in one go begin one
    after the other: the first when :meth:`begins` is called, each other one when the first step of
    the one before it is over. So none is measured with what the others hold it up for.
    """

    __slots__ = ("at", "loop")

    def __init__(self) -> None:
        self.at = 0.0
        """When the next of them begins, by the monotonic clock."""
        self.loop: asyncio.AbstractEventLoop | None = None
        """That which is to call :meth:`begins`; None: none is."""

    def begins(self) -> None:
        self.at = ticks.now()
        self.loop = None


_TURN: Final = _Turn()


def start(coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> "Task[Any]":
    """Run a coroutine as a task of `loop`: now, up to where it first waits.

    Before CPython 3.12 it begins with the loop's next turn. KeyboardInterrupt and SystemExit of its
    first step are raised here, where they happen at once.
    """
    if _EAGER:
        return Task(coroutine, loop=loop, eager_start=True)  # type: ignore[call-arg] # not in 3.11
    turn: _Turn = _TURN
    if turn.loop is not loop:
        turn.loop = loop
        loop.call_soon(turn.begins)
    return Task(coroutine, loop=loop)


def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a plain function, in the thread of an executor.

    A StopIteration cannot leave through a future: on CPython 3.11 whoever awaits the future would
    wait for ever. It becomes a RuntimeError, as it does in a coroutine. So do SystemExit and
    KeyboardInterrupt, which would end the event loop of whoever awaits them.
    """
    try:
        return function(*arguments)
    except (StopIteration, SystemExit, KeyboardInterrupt) as error:
        raise RuntimeError(f"the handler raised {describe_error(error)}") from error


class Race:
    """A request in hand: the first of answer, time-out and loss settles it, and nothing after that.

    It is settled first. Only then is what still runs cancelled, and nobody waits for that: a task
    that will not be cancelled holds up no request.
    """

    __slots__ = (
        "_answer",
        "_by",
        "_held",
        "_loss",
        "_request",
        "_settle",
        "_task",
        "_time_out",
        "_timer",
        "over",
        "times_handler",
    )

    def __init__(
        self,
        request: Request,
        by: Any,
        held: "set[Race]",
        settle: Settle,
        answer: Answer,
        time_out: Callable[[Request, Any], Outcome],
        loss: Callable[[Request, Any], Outcome] | None = None,
    ) -> None:
        """`by`: what the request is handled by, for the functions. `held`: those that are not over.

        `settle` is called once, with the outcome. That is `answer` when the task has ended,
        `time_out` when it has not ended in time, or `loss` when :meth:`lose` is called; None: as
        `time_out`.
        """
        self._request = request
        self._by = by
        self._settle = settle
        self._answer = answer
        self._time_out = time_out
        self._loss = loss or time_out
        self._held = held
        self._task: Task[Any] | None = None
        self._timer: asyncio.Handle | None = None
        self.over = False
        """Whether it has an outcome, or was abandoned."""
        self.times_handler = False
        """Whether the handler begins with its task, so that this notes when that is."""
        held.add(self)

    def follow(
        self,
        task: "Task[Any]",
        loop: asyncio.AbstractEventLoop,
        timeout: float,
        deadline: float | None,
    ) -> None:
        """Wait for `task`, which :func:`start` has returned, and measure its time.

        `timeout`: seconds that it may take. `deadline`: when it must have ended, in seconds of Unix
        time; None: there is no such time.
        """
        self._task = task
        if _EAGER:
            self._watch(task, loop, timeout, deadline)
        else:  # its first step comes just before this; only if it still waits is there a timer
            loop.call_soon(self._watch, task, loop, timeout, deadline)

    def _watch(
        self,
        task: "Task[Any]",
        loop: asyncio.AbstractEventLoop,
        timeout: float,
        deadline: float | None,
    ) -> None:
        if self.times_handler and not _EAGER:
            self._has_begun()
        if task.done():
            self._ended(task)
            return
        if not self.over:
            seconds = timeout
            if deadline is not None:
                seconds = min(seconds, max(0.0, deadline - time.time()))
            self._timer = loop.call_later(seconds, self._out_of_time)
        task.add_done_callback(self._ended)

    def _has_begun(self) -> None:
        """The task's first step is over: note when that began."""
        turn: _Turn = _TURN
        begun = self._request.begun
        if begun is not None:
            self._request.begun = max(begun, turn.at)
        turn.at = ticks.now()

    def _ended(self, task: "Task[Any]") -> None:
        if self.over:
            if not task.cancelled():
                task.exception()  # seen: once cancelled, a task may end as it likes
            return
        self._finish()
        self._settle(self._request, self._answer(self._request, self._by, task))

    def _out_of_time(self, turns: int = TURNS) -> None:
        """Look once more what has come; only then has the time-out come first.

        Where something held up the loop, the timer may be run before what has ended meanwhile.
        """
        task = self._task
        if turns and task is not None and not task.done():
            loop = asyncio.get_running_loop()
            self._timer = loop.call_soon(self._out_of_time, turns - 1)
        else:
            self._end(self._time_out)

    def lose(self) -> None:
        """End it, unless it is over: what it runs for is lost."""
        self._end(self._loss)

    def _end(self, outcome: Callable[[Request, Any], Outcome]) -> None:
        if self.over:
            return
        task = self._task
        if task is not None and task.done():
            # While something held up the loop: the answer is there, and counts.
            self._ended(task)
            return
        self._finish()
        self._settle(self._request, outcome(self._request, self._by))
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    def abandon(self) -> None:
        """Cancel the task, and settle nothing."""
        self._finish()
        if self._task is not None:
            self._task.cancel()

    def _finish(self) -> None:
        self.over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._held.discard(self)
