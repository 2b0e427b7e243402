"""What is counted: each number in its place, and nothing outside of it."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.telemetry import ticks
from bridge.telemetry.measures import MOST, SECONDS, Histogram, Tally


def test_a_duration_belongs_to_the_first_bound_that_it_does_not_exceed() -> None:
    histogram = Histogram((0.1, 1.0))
    for seconds in (0.0, 0.1, 0.100001, 1.0, 1.5, math.inf):
        histogram.observe(seconds)
    assert histogram.counts == [2, 2, 2]
    assert histogram.count == 6
    assert histogram.sum == math.inf


@given(st.lists(st.floats(0, 1_000)))
def test_every_duration_is_counted_once(seconds: list[float]) -> None:
    histogram = Histogram()
    for each in seconds:
        histogram.observe(each)
    assert histogram.count == len(seconds)
    assert histogram.sum == pytest.approx(sum(seconds))
    below = 0
    for bound, count in zip(SECONDS, histogram.counts, strict=False):
        below += count
        assert below == sum(each <= bound for each in seconds)


@pytest.mark.parametrize(
    "bounds",
    [(), (1.0, 1.0), (2.0, 1.0), tuple(map(float, range(MOST + 1)))],
    ids=["none", "twice", "descending", "too many"],
)
def test_bounds_that_make_no_histogram_are_refused(bounds: Sequence[float]) -> None:
    with pytest.raises(ValueError, match="bounds are 1 to"):
        Histogram(bounds)


def test_as_many_bounds_as_there_may_be_are_counted_apart() -> None:
    histogram = Histogram([float(bound) for bound in range(MOST)])
    for seconds in range(MOST + 1):
        histogram.observe(float(seconds))
    assert histogram.counts == [1] * (MOST + 1)


def test_a_tally_counts_each_kind_apart() -> None:
    tally = Tally(("com.acme", "m"), ("good", "bad", "ugly"))
    for kind in (0, 2, 2):
        tally.count(kind)
    assert tally.counts == {"good": 1, "bad": 0, "ugly": 2}
    assert tally.labels == ("com.acme", "m")
    assert tally.seconds.count == 0


@pytest.mark.parametrize("kind", [-1, 2, MOST, MOST + 1, 10**6])
def test_a_kind_that_is_not_in_the_list_is_not_counted(kind: int) -> None:
    tally = Tally((), ("good", "bad"))
    with pytest.raises(IndexError):
        tally.count(kind)
    assert tally.counts == {"good": 0, "bad": 0}


def test_a_tally_has_no_more_kinds_than_there_is_room_for() -> None:
    with pytest.raises(ValueError, match="has 24 at most"):
        Tally((), [str(kind) for kind in range(MOST + 1)])


def test_the_clock_goes_on() -> None:
    first = ticks.now()
    assert 0.0 <= ticks.now() - first < 60.0
