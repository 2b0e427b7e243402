"""The benchmark of gateways: `python -m tests.bench.gateways`, or `make bench-gateways`.

Measures `dtbridge gateway` beside a gateway on `ocpp`, `websockets` and aio-pika, and an echo on
`websockets`, all before the same stations and the same worker. The results are printed as tables;
JSON goes to a temporary folder, or with --save to docs/bench.
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console

from bridge.testing.rabbitmq import BrokerUnavailable, PrivateBroker
from tests.bench import report
from tests.bench.build import compiled_stations
from tests.bench.gateways.runner import Bench
from tests.bench.gateways.scenarios import Fleet, Pace, Sizes, all_scenarios
from tests.bench.gateways.subjects import Cast, assemble
from tests.bench.machine import Machine, this_machine
from tests.bench.processes import ROOT
from tests.bench.tables import Table

OTHER_FILES = 200
"""File descriptors of a gateway that are not for stations, with room to spare."""
MOVING_PER_CORE = 2_500
"""Stations that come back in a storm by default: so many that the gateway is not the only thing
that is measured where broker, worker and stations share its cores."""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    pace, sizes = Pace(), Sizes()
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.gateways", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--rounds", type=int, default=pace.rounds, help=f"of each scenario (default {pace.rounds})"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=pace.seconds,
        help=f"counted in each measurement (default {pace.seconds:g})",
    )
    parser.add_argument(
        "--outstanding",
        type=int,
        default=pace.outstanding,
        help=f"CALLs under way at a time (default {pace.outstanding})",
    )
    parser.add_argument(
        "--stations",
        action="append",
        type=int,
        metavar="NUMBER",
        help="so many in every scenario (several may be given); "
        f"default: up {sizes.up}, down {sizes.down}, idle {sizes.idle}, tls {sizes.tls}",
    )
    parser.add_argument(
        "--moving",
        type=int,
        help=f"stations that come back in the storm (default {MOVING_PER_CORE} for each core, "
        f"{sizes.moving} at most)",
    )
    parser.add_argument(
        "--within",
        type=float,
        default=pace.within,
        help=f"seconds in which they do (default {pace.within:g})",
    )
    parser.add_argument(
        "--scenario", action="append", metavar="NAME", help="only this one (several may be given)"
    )
    parser.add_argument(
        "--subject",
        action="append",
        metavar="NAME",
        help="only this gateway (several may be given)",
    )
    parser.add_argument("--save", action="store_true", help="write JSON to docs/bench")
    parser.add_argument(
        "--list", action="store_true", help="name scenarios and gateways, and measure nothing"
    )
    return parser.parse_args(arguments)


def sizes_of(options: argparse.Namespace, most: int) -> Sizes:
    """How many stations there are in each scenario, `most` at a time."""
    usual = Sizes()
    cores = len(os.sched_getaffinity(0))
    moving = options.moving or min(usual.moving, MOVING_PER_CORE * cores)
    sizes = msgspec.structs.replace(usual, moving=moving)
    if given := options.stations:
        sizes = msgspec.structs.replace(
            sizes, up=given, down=given, idle=max(given), tls=min(max(given), usual.tls)
        )
    return sizes.within(most)


def allow_files() -> int:
    """Raise the limit of open files as far as it goes; it is the gateways' too.

    Returns the number of stations that one process may hold.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(Sizes().up) + OTHER_FILES
    allowed = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed - OTHER_FILES


def explain(console: Console, machine: Machine, cast: Cast, most: int) -> None:
    """Print the heading."""
    console.print(f"[bold]{machine}[/bold]", highlight=False)
    console.print(
        "Medians over the rounds. CPU: user and system time of the gateway per round trip (storm: "
        "per station that comes back, the others' CALLs included); worker: of the worker behind "
        "it. p50, p99: latency in ms, calm: before the storm. last: when the last station has its "
        "answer, again: how often one was not let in. MiB: memory of the gateway. x: ratio.",
        highlight=False,
    )
    lines = list(cast.missing)
    if most < max(Sizes().up):
        lines.append(f"The limit of open files allows {most:,} stations.")
    for line in lines:
        console.print(f"[yellow]{line}[/yellow]", highlight=False)


def save(folder: Path, tables: list[Table[Fleet]], machine: Machine, cast: Cast) -> None:
    """Write everything measured as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    everything = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "subjects": cast.titles,
        "scenarios": tables,
    }
    encoded = msgspec.json.format(msgspec.json.encode(everything), indent=1)
    (folder / "gateways.json").write_bytes(encoded + b"\n")


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure, and return the exit code: 0 if everything chosen was measured."""
    most = allow_files()
    cast = assemble()
    pace = Pace(options.rounds, options.seconds, options.outstanding, within=options.within)
    wanted = options.subject or list(cast.subjects)
    chosen = [subject for name, subject in cast.subjects.items() if name in wanted]
    scenarios = all_scenarios(chosen, sizes_of(options, most), pace)
    names = [scenario.name for scenario in scenarios]
    if options.list:
        console.print(
            f"scenarios: {', '.join(names)}\ngateways: {', '.join(cast.subjects)}", highlight=False
        )
        return 0
    wrong = report.unknown("scenario", options.scenario or [], names) or report.unknown(
        "gateway", wanted, list(cast.subjects)
    )
    if wrong:
        console.print(wrong)
        return 2
    picked = [scenario for scenario in scenarios if scenario.name in (options.scenario or names)]
    started = time.monotonic()
    tables: list[Table[Fleet]] = []
    with (
        compiled_stations() as programs,
        PrivateBroker(name="bench", tls=True) as broker,
        console.status("") as status,
    ):
        machine = this_machine(broker)
        explain(console, machine, cast, most)
        bench = Bench(broker, programs, cast, pace, status.update)
        for table in bench.run(picked):
            if table.rows:
                tables.append(table)
                report.show(console, table, cast.titles, "gateway")
    if disturbed := report.disturbance(tables):
        console.print(f"[yellow]{disturbed}[/yellow]", highlight=False)
    folder = (
        ROOT / "docs" / "bench"
        if options.save
        else Path(tempfile.mkdtemp(prefix="dtbridge-bench-results-"))
    )
    save(folder, tables, machine, cast)
    console.print(f"{time.monotonic() - started:.0f} s. Results: {folder}", highlight=False)
    return 1 if any(row.failure for table in tables for row in table.rows) else 0


def main() -> int:
    """Run the command line."""
    console = report.make_console()
    try:
        return run(parse(), console)
    except (BrokerUnavailable, RuntimeError) as error:
        console.print(str(error))
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
