"""How long handling takes, as a busy intake measures it."""

import pytest

from bridge.worker.pace import FADING, SMOOTHING, SPREAD, Pace


def test_nothing_is_needed_before_anything_was_measured() -> None:
    assert Pace().needed == 0


def test_steady_handling_needs_its_own_time() -> None:
    pace = Pace()
    for _ in range(200):
        pace.took(0.5)
    assert pace.needed == pytest.approx(0.5, rel=0.01)


def test_unsteady_handling_needs_more_than_its_mean() -> None:
    """So that almost all of it is done in the time that is needed."""
    pace = Pace()
    for number in range(200):
        pace.took(0.1 if number % 2 else 0.3)
    assert pace.needed > 0.3


def test_a_bad_spell_fades_with_each_request_that_was_not_begun() -> None:
    pace = Pace()
    for _ in range(50):
        pace.took(10.0)
    bad = pace.needed
    for _ in range(14):
        pace.fade()
    assert pace.needed == pytest.approx(bad * 0.95**14)


def test_its_numbers_are_those_of_tcp() -> None:
    """RFC 6298 §2; the fading is the bridge's own."""
    assert (SMOOTHING, SPREAD, FADING) == (1 / 8, 1 / 4, 0.95)


def test_what_is_needed_is_the_mean_and_twice_the_deviation() -> None:
    pace = Pace()
    pace.took(1.0)  # mean 1/8, deviation 1/4
    assert pace.needed == pytest.approx(0.625)
    pace.took(1.0)  # mean 1/8 + 7/64, deviation 1/4 + (7/8 - 1/4) / 4
    assert pace.needed == pytest.approx(15 / 64 + 2 * (1 / 4 + 5 / 32))
