"""``dtbridge top``: what a fleet of workers does at the moment."""

import asyncio
import contextlib
import sys
from typing import Annotated, Final

import rich.console
import rich.live
import typer

from bridge.cli.exits import EXIT_FAILED, EXIT_USAGE, fail
from bridge.cli.options import (
    LOCAL,
    NONE_GIVEN,
    AmqpUrl,
    LogLevelOption,
    ManagementUrl,
    Prefix,
    broker_urls,
    finite,
    management_hosts,
    words,
)
from bridge.cli.output import say
from bridge.cli.process import complete
from bridge.cli.tables import json_text, table_width
from bridge.cli.top_screen import screen
from bridge.dialects.names import PREFIX, Names
from bridge.telemetry.logs import LogFormat, LogLevel, configuring
from bridge.top.scraping import parse_workers
from bridge.top.view import Sort, View
from bridge.top.watching import Watcher

INTERVAL: Final = 2.0


def top(
    workers: Annotated[
        list[str],
        typer.Option(
            envvar="DTBRIDGE_TOP_WORKERS",
            help="Where workers and gateways serve their metrics (their --http): "
            "http://HOST:PORT. A name with several addresses is as many workers.",
        ),
    ] = NONE_GIVEN,
    amqp_url: AmqpUrl = LOCAL,
    management: ManagementUrl = NONE_GIVEN,
    prefix: Prefix = PREFIX,
    sort: Annotated[
        Sort, typer.Option(envvar="DTBRIDGE_TOP_SORT", help="What vendors are sorted by.")
    ] = Sort.RATE,
    interval: Annotated[
        float,
        typer.Option(
            envvar="DTBRIDGE_TOP_INTERVAL",
            min=0.2,
            max=3600,
            callback=finite,
            help="Seconds between two looks; rates and quantiles are of that time.",
        ),
    ] = INTERVAL,
    once: Annotated[
        bool,
        typer.Option("--once", envvar="DTBRIDGE_TOP_ONCE", help="Show it once, and end."),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", envvar="DTBRIDGE_JSON", help="Print JSON, an object a line for each look."
        ),
    ] = False,
    log_level: LogLevelOption = LogLevel.ERROR,
) -> None:
    """Show what vendors and workers do: rates, times, what waits, dead letters, sessions.

    From the metrics of the workers and the broker's own counts (its management API, or else AMQP).
    Ends at Ctrl-C. Where standard output is no terminal, it shows it once, unless it prints JSON.
    Exit code 1: neither a worker nor the broker answers.
    """
    brokers = broker_urls(amqp_url)
    hosts = management_hosts(management, brokers)
    try:
        urls = parse_workers(words(workers))
    except ValueError as error:
        fail(str(error), EXIT_USAGE)
    live = sys.stdout is not None and sys.stdout.isatty()
    once = once or not (live or as_json)
    watcher = Watcher(urls, brokers, hosts, Names(prefix), sort)
    with configuring(LogFormat.AUTO, log_level), contextlib.suppress(KeyboardInterrupt):
        if once:
            _print_once(complete(_look_once(watcher, interval)), as_json=as_json)
        elif as_json:
            complete(_print_always(watcher, interval))
        else:
            complete(_show(watcher, interval))


async def _look_once(watcher: Watcher, interval: float) -> View:
    """Twice, for the rates."""
    async with watcher:
        await watcher.look()
        await asyncio.sleep(interval)
        return await watcher.look()


def _print_once(view: View, *, as_json: bool) -> None:
    if as_json:
        say(json_text(view))
    else:
        width = table_width()
        console = rich.console.Console(width=width)
        with console.capture() as captured:
            console.print(screen(view, width, None))
        say(captured.get().removesuffix("\n"))
    if not view.broker and all(row.error for row in view.workers):
        fail("neither a worker nor the broker answers (--workers, --amqp-url)", EXIT_FAILED)


async def _print_always(watcher: Watcher, interval: float) -> None:
    async with watcher:
        while True:
            if not say(json_text(await watcher.look())):
                return
            await asyncio.sleep(interval)


async def _show(watcher: Watcher, interval: float) -> None:
    console = rich.console.Console()
    async with watcher:
        view = await watcher.look()
        with rich.live.Live(console=console, screen=True, auto_refresh=False) as shown:
            while True:
                size = console.size
                shown.update(screen(view, size.width, size.height), refresh=True)
                await asyncio.sleep(interval)
                view = await watcher.look()
