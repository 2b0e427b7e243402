"""Tables, and text from elsewhere, on a terminal or in a file."""

import sys
from typing import Final

import rich.console
import rich.table

PLAIN_WIDTH: Final = 200
"""Columns of a table that is not shown on a terminal."""


def print_table(table: rich.table.Table) -> None:
    """Print a table to standard output, as wide as the terminal."""
    rich.console.Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH).print(table)


def printable(text: str) -> str:
    """Text that cannot move the cursor or change colours, whoever wrote it."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)
