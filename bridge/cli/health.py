"""``dtbridge health``: how a worker or a gateway is. :mod:`bridge.cli.start` is its quick way."""

from typing import Annotated

import typer

from bridge.cli.exits import EXIT_FAILED, EXIT_USAGE, fail
from bridge.cli.options import finite
from bridge.cli.output import say
from bridge.cli.probe import LIVE, READY, TIMEOUT, printable, probe


def health(
    address: Annotated[
        str | None,
        typer.Argument(
            envvar="DTBRIDGE_ADDRESS", help="HOST:PORT, :PORT or http://HOST:PORT, as --http."
        ),
    ] = None,
    http: Annotated[
        str | None,
        typer.Option(envvar="DTBRIDGE_HTTP", help="Where it listens, as it was told by --http."),
    ] = None,
    live: Annotated[
        bool,
        typer.Option(
            "--live", envvar="DTBRIDGE_LIVE", help="Ask whether it is alive: nothing blocks it."
        ),
    ] = False,
    ready: Annotated[
        bool,
        typer.Option(
            "--ready", envvar="DTBRIDGE_READY", help="Ask whether it does its work. The default."
        ),
    ] = False,
    timeout: Annotated[
        float,
        typer.Option(
            envvar="DTBRIDGE_TIMEOUT",
            min=0.001,
            callback=finite,
            help="Seconds to wait for the answer.",
        ),
    ] = TIMEOUT,
) -> None:
    """Ask a worker or a gateway (run with --http) how it is. Exit code 0: well, 1: not."""
    if live and ready:
        fail("--live and --ready are two questions", EXIT_USAGE)
    asked = address or http
    if asked is None:
        fail("no address: give HOST:PORT, or set DTBRIDGE_HTTP", EXIT_USAGE)
    try:
        verdict = probe(asked, LIVE if live else READY, timeout)
    except ValueError as error:
        fail(str(error), EXIT_USAGE)
    say(printable(verdict.line))
    raise typer.Exit(0 if verdict.ok else EXIT_FAILED)
