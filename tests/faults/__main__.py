"""The fault suite: `python -m tests.faults`, or `make faults`.

A load of numbered requests runs, something breaks, and a checker proves that nothing was lost. The
results are printed as a table and written to a file as JSON.
"""

import argparse
import asyncio
import logging
import os
import secrets
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from bridge.dialects.partitions import PLUGIN
from bridge.testing.rabbitmq import BrokerUnavailable, PrivateBroker, PrivateCluster
from bridge.testing.rabbitmq.node import MANAGEMENT
from tests.faults import (
    broker_faults,
    cluster_faults,
    connection_faults,
    effect_faults,
    extent,
    fuzz_fault,
    partition_faults,
    pause_faults,
    soak_fault,
    store_faults,
    worker_faults,
)
from tests.faults.catalogue import CATALOGUE, Fault, Needs
from tests.faults.checker import Result
from tests.faults.play import play
from tests.postgres_server import PostgresMissingError, PostgresServer
from tests.redis_server import RedisMissingError, RedisServer

GROUPS = (
    worker_faults,
    connection_faults,
    broker_faults,
    store_faults,
    effect_faults,
    partition_faults,
    pause_faults,
    cluster_faults,
    fuzz_fault,
    soak_fault,
)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--only", action="append", metavar="TEXT", help="only faults whose name contains this"
    )
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(10**6), help="of everything that is random"
    )
    parser.add_argument(
        "--times",
        type=int,
        default=1,
        metavar="N",
        help="how often each fault is played, each time with the next seed",
    )
    parser.add_argument(
        "--rabbitmq-server",
        metavar="PATH",
        help="the script, the folder RabbitMQ was unpacked into, or the root folder of another "
        "Linux that has it",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="where the results go (default: a temporary file)"
    )
    parser.add_argument(
        "--long", action="store_true", help="every byte of a frame, and a million fuzzed requests"
    )
    parser.add_argument(
        "--soak",
        type=float,
        metavar="SECONDS",
        help=f"length of the soak (default {extent.SOAK_SECONDS:g})",
    )
    parser.add_argument(
        "--effects",
        type=int,
        metavar="N",
        help="requests with effects, while workers are killed at random "
        f"(default {extent.EFFECTS:,})",
    )
    parser.add_argument(
        "--slack",
        type=float,
        default=extent.SLACK,
        metavar="TIMES",
        help="how many times as long as promised a recovery may take, for a machine that does "
        "other things as well (default %(default)g)",
    )
    parser.add_argument("--list", action="store_true", help="name the faults, and break nothing")
    return parser.parse_args(arguments)


class Brokers:
    """Nodes of our own, each started for the first fault that needs it."""

    def __init__(self, exits: ExitStack, console: Console) -> None:
        self._exits = exits
        self._console = console
        self._node: PrivateBroker | None = None
        self._managed: PrivateBroker | None = None
        self._cluster: PrivateCluster | None = None
        self._redis: RedisServer | None = None
        self._postgres: PostgresServer | None = None

    def for_fault(self, fault: Fault) -> tuple[list[PrivateBroker], list[str], str]:
        """The nodes, the URLs of a new virtual host on them, and its name."""
        nodes = self._nodes(fault.needs)
        name = f"faults-{secrets.token_hex(4)}"
        nodes[0].add_vhost(name)
        if fault.user is not None:
            add_user(nodes[0], name, *fault.user.split(":"))
        return nodes, [node.url + name for node in nodes], name

    async def redis(self) -> RedisServer:
        """A Redis that runs, started for the first fault that needs it."""
        if self._redis is None:
            self._redis = self._exits.enter_context(RedisServer())
        await asyncio.to_thread(self._redis.start)  # a fault that failed may have left it killed
        return self._redis

    async def postgres(self) -> PostgresServer:
        """A PostgreSQL that runs, likewise."""
        if self._postgres is None:
            self._postgres = self._exits.enter_context(PostgresServer())
        await asyncio.to_thread(self._postgres.start)
        return self._postgres

    def _nodes(self, needs: Needs) -> list[PrivateBroker]:
        if needs is Needs.CLUSTER:
            if self._cluster is None:
                self._console.print("Starting three RabbitMQ nodes …")
                self._cluster = self._exits.enter_context(PrivateCluster(3))
            return self._cluster.nodes
        if needs is Needs.MANAGED:
            if self._managed is None:
                self._console.print("Starting a private RabbitMQ with the management API …")
                self._managed = self._exits.enter_context(
                    PrivateBroker(name="faults-managed", plugins=[MANAGEMENT, PLUGIN])
                )
            return [self._managed]
        if self._node is None:
            self._console.print("Starting a private RabbitMQ …")
            self._node = self._exits.enter_context(PrivateBroker(name="faults"))
        return [self._node]


def add_user(node: PrivateBroker, vhost: str, name: str, password: str) -> None:
    """Add a user who may do everything in one virtual host."""
    node.eval(
        "catch rabbit_auth_backend_internal:add_user("
        f'<<"{name}">>, <<"{password}">>, <<"guest">>), '
        "rabbit_auth_backend_internal:set_permissions("
        f'<<"{name}">>, <<"{vhost}">>, <<".*">>, <<".*">>, <<".*">>, <<"guest">>)'
    )


def chosen(options: argparse.Namespace) -> list[Fault]:
    """The faults to play, in order."""
    only = options.only or [""]
    order = [module.__name__.rpartition(".")[2] for module in GROUPS]
    faults = sorted(CATALOGUE, key=lambda fault: order.index(fault.group))
    return [
        fault
        for fault in faults
        if any(text.lower() in f"{fault.group} {fault.name}".lower() for text in only)
    ]


def title(fault: Fault) -> str:
    """What breaks, and how: "broker: memory alarm"."""
    return f"{fault.group.partition('_')[0]}: {fault.name}"


def plays(options: argparse.Namespace) -> list[tuple[Fault, int]]:
    """The faults to play, each with its seed."""
    return [
        (fault, options.seed + number)
        for fault in chosen(options)
        for number in range(options.times)
    ]


async def run(options: argparse.Namespace, console: Console) -> int:
    """Play the chosen faults and return the exit code."""
    started = time.monotonic()
    results: list[Result] = []
    with ExitStack() as exits:
        brokers = Brokers(exits, console)
        for fault, seed in plays(options):
            nodes, urls, vhost = brokers.for_fault(fault)
            redis = await brokers.redis() if fault.redis else None
            postgres = await brokers.postgres() if fault.effects else None
            begun = time.monotonic()
            result = await play(fault, nodes, urls, seed, redis=redis, postgres=postgres)
            for node in nodes:
                if not node.running:  # a fault that failed half-way may have left it dead
                    node.start()
            with suppress(BrokerUnavailable):  # a cluster may still be sorting itself out
                nodes[0].delete_vhost(vhost)
            results.append(result)
            verdict = "[green]holds[/green]" if result.holds else "[red]BROKEN[/red]"
            took = f"{time.monotonic() - begun:.0f} s"
            if options.times > 1:
                took += f", seed {seed}"
            console.print(f"{verdict}  {title(fault)}  ({took})")
            for line in result.violations:
                console.print(f"        {line}", style="red", highlight=False, markup=False)
            for line in result.notes:
                console.print(f"        {line}", style="dim", highlight=False, markup=False)
    show(console, results)
    path = options.json or Path(tempfile.mkdtemp(prefix="dtbridge-faults-")) / "results.json"
    path.write_bytes(
        msgspec.json.format(
            msgspec.json.encode({"seed": options.seed, "results": results}), indent=1
        )
    )
    console.print(
        f"{time.monotonic() - started:.0f} s, seed {options.seed}. Results: {path}", highlight=False
    )
    return 0 if all(result.holds for result in results) else 1


def show(console: Console, results: list[Result]) -> None:
    """Print the table."""
    table = Table()
    for name in (
        "fault",
        "requests",
        "answered",
        "absorbed",
        "ran again",
        "dead",
        "expired",
        "lost",
        "recovery, s",
    ):
        table.add_column(name, justify="left" if name == "fault" else "right")
    for row in results:
        recovery = "" if row.recovery is None else f"{row.recovery:.1f}"
        counts = (
            row.requests,
            row.answered,
            row.absorbed,
            row.reran,
            row.dead,
            row.expired,
            row.lost,
        )
        table.add_row(
            row.fault,
            *(f"{count:,}" for count in counts),
            recovery,
            style=None if row.holds else "red",
        )
    console.print(table)


def main() -> int:
    """Run the command line."""
    console = Console(width=None if sys.stdout.isatty() else 150)
    options = parse()
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # connections are lost on purpose
    if options.long:
        extent.CUT_STEP, extent.FUZZED = 1, 1_000_000
    extent.SLACK = options.slack
    extent.SOAK_SECONDS = options.soak or extent.SOAK_SECONDS
    extent.EFFECTS = options.effects or extent.EFFECTS
    if options.list:
        for fault in chosen(options):
            console.print(title(fault), highlight=False)
        return 0
    if options.rabbitmq_server:
        os.environ["DTBRIDGE_RABBITMQ_SERVER"] = str(Path(options.rabbitmq_server).absolute())
    try:
        return uvloop.run(run(options, console))
    except (BrokerUnavailable, PostgresMissingError, RedisMissingError) as error:
        console.print(str(error))
        return 2


if __name__ == "__main__":
    sys.exit(main())
