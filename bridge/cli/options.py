"""What the parts of the command ``dtbridge`` share: options, how they end, and how they say what is wrong."""

import math
import re
from collections.abc import Sequence
from typing import Annotated, Final

import typer
from yarl import URL

from bridge.cli.exits import EXIT_USAGE, fail
from bridge.rabbitmq.urls import parse_urls
from bridge.telemetry.logs import LogFormat, LogLevel, get_logger

log = get_logger("bridge.cli")


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
        raise typer.BadParameter(
            "expected at most 127 letters, digits and - _ . : @ # , / + or spaces"
        )
    return text


def finite(seconds: float | None) -> float | None:
    """An option's check: a number of seconds that a timer takes."""
    if seconds is not None and not math.isfinite(seconds):
        raise typer.BadParameter(f"{seconds} is not a number of seconds")
    return seconds


ConnectTimeout = Annotated[
    float,
    typer.Option(
        envvar="DTBRIDGE_CONNECT_TIMEOUT",
        min=0,
        callback=finite,
        help="Seconds to find a broker at the start.",
    ),
]
DrainTimeout = Annotated[
    float,
    typer.Option(
        envvar="DTBRIDGE_DRAIN_TIMEOUT",
        min=0,
        callback=finite,
        help="Seconds to finish what is in hand at SIGTERM.",
    ),
]
Prefix = Annotated[
    str,
    typer.Option(
        envvar="DTBRIDGE_PREFIX", callback=_prefix, help="How all exchanges and queues begin."
    ),
]
LogFormatOption = Annotated[
    LogFormat, typer.Option(envvar="DTBRIDGE_LOG_FORMAT", help="How log lines look.")
]
LogLevelOption = Annotated[
    LogLevel, typer.Option(envvar="DTBRIDGE_LOG_LEVEL", help="The least important lines.")
]
