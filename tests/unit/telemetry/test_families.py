"""Metrics of several processes become one answer, and lose nothing on the way."""

import math

import msgspec
import pytest
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    Metric,
    generate_latest,
)
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from bridge.telemetry.families import decode, encode, merge


def registry_of(value: float) -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("asked", "Asked.", ["vendor"], registry=registry).labels('a"\n').inc(value)
    Gauge("level", "Level.", registry=registry).set(-math.inf)
    Histogram("took_seconds", "Took.", buckets=[1.0], registry=registry).observe(
        value, exemplar={"trace_id": "abc"}
    )
    Info("build", "Build.", registry=registry).info({"version": "1"})
    return registry


def test_what_is_handed_over_arrives_as_it_was() -> None:
    registry = registry_of(2.0)
    assert decode(encode(registry)) == list(registry.collect())


def test_not_a_number_is_a_value_too() -> None:
    registry = CollectorRegistry()
    Gauge("level", "Level.", registry=registry).set(math.nan)
    (metric,) = decode(encode(registry))
    assert math.isnan(metric.samples[0].value)


@pytest.mark.parametrize("data", [b"", b"\xc1", msgspec.msgpack.encode([[1]]), b"<html>"])
def test_anything_else_is_no_metrics(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(data)


def test_the_families_of_several_are_told_apart_by_a_label() -> None:
    merged = merge({"0": registry_of(1.0).collect(), "1": registry_of(2.0).collect()})
    assert len({metric.name for metric in merged}) == len(merged)
    asked = next(metric for metric in merged if metric.name == "asked")
    assert {
        (sample.labels["process"], sample.value)
        for sample in asked.samples
        if sample.name == "asked_total"
    } == {("0", 1.0), ("1", 2.0)}


class Merged(Collector):
    def collect(self) -> list[Metric]:
        return merge({"0": registry_of(1.0).collect(), "1": registry_of(2.0).collect()})


def test_what_is_merged_can_be_written_and_read_by_a_scraper() -> None:
    registry = CollectorRegistry()
    registry.register(Merged())
    shown = list(text_string_to_metric_families(generate_latest(registry).decode()))
    names = [family.name for family in shown]
    assert len(set(names)) == len(names)
    assert all("process" in sample.labels for family in shown for sample in family.samples)


def test_where_two_mean_different_things_by_a_name_the_first_is_believed() -> None:
    gauge, counter = Metric("x", "X.", "gauge"), Metric("x", "X.", "counter")
    gauge.add_sample("x", {}, 1.0)
    counter.add_sample("x_total", {}, 2.0)
    (merged,) = merge({"0": [gauge], "1": [counter]})
    assert [sample.labels for sample in merged.samples] == [{"process": "0"}]
