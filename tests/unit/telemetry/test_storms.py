"""A storm of one cause writes no more than is allowed, and says how much it did not write."""

from bridge.telemetry.storms import FULL, KEPT, SHORT, WINDOW, Storms, Telling


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_first_are_told_at_length_the_next_in_short_and_then_none() -> None:
    storms = Storms(Clock())
    told = [storms.strike("a") for _ in range(SHORT + 10)]
    assert [telling for telling, _ in told[:FULL]] == [Telling.FULL] * FULL
    assert {telling for telling, _ in told[FULL:SHORT]} == {Telling.SHORT}
    assert {telling for telling, _ in told[SHORT:]} == {Telling.NOT_AT_ALL}
    assert told[FULL] == (Telling.SHORT, FULL + 1)


def test_causes_are_kept_apart() -> None:
    storms = Storms(Clock())
    for _ in range(SHORT + 1):
        storms.strike("a")
    assert storms.strike("b") == (Telling.FULL, 1)


def test_the_next_minute_begins_anew() -> None:
    clock = Clock()
    storms = Storms(clock)
    for _ in range(FULL):
        storms.strike("a")
    clock.now += WINDOW
    assert storms.strike("a") == (Telling.FULL, 1)


def test_what_was_not_told_is_told_once_when_the_minute_is_over() -> None:
    clock = Clock()
    storms = Storms(clock)
    for _ in range(SHORT + 7):
        storms.strike("a")
    assert storms.untold() == []
    clock.now += WINDOW
    assert storms.strike("a")[0] is Telling.NOT_AT_ALL  # until it has been told
    assert storms.untold() == [("a", 8)]
    assert storms.untold() == []
    assert storms.strike("a") == (Telling.FULL, 1)
    storms.strike("b")
    assert storms.untold(over=True) == []


def test_causes_are_bounded() -> None:
    clock = Clock()
    storms = Storms(clock)
    for number in range(KEPT):
        storms.strike(number)
    told = [storms.strike(KEPT + number)[0] for number in range(2 * SHORT)]
    assert told.count(Telling.NOT_AT_ALL) == SHORT
    clock.now += WINDOW
    assert storms.strike("new") == (Telling.FULL, 1)
