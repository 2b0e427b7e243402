"""Metrics as numbers, and what happened between two readings of them.

Pure. A counter that has become smaller belongs to a process that was started again: then all that
it counts has happened since.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec
from prometheus_client.parser import text_string_to_metric_families

NAMES: Final = (
    "dtbridge_",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
)
"""How the names begin that are read; all others are passed over."""
LINES: Final = 300_000
"""Samples that are read of one worker at most."""
PROCESS: Final = "process"
"""The label that tells the processes of one supervisor apart."""

Labels = tuple[tuple[str, str], ...]
"""Names and values of labels, in the order of the names."""


class Reading(msgspec.Struct, frozen=True):
    """What one process said of itself."""

    at: float
    """When, by the monotonic clock."""
    values: dict[str, dict[Labels, float]]
    """Samples by their names: ``…_total``, ``…_bucket``, ``…_sum``, ``…_count`` and gauges."""

    def sum_of(self, name: str, **labels: str) -> float:
        """All samples of a name that have these labels, together."""
        wanted = labels.items()
        found = self.values.get(name, {})
        return sum(value for key, value in found.items() if wanted <= dict(key).items())

    def label_of(self, name: str, label: str) -> str:
        """The value of a label in the first sample that is not 0."""
        for labels, value in self.values.get(name, {}).items():
            if value:
                return dict(labels).get(label, "")
        return ""


def read_exposition(text: str, at: float) -> dict[str, Reading]:
    """The text of ``/metrics``, by process; "" if it speaks for one alone.

    Raises ValueError if it is no such text.
    """
    kept = []
    for line in text.splitlines():
        if line.startswith(("# TYPE dtbridge_", *NAMES)):
            kept.append(line)
            if len(kept) > LINES:
                raise ValueError(f"it has more than {LINES:,} samples")
    found: dict[str, dict[str, dict[Labels, float]]] = {}
    for family in text_string_to_metric_families("\n".join(kept) + "\n"):
        for sample in family.samples:
            labels = dict(sample.labels)
            process = labels.pop(PROCESS, "")
            key = tuple(sorted(labels.items()))
            names = found.setdefault(process, {})
            names.setdefault(sample.name, {})[key] = float(sample.value)
    return {process: Reading(at, values) for process, values in found.items()}


class Change(msgspec.Struct, frozen=True):
    """What happened between two readings of one process."""

    seconds: float
    """Between the two."""
    values: dict[str, dict[Labels, float]]
    """By how much each counter has grown, and each bucket of a histogram."""

    def by(self, name: str, label: str) -> dict[str, float]:
        """A counter's growth by the value of a label."""
        grown: dict[str, float] = {}
        for labels, value in self.values.get(name, {}).items():
            of = dict(labels).get(label, "")
            grown[of] = grown.get(of, 0.0) + value
        return grown

    def rate(self, name: str) -> float:
        """A counter's growth a second, all its samples together."""
        return sum(self.values.get(name, {}).values()) / self.seconds if self.seconds > 0 else 0.0


def change(before: Reading, after: Reading) -> Change:
    """What was counted from one reading to the next."""
    restarted = _has_shrunk(before, after)
    values: dict[str, dict[Labels, float]] = {}
    for name, samples in after.values.items():
        if not name.endswith(("_total", "_bucket", "_sum", "_count")):
            continue
        old = {} if restarted else before.values.get(name, {})
        values[name] = {
            labels: max(0.0, value - old.get(labels, 0.0))
            for labels, value in samples.items()
            if not math.isnan(value)
        }
    return Change(after.at - before.at, values)


def _has_shrunk(before: Reading, after: Reading) -> bool:
    """Whether a counter is smaller than it was, or gone: the process is another one."""
    for name, samples in before.values.items():
        if name.endswith(("_total", "_count")):
            now = after.values.get(name, {})
            if any(now.get(labels, 0.0) < value for labels, value in samples.items()):
                return True
    return False


# ---- histograms ----

Buckets = dict[float, float]
"""Upper bound → how many were up to it."""


def buckets(changes: Iterable[Change], name: str, **labels: str) -> Buckets:
    """A histogram of several processes together, of what has these labels."""
    wanted = labels.items()
    found: Buckets = {}
    for each in changes:
        for key, value in each.values.get(f"{name}_bucket", {}).items():
            told = dict(key)
            if wanted <= told.items():
                bound = float(told.get("le", "inf"))
                found[bound] = found.get(bound, 0.0) + value
    return found


def buckets_by(changes: Iterable[Change], name: str, *by: str) -> dict[tuple[str, ...], Buckets]:
    """As :func:`buckets`, one for each combination of the values of these labels."""
    found: dict[tuple[str, ...], Buckets] = {}
    for each in changes:
        for key, value in each.values.get(f"{name}_bucket", {}).items():
            told = dict(key)
            one = found.setdefault(tuple(told.get(label, "") for label in by), {})
            bound = float(told.get("le", "inf"))
            one[bound] = one.get(bound, 0.0) + value
    return found


def together(several: Iterable[Buckets]) -> Buckets:
    """Several histograms as one."""
    found: Buckets = {}
    for each in several:
        for bound, value in each.items():
            found[bound] = found.get(bound, 0.0) + value
    return found


def quantile(histogram: Mapping[float, float], part: float) -> float | None:
    """What so large a part of all is not above, as Prometheus' ``histogram_quantile`` has it.

    Between two bounds all are taken to be spread evenly; above the last bound it is that bound.
    None: there is nothing in it.
    """
    bounds = sorted(histogram)
    total = histogram[bounds[-1]] if bounds else 0.0
    if total <= 0:
        return None
    wanted = part * total
    for at, (lower, below, bound, count) in enumerate(_steps(bounds, histogram)):
        if count >= wanted and count > below:
            if math.isinf(bound):
                return lower if at else None
            return lower + (bound - lower) * (wanted - below) / (count - below)
    return None


def _steps(
    bounds: list[float], histogram: Mapping[float, float]
) -> Iterator[tuple[float, float, float, float]]:
    """Lower bound and count below it, upper bound and count up to it."""
    lower = below = 0.0
    for bound in bounds:
        count = max(below, histogram[bound])
        yield lower, below, bound, count
        lower, below = bound, count
