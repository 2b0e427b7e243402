"""A jittered pause before the next attempt."""

import pytest

from bridge.backoff import BACK_OFF_FIRST, BACK_OFF_LONGEST, back_off


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pause is as long as it may be."""
    monkeypatch.setattr("random.uniform", lambda low, high: high)


@pytest.mark.usefixtures("limits")
def test_the_limit_doubles_with_every_failure_up_to_the_longest() -> None:
    first, longest = BACK_OFF_FIRST, BACK_OFF_LONGEST
    assert [back_off(failures) for failures in range(4)] == [
        first,
        2 * first,
        4 * first,
        8 * first,
    ]
    assert back_off(10) == back_off(10_000) == longest


@pytest.mark.usefixtures("limits")
def test_first_and_longest_can_be_set() -> None:
    pauses = [back_off(failures, first=0.5, longest=30.0) for failures in (0, 1, 5, 6, 10_000)]
    assert pauses == [0.5, 1.0, 16.0, 30.0, 30.0]


def test_a_pause_is_anything_up_to_its_limit() -> None:
    pauses = [back_off(3) for _ in range(1000)]
    limit = 8 * BACK_OFF_FIRST
    assert min(pauses) < 0.2 * limit < 0.8 * limit < max(pauses) <= limit
