"""``dtbridge topology``: what the broker must have, what it has, and how one becomes the other."""

from typing import Annotated

import typer

from bridge.cli.assembly import DialectName
from bridge.cli.changes import lines, sentences, summary
from bridge.cli.exits import EXIT_DIFFERENT, EXIT_USAGE, fail
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
from bridge.cli.tables import json_text
from bridge.cli.topology_changes import apply, migrate
from bridge.cli.topology_options import (
    AnswerWithin,
    AsJson,
    DialectOption,
    Events,
    GatewayExchange,
    QueueTypeOption,
    command_of,
    print_json,
    run,
)
from bridge.dialects.definitions import definitions
from bridge.dialects.names import PREFIX
from bridge.dialects.permissions import Role, permission_definitions
from bridge.dialects.topology import QueueType
from bridge.rabbitmq.difference import Mark
from bridge.telemetry.logs import LogLevel

topology = typer.Typer(
    name="topology",
    help="Compare exchanges, queues and bindings with a broker, and change them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@topology.command()
def plan(
    targets: Targets,
    amqp_url: AmqpUrl = LOCAL,
    management: ManagementUrl = NONE_GIVEN,
    prefix: Prefix = PREFIX,
    queue_type: QueueTypeOption = QueueType.QUORUM,
    dialect: DialectOption = DialectName.NATIVE,
    gateway_exchange: GatewayExchange = None,
    answer_within: AnswerWithin = None,
    events: Events = False,
    as_json: AsJson = False,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Show what is missing (+), differs (~), is retired (-) or unknown (?). Changes nothing.

    Name all routers of the fleet: what none of them handles counts as retired. Exit code 3: there
    is something to do.
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
    if as_json:
        print_json(difference)
    else:
        for line in lines(difference):
            say(line)
    if difference.of(Mark.MISSING, Mark.DIFFERENT, Mark.RETIRED):
        raise typer.Exit(EXIT_DIFFERENT)


@topology.command()
def verify(
    targets: Targets,
    amqp_url: AmqpUrl = LOCAL,
    management: ManagementUrl = NONE_GIVEN,
    prefix: Prefix = PREFIX,
    queue_type: QueueTypeOption = QueueType.QUORUM,
    dialect: DialectOption = DialectName.NATIVE,
    gateway_exchange: GatewayExchange = None,
    answer_within: AnswerWithin = None,
    events: Events = False,
    as_json: AsJson = False,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Name everything that is missing or differs, with what to do. Changes nothing.

    Exit code 3: there is such a thing, and workers would not start, or not serve as they should.
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
    if as_json:
        print_json(difference)
    else:
        for sentence in (*sentences(difference), *difference.unseen, summary(difference)):
            say(sentence)
    if difference.of(Mark.MISSING, Mark.DIFFERENT):
        raise typer.Exit(EXIT_DIFFERENT)


@topology.command()
def export(
    targets: Targets,
    amqp_url: AmqpUrl = LOCAL,
    prefix: Prefix = PREFIX,
    queue_type: QueueTypeOption = QueueType.QUORUM,
    dialect: DialectOption = DialectName.NATIVE,
    gateway_exchange: GatewayExchange = None,
    answer_within: AnswerWithin = None,
    events: Events = False,
    user: Annotated[
        list[str],
        typer.Option(
            envvar="DTBRIDGE_TOPOLOGY_USER",
            metavar="ROLE=NAME",
            help="Give this user, who exists, the rights of a role: " + ", ".join(Role) + ".",
        ),
    ] = NONE_GIVEN,
) -> None:
    """Print the topology as RabbitMQ's definitions, for `rabbitmqctl import_definitions`.

    They are for the virtual host of --amqp-url. No broker is asked.
    """
    users = _users(user, dialect)
    command = command_of(
        targets,
        amqp_url,
        [],
        prefix,
        queue_type,
        dialect,
        gateway_exchange,
        answer_within,
        LogLevel.WARNING,
        events=events,
    )
    made = definitions(command.topology, command.vhost)
    if users:
        names = command.dialect.names
        made["permissions"] = permission_definitions(users, command.vhost, names)
    say(json_text(made, indent=2))


def _users(texts: list[str], dialect: DialectName) -> list[tuple[str, Role]]:
    if texts and dialect is not DialectName.NATIVE:
        fail("--user is for the native dialect", EXIT_USAGE)
    users = []
    for text in words(texts):
        role, _, name = text.partition("=")
        if role not in set(Role) or not name:
            fail(f"--user {text!r}: expected ROLE=NAME, of {', '.join(Role)}", EXIT_USAGE)
        users.append((name, Role(role)))
    return users


topology.command()(apply)
topology.command()(migrate)
