"""How long handling takes, as a busy intake measures it."""

import time

import pytest

from bridge.worker.pace import FADING, SMOOTHING, SPREAD, Pace, Rate, in_hand


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


# ---- a rate ----


def test_a_rate_lets_a_small_burst_begin_and_then_one_at_a_time() -> None:
    rate = Rate(100.0)
    begun = 0
    while rate.take() == 0.0:
        begun += 1
    assert 10 <= begun < 15  # a tenth of a second's worth; the machine may be slow
    left = rate.take()
    assert 0.0 < left <= 0.01
    time.sleep(left)
    assert rate.take() == 0.0


def test_of_a_slow_rate_one_may_always_begin_at_once() -> None:
    rate = Rate(0.5)
    assert rate.take() == 0.0
    assert 1.9 < rate.take() <= 2.0
    assert 1.9 < rate.take() <= 2.0  # to be refused costs nothing


def test_what_was_not_used_is_not_saved_beyond_the_burst() -> None:
    rate = Rate(1_000.0)
    assert rate.take() == 0.0
    time.sleep(0.3)
    begun = sum(rate.take() == 0.0 for _ in range(300))
    assert 100 <= begun < 200


@pytest.mark.parametrize(("per_second", "wanted"), [(10.0, 50), (0.1, 1), (1.5, 8)])
def test_few_are_taken_from_the_queue_ahead(per_second: float, wanted: int) -> None:
    assert in_hand(Rate(per_second)) == wanted
