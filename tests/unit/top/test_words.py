"""What stands out, as sentences, and numbers in a few signs."""

import pytest

from bridge.top.samples import Change, Labels, Reading
from bridge.top.words import duration, number, the_loop, the_threads


def blocked(**times: int) -> dict[str, dict[Labels, float]]:
    """By message."""
    labels = {message: (("message", message), ("vendor", "v")) for message in times}
    if "other" in times:
        labels["other"] = (("message", "other"), ("vendor", "other"))
    return {"dtbridge_loop_blocked_total": {labels[message]: n for message, n in times.items()}}


@pytest.mark.parametrize(
    ("limit", "busy", "waiting", "text"),
    [
        (1, 1, 1, "its only thread is busy, and 1 request waits for one"),
        (4, 4, 20, "its 4 threads are all busy, and 20 requests wait for one"),
        (4, 2, 20, "2 of its 4 threads are busy, all of some processes, and 20 requests wait"),
    ],
)
def test_how_many_threads_are_busy_is_said(limit: int, busy: int, waiting: int, text: str) -> None:
    assert the_threads(limit, busy, waiting).startswith(text)


@pytest.mark.parametrize(
    ("lag", "now", "ever", "text"),
    [
        (0.01, blocked(m=0), blocked(m=7), ""),
        (None, {}, {}, ""),
        (
            0.9, blocked(m=0), blocked(m=7),
            ("its event loop is up to 900ms late: v m (7 times) held it since it was started, and"
            " all its requests waited; make it a plain def"),
        ),
        (
            0.9, {}, {},
            ("its event loop is up to 900ms late: something holds it, and all its requests waited;"
            " its log may say what (the event loop is blocked)"),
        ),
        (
            0.01, blocked(m=1, n=2, other=9), blocked(m=1, n=2, other=9),
            ("v n (2 times), v m (once), something unknown (9 times) held its event loop, and all"
            " its requests waited; make it a plain def"),
        ),
    ],
)  # fmt: skip
def test_who_holds_a_loop_is_said_if_it_is_held(
    lag: float | None,
    now: dict[str, dict[Labels, float]],
    ever: dict[str, dict[Labels, float]],
    text: str,
) -> None:
    assert the_loop(lag, Change(2.0, now), Reading(1.0, ever)) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0004, "0.4ms"), (0.035, "35ms"), (2.13, "2.1s"), (45, "45s"), (119, "119s"),
        (200, "3m"), (7_300, "2h"), (180_000, "2d"),
    ],
)  # fmt: skip
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (3, "3"), (3.21, "3.2"), (9.97, "10"), (412.4, "412"), (999.9, "1.0k"),
        (9_870, "9.9k"), (120_400, "120k"), (3_100_000, "3.1M"), (5e9, "5G"),
    ],
)  # fmt: skip
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text
