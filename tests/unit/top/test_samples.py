"""Metrics as numbers, what happened between two readings, and quantiles."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.top import samples
from bridge.top.samples import Reading, buckets, change, quantile, read_exposition
from tests.unit.top.exposition import a_worker


def reading(at: float = 0.0, text: str = "") -> Reading:
    [found] = read_exposition(text, at).values()
    return found


def test_only_the_bridges_own_metrics_are_read() -> None:
    found = reading(text=a_worker(accepted=3))
    assert found.sum_of("dtbridge_requests_total") == 8
    assert found.sum_of("dtbridge_requests_total", outcome="accepted") == 3
    assert found.sum_of("process_resident_memory_bytes") == 50 * 2**20
    assert found.label_of("dtbridge_session_state", "state") == "consuming"
    assert "go_goroutines" not in found.values


def test_the_processes_of_one_supervisor_are_told_apart() -> None:
    found = read_exposition(
        a_worker(process="1", accepted=1) + a_worker(process="2", accepted=2), 0.0
    )
    assert {name: each.sum_of("dtbridge_deliveries_total") for name, each in found.items()} == {
        "1": 1,
        "2": 2,
    }


def test_what_is_no_exposition_is_refused_and_so_is_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert read_exposition("<html>", 0.0) == {}
    monkeypatch.setattr(samples, "LINES", 10)
    with pytest.raises(ValueError, match="more than 10 samples"):
        read_exposition(a_worker(), 0.0)


def test_a_change_is_the_growth_of_counters_and_buckets() -> None:
    done = change(
        reading(10.0, a_worker(accepted=5, fast=5)), reading(12.0, a_worker(accepted=9, fast=9))
    )
    assert done.seconds == 2.0
    assert done.by("dtbridge_requests_total", "outcome") == {
        "accepted": 4, "failed": 0, "retried": 0
    }  # fmt: skip
    assert done.rate("dtbridge_deliveries_total") == 2.0
    assert buckets([done], "dtbridge_answer_seconds", vendor="acme") == {
        0.001: 0, 0.01: 4, 0.1: 4, 1.0: 4, 10.0: 4, math.inf: 4
    }  # fmt: skip
    assert buckets([done], "dtbridge_answer_seconds", vendor="other") == {}


def test_a_process_that_was_started_again_has_counted_all_since() -> None:
    done = change(
        reading(10.0, a_worker(accepted=50, fast=50)), reading(12.0, a_worker(accepted=8, fast=8))
    )
    assert done.by("dtbridge_requests_total", "outcome")["accepted"] == 8
    assert done.by("dtbridge_requests_total", "outcome")["retried"] == 5
    assert buckets([done], "dtbridge_answer_seconds")[math.inf] == 8


@pytest.mark.parametrize(
    ("histogram", "part", "expected"),
    [
        ({}, 0.5, None),
        ({1.0: 0, math.inf: 0}, 0.5, None),
        ({1.0: 10, math.inf: 10}, 0.5, 0.5),
        ({1.0: 0, 2.0: 10, math.inf: 10}, 0.99, 1.99),
        ({1.0: 5, 2.0: 10, math.inf: 20}, 0.99, 2.0),  # above the last bound
        ({math.inf: 3}, 0.5, None),
    ],
)
def test_quantiles_are_as_prometheus_has_them(
    histogram: dict[float, float], part: float, expected: float | None
) -> None:
    assert quantile(histogram, part) == expected


@given(
    st.dictionaries(st.floats(0.001, 100), st.integers(0, 1_000), max_size=8),
    st.floats(0.01, 0.99),
)
def test_a_quantile_lies_within_the_bounds(counts: dict[float, int], part: float) -> None:
    total = 0
    histogram: dict[float, float] = {}
    for bound in sorted(counts):
        total += counts[bound]
        histogram[bound] = total
    histogram[math.inf] = total
    found = quantile(histogram, part)
    if total:
        assert found is not None
        assert 0 <= found <= max(counts)
    else:
        assert found is None
