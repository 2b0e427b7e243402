"""The process of a command: its event loop, signals, end and scheduling policy.

A vendor's code can hold up the end of a process: a thread that does not return, a coroutine that
will not be cancelled, a call that blocks the event loop. What has said that it ends, ends.
"""

import asyncio
import atexit
import contextlib
import enum
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.thread import _python_exit
from types import FrameType
from typing import Any, Final, TypeVar

from bridge.telemetry.logs import get_logger

log = get_logger("bridge.cli")

Result = TypeVar("Result")

CLEAN_UP: Final = 10.0
"""Seconds that an interrupted command may take to tidy up: to close its connections."""
BREATH: Final = 0.5
"""Seconds that tasks, and then threads, are waited for once nothing depends on them any more."""
FAREWELL: Final = 4.0
"""Seconds after its drain timeout in which a process closes its connections and ends. With the
default drain timeout it ends before the 30 s are over that Kubernetes grants."""
LAST_RESORT: Final = 0.5
"""Seconds after that, when a process ends in which Python itself does not get to run."""
KILL_MARGIN: Final = 0.8
"""Seconds after which a process that has not ended itself in time is killed by its supervisor."""

STOPPING: Final = tuple(
    number
    for name in ("SIGTERM", "SIGINT", "SIGHUP")
    if (number := getattr(signal, name, None)) is not None
)
"""The signals that ask a process to stop. Windows has no SIGHUP."""
_HANG_UP: Final = getattr(signal, "SIGHUP", None)


# ---- the event loop ----


def complete(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end, on uvloop where there is one, and return its result.

    What it leaves running is cancelled and waited for, but not for long: see :func:`ending`.
    """
    loop = _new_loop()
    # Of our own, so that its threads are not waited for: asyncio would, for as long as they take.
    threads = ThreadPoolExecutor(thread_name_prefix="asyncio")
    loop.set_default_executor(threads)
    task = loop.create_task(main)
    try:
        with _interrupting(loop):
            return _run(loop, task)
    finally:
        try:
            if not task.done():  # interrupted
                task.cancel()
                _run(loop, loop.create_task(_wait({task}, CLEAN_UP)))
            _wind_up(loop)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            loop.close()


def _run(loop: asyncio.AbstractEventLoop, task: "asyncio.Task[Result]") -> Result:
    while True:
        try:
            return loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt) as error:
            # A handler called sys.exit(), or raised what Ctrl-C does. asyncio lets both through the
            # event loop, and not to whoever awaits the handler's task. They must end neither this
            # worker nor the next one that gets the request, so the loop runs on: the task has the
            # exception, and the request is answered as after any other.
            if task.done():
                return task.result()
            if isinstance(error, SystemExit):
                log.warning("a handler asked the process to exit", code=error.code)
            elif signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
                log.warning("a handler raised KeyboardInterrupt")  # no signal is one here
            else:
                raise


@contextlib.contextmanager
def _interrupting(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Within, the first Ctrl-C raises KeyboardInterrupt between two callbacks of the loop.

    Python's own way raises it wherever the program happens to be: within a protocol that takes
    bytes, it would end a connection instead of the command. A second Ctrl-C does it Python's way.
    A command that has signals of its own (:func:`on_signals`) sets them over this.
    """

    def interrupt() -> None:
        raise KeyboardInterrupt

    def on_sigint(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.default_int_handler)
        loop.call_soon_threadsafe(interrupt)

    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if ours:
        signal.signal(signal.SIGINT, on_sigint)
    try:
        yield
    finally:
        if ours and signal.getsignal(signal.SIGINT) is on_sigint:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _wind_up(loop: asyncio.AbstractEventLoop) -> None:
    """End what still runs. What will not end is left, and the process ends without it."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        _run(loop, loop.create_task(_wait(tasks, BREATH)))
    generators = loop.create_task(loop.shutdown_asyncgens())
    _run(loop, loop.create_task(_wait({generators}, BREATH)))
    _left.extend(_name_of(task) for task in asyncio.all_tasks(loop))


async def _wait(tasks: set["asyncio.Task[Any]"], seconds: float) -> None:
    await asyncio.wait(tasks, timeout=seconds)


def _name_of(task: "asyncio.Task[Any]") -> str:
    return getattr(task.get_coro(), "__qualname__", task.get_name())


def _new_loop() -> asyncio.AbstractEventLoop:
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()


# ---- the end ----

_left: Final[list[str]] = []
"""Tasks that would not be cancelled."""


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Within, a command runs; its process ends with the block, whatever is still at work in it.

    Python waits at its exit for every thread that is no daemon. Here they are given a moment; then
    the process ends as it would have, with what is registered with :mod:`atexit`.
    """
    _mind_being_process_one()
    try:
        yield
    except BaseException as error:
        at_work = _threads_at_work()
        if not at_work and not _left:
            raise
        code = _exit_code(error)
        log.warning("ended what was still at work", threads=at_work, tasks=_left)
    else:
        return
    atexit._run_exitfuncs()  # noqa: SLF001 - what Python does next, if it need not wait for threads
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def _threads_at_work() -> list[str]:
    """The names of the threads that keep the process from ending, after a moment to do so."""
    # Threads of executors that have nothing to do end when Python says so, as it does at its exit.
    threading.Thread(target=_python_exit, name="executors end", daemon=True).start()
    until = time.monotonic() + BREATH
    while threads := [each for each in threading.enumerate() if _holds_up(each)]:
        left = until - time.monotonic()
        if left <= 0:
            return [thread.name for thread in threads]
        threads[0].join(left)
    return []


def _holds_up(thread: threading.Thread) -> bool:
    return not thread.daemon and thread is not threading.current_thread()


def _exit_code(error: BaseException) -> int:
    """As Python has it; prints what Python would print."""
    if not isinstance(error, SystemExit):
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    sys.stderr.write(f"{error.code}\n")
    return 1


def end_within(seconds: float) -> None:
    """See to it that this process has ended in so many seconds, even if its event loop is blocked.

    It ends by its own work before that, or with exit code 1.
    """
    threading.Thread(target=_end_late, args=(seconds,), name="end", daemon=True).start()
    # A thread that needs no Python, for a call that does not let go of the interpreter's lock.
    with contextlib.suppress(Exception):
        faulthandler.dump_traceback_later(seconds + LAST_RESORT, file=2, exit=True)


def _end_late(seconds: float) -> None:
    time.sleep(seconds)
    hint = "a handler blocks the event loop (make it a plain def), or the broker does not answer"
    # In a thread: whoever blocks the rest may hold the lock of the log.
    words = threading.Thread(
        target=log.error, args=("did not end in time",), kwargs={"hint": hint}, daemon=True
    )
    words.start()
    words.join(LAST_RESORT / 2)
    os._exit(1)


# ---- signals ----


def on_signals(stop: Callable[[], None], seconds: float) -> None:
    """Call `stop` at the first SIGTERM, SIGINT or SIGHUP, to drain.

    The process ends `seconds` later at the latest. A second signal, of whichever kind, ends it at
    once, and the broker delivers again what was in hand.
    """
    loop = asyncio.get_running_loop()

    # Not by the event loop's own means: it would not learn of the signal while it is blocked.
    def first(number: int, _: FrameType | None) -> None:
        for each in watched:
            # By the kernel's default where there is one: it needs nothing of this process.
            signal.signal(each, _end_now if os.getpid() == 1 else signal.SIG_DFL)
        if number == _HANG_UP:  # a terminal that is closed hangs up once more, by its shell
            signal.signal(number, signal.SIG_IGN)
        if loop.is_closed():
            end_by(number)
        end_within(seconds)
        loop.call_soon_threadsafe(stop)

    watched = stopping_signals()
    for number in watched:
        signal.signal(number, first)


def stopping_signals() -> list[signal.Signals]:
    """Those to heed: not SIGHUP, if whoever started the process had it ignored, as nohup does."""
    return [
        number
        for number in STOPPING
        if number != _HANG_UP or signal.getsignal(number) is not signal.SIG_IGN
    ]


def end_by(number: int) -> None:
    """End as the signal does by default. The kernel spares process 1, which exits instead."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
    os._exit(128 + number)


def _end_now(number: int, _: FrameType | None) -> None:
    end_by(number)


def _mind_being_process_one() -> None:
    """Have signals end this process from its start, if it is process 1, as a container's is.

    Where they have no handler, the kernel lets them pass.
    """
    if os.getpid() != 1:
        return
    for number in stopping_signals():
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end_now)


# ---- scheduling ----


class Scheduling(enum.StrEnum):
    """How the kernel lets a worker run."""

    BATCH = "batch"
    """Messages that arrive do not push aside whoever is running (Linux: SCHED_BATCH). Where
    processors are short, the worker takes more messages at a time and needs less of the processor
    for each. Where a processor is free, it makes no difference."""
    NORMAL = "normal"
    """As the process was started."""


def schedule(scheduling: Scheduling) -> None:
    """Set the policy of this process and of the threads that it will start.

    A policy that somebody chose already, as with chrt, is left alone.
    """
    if (
        scheduling is Scheduling.BATCH
        and sys.platform == "linux"
        and os.sched_getscheduler(0) == os.SCHED_OTHER
    ):
        with contextlib.suppress(OSError):  # a container may forbid it, and the worker works anyway
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
