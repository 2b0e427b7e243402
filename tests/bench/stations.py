"""What it costs to hold very many stations: `python -m tests.bench.stations`.

Binds, reaches and unbinds the stations of one gateway on a private RabbitMQ, and cuts its
connection. Then kills a gateway while its stations come to another one.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

from rich.console import Console
from rich.table import Table

from bridge import DataTransferRequest, DataTransferResponse
from bridge.client.client import Client
from bridge.gateway import GatewayLink
from bridge.rabbitmq.transport import RabbitTransport
from bridge.telemetry.logs import LogFormat, LogLevel, configure
from bridge.testing.rabbitmq import PrivateBroker
from bridge.transport import State
from tests.bench.machine import this_machine
from tests.integration.gateways import GatewayProcess, all_of, resident

HELLO = DataTransferRequest("com.acme", "Hello")
ACCEPTED = DataTransferResponse("Accepted")


async def accept(request: DataTransferRequest) -> DataTransferResponse:
    return ACCEPTED


async def timed(work: Awaitable[object]) -> float:
    """How long it takes, in seconds."""
    began = time.monotonic()
    await work
    return time.monotonic() - began


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


async def hold(url: str, count: int, table: Table) -> None:
    """Measure one gateway in this process, from its first station to its last."""
    stations = [f"station-{number:06}" for number in range(count)]
    async with GatewayLink(url) as link, Client(url, timeout=300) as client:
        await client.connect()
        before = resident()
        seconds = await timed(
            all_of(lambda station: link.connect_station(station, "ocpp1.6", accept), stations)
        )
        table.add_row("stations bound per second", f"{count / seconds:,.0f}")
        table.add_row(
            "memory per station, client and all, kB", f"{(resident() - before) / count / 1000:.2f}"
        )
        seconds = await timed(ask(client, stations[:: max(1, count // 10_000)][:10_000]))
        table.add_row("requests to stations per second, 200 at a time", f"{10_000 / seconds:,.0f}")
        transport = link._transport
        assert isinstance(transport, RabbitTransport)
        assert transport._session is not None
        cut = time.monotonic()
        transport._session._consuming.protocol.abort("cut by the benchmark")
        await until(lambda: link.state is State.CONNECTING)
        await until(lambda: transport.reply_queue is not None)
        table.add_row(
            "after a cut: requests of stations go out again, s", f"{time.monotonic() - cut:.1f}"
        )
        await until(lambda: link.state is State.CONSUMING)
        table.add_row(
            "after a cut: all stations are bound again, s", f"{time.monotonic() - cut:.1f}"
        )
        seconds = await timed(all_of(link.disconnect_station, stations))
        table.add_row("stations unbound per second", f"{count / seconds:,.0f}")


async def ask(client: Client, stations: Sequence[str]) -> None:
    for start in range(0, len(stations), 200):
        await asyncio.gather(
            *(client.send_to_station(station, HELLO) for station in stations[start : start + 200])
        )


async def move(url: str, count: int, table: Table) -> None:
    """Kill a gateway, and have a tenth of its stations come to another one at once."""
    stations = [f"station-{number:06}" for number in range(count)]
    moving = stations[::10]
    async with (
        GatewayProcess(url, "first") as first,
        GatewayLink(url) as second,
        Client(url, timeout=300) as client,
    ):
        await client.connect()
        await first.do("connect", stations, 600)
        first.kill()
        killed = time.monotonic()
        reached: list[float] = []

        async def come(station: str) -> None:
            await second.connect_station(station, "ocpp1.6", accept)
            await client.send_to_station(station, HELLO)
            reached.append(time.monotonic() - killed)

        await all_of(come, moving)
        reached.sort()
        table.add_row(
            f"{count:,} stations' gateway killed, {len(moving):,} come to another: "
            "reached after, s (first, half, last)",
            f"{reached[0]:.2f}, {reached[len(reached) // 2]:.2f}, {reached[-1]:.2f}",
        )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.stations", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--count", type=int, default=100_000, help="stations of one gateway (default 100,000)"
    )
    count = parser.parse_args(arguments).count
    configure(LogFormat.AUTO, LogLevel.ERROR)
    console = Console(width=None if sys.stdout.isatty() else 140)
    with PrivateBroker(name="stations") as broker:
        table = Table("", f"{count:,} stations", title=str(this_machine(broker)))
        asyncio.run(hold(broker.url, count, table))
        for moved in sorted({1_000, 10_000, count}):
            asyncio.run(move(broker.add_vhost(f"move-{moved}"), moved, table))
        console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
