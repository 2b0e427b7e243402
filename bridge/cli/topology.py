"""``dtbridge topology``: what the broker must have, what it has, and how one becomes the other."""

import typer

from bridge.cli.assembly import DialectName
from bridge.cli.changes import lines, sentences, summary
from bridge.cli.exits import EXIT_DIFFERENT
from bridge.cli.options import (
    LOCAL,
    NONE_GIVEN,
    AmqpUrl,
    LogLevelOption,
    ManagementUrl,
    Prefix,
)
from bridge.cli.output import say
from bridge.cli.routers import Targets
from bridge.cli.tables import json_text
from bridge.cli.topology_changes import apply, migrate
from bridge.cli.topology_options import (
    AnswerWithin,
    AsJson,
    DialectOption,
    GatewayExchange,
    QueueTypeOption,
    command_of,
    print_json,
    run,
)
from bridge.dialects.definitions import definitions
from bridge.dialects.names import PREFIX
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
) -> None:
    """Print the topology as RabbitMQ's definitions, for `rabbitmqctl import_definitions`.

    They are for the virtual host of --amqp-url. No broker is asked.
    """
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
    )
    say(json_text(definitions(command.topology, command.vhost), indent=2))


topology.command()(apply)
topology.command()(migrate)
