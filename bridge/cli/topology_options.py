"""What the commands of ``dtbridge topology`` share: their options, and what they know."""

import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Final, TypeVar

import msgspec
import typer
from yarl import URL

from bridge.cli.assembly import DialectName, make_dialect, make_topology, names_of_others
from bridge.cli.exits import EXIT_INTERRUPTED, EXIT_USAGE, fail
from bridge.cli.options import broker_urls, exchange_name, finite, management_hosts, words
from bridge.cli.output import say
from bridge.cli.process import complete
from bridge.cli.routers import routers_or_fail
from bridge.cli.tables import json_text
from bridge.dialects.dialect import Dialect
from bridge.dialects.shared import DialectNames
from bridge.dialects.topology import QueueType, Topology
from bridge.rabbitmq.changing import open_changes
from bridge.rabbitmq.difference import Difference, Mark, compare
from bridge.rabbitmq.live import ask, read_live
from bridge.rabbitmq.management import Management, open_management, virtual_host
from bridge.rabbitmq.management_http import ManagementError
from bridge.telemetry.logs import LogFormat, LogLevel, configure
from bridge.transport import TransportError

Result = TypeVar("Result")

CONNECTION: Final = "dtbridge topology"
"""In the broker's list of connections."""

# ---- options ----

QueueTypeOption = Annotated[
    QueueType,
    typer.Option(envvar="DTBRIDGE_QUEUE_TYPE", help="Of the queues: quorum or classic."),
]
DialectOption = Annotated[
    DialectName,
    typer.Option(envvar="DTBRIDGE_DIALECT", help="What the gateway speaks, as for run."),
]
GatewayExchange = Annotated[
    str | None,
    typer.Option(envvar="DTBRIDGE_GATEWAY_EXCHANGE", callback=exchange_name, help="As for run."),
]
AnswerWithin = Annotated[
    float | None,
    typer.Option(
        envvar="DTBRIDGE_ANSWER_WITHIN", min=1, max=3600, callback=finite, help="As for run."
    ),
]
Events = Annotated[
    bool,
    typer.Option(
        "--events",
        envvar="DTBRIDGE_TOPOLOGY_EVENTS",
        help="With the exchange for events, of workers that are run with --events.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", envvar="DTBRIDGE_JSON", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", envvar="DTBRIDGE_YES", help="Do not ask.")]
Patience = Annotated[
    float,
    typer.Option(
        envvar="DTBRIDGE_PATIENCE",
        min=1,
        callback=finite,
        help="Seconds that workers have to settle what they have in hand.",
    ),
]


class Command(msgspec.Struct):
    """What all commands here know."""

    urls: Sequence[URL]
    management: list[URL]
    is_given: bool
    """The management API's URL was given, and not made of the broker's."""
    vhost: str
    dialect: Dialect
    queue_type: QueueType
    topology: Topology
    vendors: list[str]
    """The vendorIds that routers were given for."""

    @property
    def own(self) -> str:
        """How the names begin of what this dialect has alone."""
        names = self.dialect.names
        return names.own if isinstance(names, DialectNames) else names.prefix

    @property
    def requests(self) -> str | None:
        """The exchange that vendors' queues are bound to."""
        return self.dialect.names.requests if self.dialect.exchange is None else None

    async def open_management(self) -> Management:
        return await open_management(self.management)

    async def look(self) -> Difference:
        """By the management API; or, if that is not there and was not asked for, by AMQP."""
        try:
            management = await self.open_management()
        except ManagementError as error:
            if self.is_given:
                raise
            async with open_changes(self.urls, CONNECTION) as changes:
                found = await ask(changes, self.topology)
            return msgspec.structs.replace(found, unseen=(*found.unseen, f"{error}."))
        live = await read_live(management, self.vhost, self.topology, self.own)
        known = names_of_others(self.dialect) | {f"{self.dialect.names.prefix}.events"}
        return compare(self.topology, live, prefix=self.own, requests=self.requests, known=known)


def command_of(
    targets: list[str],
    amqp_url: list[str],
    management: list[str],
    prefix: str,
    queue_type: QueueType,
    dialect: DialectName,
    gateway_exchange: str | None,
    answer_within: float | None,
    log_level: LogLevel,
    *,
    events: bool = False,
) -> Command:
    """`events`: whether workers publish events."""
    configure(LogFormat.AUTO, log_level)
    routers = routers_or_fail(targets)
    urls = broker_urls(amqp_url)
    try:
        spoken = make_dialect(dialect, prefix, exchange=gateway_exchange, patience=answer_within)
        topology = make_topology(routers, spoken, queue_type, events=events)
    except ValueError as error:
        fail(str(error), EXIT_USAGE)
    return Command(
        urls=urls,
        management=management_hosts(management, urls),
        is_given=bool(words(management)),
        vhost=virtual_host(urls[0]),
        dialect=spoken,
        queue_type=queue_type,
        topology=topology,
        vendors=list(dict.fromkeys(router.vendor_id for router in routers)),
    )


def run(work: Callable[[], Awaitable[Result]], advice: str = "") -> Result:
    """Await `work`. What it fails with ends the command, with `advice` after it."""

    async def main() -> Result:
        return await work()

    try:
        return complete(main())
    except TransportError as error:
        fail(f"{error}{advice}")
    except KeyboardInterrupt:
        fail(f"interrupted{advice}", EXIT_INTERRUPTED)


def print_json(difference: Difference) -> None:
    counts = {mark.value: len(difference.of(mark)) for mark in Mark} | {"fine": difference.fine}
    say(
        json_text(
            {
                "counts": counts,
                "findings": difference.findings,
                "unseen": difference.unseen,
                "paused": difference.paused,
            },
            indent=2,
        )
    )


def confirmed(question: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        fail("there is nobody to ask: say --yes, or look first with plan", EXIT_USAGE)
    if not typer.confirm(question, err=True):
        fail("nothing was changed")
