"""``dtbridge dead``: look at dead letters, try them again, delete them.

Looking changes nothing.
"""

import sys
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
import typer

from bridge.cli.dead_options import (
    AsJson,
    DeadCommand,
    DryRun,
    Ids,
    Limit,
    Message,
    NewerThan,
    OlderThan,
    OnlyReplayed,
    ReasonOption,
    Since,
    Station,
    Until,
    Vendor,
    Yes,
    ambiguous,
    find_ids,
    make_filter,
    noting,
    parse_ids,
    say_if_unknown,
)
from bridge.cli.dead_output import (
    Span,
    plan_lines,
    print_everything,
    print_letters,
    report_count,
    report_plan,
    report_replayed,
    why_left,
)
from bridge.cli.exits import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, fail
from bridge.cli.options import (
    LOCAL,
    NONE_GIVEN,
    AmqpUrl,
    LogLevelOption,
    Prefix,
    exchange_name,
    finite,
)
from bridge.cli.output import say
from bridge.cli.tables import json_text
from bridge.dead_letters.destinations import Destinations
from bridge.dead_letters.letter import ID_LENGTH, DeadLetter, everything
from bridge.dead_letters.queue import (
    Choice,
    Newest,
    Progress,
    count,
    find,
    newest,
    purge,
)
from bridge.dead_letters.replay import Plan, Replay, Replayed, plan
from bridge.dialects.names import PREFIX, Names
from bridge.rabbitmq.browser import Browser
from bridge.request.outcome import Reason
from bridge.telemetry.logs import LogLevel
from bridge.transport import Delivery

FEW: Final = 10
"""Dead letters that are replayed without a question. So many named by their ids are purged without
one."""

dead = typer.Typer(
    name="dead",
    help="Look at dead letters, try them again, delete them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


# ---- list ----


@dead.command("list")
def list_letters(
    vendor: Vendor = None,
    message: Message = None,
    station: Station = None,
    reason: ReasonOption = NONE_GIVEN,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    since: Since = None,
    until: Until = None,
    replayed: OnlyReplayed = False,
    limit: Annotated[
        int,
        typer.Option(envvar="DTBRIDGE_DEAD_LIMIT", min=1, help="The newest so many at most."),
    ] = 100,
    as_json: AsJson = False,
    amqp_url: AmqpUrl = LOCAL,
    prefix: Prefix = PREFIX,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """List dead letters, newest first. With --json, one object a line. The queue stays as it is."""
    wanted = make_filter(
        vendor=vendor,
        message=message,
        station=station,
        reason=reason,
        older_than=older_than,
        newer_than=newer_than,
        since=since,
        until=until,
        replayed=replayed,
    )

    takes = noting(wanted)

    async def work(queue: Browser, progress: Progress) -> Newest:
        return await newest(queue, takes, progress, limit)

    found = DeadCommand(amqp_url, prefix, log_level).run(work)
    if as_json:
        for letter in found.letters:
            say(json_text(letter))
    elif found.letters:
        print_letters(found.letters)
    else:
        say("There are no such dead letters.")
    say_if_unknown(wanted, takes)
    if found.count > limit:
        typer.echo(
            f"dtbridge: these are the newest {limit:,} of {found.count:,} (--limit shows more)",
            err=True,
        )


# ---- show ----


@dead.command()
def show(
    letter_id: Annotated[
        str,
        typer.Argument(metavar="ID", help="The id of a dead letter, or how it begins."),
    ],
    as_json: AsJson = False,
    amqp_url: AmqpUrl = LOCAL,
    prefix: Prefix = PREFIX,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Show all of one dead letter: its story, properties, headers and body. The queue stays as it
    is.
    """
    starts = parse_ids([letter_id])
    if len(starts) != 1:
        fail(f"expected one id, not {len(starts)}", EXIT_USAGE)
    [start] = starts

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

    match, ids = DeadCommand(amqp_url, prefix, log_level).run(work)
    if match is None:
        fail(f"there is no dead letter {start}")
    if len(ids) > 1:
        fail(ambiguous(start, frozenset(ids)), EXIT_USAGE)
    delivery, letter = match
    if as_json:
        say(json_text(everything(delivery, letter), indent=2))
    else:
        print_everything(everything(delivery, letter))


# ---- replay ----


@dead.command("replay")
def replay_letters(
    ids: Ids = None,
    vendor: Vendor = None,
    message: Message = None,
    station: Station = None,
    reason: ReasonOption = NONE_GIVEN,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    since: Since = None,
    until: Until = None,
    replayed: OnlyReplayed = False,
    include_expired: Annotated[
        bool,
        typer.Option(
            "--include-expired",
            envvar="DTBRIDGE_DEAD_INCLUDE_EXPIRED",
            help="Those that expired as well, although nobody waits for them any more.",
        ),
    ] = False,
    limit: Limit = None,
    rate: Annotated[
        float | None,
        typer.Option(
            envvar="DTBRIDGE_DEAD_RATE",
            min=0.01,
            callback=finite,
            help="So many a second at most; without it, as fast as the broker takes them.",
        ),
    ] = None,
    exchange: Annotated[
        list[str],
        typer.Option(
            envvar="DTBRIDGE_DEAD_EXCHANGE",
            help="An exchange that they may go back to besides the bridge's own.",
        ),
    ] = NONE_GIVEN,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
    amqp_url: AmqpUrl = LOCAL,
    prefix: Prefix = PREFIX,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Publish dead letters again to where they came from, oldest first.

    A dead letter is taken out of the queue once the broker has its request. What does not come from
    the bridge's own exchange and queues stays, unless --exchange allows it: where it came from is
    what its sender says. Those that expired stay unless they are asked for, by --include-expired,
    --reason expired or their ids. More than a few are replayed only after a question, or with
    --yes. Exit code 1: some could not be published and stay.
    """
    starts = parse_ids(ids or ())
    wanted = make_filter(
        vendor=vendor,
        message=message,
        station=station,
        reason=reason,
        older_than=older_than,
        newer_than=newer_than,
        since=since,
        until=until,
        replayed=replayed,
    )
    allowed = Destinations(Names(prefix), frozenset(map(_exchange_name, exchange)))
    command = DeadCommand(amqp_url, prefix, log_level)
    wanted = msgspec.structs.replace(wanted, ids=find_ids(command, starts))
    span = wanted.span(datetime.now(UTC))
    takes = noting(wanted)
    with_expired = include_expired or bool(starts) or Reason.EXPIRED in wanted.reasons

    def look() -> Plan:
        return command.run(
            lambda queue, seen: plan(
                queue, takes, seen, limit, allowed, include_expired=with_expired
            )
        )

    if dry_run:
        report_plan(look(), span, as_json=as_json)
        say_if_unknown(wanted, takes)
        return
    most = min(limit or FEW + 1, len(wanted.ids) or FEW + 1)
    planned = Plan()
    if not yes and most > FEW:
        planned = look()
        if not planned.tried:
            left = Replayed(expired=planned.expired, markers=planned.markers)
            report_replayed(left, as_json=as_json)
            say_if_unknown(wanted, takes)
            return
        _ask_about(planned, span)
        limit = planned.tried  # what has arrived since was not asked about
    replay = Replay(takes, allowed, limit=limit, include_expired=with_expired, rate=rate)

    async def work(queue: Browser, progress: Progress) -> tuple[bool, Replayed]:
        return await replay.go_on(queue, progress), replay.result

    try:
        result = command.run_in_turns(work)
    except KeyboardInterrupt:
        fail(
            f"interrupted after {replay.result.replayed:,} replayed; everything else is still "
            "there",
            EXIT_INTERRUPTED,
        )
    result.expired = max(result.expired, planned.expired)
    result.markers = max(result.markers, planned.markers)
    report_replayed(result, as_json=as_json)
    say_if_unknown(wanted, takes)
    if result.left:
        fail(why_left(result), EXIT_FAILED)


def _ask_about(found: Plan, span: Span) -> None:
    """Ask, if more than a few would be replayed. A no ends the command."""
    if found.replayed <= FEW:
        return
    if not sys.stdin.isatty():
        fail(
            f"{found.replayed:,} dead letters would be replayed and there is nobody to ask: "
            "say --yes, or --dry-run to see where they go",
            EXIT_USAGE,
        )
    for line in plan_lines(found, span):
        typer.echo(line, err=True)
    if not typer.confirm(f"Replay {found.replayed:,} dead letters?", err=True):
        fail("nothing was replayed")


def _exchange_name(text: str) -> str:
    return exchange_name(text) or text


# ---- purge ----


@dead.command("purge")
def purge_letters(
    ids: Ids = None,
    vendor: Vendor = None,
    message: Message = None,
    station: Station = None,
    reason: ReasonOption = NONE_GIVEN,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    since: Since = None,
    until: Until = None,
    replayed: OnlyReplayed = False,
    limit: Limit = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
    amqp_url: AmqpUrl = LOCAL,
    prefix: Prefix = PREFIX,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Delete dead letters for ever, oldest first.

    Only after a question, or with --yes, unless a few are named by their ids.
    """
    starts = parse_ids(ids or ())
    wanted = make_filter(
        vendor=vendor,
        message=message,
        station=station,
        reason=reason,
        older_than=older_than,
        newer_than=newer_than,
        since=since,
        until=until,
        replayed=replayed,
    )
    command = DeadCommand(amqp_url, prefix, log_level)
    few_are_named = 0 < len(starts) <= FEW
    if not yes and not dry_run and not few_are_named and not sys.stdin.isatty():
        fail(
            "purge deletes for ever and there is nobody to ask: say --yes, or --dry-run to count",
            EXIT_USAGE,
        )
    wanted = msgspec.structs.replace(wanted, ids=find_ids(command, starts))
    takes = noting(wanted)
    if dry_run:
        report_count(_count(command, takes, limit), "purged", as_json=as_json)
        say_if_unknown(wanted, takes)
        return
    if not yes and not few_are_named:
        limit = _agreed_to_purge(_count(command, takes, limit))

    async def work(queue: Browser, progress: Progress) -> int:
        return await purge(queue, takes, progress, limit)

    purged = command.run(work)
    say(msgspec.json.encode({"purged": purged}).decode() if as_json else f"Purged: {purged:,}.")
    say_if_unknown(wanted, takes)


def _count(command: DeadCommand, takes: Choice, limit: int | None) -> int:
    return command.run(lambda queue, progress: count(queue, takes, progress, limit))


def _agreed_to_purge(number: int) -> int:
    """Ask, and return how many may be deleted: what has arrived since was not asked about."""
    if number and not typer.confirm(f"Delete {number:,} dead letters for ever?", err=True):
        fail("nothing was purged")
    return number
