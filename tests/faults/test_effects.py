"""The proof that effects happen once must fail where they do not."""

from collections.abc import Iterable

import msgspec
import psycopg
import pytest

from tests.faults.effects import make_tables, wrong_effects
from tests.faults.handlers import Ran
from tests.faults.load import Answer, Load, Sent


def told(*runs: str) -> list[Answer]:
    """Accepted answers of these runs of the handler."""
    bodies = ({"status": "Accepted", "data": Ran(1, run)} for run in runs)
    return [Answer("DataTransferResponse", msgspec.json.encode(body), 0.0) for body in bodies]


REFUSED = [Answer("DataTransferResponse", b'{"status":"Rejected"}', 0.0)]


async def found(database: str, answers: list[Answer], runs: Iterable[str]) -> list[str]:
    """What is wrong if a request has these answers, and these runs left their effect."""
    await make_tables(database)
    with psycopg.connect(database) as connection:
        for run in runs:
            connection.execute("INSERT INTO effects VALUES (1, %s)", (run,))
    load = Load([], lambda *_: NotImplemented, rate=1.0, seed=1)
    load.sent[1] = Sent(1, "Echo", 0, True, None, answers=answers)
    return wrong_effects(database, load)


@pytest.mark.parametrize(
    ("answers", "runs"),
    [(told("a"), ["a"]), (told("a", "a"), ["a"]), (REFUSED, []), ([], []), ([], ["a"])],
    ids=["once", "answered again", "refused", "not handled", "not answered yet"],
)
async def test_one_effect_for_each_answer_is_as_promised(
    database: str, answers: list[Answer], runs: list[str]
) -> None:
    assert await found(database, answers, runs) == []


@pytest.mark.parametrize(
    ("answers", "runs"),
    [
        (told("a"), ["a", "b"]),
        (told("a"), ["a", "a"]),
        (told("a"), ["b"]),
        (told("a"), []),
        (told("a", "b"), ["b"]),
        (REFUSED, ["a"]),
        ([], ["a", "b"]),
    ],
    ids=["two runs", "twice", "another", "lost", "two answers", "refused", "two and no answer"],
)
async def test_effects_that_are_not_what_was_told_are_named(
    database: str, answers: list[Answer], runs: list[str]
) -> None:
    [wrong] = await found(database, answers, runs)
    assert "request 1 (Echo)" in wrong


async def test_an_effect_that_nobody_asked_for_is_named(database: str) -> None:
    await make_tables(database)
    with psycopg.connect(database) as connection:
        connection.execute("INSERT INTO effects VALUES (2, 'a')")
    load = Load([], lambda *_: NotImplemented, rate=1.0, seed=1)
    assert wrong_effects(database, load) == ["effects of number 2, which was never sent"]
