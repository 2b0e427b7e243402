"""One quorum queue beside partitions: `python -m tests.bench.partitions`.

Three nodes, several worker processes and the load share this machine, so the leader of a queue is
the limit only where there are cores enough for all of them. It prints and writes nothing.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import aio_pika
from rich.console import Console
from rich.table import Table

from bridge import DataTransferRequest
from bridge.client.client import Client
from bridge.dialects.native import Native
from bridge.dialects.partitions import Partitions
from bridge.telemetry.logs import LogFormat, LogLevel, configure
from bridge.testing.rabbitmq import PrivateCluster
from tests.bench.machine import this_machine
from tests.bench.processes import ROOT

VENDOR = "bench"
STATIONS = 1_000
OUTSTANDING = 200
WAYS = {
    "one quorum queue": Partitions(),
    "4 partitions": Partitions(4),
    "4 partitions, in order": Partitions(4, ordered=True),
}


@contextmanager
def workers(urls: Sequence[str], count: int, spread: Partitions) -> Iterator[None]:
    """`dtbridge run`, as often as that, on the nodes in turn, until the block ends."""
    environment = os.environ | {
        "BENCH_PARTITIONS": str(spread.count),
        "BENCH_ORDERED": "1" if spread.ordered else "0",
        "DTBRIDGE_LOG_LEVEL": "error",
    }
    with ExitStack() as stack:
        for number in range(count):
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "bridge", "run", "tests.bench.partitioned:router"],
                    cwd=ROOT,
                    env=environment | {"DTBRIDGE_AMQP_URL": urls[number % len(urls)]},
                )
            )
            stack.callback(process.terminate)
        yield


async def rate(url: str, seconds: float, warm_up: float) -> float:
    """Round trips a second, with 200 under way, of stations in turn."""
    answered = 0
    going_on = True

    async def ask(client: Client, first: int) -> None:
        nonlocal answered
        station = first
        while going_on:
            request = DataTransferRequest(VENDOR, "Hello", {"number": station})
            await client.data_transfer(f"station-{station % STATIONS}", request)
            answered += 1
            station += OUTSTANDING

    async with Client(url, timeout=60) as client:
        asking = [asyncio.create_task(ask(client, number)) for number in range(OUTSTANDING)]
        await asyncio.sleep(warm_up)
        before, since = answered, time.monotonic()
        await asyncio.sleep(seconds)
        measured = (answered - before) / (time.monotonic() - since)
        going_on = False
        await asyncio.gather(*asking)
    return measured


async def until_consumed(url: str, queues: Sequence[str]) -> None:
    async with await aio_pika.connect(url) as connection:
        for queue in queues:
            while True:
                try:
                    channel = await connection.channel()
                    declared = await channel.declare_queue(queue, passive=True)
                except aio_pika.exceptions.ChannelClosed:
                    await asyncio.sleep(0.2)  # it is not there yet
                    continue
                if declared.declaration_result.consumer_count:
                    break
                await asyncio.sleep(0.2)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.partitions", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--workers", type=int, default=4, help="processes (default 4)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each count (default 5)")
    parser.add_argument("--rounds", type=int, default=3, help="of all ways in turn (default 3)")
    options = parser.parse_args(arguments)
    configure(LogFormat.AUTO, LogLevel.ERROR)
    console = Console(width=None if sys.stdout.isatty() else 140)
    queue = Native().names.vendor_queue(VENDOR)
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    with PrivateCluster(3) as cluster:
        for round_ in range(options.rounds):
            for name, spread in WAYS.items():
                vhost = f"{spread.label or 'one'}-{round_}"
                urls = [cluster.nodes[0].add_vhost(vhost)]
                urls += [node.url.rstrip("/") + f"/{vhost}" for node in cluster.nodes[1:]]
                with workers(urls, options.workers, spread):
                    asyncio.run(until_consumed(urls[0], spread.consumed(queue)))
                    warm_up = 15.0 if spread.ordered else 2.0  # until all have their shares
                    rates[name].append(asyncio.run(rate(urls[0], options.seconds, warm_up)))
                cluster.nodes[0].delete_vhost(vhost)
        table = Table("", "round trips/s", "ratio", title=str(this_machine(cluster.nodes[0])))
    one = rates["one quorum queue"]
    for name, found in rates.items():
        ratios = sorted(each / base for each, base in zip(found, one, strict=True))
        middle = sorted(found)[len(found) // 2]
        table.add_row(name, f"{middle:,.0f}", f"{ratios[len(ratios) // 2]:.2f}")
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
