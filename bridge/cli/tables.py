"""Tables, JSON, and text from elsewhere, on a terminal or in a file."""

import re
import sys
from typing import Any, Final

import msgspec
import rich.console
import rich.table

PLAIN_WIDTH: Final = 200
"""Columns of a table that is not shown on a terminal."""


def print_table(table: rich.table.Table) -> None:
    """Print a table to standard output, as wide as the terminal."""
    rich.console.Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH).print(table)


def printable(text: str) -> str:
    """Text that cannot move the cursor or change colours, whoever wrote it."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def json_text(value: Any, *, indent: int | None = None) -> str:
    """A value as JSON that can be printed, whoever wrote what is in it.

    What a terminal may take for a command is escaped: JSON itself asks that of the characters below
    U+0020 alone. `indent`: spaces a level; None: everything in one line.
    """
    exact = msgspec.json.encode(value)
    if indent is not None:
        exact = msgspec.json.format(exact, indent=indent)
    return _NOT_ASCII.sub(_escape_unprintable, exact.decode())


_NOT_ASCII: Final = re.compile("[\x7f-\U0010ffff]+")
"""Outside of strings, JSON is ASCII."""


def _escape_unprintable(match: re.Match[str]) -> str:
    text = match[0]
    return text if text.isprintable() else "".join(map(_escape, text))


def _escape(sign: str) -> str:
    if sign.isprintable():
        return sign
    units = sign.encode("utf-16-be")
    return "".join(f"\\u{units[n : n + 2].hex()}" for n in range(0, len(units), 2))
