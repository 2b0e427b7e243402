"""The options that commands share, and the checks of their values."""

import math
import re
from collections.abc import Sequence
from typing import Annotated, Final

import typer
from yarl import URL

from bridge.cli.exits import EXIT_USAGE, fail
from bridge.cli.secrets import file_variable, secret
from bridge.rabbitmq.hosts import Hosts
from bridge.rabbitmq.management import management_urls
from bridge.rabbitmq.urls import HostOrder
from bridge.telemetry.logs import LogFormat, LogLevel

LOCAL: Final = ["amqp://guest:guest@localhost:5672/"]
"""A RabbitMQ on this machine, as it is installed."""


NONE_GIVEN: Final[list[str]] = []
"""The default of an option that can be given several times. Typer copies it."""


def words(values: Sequence[str]) -> list[str]:
    """All values, whether given one by one or in one text, separated by spaces or commas.

    Click takes an environment variable for one value.
    """
    return [word for value in values for word in value.replace(",", " ").split()]


def broker_urls(values: Sequence[str]) -> Hosts:
    """The hosts of a broker. Ends the command if one of them is not a URL."""
    try:
        return Hosts(values)
    except ValueError as error:
        fail(str(error), EXIT_USAGE)


def management_hosts(values: Sequence[str], brokers: Sequence[URL]) -> list[URL]:
    """Where the management API is; by default, on the broker's hosts.

    Ends the command if one of the values is not a URL.
    """
    texts = [secret(value, "the URL of the management API") for value in values]
    try:
        return management_urls(texts, brokers)
    except ValueError as error:
        fail(str(error), EXIT_USAGE)


_PREFIX: Final = re.compile("[A-Za-z0-9._:-]{1,50}")
"""Of a queue's name, which has at most 255 bytes, 50 leave enough for the longest vendor key (200)
and the dots in between."""

_EXCHANGE: Final = re.compile("[A-Za-z0-9-_.:@#,/+ ]{1,127}")
"""What the AMQP library takes for a name. AMQP 0-9-1 §1.1, exchange-name, allows less."""


def prefix(text: str) -> str:
    """Checks how names begin. Raises BadParameter for what cannot be part of a name."""
    if not _PREFIX.fullmatch(text):
        raise typer.BadParameter("expected at most 50 letters, digits and . _ : -")
    return text


def exchange_name(text: str | None) -> str | None:
    """Checks the name of an exchange. Raises BadParameter for one that cannot be declared."""
    if text is not None and not _EXCHANGE.fullmatch(text):
        raise typer.BadParameter(
            "expected at most 127 letters, digits and - _ . : @ # , / + or spaces"
        )
    return text


def reply_prefixes(values: list[str]) -> list[str]:
    """Checks how reply queues may begin. Raises BadParameter for nothing: every queue does so."""
    if any(not words([value]) for value in values):
        raise typer.BadParameter("an empty one would allow every queue")
    return values


def finite(seconds: float | None) -> float | None:
    """Checks a number of seconds. Raises BadParameter for NaN and infinity: no timer takes them."""
    if seconds is not None and not math.isfinite(seconds):
        raise typer.BadParameter(f"{seconds} is not a number of seconds")
    return seconds


AmqpUrl = Annotated[
    list[str],
    typer.Option(
        envvar="DTBRIDGE_AMQP_URL",
        callback=file_variable,
        help="A broker, amqp:// or amqps://, or @FILE that holds it: others see what is given "
        "here. Give the hosts of a cluster one by one; they are tried in turn. TLS takes "
        "?cafile=…&certfile=…&keyfile=…&keypassfile=…; ?heartbeat=SECONDS is 10 unless given.",
    ),
]
ManagementUrl = Annotated[
    list[str],
    typer.Option(
        "--management",
        envvar="DTBRIDGE_MANAGEMENT",
        callback=file_variable,
        help="RabbitMQ's management API, http:// or https://, or @FILE that holds it. By default, "
        "the broker's hosts at port 15672 (amqps: 15671), with the broker's login.",
    ),
]
HostOrderOption = Annotated[
    HostOrder,
    typer.Option(
        envvar="DTBRIDGE_HOST_ORDER",
        help="Which of several hosts is tried first: random, or the first given.",
    ),
]
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
        envvar="DTBRIDGE_PREFIX", callback=prefix, help="How all exchanges and queues begin."
    ),
]
ConnectionName = Annotated[
    str, typer.Option(envvar="DTBRIDGE_NAME", help="Shown in the broker's list of connections.")
]
LogFormatOption = Annotated[
    LogFormat,
    typer.Option(
        envvar="DTBRIDGE_LOG_FORMAT",
        help="How log lines look; none: logging is not configured.",
    ),
]
LogLevelOption = Annotated[
    LogLevel, typer.Option(envvar="DTBRIDGE_LOG_LEVEL", help="The least important lines.")
]
