"""``dtbridge topology apply`` and ``migrate``: what changes a broker."""

from collections.abc import Sequence
from typing import Annotated, Final, TypedDict

import msgspec
import typer

from bridge.cli.assembly import DialectName
from bridge.cli.changes import counted, lines_of
from bridge.cli.exits import EXIT_DIFFERENT, EXIT_FAILED, EXIT_USAGE, fail
from bridge.cli.options import (
    LOCAL,
    NONE_GIVEN,
    AmqpUrl,
    LogLevelOption,
    ManagementUrl,
    Prefix,
    words,
)
from bridge.cli.output import say
from bridge.cli.routers import Targets
from bridge.cli.tables import json_text, printable
from bridge.cli.topology_options import (
    CONNECTION,
    AnswerWithin,
    AsJson,
    Command,
    DialectOption,
    Events,
    GatewayExchange,
    Patience,
    QueueTypeOption,
    Yes,
    command_of,
    confirmed,
    run,
)
from bridge.cli.topology_words import (
    about_partitions,
    ending,
    given_up,
    some,
    still_consumed,
    unknown_vendors,
    waits,
    weakening,
)
from bridge.dialects.names import PREFIX
from bridge.dialects.partitions import own_queue
from bridge.dialects.topology import ExchangeBinding, Part, Purpose, QueueBinding, QueueType
from bridge.rabbitmq.changing import Changes, open_changes
from bridge.rabbitmq.declaring import refusals
from bridge.rabbitmq.difference import Difference, Mark, binding_name
from bridge.rabbitmq.migrating import PATIENCE, Migration, OnStep, Outcome, aside
from bridge.rabbitmq.repartitioning import Repartitioning, ways_of
from bridge.rabbitmq.retiring import Retired, retire, retire_partitions
from bridge.rabbitmq.waiting import Expected, expected
from bridge.telemetry.logs import LogLevel
from bridge.transport import TransportError

ALL: Final = "all"
"""Of ``--prune``: all retired queues."""
GOES_ON: Final = "; run it again, and it goes on"
TOLD: Final = frozenset(
    {"taken up", "switched", "switched back", "drained", "done", "given up", "as it was"}
)
"""Steps of a migration that are told of each queue. From ``switched`` on, its requests wait."""

# ---- apply ----


class _Applied(msgspec.Struct):
    created: int
    pruned: list[Retired]
    left: list[str]
    """Sentences about what could not be created or deleted."""
    different: int = 0
    """What differs, and is not changed here."""


def apply(
    targets: Targets,
    prune: Annotated[
        list[str],
        typer.Option(
            envvar="DTBRIDGE_PRUNE",
            help="A retired queue, its vendorId, or all: unbind it, have what is in it answered "
            "UnknownVendorId, and delete it.",
        ),
    ] = NONE_GIVEN,
    amqp_url: AmqpUrl = LOCAL,
    management: ManagementUrl = NONE_GIVEN,
    prefix: Prefix = PREFIX,
    queue_type: QueueTypeOption = QueueType.QUORUM,
    dialect: DialectOption = DialectName.NATIVE,
    gateway_exchange: GatewayExchange = None,
    answer_within: AnswerWithin = None,
    events: Events = False,
    patience: Patience = PATIENCE,
    yes: Yes = False,
    as_json: AsJson = False,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Create what is missing; with --prune, retire queues of vendors too.

    Nothing else is changed or deleted. Exit code 3: something still differs.
    """
    command = command_of(
        targets,
        amqp_url,
        management,
        prefix,
        queue_type,
        dialect,
        gateway_exchange,
        answer_within,
        log_level,
        events=events,
    )
    difference = run(command.look)
    retired = _to_prune(command, difference, words(prune))
    missing = difference.of(Mark.MISSING)
    applied = _Applied(0, [], [])
    if missing or retired or difference.unseen:
        shown = [*missing, *(each for each in difference.findings if each.name in retired)]
        if not as_json:
            for line in lines_of(shown):
                say(line)
        question = f"Create what is missing ({len(missing):,})"
        if retired:
            question += f" and delete {counted(len(retired), 'queue')}"
        confirmed(f"{question}?", yes=yes)
        applied = run(lambda: _apply(command, difference, retired, patience), GOES_ON)
    applied.different = len(difference.of(Mark.DIFFERENT))
    if as_json:
        say(json_text(applied))
    else:
        say(f"Created: {applied.created:,}. Deleted: {len(applied.pruned):,}.")
        for each in applied.pruned:
            say(f"  {printable(each.queue)}: {counted(each.moved, 'message')} moved")
        if applied.different:
            say(
                f"{applied.different:,} {'differs' if applied.different == 1 else 'differ'}, which "
                "this command does not change: `dtbridge topology plan` shows what to do."
            )
    if applied.left:
        fail("; ".join(applied.left))
    if applied.different:
        raise typer.Exit(EXIT_DIFFERENT)


def _to_prune(command: Command, difference: Difference, vendors: Sequence[str]) -> list[str]:
    """The names of the queues that are to be deleted."""
    if not vendors:
        return []
    if command.requests is None:
        fail("--prune is for the native dialect: in others, vendors have no queues", EXIT_USAGE)
    if difference.unseen:
        fail(f"--prune needs the management API: {difference.unseen[-1]}")
    retired = [finding.name for finding in difference.of(Mark.RETIRED)]
    if ALL in vendors:
        return retired
    found = {finding.name for finding in difference.findings}
    names = [
        each if each in found else command.dialect.names.vendor_queue(each) for each in vendors
    ]
    also = [each for each in retired if own_queue(each) in names and each not in names]
    consumed = {each.name: each for each in difference.of(Mark.UNKNOWN) if each.consumers}
    wanted = {queue.name for queue in command.topology.queues}
    for vendor, name in zip(vendors, names, strict=True):
        if name in retired:
            continue
        if name in wanted:
            fail(f"{vendor!r} is handled by a router that was given", EXIT_USAGE)
        if name in consumed:
            who = ", ".join(consumed[name].consumers)
            fail(f"queue {name!r} is still consumed by {who}: stop those workers first")
        others = f": retired are {some(retired)}" if retired else ", nor of any other"
        fail(f"there is no retired queue of the vendor {vendor!r}{others}")
    return names + also


async def _apply(
    command: Command, difference: Difference, retired: Sequence[str], patience: float
) -> _Applied:
    async with open_changes(command.urls, CONNECTION) as changes:
        under_way = await _under_way(command, changes, difference)
        different = {each.name for each in difference.of(Mark.DIFFERENT)}
        parts = [
            part
            for part in command.topology.parts
            if _guard_of(part) not in under_way and _name_of(part) not in different
        ]
        refused = await refusals(changes.connection.connection, parts, passive=False)
        left = [str(error) for _, error in refused]
        created = len(difference.of(Mark.MISSING)) - len(refused)
        pruned: list[Retired] = []
        if retired and not left:
            management = await command.open_management()
            await retire_partitions(
                changes, management, command.vhost, retired, names=command.dialect.names
            )
            for queue in retired:
                try:
                    gone = await retire(
                        changes,
                        management,
                        command.vhost,
                        queue,
                        names=command.dialect.names,
                        name=CONNECTION,
                        patience=patience,
                    )
                except TransportError as error:
                    left.append(str(error))
                else:
                    pruned.append(gone)
        return _Applied(max(0, created), pruned, left)


def _name_of(part: Part) -> str:
    """As a finding has it."""
    return binding_name(part) if isinstance(part, QueueBinding | ExchangeBinding) else part.name


def _guard_of(part: Part) -> str:
    return part.guard if isinstance(part, QueueBinding | ExchangeBinding) else part.name


async def _under_way(command: Command, changes: Changes, difference: Difference) -> frozenset[str]:
    """Queues in the middle of a migration: to bind them would have requests come twice."""
    names = [queue.name for queue in command.topology.queues]
    if not difference.unseen:
        found = {finding.name for finding in difference.findings}
        return frozenset(name for name in names if aside(name) in found)
    return frozenset([name for name in names if await changes.look(aside(name)) is not None])


# ---- migrate ----


def migrate(
    targets: Targets,
    vendor: Annotated[
        list[str],
        typer.Option(envvar="DTBRIDGE_VENDORS", help="Only the queues of these vendors."),
    ] = NONE_GIVEN,
    amqp_url: AmqpUrl = LOCAL,
    management: ManagementUrl = NONE_GIVEN,
    prefix: Prefix = PREFIX,
    queue_type: QueueTypeOption = QueueType.QUORUM,
    dialect: DialectOption = DialectName.NATIVE,
    gateway_exchange: GatewayExchange = None,
    answer_within: AnswerWithin = None,
    patience: Patience = PATIENCE,
    weaken: Annotated[
        bool,
        typer.Option(
            "--weaken",
            envvar="DTBRIDGE_WEAKEN",
            help="Take replication, limits or bounds from queues, if the options say so.",
        ),
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Give queues the arguments that they must have, without losing a message.

    Gateways go on publishing and workers go on consuming; requests wait for some seconds, or as
    long as workers need for what they have in hand. Killed at any point, it goes on when it is run
    again. Exit code 1: some queues are as they were. Exit code 3: the number of partitions is
    another, and workers still consume the old ones.
    """
    command = command_of(
        targets,
        amqp_url,
        management,
        prefix,
        queue_type,
        dialect,
        gateway_exchange,
        answer_within,
        log_level,
    )
    vendors = words(vendor)
    _check_vendors(command, vendors)
    difference = run(command.look)
    if difference.unseen:
        fail(f"a migration needs the management API: {difference.unseen[-1]}")
    spread = _to_repartition(command, difference, vendors)
    wanted = _to_migrate(command, difference, vendors, spread)
    outcome = Outcome()
    if wanted or spread:
        names = {*wanted, *map(aside, wanted)}
        shown = [
            each
            for each in difference.of(Mark.DIFFERENT)
            if each.name in names or each.partitions_of in spread
        ]
        if not as_json:
            for line in lines_of(shown):
                say(line)
        question = _question(wanted, spread)
        if not weaken and (weaker := weakening(shown)):
            fail(weaker, EXIT_USAGE)
        if not as_json:
            for line in waits(run(lambda: _expected(command, wanted)), patience):
                say(line)
        confirmed(question, yes=yes)
        outcome = run(lambda: _migrate(command, wanted, spread, patience, quiet=as_json), GOES_ON)
    if as_json:
        say(json_text(outcome))
    else:
        say(ending(outcome))
        for line in about_partitions(outcome):
            say(line)
        differ = {
            each.name
            for each in difference.of(Mark.DIFFERENT)
            if each.kind == "queue" and each.partitions_of not in spread
        }
        left = differ - {*outcome.migrated, *map(aside, outcome.migrated)}
        if left and len(left) < len(command.topology.queues):
            say(
                f"{counted(len(left), 'queue')} still {'differs' if len(left) == 1 else 'differ'}: "
                "until all are migrated, start workers with --topology verify."
            )
        elif not left and set(outcome.migrated) - set(spread):
            say(f"From now on, start workers with --queue-type {queue_type.value}.")
    if outcome.given_up:
        fail(given_up(outcome), EXIT_FAILED)
    if outcome.still_consumed:
        fail(still_consumed(outcome), EXIT_DIFFERENT)


def _check_vendors(command: Command, vendors: Sequence[str]) -> None:
    """Ends the command if one of them has no queue of its own that a router given is for."""
    if vendors and command.requests is None:
        fail("--vendor is for the native dialect: in others, vendors have no queues", EXIT_USAGE)
    names = command.dialect.names
    handled = {names.vendor_queue(each) for each in command.vendors}
    unknown = [each for each in vendors if names.vendor_queue(each) not in handled]
    if unknown:
        fail(unknown_vendors(unknown, command.vendors), EXIT_USAGE)


async def _expected(command: Command, wanted: Sequence[str]) -> list[Expected]:
    """How long requests will wait of queues that are to be migrated."""
    management = await command.open_management()
    purposes = {queue.name: queue.purpose for queue in command.topology.queues}
    return [
        expected(queue)
        for queue in await management.queues(command.vhost, command.own)
        if queue.name in wanted and purposes[queue.name] is Purpose.REQUESTS
    ]


def _question(wanted: Sequence[str], spread: Sequence[str]) -> str:
    told = [f"migrate {counted(len(wanted), 'queue')}"] if wanted else []
    if spread:
        told.append(f"give {counted(len(spread), 'vendor')} another number of partitions")
    text = " and ".join(told)
    return f"{text[0].upper()}{text[1:]}?"


def _to_repartition(command: Command, difference: Difference, vendors: Sequence[str]) -> list[str]:
    """The vendors that have another number of partitions than their routers say, by their own
    queues.
    """
    found = {each.partitions_of for each in difference.of(Mark.DIFFERENT) if each.partitions_of}
    chosen = {command.dialect.names.vendor_queue(vendor) for vendor in vendors}
    return sorted(found & chosen if vendors else found)


def _to_migrate(
    command: Command, difference: Difference, vendors: Sequence[str], spread: Sequence[str]
) -> list[str]:
    found = {finding.name for finding in difference.of(Mark.DIFFERENT)}
    names = [
        queue.name
        for queue in command.topology.queues
        if (queue.name in found or aside(queue.name) in found) and queue.name not in spread
    ]
    if not vendors:
        return names
    chosen = {command.dialect.names.vendor_queue(vendor) for vendor in vendors}
    return [name for name in names if own_queue(name) in chosen]


class _How(TypedDict):
    """What both kinds of migration are given."""

    prefix: str
    name: str
    on_step: OnStep
    patience: float


async def _migrate(
    command: Command,
    wanted: Sequence[str],
    spread: Sequence[str],
    patience: float,
    *,
    quiet: bool,
) -> Outcome:
    def tell(step: str, queue: str, moved: int) -> None:
        if not quiet and (moved or step in TOLD):
            more = f", {counted(moved, 'message')}" if moved else ""
            if step == "given up":
                more = f": {migration.outcome.given_up[queue]}"
            say(f"{printable(queue)}: {step}{more}")

    management = await command.open_management()
    async with open_changes(command.urls, CONNECTION) as changes:
        names = command.dialect.names
        at = changes, management, command.vhost
        how = _How(prefix=names.prefix, name=CONNECTION, on_step=tell, patience=patience)
        migration = Migration(*at, **how)
        queues = [queue for queue in command.topology.queues if queue.name in wanted]
        outcome = await migration.run(queues) if wanted else Outcome()
        if spread:
            ways = ways_of(command.topology, names.requests)
            more = await Repartitioning(*at, **how).run(
                [way for way in ways if way.own.name in spread]
            )
            outcome.migrated += more.migrated
            outcome.given_up |= more.given_up
            outcome.held = more.held
            outcome.still_consumed += more.still_consumed
            outcome.waiting += more.waiting
        return outcome
