"""How long handling takes, as a busy intake measures it."""

import pytest

from bridge.worker.pace import Pace


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
