"""What is promised of the worker's speed, beside what was measured."""

from collections.abc import Sequence

import msgspec

from tests.bench.subjects import Job
from tests.bench.tables import Row, Table, compare


class Target(msgspec.Struct):
    """One promise. `must` and `aim` bound `measured` from above, or from below if `at_least`."""

    text: str
    measured: float | None
    must: float
    aim: float
    at_least: bool = False

    @property
    def verdict(self) -> str:
        """One of "aim", "must" and "missed"; empty if it was not measured."""
        if self.measured is None:
            return ""
        if self._within(self.aim):
            return "aim"
        return "must" if self._within(self.must) else "missed"

    def _within(self, bound: float) -> bool:
        assert self.measured is not None
        return self.measured >= bound if self.at_least else self.measured <= bound


class Results(msgspec.Struct):
    """The tables of a run, to ask for ratios."""

    tables: Sequence[Table[Job]]

    def row(self, scenario: str, label: str) -> Row[Job] | None:
        """A row, if it was measured."""
        table = next((table for table in self.tables if table.scenario.name == scenario), None)
        return table.row(label) if table else None

    def ratio(self, scenario: str, label: str, other: str, number: str) -> float | None:
        """The ratio of a number of two rows of a scenario, if both were measured."""
        ratio = compare(self.row(scenario, label), self.row(scenario, other))
        value: float | None = getattr(ratio, number) if ratio else None
        return value

    def growth(self) -> float | None:
        """MiB by which the worker grew while draining the backlog."""
        row = self.row("backlog", "bridge")
        return row.median.growth_mib if row and row.median else None


def targets(tables: Sequence[Table[Job]]) -> list[Target]:
    """All targets; nothing is measured for those whose scenario was not run."""
    results = Results(tables)
    ratio = results.ratio
    found = [
        Target("CPU per round trip against C", ratio("headline", "bridge", "c", "cpu_us"), 3, 2),
        Target(
            "CPU per round trip against aio-pika",
            ratio("headline", "bridge", "aio_pika", "cpu_us"),
            1 / 10,
            1 / 18,
        ),
        Target(
            "CPU per round trip against FastStream",
            ratio("headline", "bridge", "faststream", "cpu_us"),
            1 / 20,
            1 / 35,
        ),
        Target(
            "round trips/s against C",
            ratio("headline", "bridge", "c", "rate"),
            0.95,
            1,
            at_least=True,
        ),
        Target(
            "p50 at one outstanding against C",
            ratio("headline", "bridge", "c", "lone_p50_us"),
            1.4,
            1.15,
        ),
    ]
    for count in ("100", "1,000"):
        ours, theirs = f"bridge, {count} queues", f"c, {count} queues"
        found += [
            Target(
                f"{count} queues: round trips/s against C",
                ratio("vendors", ours, theirs, "rate"),
                0.95,
                1,
                at_least=True,
            ),
            Target(
                f"{count} queues: CPU against one queue",
                ratio("vendors", ours, "bridge, 1 queue", "cpu_us"),
                2,
                1.5,
            ),
        ]
    telling = ratio("events", "bridge, all events", "bridge, events off", "cpu_us")
    found.append(Target("CPU per round trip with all events", telling, 1.5, 1.3))
    keeping = ratio("idempotency", "bridge, replies kept", "bridge, no replies kept", "cpu_us")
    found.append(
        Target(
            "CPU with replies kept for requests that come again, against without",
            keeping,
            1.15,
            1.05,
        )
    )
    counting = ratio("metrics", "bridge, counted", "bridge, not counted", "cpu_us")
    found.append(
        Target("CPU with requests counted for the metrics, against without", counting, 1.05, 1.03)
    )
    around = ratio("surrounded", "bridge, state and middleware", "bridge, handlers alone", "cpu_us")
    found.append(
        Target("CPU with a lifespan's state and one middleware, against without", around, 1.15, 1.1)
    )
    others = ratio("hang", "bridge, one vendor hangs", "bridge, all well", "p99_us")
    found += [
        Target("MiB more while draining the backlog", results.growth(), 32, 8),
        Target("p99 of the others while one vendor hangs, against without", others, 2, 1.2),
    ]
    return found
