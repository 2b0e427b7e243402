"""The process of a command: its event loop, signals and scheduling policy."""

import asyncio
import contextlib
import enum
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from bridge.telemetry.logs import get_logger

log = get_logger("bridge.cli")

Result = TypeVar("Result")


def complete(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end, on uvloop where there is one, and return its result."""
    with asyncio.Runner(loop_factory=_new_loop()) as runner:
        loop = runner.get_loop()
        task = loop.create_task(main)
        while True:
            try:
                return loop.run_until_complete(task)
            except SystemExit as error:
                # A handler called sys.exit(). asyncio lets that through the event loop, and not to
                # whoever awaits the handler's task. It must end neither this worker nor the next
                # one that gets the request, so the loop runs on: the task has the exception, and
                # the request is answered as after any other.
                if task.done():
                    raise
                log.warning("a handler asked the process to exit", code=error.code)


def _new_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop  # noqa: PLC0415 - not there on Windows

    return uvloop.new_event_loop


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


def on_signals(stop: Callable[[], None]) -> None:
    """Call `stop` at the first SIGTERM or SIGINT, to drain.

    A second one ends the process at once, and the broker delivers again what was in hand.
    """
    loop = asyncio.get_running_loop()

    def first(number: int) -> None:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, first, number)
