"""Samples for prometheus_client, made of what is counted when somebody asks for them.

A collector names its families in a table, and fills them from the values of
:mod:`bridge.telemetry.measures`. It is asked from the thread of whoever serves the metrics, while
the event loop goes on counting.
"""

import platform
import sys
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate
from typing import ClassVar, Final, Literal

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector as PrometheusCollector

from bridge.compiled.switch import running
from bridge.telemetry import LOADED_AT
from bridge.telemetry.measures import Histogram
from bridge.telemetry.sessions import STATES, Sessions

DISTRIBUTION: Final = "datatransfer-bridge"


class Family(msgspec.Struct, frozen=True):
    """One metric, as it stands in ``docs/metrics.md``."""

    name: str
    """With its unit and, for a counter, ``_total``."""
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


class Samples:
    """The samples of one scrape. Of samples with the same labels there is one, their sum."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = {family.name: family for family in families}
        self._numbers: dict[str, dict[tuple[str, ...], float]] = {
            name: {} for name in self._families
        }
        self._histograms: dict[str, dict[tuple[str, ...], list[Histogram]]] = {
            name: {} for name in self._families
        }

    def number(self, name: str, value: float, *labels: str) -> None:
        """A sample of a counter or gauge. `labels`: their values, in the order of the family."""
        known = self._numbers[name]
        known[labels] = known.get(labels, 0) + value

    def numbers(self, name: str, values: Mapping[str, float], *labels: str) -> None:
        """A sample for each value of the last label."""
        for label, value in dict(values).items():
            self.number(name, value, *labels, label)

    def histogram(self, name: str, histogram: Histogram, *labels: str) -> None:
        """The samples of a histogram. Those with the same labels have the same bounds."""
        self._histograms[name].setdefault(labels, []).append(histogram)

    def __iter__(self) -> Iterator[Metric]:
        for name, family in self._families.items():
            if family.kind == "histogram":
                made = HistogramMetricFamily(name, family.help, labels=family.labels)
                for labels, histograms in self._histograms[name].items():
                    made.add_metric(labels, *_buckets(histograms))
                yield made
            else:
                kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
                numbers = kind(name, family.help, labels=family.labels)
                for labels, value in self._numbers[name].items():
                    numbers.add_metric(labels, value)
                yield numbers


def _buckets(histograms: Sequence[Histogram]) -> tuple[list[tuple[str, float]], float]:
    """Upper bounds, as text, with how many durations there were up to each; and the sum of all."""
    seconds = sum(histogram.sum for histogram in histograms)
    counts = map(sum, zip(*(histogram.counts for histogram in histograms), strict=True))
    bounds = (*map(repr, histograms[0].bounds), "+Inf")
    return list(zip(bounds, accumulate(counts), strict=True)), seconds


class Collector(PrometheusCollector):
    """Gives a registry of prometheus_client what its owner has counted."""

    families: ClassVar[tuple[Family, ...]]

    @abstractmethod
    def fill(self, samples: Samples) -> None:
        """Add the samples of now."""

    def describe(self) -> Iterator[Metric]:
        """The families without samples: a registry asks for their names, not for their values."""
        return iter(Samples(self.families))

    def collect(self) -> Iterator[Metric]:
        samples = Samples(self.families)
        self.fill(samples)
        return iter(samples)


# ---- the process ----

BUILD: Final = "dtbridge_build_info"
STARTED: Final = "dtbridge_start_time_seconds"


class BuildCollector(Collector):
    """What runs, and since when."""

    families = (
        Family(
            BUILD,
            "gauge",
            "Always 1: version, Python, and whether the hot path is compiled (yes, no, partly).",
            ("version", "python", "compiled"),
        ),
        Family(STARTED, "gauge", "When the process imported the bridge, in seconds of Unix time."),
    )

    def fill(self, samples: Samples) -> None:
        samples.number(BUILD, 1, _version(), platform.python_version(), compiled())
        samples.number(STARTED, LOADED_AT)


def _version() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:  # run from its sources, which are not installed
        return "unknown"


def compiled() -> Literal["yes", "no", "partly"]:
    """Whether the modules of the hot path that are imported run compiled."""
    forms = {each.form for each in running().values()}
    if forms == {"compiled"}:
        return "yes"
    return "partly" if "compiled" in forms else "no"


def registry(*collectors: PrometheusCollector) -> CollectorRegistry:
    """A registry of these, of the build, and of the process (on Linux: processor time, memory)."""
    made = CollectorRegistry()
    for collector in (BuildCollector(), *collectors):
        made.register(collector)
    if sys.platform == "linux":
        ProcessCollector(registry=made)
    return made


# ---- the sessions with a broker ----


def session_families(prefix: str) -> tuple[Family, ...]:
    """The families of a transport. `prefix`: how the names of its owner's metrics begin."""
    return (
        Family(f"{prefix}_session_state", "gauge", "1 for the state it is in, else 0.", ("state",)),
        Family(f"{prefix}_sessions_opened_total", "counter", "Sessions that came to consume."),
        Family(
            f"{prefix}_sessions_lost_total",
            "counter",
            "Sessions that ended by themselves, by cause. Each is followed by a reconnect.",
            ("cause",),
        ),
        Family(
            f"{prefix}_session_start_time_seconds",
            "gauge",
            "When the last session came to consume, in seconds of Unix time; 0: there was none.",
        ),
        Family(
            f"{prefix}_blocked_seconds_total",
            "counter",
            "Seconds in which the broker took no publishings, because of an alarm.",
        ),
        Family(
            f"{prefix}_confirm_seconds",
            "histogram",
            "From a publishing to its confirm; one publishing at a time is timed.",
        ),
        Family(
            f"{prefix}_publishings_failed_total",
            "counter",
            "Publishings that the broker did not take: returned (no queue took it) or refused.",
            ("cause",),
        ),
    )


def fill_sessions(
    samples: Samples, prefix: str, sessions: Sessions, *, state: str, returned: int, refused: int
) -> None:
    """Add what is known of a transport. `state`: that it is in now."""
    for each in STATES:
        samples.number(f"{prefix}_session_state", each == state, each)
    samples.number(f"{prefix}_sessions_opened_total", sessions.opened)
    samples.numbers(f"{prefix}_sessions_lost_total", sessions.lost)
    samples.number(f"{prefix}_session_start_time_seconds", sessions.began_at)
    samples.number(f"{prefix}_blocked_seconds_total", sessions.blocked_seconds)
    samples.histogram(f"{prefix}_confirm_seconds", sessions.confirms)
    samples.numbers(
        f"{prefix}_publishings_failed_total", {"returned": returned, "refused": refused}
    )
