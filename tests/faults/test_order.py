"""The proof of order can fail: a journal shows each promise broken, and it is said."""

import pytest

from tests.faults.order import out_of_order

A, B, DEAD = 1, 2, 3
"""Workers. The last one never ends anything in these journals."""


def journal(*events: tuple[str, int, int]) -> list[str]:
    return [f"{word} {worker} CP1 {number}" for word, worker, number in events]


def run(worker: int, number: int) -> tuple[tuple[str, int, int], tuple[str, int, int]]:
    return ("begins", worker, number), ("ends", worker, number)


def wrong(
    *events: tuple[str, int, int],
    unsure: frozenset[int] = frozenset(),
    expired: frozenset[int] = frozenset(),
    sessions_end: bool = False,
) -> str:
    found = out_of_order(
        journal(*events),
        sure=frozenset(range(10)) - unsure,
        expired=expired,
        sessions_end=sessions_end,
    )
    return "; ".join(found)


def test_one_after_the_other_by_any_worker_is_as_promised() -> None:
    assert wrong(*run(A, 1), *run(A, 2), *run(B, 3), *run(A, 4)) == ""


def test_the_next_worker_goes_on_from_what_a_dead_one_had_begun() -> None:
    assert wrong(*run(DEAD, 1), ("begins", DEAD, 2), *run(B, 2), *run(B, 3)) == ""


def test_or_from_before_if_that_was_not_acknowledged() -> None:
    assert wrong(*run(DEAD, 1), ("begins", DEAD, 2), *run(B, 1), *run(B, 2), *run(B, 3)) == ""


def test_or_after_it_if_it_has_the_answer_itself() -> None:
    assert wrong(*run(A, 1), ("begins", DEAD, 1), *run(A, 2)) == ""


def test_or_after_it_if_its_time_is_over() -> None:
    assert wrong(("begins", DEAD, 1), *run(B, 2), expired=frozenset({1})) == ""


def test_a_worker_that_has_lost_its_connection_may_still_be_at_its_last() -> None:
    events = ("begins", A, 1), ("begins", B, 1), ("ends", A, 1), ("ends", B, 1), *run(B, 2)
    assert wrong(*events, sessions_end=True) == ""
    assert wrong(*events) == "CP1: 1 was begun beside 1"


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ((*run(A, 2), *run(B, 1)), "CP1: 1 was begun after 2"),
        ((*run(A, 1), *run(A, 1)), "CP1: the worker that had begun 1 began 1"),
        ((*run(A, 1), *run(A, 2), *run(A, 1)), "CP1: the worker that had begun 2 began 1"),
        (
            (("begins", A, 1), ("begins", A, 2), ("ends", A, 1), ("ends", A, 2)),
            "CP1: 2 was begun beside 1",
        ),
        (
            (("begins", A, 1), ("begins", B, 2), ("ends", A, 1), ("ends", B, 2)),
            "CP1: 2 was begun beside 1",
        ),
        ((("begins", DEAD, 1), *run(B, 2)), "CP1: 2 was begun before the end of 1"),
        ((), "nothing was handled in order"),
    ],
)
def test_a_broken_promise_is_named(events: tuple[tuple[str, int, int], ...], words: str) -> None:
    assert words in wrong(*events)


def test_whose_place_is_not_known_may_come_at_any() -> None:
    assert wrong(*run(A, 2), *run(A, 1), *run(A, 3), unsure=frozenset({1})) == ""
