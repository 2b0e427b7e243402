"""The tables in docs/metrics.md list every metric that there is, and no other."""

import re
from pathlib import Path
from typing import NamedTuple

from bridge.client.metrics import ClientCollector
from bridge.gateway.metrics import LinkCollector
from bridge.gateway.websocket.metrics import GatewayCollector
from bridge.telemetry.metrics import BuildCollector, Collector
from bridge.telemetry.outcomes import KINDS
from bridge.telemetry.readiness import ReadinessCollector
from bridge.telemetry.sessions import CAUSES, OTHER
from bridge.worker.metrics import WorkerCollector

TEXT = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
COLLECTORS: tuple[type[Collector], ...] = (
    BuildCollector,
    ClientCollector,
    GatewayCollector,
    LinkCollector,
    ReadinessCollector,
    WorkerCollector,
)


class Listed(NamedTuple):
    kind: str
    labels: tuple[str, ...]


def rows(heading: str) -> list[list[str]]:
    """The cells of every row below each header that begins with `heading`."""
    found = []
    for table in re.findall(rf"^\| {heading} .*\n\|[-|]+\n((?:\|.*\n)+)", TEXT, re.MULTILINE):
        found += [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()]
    return found


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_tables_and_the_collectors_list_the_same_metrics() -> None:
    listed = {
        name: Listed(kind, tuple(names(labels)))
        for cell, kind, labels, _ in rows("metric")
        for name in names(cell)
    }
    there = {
        family.name: Listed(family.kind, family.labels)
        for collector in COLLECTORS
        for family in collector.families
    }
    assert listed == there


def test_no_metric_has_two_owners() -> None:
    every = [family.name for collector in COLLECTORS for family in collector.families]
    assert len(every) == len(set(every))


def test_names_and_units_are_as_prometheus_wants_them() -> None:
    for collector in COLLECTORS:
        for family in collector.families:
            assert re.fullmatch(r"dtbridge_[a-z]+(_[a-z]+)*", family.name)
            assert family.name.endswith("_total") == (family.kind == "counter"), family.name
            assert (family.kind != "histogram") or family.name.endswith("_seconds"), family.name
            assert family.help.endswith("."), family.name


def test_the_document_lists_the_outcomes_and_the_causes() -> None:
    assert sorted(name for cell, _ in rows("outcome") for name in names(cell)) == sorted(KINDS)
    causes = {name for cell, _ in rows("cause of a lost session") for name in names(cell)}
    assert causes == {*CAUSES.values(), OTHER}
