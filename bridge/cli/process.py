"""The process of a command: event loop, signals, scheduling policy."""

import asyncio
import contextlib
import enum
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from bridge.cli.options import log

Result = TypeVar("Result")


def complete(main: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end, on the fastest loop there is."""
    with asyncio.Runner(loop_factory=_new_loop()) as runner:
        loop = runner.get_loop()
        task = loop.create_task(main)
        while True:
            try:
                return loop.run_until_complete(task)
            except SystemExit as error:
                # A handler called sys.exit(): asyncio lets that through the loop, past whoever waits for the handler. It
                # must not end the worker, nor the next one that gets the request. Its task knows, and answers.
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
    """What arrives does not push aside whoever runs just now (Linux: SCHED_BATCH). Where processors are short, the worker takes
    more messages at a time, for less of the processor each; where one is free, it makes no difference."""
    NORMAL = "normal"
    """As it was started."""


def schedule(scheduling: Scheduling) -> None:
    """Have this process, and the threads it will start, run so. What somebody chose already (chrt) is left alone."""
    if (
        scheduling is Scheduling.BATCH
        and sys.platform == "linux"
        and os.sched_getscheduler(0) == os.SCHED_OTHER
    ):
        with contextlib.suppress(OSError):  # forbidden in this container: no reason not to work
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def on_signals(stop: Callable[[], None]) -> None:
    """The first signal drains; a second one ends the process at once, and the broker delivers what was in hand again."""
    loop = asyncio.get_running_loop()

    def first(number: int) -> None:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, first, number)
