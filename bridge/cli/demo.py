"""``dtbridge demo``: stations, a gateway and a worker, over a real RabbitMQ."""

import importlib.util
from typing import Annotated

import typer

from bridge.cli.exits import EXIT_USAGE, fail
from bridge.cli.secrets import file_variable, secret
from bridge.demo import run_demo
from bridge.telemetry.logs import LogFormat, LogLevel, configure


def demo(
    amqp_url: Annotated[
        str | None,
        typer.Option(
            envvar="DTBRIDGE_AMQP_URL",
            callback=file_variable,
            help="A broker to use, or @FILE that holds it; else one is found, or started.",
        ),
    ] = None,
    count: Annotated[
        int, typer.Option(envvar="DTBRIDGE_COUNT", min=0, help="Requests of the burst.")
    ] = 2000,
    pace: Annotated[
        float, typer.Option(envvar="DTBRIDGE_PACE", min=0, help="Seconds between single messages.")
    ] = 0.05,
) -> None:
    """Play real vendor messages between charging stations, a gateway, a real RabbitMQ and a worker,
    and leave nothing behind.
    """
    if importlib.util.find_spec("websockets") is None:
        fail("the demo needs the extra: pip install 'datatransfer-bridge[gateway]'", EXIT_USAGE)
    configure(LogFormat.AUTO, LogLevel.ERROR)
    url = None if amqp_url is None else secret(amqp_url, "the broker's URL")
    raise typer.Exit(run_demo(url, count, pace))
