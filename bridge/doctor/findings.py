"""A finding: a sentence about what is, and one about what to do."""

import enum
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec

Known = TypeVar("Known")


class Level(enum.StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    """It works, and may cost something one day."""
    FAIL = "fail"
    """Something does not work, or will be lost."""
    UNKNOWN = "unknown"
    """It could not be known; the sentence says why."""


class Finding(msgspec.Struct, frozen=True):
    """What a check found."""

    check: str
    """A word or two, the same for all findings of a check."""
    level: Level
    sentence: str
    advice: str = ""
    """What to do; empty if nothing is to be done."""


Check = Callable[[Known], Iterator[Finding]]
"""From what is known to what is to be said about it. Pure: looks at nothing else."""


def examine(checks: Iterable[Check[Known]], known: Known) -> Iterator[Finding]:
    """What all the checks find."""
    for check in checks:
        yield from check(known)


def ok(check: str, sentence: str) -> Finding:
    return Finding(check, Level.OK, sentence)


def warn(check: str, sentence: str, advice: str) -> Finding:
    return Finding(check, Level.WARN, sentence, advice)


def fail(check: str, sentence: str, advice: str) -> Finding:
    return Finding(check, Level.FAIL, sentence, advice)


def unknown(check: str, sentence: str, advice: str = "") -> Finding:
    return Finding(check, Level.UNKNOWN, sentence, advice)


def some(names: Sequence[str], at_most: int = 5) -> str:
    """The first few of several names."""
    shown = ", ".join(names[:at_most])
    rest = len(names) - at_most
    return f"{shown} and {rest:,} more" if rest > 0 else shown


def queues(names: Sequence[str]) -> str:
    """One queue or several, by name."""
    return f"queue {names[0]}" if len(names) == 1 else f"queues {some(names)}"


_UNITS = ((86_400_000, "days"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"))


def spoken(milliseconds: int) -> str:
    """A duration in the largest unit of which it is a whole number, but for one day or minute."""
    for length, unit in _UNITS:
        if milliseconds >= 2 * length and milliseconds % length == 0:
            return f"{milliseconds // length:,} {unit}"
    return f"{milliseconds / 1_000:,g} s"
