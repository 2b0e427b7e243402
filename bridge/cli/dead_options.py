"""What the commands of ``dtbridge dead`` share: their options, and the way to the queue.

Their variables begin with ``DTBRIDGE_DEAD_``: what is set for ``dtbridge send`` must not choose
what is deleted.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Final, TypeVar

import msgspec
import rich.console
import rich.progress
import typer

from bridge.cli.advice import with_advice
from bridge.cli.assembly import open_dead_letters
from bridge.cli.dead_output import no_letters_of
from bridge.cli.exits import EXIT_FAILED, EXIT_USAGE, fail
from bridge.cli.options import broker_urls, words
from bridge.cli.process import complete
from bridge.dead_letters.filter import Filter, parse_age, parse_id, parse_reasons, parse_time
from bridge.dead_letters.letter import REASONS
from bridge.dead_letters.queue import Choice, Progress, Sights, choice, resolve
from bridge.rabbitmq.browser import Browser
from bridge.telemetry.logs import LogFormat, LogLevel, configure
from bridge.transport import TransportError

Result = TypeVar("Result")

NAMED: Final = 10
"""Ids that are told of those that begin alike."""

Vendor = Annotated[
    str | None, typer.Option(envvar="DTBRIDGE_DEAD_VENDOR", help="Only those of this vendorId.")
]
Message = Annotated[
    str | None,
    typer.Option(
        envvar="DTBRIDGE_DEAD_MESSAGE",
        help="Only those with this messageId; '' for those without one.",
    ),
]
Station = Annotated[
    str | None,
    typer.Option(envvar="DTBRIDGE_DEAD_STATION", help="Only those of this charging station."),
]
ReasonOption = Annotated[
    list[str],
    typer.Option(
        "--reason",
        envvar="DTBRIDGE_DEAD_REASON",
        help=f"Only for these reasons: {', '.join(REASONS)}.",
    ),
]
OlderThan = Annotated[
    str | None,
    typer.Option(
        envvar="DTBRIDGE_DEAD_OLDER_THAN", help="Only those given up longer ago: 90s, 15m, 2h, 7d."
    ),
]
NewerThan = Annotated[
    str | None,
    typer.Option(
        envvar="DTBRIDGE_DEAD_NEWER_THAN",
        help="Only those given up more recently: 90s, 15m, 2h, 7d.",
    ),
]
Since = Annotated[
    str | None,
    typer.Option(
        envvar="DTBRIDGE_DEAD_SINCE",
        help="Only those given up then or later: yesterday, yesterday+01:00, 2026-03-01T14:30; "
        "UTC, unless an offset follows.",
    ),
]
Until = Annotated[
    str | None,
    typer.Option(
        envvar="DTBRIDGE_DEAD_UNTIL",
        help="Only those given up before: today, today+01:00, 2026-03-01T14:30; UTC, unless an "
        "offset follows.",
    ),
]
OnlyReplayed = Annotated[
    bool,
    typer.Option(
        "--replayed",
        envvar="DTBRIDGE_DEAD_REPLAYED",
        help="Only those that were replayed and came back.",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(envvar="DTBRIDGE_DEAD_LIMIT", min=1, help="The oldest so many at most."),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", envvar="DTBRIDGE_DEAD_DRY_RUN", help="Only count; change nothing."),
]
Yes = Annotated[bool, typer.Option("--yes", envvar="DTBRIDGE_DEAD_YES", help="Do not ask.")]
AsJson = Annotated[bool, typer.Option("--json", envvar="DTBRIDGE_JSON", help="Print JSON.")]
Ids = Annotated[
    list[str] | None,
    typer.Argument(
        envvar="DTBRIDGE_DEAD_IDS",
        metavar="ID…",
        help="Only these: ids of dead letters, or how they begin.",
    ),
]


def make_filter(
    *,
    vendor: str | None,
    message: str | None,
    station: str | None,
    reason: list[str],
    older_than: str | None,
    newer_than: str | None,
    since: str | None,
    until: str | None,
    replayed: bool,
) -> Filter:
    """What the options ask for. Ends the command if one of them makes no sense."""
    now = datetime.now(UTC)
    try:
        wanted = Filter(
            vendor=vendor,
            message=message,
            station=station,
            reasons=parse_reasons(words(reason)),
            older_than=None if older_than is None else parse_age(older_than),
            newer_than=None if newer_than is None else parse_age(newer_than),
            since=None if since is None else parse_time(since, now),
            until=None if until is None else parse_time(until, now),
            replayed=replayed,
        )
        wanted.span(now)
    except ValueError as error:
        fail(str(error), EXIT_USAGE)
    return wanted


def noting(wanted: Filter) -> Choice:
    """A choice by the filter as of now. If that names a vendor, others' letters are noted."""
    takes = choice(wanted.takes)
    return takes if wanted.vendor is None else Sights(takes, lambda letter: letter.vendor)


def say_if_unknown(wanted: Filter, takes: Choice) -> None:
    """Say on standard error which vendors have dead letters, if the one that was named has none."""
    if isinstance(takes, Sights) and (told := no_letters_of(wanted.vendor or "", takes.counts)):
        typer.echo(f"dtbridge: {told}", err=True)


class DeadCommand(msgspec.Struct):
    """The options that all commands here have, and what they do with them."""

    amqp_url: list[str]
    prefix: str
    log_level: LogLevel

    def run(self, work: Callable[[Browser, Progress], Awaitable[Result]]) -> Result:
        """Open the queue and await `work` with it, under a progress bar.

        Ends the command if the broker cannot be used.
        """

        async def once(queue: Browser, progress: Progress) -> tuple[bool, Result]:
            return True, await work(queue, progress)

        return self.run_in_turns(once)

    def run_in_turns(
        self, work: Callable[[Browser, Progress], Awaitable[tuple[bool, Result]]]
    ) -> Result:
        """As :meth:`run`, but the queue is opened again until `work` says that all is done."""
        urls = broker_urls(self.amqp_url)
        configure(LogFormat.AUTO, self.log_level)

        async def main() -> Result:
            while True:
                async with (
                    open_dead_letters(urls, prefix=self.prefix) as queue,
                    _bar(queue.count) as progress,
                ):
                    done, result = await work(queue, progress)
                if done:
                    return result

        try:
            return complete(main())
        except TransportError as error:
            fail(with_advice(error))


@asynccontextmanager
async def _bar(total: int) -> AsyncIterator[Progress]:
    """A progress bar on standard error, if that is a terminal."""
    console = rich.console.Console(stderr=True)
    columns = (
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(
        "dead letters read",
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("", total=total)
        yield lambda seen: progress.update(task, completed=seen)


def parse_ids(texts: Sequence[str]) -> list[str]:
    """Ids, or how they begin, each once. Ends the command at what cannot be one."""
    try:
        return list(dict.fromkeys(parse_id(text) for text in words(texts)))
    except ValueError as error:
        fail(str(error), EXIT_USAGE)


def find_ids(command: DeadCommand, starts: Sequence[str]) -> frozenset[str]:
    """The whole ids of dead letters.

    Ends the command, before anything is done to any of them, if one is not there, or the beginning
    of several is given.
    """
    if not starts:
        return frozenset()
    found = command.run(lambda queue, progress: resolve(queue, starts, progress))
    missing = [start for start, ids in found.items() if not ids]
    for start, ids in found.items():
        if len(ids) > 1:
            fail(ambiguous(start, ids), EXIT_USAGE)
    if missing:
        fail(f"there is no dead letter {', '.join(missing[:NAMED])}", EXIT_FAILED)
    return frozenset().union(*found.values())


def ambiguous(start: str, ids: frozenset[str]) -> str:
    """The sentence that several ids begin alike."""
    some = ", ".join(sorted(ids)[:NAMED])
    return f"{start} is the beginning of {len(ids)} dead letters: {some}"
