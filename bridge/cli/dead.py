"""``dtbridge dead``: look at dead letters, try them again, delete them.

Looking changes nothing.
"""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Annotated, Any, Final, TypeVar

import msgspec
import rich.console
import rich.progress
import rich.table
import rich.text
import typer

from bridge.cli.assembly import open_dead_letters
from bridge.cli.exits import EXIT_FAILED, EXIT_USAGE, fail
from bridge.cli.options import (
    LOCAL,
    NONE_GIVEN,
    AmqpUrl,
    LogLevelOption,
    Prefix,
    broker_urls,
    exchange_name,
    words,
)
from bridge.cli.output import say
from bridge.cli.process import complete
from bridge.cli.tables import json_text, print_table, printable
from bridge.dead_letters.destinations import Destinations, describe
from bridge.dead_letters.filter import Filter, parse_age, parse_id, parse_reasons
from bridge.dead_letters.letter import ID_LENGTH, REASONS, DeadLetter, everything
from bridge.dead_letters.queue import (
    Choice,
    Plan,
    Progress,
    Replayed,
    choice,
    find,
    plan,
    purge,
    replay,
)
from bridge.dialects.names import PREFIX, Names
from bridge.rabbitmq.browser import Browser
from bridge.telemetry.logs import LogFormat, LogLevel, configure
from bridge.transport import Delivery, TransportError

Result = TypeVar("Result")

DESTINATIONS_SHOWN: Final = 20
"""Lines of a dry run."""

dead = typer.Typer(
    name="dead",
    help="Look at dead letters, try them again, delete them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

# ---- options ----

Vendor = Annotated[
    str | None, typer.Option(envvar="DTBRIDGE_VENDOR", help="Only those of this vendorId.")
]
Message = Annotated[
    str | None,
    typer.Option(
        envvar="DTBRIDGE_MESSAGE", help="Only those with this messageId; '' for those without one."
    ),
]
Station = Annotated[
    str | None, typer.Option(envvar="DTBRIDGE_STATION", help="Only those of this charging station.")
]
ReasonOption = Annotated[
    list[str],
    typer.Option(
        "--reason", envvar="DTBRIDGE_REASON", help=f"Only for these reasons: {', '.join(REASONS)}."
    ),
]
OlderThan = Annotated[
    str | None,
    typer.Option(
        envvar="DTBRIDGE_OLDER_THAN", help="Only those given up longer ago: 90s, 15m, 2h, 7d."
    ),
]
NewerThan = Annotated[
    str | None,
    typer.Option(
        envvar="DTBRIDGE_NEWER_THAN", help="Only those given up more recently: 90s, 15m, 2h, 7d."
    ),
]
Limit = Annotated[
    int | None, typer.Option(envvar="DTBRIDGE_LIMIT", min=1, help="The oldest so many at most.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", envvar="DTBRIDGE_DRY_RUN", help="Only count; change nothing.")
]
AsJson = Annotated[bool, typer.Option("--json", envvar="DTBRIDGE_JSON", help="Print JSON.")]


def _wanted(
    vendor: str | None,
    message: str | None,
    station: str | None,
    reason: list[str],
    older_than: str | None,
    newer_than: str | None,
) -> Choice:
    try:
        wanted = Filter(
            vendor=vendor,
            message=message,
            station=station,
            reasons=parse_reasons(words(reason)),
            older_than=None if older_than is None else parse_age(older_than),
            newer_than=None if newer_than is None else parse_age(newer_than),
        )
    except ValueError as error:
        fail(str(error), EXIT_USAGE)
    return choice(wanted.takes)


class _Command(msgspec.Struct):
    """The options that all commands here have, and what they do with them."""

    amqp_url: list[str]
    prefix: str
    log_level: LogLevel

    def run(self, work: Callable[[Browser, Progress], Awaitable[Result]]) -> Result:
        """Open the queue and await `work` with it, under a progress bar.

        Ends the command if the broker cannot be used.
        """
        urls = broker_urls(self.amqp_url)
        configure(LogFormat.AUTO, self.log_level)

        async def main() -> Result:
            async with (
                open_dead_letters(urls, prefix=self.prefix) as queue,
                _bar(queue.count) as progress,
            ):
                return await work(queue, progress)

        try:
            return complete(main())
        except TransportError as error:
            fail(str(error))


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


# ---- list ----


@dead.command("list")
def list_letters(
    vendor: Vendor = None,
    message: Message = None,
    station: Station = None,
    reason: ReasonOption = NONE_GIVEN,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    limit: Annotated[
        int, typer.Option(envvar="DTBRIDGE_LIMIT", min=1, help="The oldest so many at most.")
    ] = 100,
    as_json: AsJson = False,
    amqp_url: AmqpUrl = LOCAL,
    prefix: Prefix = PREFIX,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """List dead letters, oldest first. With --json, one object a line. The queue stays as it is."""
    wanted = _wanted(vendor, message, station, reason, older_than, newer_than)

    async def work(queue: Browser, progress: Progress) -> list[DeadLetter]:
        async with aclosing(find(queue, wanted, progress)) as found:
            letters = []
            async for _, letter in found:
                letters.append(letter)
                if len(letters) > limit:
                    break
            return letters

    letters = _Command(amqp_url, prefix, log_level).run(work)
    shown = letters[:limit]
    if as_json:
        for letter in shown:
            say(json_text(letter))
    elif shown:
        _print_table(shown)
    else:
        say("There are no such dead letters.")
    if len(letters) > limit:
        typer.echo(f"dtbridge: these are the oldest {limit:,}; there are more (--limit)", err=True)


def _print_table(letters: list[DeadLetter]) -> None:
    table = rich.table.Table(
        "id",
        "given up (UTC)",
        "reason",
        "vendor",
        "message",
        "station",
        "tries",
        "goes back to",
        "error",
    )
    for column in table.columns[:3]:
        column.no_wrap = True
    for letter in letters:
        cells = (
            letter.id,
            _time_of(letter),
            letter.reason,
            letter.vendor,
            letter.message,
            letter.station,
            "" if letter.attempts is None else str(letter.attempts),
            describe(letter),
            letter.error,
        )
        table.add_row(*(rich.text.Text(printable(cell)) for cell in cells))
    print_table(table)


def _time_of(letter: DeadLetter) -> str:
    return letter.failed_at.strftime("%Y-%m-%d %H:%M:%S") if letter.failed_at else ""


# ---- show ----


@dead.command()
def show(
    letter_id: Annotated[
        str,
        typer.Argument(
            envvar="DTBRIDGE_ID", metavar="ID", help="The id of a dead letter, or how it begins."
        ),
    ],
    as_json: AsJson = False,
    amqp_url: AmqpUrl = LOCAL,
    prefix: Prefix = PREFIX,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Show all of one dead letter: its story, properties, headers and body. The queue stays as it
    is.
    """
    try:
        start = parse_id(letter_id)
    except ValueError as error:
        fail(str(error), EXIT_USAGE)

    async def work(
        queue: Browser, progress: Progress
    ) -> tuple[tuple[Delivery, DeadLetter] | None, set[str]]:
        """The first one, and all ids: the beginning of one may be that of several."""
        first: tuple[Delivery, DeadLetter] | None = None
        ids: set[str] = set()
        async with aclosing(
            find(queue, lambda letter: letter.id.startswith(start), progress)
        ) as found:
            async for delivery, letter in found:
                first = first or (delivery, letter)
                ids.add(letter.id)
                if len(start) == ID_LENGTH:
                    break
        return first, ids

    match, ids = _Command(amqp_url, prefix, log_level).run(work)
    if match is None:
        fail(f"there is no dead letter {start}")
    if len(ids) > 1:
        some = ", ".join(sorted(ids)[:10])
        fail(f"{start} is the beginning of {len(ids)} dead letters: {some}", EXIT_USAGE)
    delivery, letter = match
    if as_json:
        say(json_text(everything(delivery, letter), indent=2))
    else:
        _print_all(everything(delivery, letter))


def _print_all(parts: dict[str, Any]) -> None:
    for name, value in parts.items():
        if isinstance(value, dict):
            say(f"{name}:")
            for inner, item in value.items():
                say(f"  {printable(inner)}: {_one_line(item)}")
        else:
            say(f"{name}: {_one_line(value)}")


def _one_line(value: Any) -> str:
    if value is None:
        return "-"
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode().strip('"')
    return printable(text)


# ---- replay ----


@dead.command("replay")
def replay_letters(
    vendor: Vendor = None,
    message: Message = None,
    station: Station = None,
    reason: ReasonOption = NONE_GIVEN,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    limit: Limit = None,
    exchange: Annotated[
        list[str],
        typer.Option(
            envvar="DTBRIDGE_EXCHANGE",
            help="An exchange that they may go back to besides the bridge's own.",
        ),
    ] = NONE_GIVEN,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    amqp_url: AmqpUrl = LOCAL,
    prefix: Prefix = PREFIX,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Publish dead letters again to where they came from, oldest first.

    A dead letter is taken out of the queue once the broker has its request. What does not come from
    the bridge's own exchange and queues stays, unless --exchange allows it: where it came from is
    what its sender says. Exit code 1: some could not be published and stay.
    """
    wanted = _wanted(vendor, message, station, reason, older_than, newer_than)
    allowed = Destinations(Names(prefix), frozenset(map(_exchange_name, exchange)))
    command = _Command(amqp_url, prefix, log_level)
    if dry_run:
        _report_plan(
            command.run(lambda queue, seen: plan(queue, wanted, seen, limit, allowed)),
            as_json=as_json,
        )
        return

    async def work(queue: Browser, progress: Progress) -> Replayed:
        return await replay(queue, wanted, progress, limit, allowed)

    result = command.run(work)
    if as_json:
        say(msgspec.json.encode(result).decode())
    else:
        say(f"Replayed: {result.replayed:,}.")
    if result.left:
        whys = {
            "no queue takes them": result.unroutable,
            "refused by the broker": result.refused,
            "without a place to go back to": result.impossible,
            "not from the bridge's own exchange or queues (--dry-run shows from where)": (
                result.elsewhere
            ),
        }
        fail(
            f"{result.left:,} could not be replayed and stay: "
            + ", ".join(f"{count:,} {why}" for why, count in whys.items() if count),
            EXIT_FAILED,
        )


def _exchange_name(text: str) -> str:
    return exchange_name(text) or text


def _report_plan(found: Plan, *, as_json: bool) -> None:
    if as_json:
        say(
            json_text({"dry_run": True, "replayed": found.replayed} | msgspec.structs.asdict(found))
        )
        return
    say(f"Would be replayed: {found.replayed:,}.")
    _print_destinations(found.destinations)
    if found.elsewhere:
        say(
            f"Would stay, because they are not from the bridge's own exchange or queues "
            f"(--exchange allows an exchange): {sum(found.elsewhere.values()):,}."
        )
        _print_destinations(found.elsewhere)
    if found.impossible:
        say(f"Would stay, because they do not say where they came from: {found.impossible:,}.")


def _print_destinations(counts: dict[str, int]) -> None:
    """The most frequent ones."""
    by_count = sorted(counts, key=lambda name: (-counts[name], name))
    for name in by_count[:DESTINATIONS_SHOWN]:
        say(f"  {counts[name]:,} to {printable(name) or 'others'}")
    rest = by_count[DESTINATIONS_SHOWN:]
    if rest:
        say(f"  {sum(counts[name] for name in rest):,} to {len(rest):,} others")


def _count(command: _Command, wanted: Choice, limit: int | None) -> int:
    async def work(queue: Browser, progress: Progress) -> int:
        count = 0
        async with aclosing(find(queue, wanted, progress)) as found:
            async for _ in found:
                count += 1
                if count == limit:
                    break
        return count

    return command.run(work)


def _report_dry_run(count: int, what: str, *, as_json: bool) -> None:
    if as_json:
        say(msgspec.json.encode({"dry_run": True, what: count}).decode())
    else:
        say(f"Would be {what}: {count:,}.")


# ---- purge ----


@dead.command("purge")
def purge_letters(
    vendor: Vendor = None,
    message: Message = None,
    station: Station = None,
    reason: ReasonOption = NONE_GIVEN,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", envvar="DTBRIDGE_YES", help="Do not ask.")] = False,
    as_json: AsJson = False,
    amqp_url: AmqpUrl = LOCAL,
    prefix: Prefix = PREFIX,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Delete dead letters for ever, oldest first."""
    wanted = _wanted(vendor, message, station, reason, older_than, newer_than)
    command = _Command(amqp_url, prefix, log_level)
    if dry_run:
        _report_dry_run(_count(command, wanted, limit), "purged", as_json=as_json)
        return
    if not yes:
        limit = _confirmed(command, wanted, limit)

    async def work(queue: Browser, progress: Progress) -> int:
        return await purge(queue, wanted, progress, limit)

    count = command.run(work)
    say(msgspec.json.encode({"purged": count}).decode() if as_json else f"Purged: {count:,}.")


def _confirmed(command: _Command, wanted: Choice, limit: int | None) -> int:
    """Ask, and return how many may be deleted: what has arrived since was not asked about."""
    if not sys.stdin.isatty():
        fail(
            "purge deletes for ever and there is nobody to ask: say --yes, or --dry-run to count",
            EXIT_USAGE,
        )
    count = _count(command, wanted, limit)
    if count and not typer.confirm(f"Delete {count:,} dead letters for ever?", err=True):
        fail("nothing was purged")
    return count
