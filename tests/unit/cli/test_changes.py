"""The difference between a topology and a broker, as people read it."""

from bridge.cli.changes import lines, sentences
from bridge.rabbitmq.difference import APPLY, MIGRATE, Change, Difference, Finding, Mark

TYPE = Change("x-queue-type", "classic", "quorum")
LIMIT = Change("x-delivery-limit", None, 20)


def queue(name: str, mark: Mark = Mark.DIFFERENT, **fields: object) -> Finding:
    made: dict[str, object] = {"changes": (TYPE, LIMIT), "todo": MIGRATE}
    if mark is not Mark.DIFFERENT:
        made = {}
    return Finding(mark=mark, kind="queue", name=name, **(made | fields))  # type: ignore[arg-type]  # by name


FOUND = Difference(
    (
        queue("a", Mark.MISSING, todo=APPLY),
        queue("b", messages=1200),
        queue("c"),
        queue("d", Mark.RETIRED, bound_to=("x by d",), todo="Nobody handles it.", messages=1),
        queue("e\x1b[31m", Mark.UNKNOWN, consumers=("w\x1b[31m",)),
    ),
    7,
    ("Something could not be seen.",),
)


def test_it_reads_like_a_diff_and_says_once_what_many_have_in_common() -> None:
    assert list(lines(FOUND)) == [
        "+ queue a",
        "~ queue b (1,200 messages)",
        "~ queue c",
        "    x-queue-type      classic -> quorum",
        "    x-delivery-limit  none -> 20",
        "    `dtbridge topology migrate` changes that without losing a message.",
        "- queue d (1 message)",
        "    bound to x by d",
        "    Nobody handles it.",
        "    `dtbridge topology apply … --prune d`",
        "? queue e\N{REPLACEMENT CHARACTER}[31m",
        "    consumed by w\N{REPLACEMENT CHARACTER}[31m",
        "Something could not be seen.",
        "1 missing, 2 different, 1 retired, 1 unknown; 7 as they must be.",
    ]


def test_nothing_to_do_is_said() -> None:
    assert list(lines(Difference((), 3))) == ["Nothing differs; 3 as they must be."]


def test_sentences_are_wrapped_at_80_columns() -> None:
    found = Difference((queue("a", todo="word " * 40),), 0)
    assert max(map(len, lines(found))) <= 80


def test_each_difference_has_a_sentence_that_says_what_to_do() -> None:
    assert list(sentences(FOUND)) == [
        f"queue a: missing. {APPLY}",
        "queues b, c: x-queue-type is classic, not quorum; x-delivery-limit is none, not 20. "
        + MIGRATE,
    ]
