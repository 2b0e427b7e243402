"""What a scenario is, what is measured in it, and the medians and ratios of its rounds."""

import statistics
from typing import Generic, TypeVar

import msgspec

J = TypeVar("J")
"""The circumstances of one measurement."""


class Entry(msgspec.Struct, Generic[J], frozen=True):
    """One line of a scenario's table."""

    label: str
    subject: str
    job: J
    against: str | None = None
    """The label of the entry that it is compared with, in the same round."""


class Scenario(msgspec.Struct, Generic[J], frozen=True):
    """A table."""

    name: str
    title: str
    entries: tuple[Entry[J], ...]


class Measurement(msgspec.Struct, omit_defaults=True):
    """One worker or gateway, one round."""

    rate: float | None = None
    """Round trips per second, at 200 outstanding (a backlog: while draining)."""
    cpu_us: float | None = None
    """User and system time of the worker, or gateway, per round trip of the same count, in
    microseconds."""
    broker_cpu_us: float | None = None
    load_cpu_us: float | None = None
    others_share: float | None = None
    """The part of the machine's processors that other programs used during the count."""
    p50_us: float | None = None
    """Latency at 200 outstanding, or at the fixed rate, in microseconds."""
    p99_us: float | None = None
    lone_p50_us: float | None = None
    """Latency at one outstanding, in microseconds."""
    lone_p99_us: float | None = None
    resident_mib: float | None = None
    """Memory of the worker, or gateway, after the count."""
    peak_mib: float | None = None
    worker_cpu_us: float | None = None
    """Where a gateway is measured: of the worker behind it."""
    station_kib: float | None = None
    """Memory of a gateway for each station that is connected."""
    calm_p50_us: float | None = None
    """Latency before a storm, in microseconds. During it, it is p50_us."""
    calm_p99_us: float | None = None
    last_served_s: float | None = None
    """Seconds from the beginning of a storm until the last station has its answer."""
    growth_mib: float | None = None
    """For a backlog: the peak while draining, above the memory of an idle worker."""
    refused_handshakes: float | None = None
    """In a storm: how often a station was not let in, and came again."""
    missing: int = 0
    """Requests without a reply at the end of the count."""
    refused: int = 0
    """Requests of stations that were answered with an error, or not Accepted."""
    lost: int = 0
    """Connections of stations that the gateway ended."""


COUNTS = ("missing", "refused", "lost")
"""What must be 0. Of several rounds the worst is told."""
NUMBERS = tuple(name for name in Measurement.__struct_fields__ if name not in COUNTS)


class Row(msgspec.Struct, Generic[J]):
    """An entry after all rounds."""

    entry: Entry[J]
    rounds: list[Measurement] = []
    median: Measurement | None = None
    ratio: Measurement | None = None
    """The median of the rounds' ratios to the entry it is compared with."""
    failure: str | None = None


class Table(msgspec.Struct, Generic[J]):
    """A scenario after all rounds."""

    scenario: Scenario[J]
    rows: list[Row[J]]

    def row(self, label: str | None) -> Row[J] | None:
        """The row of an entry, if it was run."""
        return next((row for row in self.rows if row.entry.label == label), None)


def _median(measurements: list[Measurement]) -> Measurement:
    median = Measurement()
    for name in COUNTS:
        setattr(median, name, max(getattr(measurement, name) for measurement in measurements))
    for name in NUMBERS:
        values = [
            value
            for measurement in measurements
            if (value := getattr(measurement, name)) is not None
        ]
        setattr(median, name, statistics.median(values) if values else None)
    return median


def _ratio(one: Measurement, other: Measurement) -> Measurement:
    ratio = Measurement()
    for name in NUMBERS:
        numerator, denominator = getattr(one, name), getattr(other, name)
        if numerator is not None and denominator:
            setattr(ratio, name, numerator / denominator)
    return ratio


def summarise(table: Table[J]) -> None:
    """Fill in the medians of the rounds, and the medians of the ratios in each round."""
    for row in table.rows:
        if row.rounds:
            row.median = _median(row.rounds)
    for row in table.rows:
        row.ratio = compare(row, table.row(row.entry.against))


def compare(row: Row[J] | None, other: Row[J] | None) -> Measurement | None:
    """The median of the ratios of one row's rounds to another's."""
    if row is None or other is None or not row.rounds or not other.rounds:
        return None
    pairs = zip(row.rounds, other.rounds, strict=False)  # one that failed half-way has fewer
    return _median([_ratio(one, against) for one, against in pairs])
