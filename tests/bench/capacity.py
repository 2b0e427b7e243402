"""What a fleet needs, from what was measured: `python -m tests.bench.capacity`.

Reads docs/bench and prints the tables of docs/scaling.md; with --write it puts them there. What was
not measured is an assumption, and is listed as such.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bridge.gateway.link import QUEUES
from bridge.worker.worker import PREFETCH

DOCS = Path(__file__).resolve().parents[2] / "docs"
DOCUMENT = DOCS / "scaling.md"
BEGINS, ENDS = "<!-- written by python -m tests.bench.capacity --write -->", "<!-- end -->"
FLEETS = (10_000, 100_000, 1_000_000, 10_000_000)
"""Stations."""


class Measured(msgspec.Struct, frozen=True):
    """What docs/bench says."""

    queue_rate: float
    """Round trips a second through one quorum queue."""
    worker_us: float
    """CPU of the worker for one of them, its handler left out, in microseconds."""
    broker_us: float
    """CPU of a broker of one node for one of them, in microseconds."""
    worker_mib: float
    """Memory of a worker."""
    bound_rate: float
    """Stations that are bound a second."""
    station_kb: float
    """Memory of a gateway's link for a station."""


class Assumed(msgspec.Struct, frozen=True):
    """What was not measured. Put your own numbers in their place."""

    per_hour: float = 12.0
    """Requests of a station in an hour: one in five minutes."""
    to_station_per_hour: float = 1.0
    """Requests of the CSMS to a station in an hour."""
    peak: float = 3.0
    """The busiest minute, as a multiple of the average."""
    biggest: float = 0.5
    """The part of all requests that the biggest vendor has."""
    handler_us: float = 150.0
    """CPU of a handler, in microseconds."""
    handler_ms: float = 20.0
    """Time that a handler waits, in milliseconds."""
    busy: float = 0.5
    """The part of a core, and of what a queue can do, that is used in the peak."""
    follower: float = 0.5
    """What a follower of a quorum queue does, as a part of what its leader does."""
    node_cores: int = 8
    """Cores of a broker's node."""
    gateway_stations: int = 10_000
    """Stations of one gateway (docs/gateways.md)."""
    cell_stations: int = 1_000_000
    """Stations of one RabbitMQ cluster at most."""
    queue_kb: float = 30.0
    """Memory of a broker for a private queue with its consumer."""
    connection_kb: float = 100.0
    """Memory of a broker for a connection with its channels."""
    binding_kb: float = 1.0
    """Memory of a broker for a station's binding."""


WORDS = {
    "per_hour": ("requests of a station in an hour", ""),
    "to_station_per_hour": ("requests of the CSMS to a station in an hour", ""),
    "peak": ("the busiest minute, as a multiple of the average", ""),
    "biggest": ("requests of the biggest vendor, as a part of all", ""),
    "handler_us": ("CPU of a handler", " µs"),
    "handler_ms": ("time that a handler waits", " ms"),
    "busy": ("part of a core, and of what a queue can do, that is used in the peak", ""),
    "follower": ("what a follower of a quorum queue does, as a part of what its leader does", ""),
    "node_cores": ("cores of a broker's node", ""),
    "gateway_stations": ("stations of one gateway", ""),
    "cell_stations": ("stations of one RabbitMQ cluster at most", ""),
    "queue_kb": ("memory of the broker for a private queue with its consumer", " kB"),
    "connection_kb": ("memory of the broker for a connection with its channels", " kB"),
    "binding_kb": ("memory of the broker for a station's binding, on each node", " kB"),
}


class Needed(msgspec.Struct, frozen=True):
    """What a fleet needs."""

    stations: int
    cells: int
    """RabbitMQ clusters."""
    average: float
    """Requests a second."""
    peak: float
    workers: int
    """Processes, each with a core."""
    in_hand: float
    """Requests that a worker has at work in the peak."""
    worker_gib: float
    partitions: int
    """Of the biggest vendor, in each cell."""
    partitions_of_all: int
    """Likewise, if there were one cell."""
    gateways: int
    link_mib: float
    """Memory of the links of a gateway."""
    private_queues: int
    """In each cell."""
    connections: int
    """In each cell."""
    nodes: int
    """In each cell."""
    broker_cores: float
    """Cores of all nodes of a cell that are at work in the peak."""
    node_gib: float
    """Memory of a node for connections, queues and bindings."""
    bind_seconds: float
    """Until all stations of a cell are bound again after all gateways were lost."""


def measured(folder: Path = DOCS / "bench") -> Measured:
    """Read docs/bench."""
    results = json.loads((folder / "results.json").read_text())
    stations = json.loads((folder / "stations.json").read_text())
    row = _median(results, "quorum", "bridge")
    return Measured(
        row["rate"],
        row["cpu_us"],
        row["broker_cpu_us"],
        row["resident_mib"],
        stations["stations_bound_per_second"],
        stations["kb_per_station"],
    )


def _median(results: dict[str, Any], scenario: str, label: str) -> dict[str, Any]:
    for table in results["scenarios"]:
        if table["scenario"]["name"] == scenario:
            for row in table["rows"]:
                if row["entry"]["label"] == label:
                    found: dict[str, Any] = row["median"]
                    return found
    raise KeyError(f"{scenario}: {label}")


def needed(stations: int, found: Measured, assumed: Assumed) -> Needed:
    """What a fleet of so many stations needs."""
    cells = math.ceil(stations / assumed.cell_stations)
    average = stations * assumed.per_hour / 3600
    peak = average * assumed.peak
    in_cell = peak / cells
    to_stations = in_cell * assumed.to_station_per_hour / assumed.per_hour
    per_worker = 1e6 * assumed.busy / (found.worker_us + assumed.handler_us)
    workers = max(2, math.ceil(in_cell / per_worker)) * cells
    gateways = max(2, math.ceil(stations / cells / assumed.gateway_stations)) * cells
    cores = in_cell * found.broker_us * (1 + 2 * assumed.follower) / 1e6
    cores += to_stations * found.broker_us / 1e6  # private queues have no followers
    nodes = max(3, math.ceil(cores / (assumed.node_cores * assumed.busy)))
    nodes += 1 - nodes % 2
    queue_rate = found.queue_rate * assumed.busy
    held = stations / gateways * found.station_kb
    private_queues = gateways // cells * QUEUES
    connections = 2 * (workers + gateways) // cells
    memory = private_queues * assumed.queue_kb + connections * assumed.connection_kb
    memory = memory / nodes + stations / cells * assumed.binding_kb
    return Needed(
        stations=stations,
        cells=cells,
        average=average,
        peak=peak,
        workers=workers,
        in_hand=peak / workers * assumed.handler_ms / 1000,
        worker_gib=workers * found.worker_mib / 1024,
        partitions=math.ceil(in_cell * assumed.biggest / queue_rate),
        partitions_of_all=math.ceil(peak * assumed.biggest / queue_rate),
        gateways=gateways,
        link_mib=held / 1024,
        private_queues=private_queues,
        connections=connections,
        nodes=nodes,
        broker_cores=cores,
        node_gib=memory / 1e6 / 1.073741824,
        bind_seconds=stations / cells / found.bound_rate,
    )


def tables(found: Measured, assumed: Assumed) -> Iterator[str]:
    """The lines of the document."""
    yield "Measured ([performance](performance.md), [gateways](gateways.md)):"
    yield ""
    yield "| | |"
    yield "|---|---|"
    yield f"| round trips through one quorum queue, a second | {found.queue_rate:,.0f} |"
    yield f"| CPU of the worker for one, without its handler | {found.worker_us:.1f} µs |"
    yield f"| CPU of a broker of one node for one | {found.broker_us:.1f} µs |"
    yield f"| memory of a worker | {found.worker_mib:.0f} MiB |"
    yield f"| stations that are bound, a second | {found.bound_rate:,.0f} |"
    yield f"| memory of a gateway's link for a station | {found.station_kb:g} kB |"
    yield ""
    yield "Assumed; put your own numbers in their place (`--set per_hour=60`):"
    yield ""
    yield "| | | |"
    yield "|---|---|---|"
    for name, (words, unit) in WORDS.items():
        yield f"| `{name}` | {words} | {getattr(assumed, name):,.10g}{unit} |"
    yield ""
    yield "What follows:"
    yield ""
    fleets = [needed(stations, found, assumed) for stations in FLEETS]
    yield "| stations | " + " | ".join(f"{each.stations:,}" for each in fleets) + " |"
    yield "|---|" + "---|" * len(fleets)
    for words, text in (
        ("RabbitMQ clusters (cells)", "{0.cells}"),
        ("requests a second, on average", "{0.average:,.0f}"),
        ("requests a second, in the peak", "{0.peak:,.0f}"),
        ("workers (processes, a core each)", "{0.workers}"),
        ("requests at work in a worker", "{0.in_hand:.0f}"),
        ("memory of all workers, GiB", "{0.worker_gib:.1f}"),
        ("partitions of the biggest vendor", "{0.partitions}"),
        ("partitions of the biggest vendor, were there one cluster", "{0.partitions_of_all}"),
        ("gateways", "{0.gateways:,}"),
        ("memory of a gateway's link for its stations, MiB", "{0.link_mib:.1f}"),
        ("private queues in a cell", "{0.private_queues:,}"),
        ("AMQP connections in a cell", "{0.connections:,}"),
        ("nodes of a cell", "{0.nodes}"),
        ("cores at work in a cell's nodes, in the peak", "{0.broker_cores:.1f}"),
        ("memory of a node for connections, queues, bindings, GiB", "{0.node_gib:.2f}"),
        ("until all stations of a cell are bound again, s", "{0.bind_seconds:,.0f}"),
    ):
        yield f"| {words} | " + " | ".join(text.format(each) for each in fleets) + " |"
    most = max(each.in_hand for each in fleets)
    yield ""
    verdict = "enough" if most <= PREFETCH else "too little: raise it"
    yield (
        f"A worker has {most:.0f} requests at work at most, and may have {PREFETCH} of each vendor "
        f"in hand: that is {verdict}."
    )


def written(document: str, lines: Sequence[str]) -> str:
    """The document with these lines in their place."""
    before, _, rest = document.partition(BEGINS)
    _, end, after = rest.partition(ENDS)
    if not end:
        raise ValueError(f"{DOCUMENT.name} has no place for the tables")
    return "\n".join([before + BEGINS, "", *lines, "", ENDS + after])


def assumptions(given: Sequence[str]) -> Assumed:
    """With what was given as NAME=NUMBER. Raises ValueError."""
    changes: dict[str, float] = {}
    for text in given:
        name, _, number = text.partition("=")
        if name not in WORDS:
            raise ValueError(f"{name!r} is none of {', '.join(WORDS)}")
        changes[name] = float(number)
    return msgspec.structs.replace(Assumed(), **changes)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.capacity", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=NUMBER", dest="given")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/scaling.md")
    options = parser.parse_args(arguments)
    try:
        lines = [*tables(measured(), assumptions(options.given))]
    except ValueError as error:
        parser.error(str(error))
    if options.write:
        DOCUMENT.write_text(written(DOCUMENT.read_text(), lines))
    else:
        sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
