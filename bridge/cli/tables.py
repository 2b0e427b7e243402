"""Tables, JSON, and text from elsewhere, on a terminal or in a file."""

import sys
from typing import Any, Final

import msgspec
import rich.console

from bridge.cli.output import say
from bridge.telemetry.lines import printable_json

PLAIN_WIDTH: Final = 200
"""Columns of a table that is not shown on a terminal."""
_AT_A_TIME: Final = 4_096
"""Signs of a text that are looked at one by one."""


def table_width() -> int:
    """Columns that a table may have: as wide as the terminal is, if there is one."""
    shown = sys.stdout is not None and sys.stdout.isatty()
    return rich.console.Console().width if shown else PLAIN_WIDTH


def print_table(table: rich.console.RenderableType) -> None:
    """Print a table to standard output, as wide as the terminal. Brackets stay what they are."""
    console = rich.console.Console(width=table_width(), markup=False)
    with console.capture() as captured:
        console.print(table)
    say(captured.get().removesuffix("\n"))


def printable(text: str) -> str:
    """Text that cannot move the cursor or change colours, whoever wrote it."""
    if text.isprintable():
        return text
    if len(text) > _AT_A_TIME:  # a body may have millions of signs
        return "".join(printable(text[n : n + _AT_A_TIME]) for n in range(0, len(text), _AT_A_TIME))
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def json_text(value: Any, *, indent: int | None = None) -> str:
    """A value as JSON that can be printed, whoever wrote what is in it.

    `indent`: spaces a level; None: everything in one line.
    """
    exact = msgspec.json.encode(value)
    if indent is not None:
        exact = msgspec.json.format(exact, indent=indent)
    return printable_json(exact.decode())
