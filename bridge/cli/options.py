"""What the parts of the command ``dtbridge`` share: options, how they end, and how they say what is wrong."""

import asyncio
import contextlib
import enum
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any, Final, NoReturn, TypeVar

import structlog
import typer
from yarl import URL

from bridge.rabbitmq.connection import parse_urls
from bridge.telemetry.logs import LogFormat, LogLevel

log = structlog.get_logger("bridge.command")

Result = TypeVar("Result")

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_CALL_ERROR: Final = 3
EXIT_NO_ANSWER: Final = 4
EXIT_STATION_OFFLINE: Final = 5
EXIT_INTERRUPTED: Final = 130


def fail(sentence: str, code: int = EXIT_FAILED) -> NoReturn:
    """End the command with one sentence on standard error."""
    typer.echo(f"dtbridge: {sentence}", err=True)
    raise typer.Exit(code)


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
    if scheduling is Scheduling.BATCH and sys.platform == "linux" and os.sched_getscheduler(0) == os.SCHED_OTHER:
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


def words(values: Sequence[str]) -> list[str]:
    """Values given one by one, or in one environment variable, separated by spaces or commas."""
    return [word for value in values for word in value.replace(",", " ").split()]


def broker_urls(values: Sequence[str]) -> list[URL]:
    """The hosts of a broker; ends the command if one of them is no URL."""
    try:
        return parse_urls(words(values))
    except ValueError as error:
        fail(str(error), EXIT_USAGE)


AmqpUrl = Annotated[
    list[str],
    typer.Option(
        envvar="DTBRIDGE_AMQP_URL",
        help="A broker, amqp:// or amqps://. Give the hosts of a cluster one by one; they are tried in turn. "
        "TLS takes ?cafile=…&certfile=…&keyfile=…; ?heartbeat=SECONDS is 10 unless given.",
    ),
]
LOCAL: Final = ["amqp://guest:guest@localhost:5672/"]
_PREFIX: Final = re.compile("[A-Za-z0-9._:-]{1,50}")
"""Fifty characters leave room in a name's 255 bytes for the longest vendor key and what stands before it."""


def _prefix(text: str) -> str:
    if not _PREFIX.fullmatch(text):
        raise typer.BadParameter("expected at most 50 letters, digits and . _ : -")
    return text


_EXCHANGE: Final = re.compile("[A-Za-z0-9-_.:@#,/+ ]{1,127}")
"""What the AMQP library takes for a name (AMQP 0-9-1 §1.1, exchange-name, allows less)."""


def exchange_name(text: str | None) -> str | None:
    """An option's check: the name of an exchange that can be declared."""
    if text is not None and not _EXCHANGE.fullmatch(text):
        raise typer.BadParameter("expected at most 127 letters, digits and - _ . : @ # , / + or spaces")
    return text


def finite(seconds: float | None) -> float | None:
    """An option's check: a number of seconds that a timer takes."""
    if seconds is not None and not math.isfinite(seconds):
        raise typer.BadParameter(f"{seconds} is not a number of seconds")
    return seconds


ConnectTimeout = Annotated[
    float,
    typer.Option(
        envvar="DTBRIDGE_CONNECT_TIMEOUT", min=0, callback=finite, help="Seconds to find a broker at the start."
    ),
]
DrainTimeout = Annotated[
    float,
    typer.Option(
        envvar="DTBRIDGE_DRAIN_TIMEOUT", min=0, callback=finite, help="Seconds to finish what is in hand at SIGTERM."
    ),
]
Prefix = Annotated[
    str, typer.Option(envvar="DTBRIDGE_PREFIX", callback=_prefix, help="How all exchanges and queues begin.")
]
LogFormatOption = Annotated[LogFormat, typer.Option(envvar="DTBRIDGE_LOG_FORMAT", help="How log lines look.")]
LogLevelOption = Annotated[LogLevel, typer.Option(envvar="DTBRIDGE_LOG_LEVEL", help="The least important lines.")]
