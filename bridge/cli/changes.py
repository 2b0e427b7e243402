"""The difference between a topology and a broker, as people read it."""

import textwrap
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, Final

from bridge.cli.tables import printable
from bridge.rabbitmq.difference import Difference, Finding, Mark

WIDTH: Final = 80
"""Columns of what is not a name."""
_INDENT: Final = "    "

_SIGNS: Final = {Mark.MISSING: "+", Mark.DIFFERENT: "~", Mark.RETIRED: "-", Mark.UNKNOWN: "?"}


def lines(difference: Difference) -> Iterator[str]:
    """All of it, like a diff, with what could not be seen and the counts."""
    yield from lines_of(difference.findings)
    for sentence in difference.unseen:
        yield from _wrapped(sentence, "")
    for vendor in difference.paused:
        name = printable(vendor)
        yield from _wrapped(f"{name} is paused, until `dtbridge resume {name}`.", "")
    yield summary(difference)


def lines_of(findings: Iterable[Finding]) -> Iterator[str]:
    """Findings like a diff: those that say the same stand together."""
    for finding, found in groupby(findings, _alike):
        some = list(found)
        for each in some:
            yield _headline(each)
        yield from _details(finding, some[0])


def _alike(finding: Finding) -> Finding:
    """The same for all findings that differ in their names alone."""
    return Finding(
        mark=finding.mark,
        kind=finding.kind,
        name="" if finding.mark in {Mark.MISSING, Mark.DIFFERENT} else finding.name,
        changes=finding.changes,
        todo=finding.todo,
        bound_to=finding.bound_to,
        consumers=finding.consumers,
    )


def _headline(finding: Finding) -> str:
    line = f"{_SIGNS[finding.mark]} {finding.kind} {printable(finding.name)}"
    if finding.messages:
        line += f" ({counted(finding.messages, 'message')})"
    return line


def _details(alike: Finding, first: Finding) -> Iterator[str]:
    if alike.changes:
        width = max(len(change.name) for change in alike.changes)
        for change in alike.changes:
            yield (
                f"{_INDENT}{printable(change.name):{width}}  "
                f"{_value(change.live)} -> {_value(change.wanted)}"
            )
    if first.bound_to:
        yield from _wrapped(f"bound to {', '.join(map(printable, first.bound_to))}")
    elif first.mark is Mark.RETIRED:
        yield f"{_INDENT}bound to nothing"
    if first.consumers:
        yield from _wrapped(f"consumed by {', '.join(map(printable, first.consumers))}")
    if alike.todo and alike.mark is not Mark.MISSING:
        yield from _wrapped(printable(alike.todo))
    if first.mark is Mark.RETIRED:
        yield f"{_INDENT}`dtbridge topology apply … --prune {printable(first.name)}`"


def _wrapped(text: str, indent: str = _INDENT) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _value(value: Any) -> str:
    return "none" if value is None else printable(str(value))


def summary(difference: Difference) -> str:
    """One line: how many there are of each kind."""
    counts = [f"{count:,} {mark.value}" for mark in Mark if (count := len(difference.of(mark)))]
    found = ", ".join(counts) if counts else "Nothing differs"
    return f"{found}; {difference.fine:,} as they must be."


def sentences(difference: Difference) -> Iterator[str]:
    """What is missing or differs, with what to do: one for all that have that in common."""
    for alike, found in groupby(difference.of(Mark.MISSING, Mark.DIFFERENT), _alike):
        names = [printable(finding.name) for finding in found]
        kind = alike.kind if len(names) == 1 else f"{alike.kind}s"
        what = f"{kind} {', '.join(names)}"
        if alike.mark is Mark.MISSING:
            told = "missing."
        else:
            told = "; ".join(
                f"{printable(change.name)} is {_value(change.live)}, not {_value(change.wanted)}"
                for change in alike.changes
            )
            told += "." if told else ""
        yield " ".join(part for part in (f"{what}:", told, alike.todo) if part)


def counted(count: int, noun: str) -> str:
    """A number and its noun."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
