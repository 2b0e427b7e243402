"""``dtbridge doctor``: what may be wrong with a worker's surroundings, and what to do about it."""

import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Final, Literal

import typer
from yarl import URL

from bridge.cli.assembly import IN_MEMORY, NOWHERE, DialectName, check_store, make_dialect
from bridge.cli.exits import EXIT_FAILED, EXIT_USAGE, fail
from bridge.cli.options import (
    LOCAL,
    NONE_GIVEN,
    AmqpUrl,
    LogLevelOption,
    ManagementUrl,
    Prefix,
    broker_urls,
    exchange_name,
    finite,
    management_hosts,
    words,
)
from bridge.cli.output import say
from bridge.cli.process import complete
from bridge.cli.routers import load_routers
from bridge.cli.tables import json_text
from bridge.dialects.dialect import Dialect
from bridge.dialects.names import PREFIX
from bridge.dialects.partitions import partitions_of
from bridge.dialects.topology import Mode, QueueType
from bridge.doctor.facts import Surroundings, Vendors
from bridge.doctor.findings import Finding, Level, examine
from bridge.doctor.looking import CHECKS, look_around
from bridge.rabbitmq.connection import CONNECT_TIMEOUT
from bridge.routing.catalogue import catalogue
from bridge.telemetry.lines import escaped
from bridge.telemetry.logs import LogFormat, LogLevel, configuring

_COLOURS: Final = {
    Level.OK: typer.colors.GREEN,
    Level.WARN: typer.colors.YELLOW,
    Level.FAIL: typer.colors.RED,
    Level.UNKNOWN: typer.colors.BRIGHT_BLACK,
}
_MARGIN: Final = 24
"""Columns of level and check, before the sentence."""
_NARROWEST: Final = 60
_WIDEST: Final = 120
"""Columns of a line: a longer one is hard to read."""


def doctor(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            envvar="DTBRIDGE_TARGETS",
            metavar="MODULE:NAME…",
            help="Where the routers are; without them, no vendor's queue is looked at.",
        ),
    ] = None,
    amqp_url: AmqpUrl = LOCAL,
    management: ManagementUrl = NONE_GIVEN,
    topology: Annotated[
        Mode,
        typer.Option(
            envvar="DTBRIDGE_TOPOLOGY", help="As of dtbridge run: whether it needs to configure."
        ),
    ] = Mode.DECLARE,
    queue_type: Annotated[
        QueueType,
        typer.Option(envvar="DTBRIDGE_QUEUE_TYPE", help="As of dtbridge run."),
    ] = QueueType.QUORUM,
    prefix: Prefix = PREFIX,
    dialect: Annotated[
        DialectName, typer.Option(envvar="DTBRIDGE_DIALECT", help="As of dtbridge run.")
    ] = DialectName.NATIVE,
    gateway_exchange: Annotated[
        str | None,
        typer.Option(
            envvar="DTBRIDGE_GATEWAY_EXCHANGE",
            callback=exchange_name,
            help="As of dtbridge run.",
        ),
    ] = None,
    answer_within: Annotated[
        float | None,
        typer.Option(
            envvar="DTBRIDGE_ANSWER_WITHIN",
            min=1,
            max=3600,
            callback=finite,
            help="As of dtbridge run.",
        ),
    ] = None,
    idempotency: Annotated[
        str, typer.Option(envvar="DTBRIDGE_IDEMPOTENCY", help="As of dtbridge run.")
    ] = IN_MEMORY,
    connect_timeout: Annotated[
        float,
        typer.Option(
            envvar="DTBRIDGE_DOCTOR_CONNECT_TIMEOUT",
            min=0.1,
            callback=finite,
            help="Seconds for each of the broker's hosts.",
        ),
    ] = CONNECT_TIMEOUT,
    as_json: Annotated[
        bool, typer.Option("--json", envvar="DTBRIDGE_JSON", help="Print JSON.")
    ] = False,
    log_level: LogLevelOption = LogLevel.ERROR,
) -> None:
    """Look for what is wrong with broker, queues, rights, store and machine, and say what to do.

    It changes nothing. Give it the options and variables that the workers have. Exit code 0: all is
    well enough, 1: something does not work, or will be lost.
    """
    urls = broker_urls(amqp_url)
    hosts = management_hosts(management, urls)
    try:
        check_store(idempotency)
        spoken = make_dialect(dialect, prefix, exchange=gateway_exchange, patience=answer_within)
    except ValueError as error:
        fail(str(error), EXIT_USAGE)
    with configuring(LogFormat.AUTO, log_level):
        vendors = _vendors(targets or ())
        known = complete(
            _look(urls, hosts, spoken, vendors, topology, queue_type, idempotency, connect_timeout)
        )
    findings = list(examine(CHECKS, known))
    if as_json:
        counts = Counter(finding.level for finding in findings)
        say(
            json_text(
                {
                    "healthy": not counts[Level.FAIL],
                    "counts": {level.value: counts[level] for level in Level},
                    "findings": findings,
                },
                indent=2,
            )
        )
    else:
        _print_findings(findings)
    if any(finding.level is Level.FAIL for finding in findings):
        raise typer.Exit(EXIT_FAILED)


def _vendors(targets: Sequence[str]) -> Vendors | None:
    """What the routers handle. One that cannot be loaded is a finding, as all else is."""
    if not targets:
        return None
    if any("@" in target or "://" in target for target in targets):
        # It is not shown: it may hold a password.
        fail("a URL stands where MODULE:NAME is expected; a broker's is for --amqp-url", EXIT_USAGE)
    try:
        routers = load_routers(words(targets))
    except (ValueError, TypeError) as error:
        return Vendors(error=str(error))
    handled = {vendor.vendor_id: len(vendor.messages) for vendor in catalogue(routers)}
    return Vendors(handled, partitions=partitions_of(routers))


async def _look(
    urls: Sequence[URL],
    hosts: Sequence[URL],
    dialect: Dialect,
    vendors: Vendors | None,
    mode: Mode,
    queue_type: QueueType,
    idempotency: str,
    connect_timeout: float,
) -> Surroundings:
    kinds: dict[str, Literal["memory", "none"]] = {IN_MEMORY: "memory", NOWHERE: "none"}
    return await look_around(
        urls,
        hosts,
        dialect=dialect,
        vendors=vendors,
        mode=mode,
        queue_type=queue_type,
        redis_url=None if idempotency in kinds else idempotency,
        store_kind=kinds.get(idempotency, "redis"),
        connect_timeout=connect_timeout,
    )


# ---- what is shown ----


def _print_findings(findings: Sequence[Finding]) -> None:
    coloured = sys.stdout is not None and sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if coloured else _WIDEST
    for finding in findings:
        level = f"{finding.level.value:<8}"
        if coloured:
            level = typer.style(level, fg=_COLOURS[finding.level], bold=finding.level is Level.FAIL)
        first, *more = lines_of(finding, width)
        say(f"{level}{first}")
        for line in more:
            say(line)
    counts = Counter(finding.level for finding in findings)
    say("")
    say(
        f"{_counted(counts[Level.FAIL], 'failure')}, {_counted(counts[Level.WARN], 'warning')}, "
        f"{counts[Level.UNKNOWN]} unknown, {counts[Level.OK]} ok"
    )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def lines_of(finding: Finding, width: int) -> list[str]:
    """A finding in lines; the first lacks the eight columns of its level."""
    room = max(_NARROWEST, min(width, _WIDEST)) - _MARGIN
    lines = textwrap.wrap(escaped(finding.sentence), room, break_on_hyphens=False)
    if finding.advice:
        advice = textwrap.wrap(escaped(finding.advice), room - 3, break_on_hyphens=False)
        lines += [f"{'-> ' if not number else '   '}{line}" for number, line in enumerate(advice)]
    margin = " " * _MARGIN
    return [f"{finding.check:<{_MARGIN - 8}}{lines[0]}", *(margin + line for line in lines[1:])]
