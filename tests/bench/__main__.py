"""The benchmark: `python -m tests.bench`, or `make bench`.

Measures this worker beside a C worker on librabbitmq, raw aiormq, aio-pika and FastStream. All do
the same job on one private RabbitMQ. The results are printed as tables; JSON and a plot go to a
temporary folder, or with --save to docs/bench.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console

from bridge.testing.rabbitmq import BrokerUnavailable, PrivateBroker
from tests.bench import plot, report
from tests.bench.build import compiled
from tests.bench.machine import Machine, this_machine
from tests.bench.processes import ROOT
from tests.bench.runner import Bench
from tests.bench.scenarios import Pace, all_scenarios
from tests.bench.subjects import Cast, Job, assemble
from tests.bench.tables import Table
from tests.bench.targets import targets

QUICK = Pace(rounds=1, seconds=1.2, quick=True)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, help="rounds of each scenario (default 3)")
    parser.add_argument(
        "--seconds", type=float, help="seconds counted in each run of the headline (default 3)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="everything once and briefly, in less than two minutes"
    )
    parser.add_argument(
        "--scenario", action="append", metavar="NAME", help="only this one (several may be given)"
    )
    parser.add_argument(
        "--subject", action="append", metavar="NAME", help="only this worker (several may be given)"
    )
    parser.add_argument(
        "--python",
        action="append",
        metavar="PATH",
        help="compare with the bridge on this interpreter",
    )
    parser.add_argument("--save", action="store_true", help="write JSON and plot to docs/bench")
    parser.add_argument(
        "--list", action="store_true", help="name scenarios and workers, and measure nothing"
    )
    return parser.parse_args(arguments)


def pace_of(options: argparse.Namespace) -> Pace:
    """How long and how often."""
    usual = QUICK if options.quick else Pace()
    return Pace(options.rounds or usual.rounds, options.seconds or usual.seconds, usual.quick)


def interpreters(paths: list[str]) -> dict[str, str]:
    """Version → interpreter. The hot path is compiled for each of them."""
    command = "import platform; print(platform.python_version())"
    found = {}
    for path in paths:
        # "required": without a compiler it would be measured as plain Python, and nobody told.
        environment = os.environ | {"DTBRIDGE_COMPILE": "required"}
        subprocess.run(
            [path, str(ROOT / "hatch_build.py")],
            capture_output=True,
            check=True,
            env=environment,
        )
        version = subprocess.run(
            [path, "-c", command], capture_output=True, text=True, check=True
        ).stdout.strip()
        found[version] = path
    return found


def save(folder: Path, tables: list[Table[Job]], machine: Machine, cast: Cast) -> None:
    """Write everything measured as JSON, and the headline scenario as a picture."""
    folder.mkdir(parents=True, exist_ok=True)
    everything = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "subjects": cast.titles,
        "targets": [
            {"verdict": target.verdict, **msgspec.to_builtins(target)} for target in targets(tables)
        ],
        "scenarios": tables,
    }
    (folder / "results.json").write_bytes(
        msgspec.json.format(msgspec.json.encode(everything), indent=1) + b"\n"
    )
    for table in tables:
        if table.scenario.name == "headline" and any(row.median for row in table.rows):
            (folder / "headline.svg").write_text(plot.draw(table, machine, cast))


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure, and return the exit code: 0 if everything chosen was measured."""
    pace = pace_of(options)
    others = interpreters(options.python or [])
    with compiled() as programs:
        cast = assemble(programs, other_pythons=others)
        scenarios = all_scenarios(pace, [f"bridge-{version}" for version in others])
        names = [scenario.name for scenario in scenarios]
        if options.list:
            console.print(
                f"scenarios: {', '.join(names)}\nworkers: {', '.join(cast.subjects)}",
                highlight=False,
            )
            return 0
        wrong = report.unknown("scenario", options.scenario or [], names) or report.unknown(
            "worker", options.subject or [], list(cast.subjects)
        )
        if wrong:
            console.print(wrong)
            return 2
        chosen = set(options.subject or cast.subjects)
        wanted = set(options.scenario or names)
        started = time.monotonic()
        with PrivateBroker(name="bench", tls=True) as broker, console.status("") as status:
            machine = this_machine(broker)
            report.explain(console, machine, cast)
            bench = Bench(broker, programs.load, cast, pace, status.update)
            tables = []
            for scenario in scenarios:
                if scenario.name not in wanted:
                    continue
                table = bench.run(scenario, chosen)
                if table.rows:
                    tables.append(table)
                    report.show(console, table, cast.titles)
        report.show_targets(console, tables)
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
    except BrokerUnavailable as error:
        console.print(str(error))
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
