"""``--data``: JSON on the command line, in a file, or from standard input."""

import sys
from pathlib import Path
from typing import BinaryIO, Final

import orjson
import typer

from bridge.cli.exits import EXIT_USAGE, fail
from bridge.worker.dispatch import MAX_BODY

FROM_FILE: Final = "@"
FROM_STDIN: Final = "-"
_BOM: Final = b"\xef\xbb\xbf"
"""With which some programs begin a file in UTF-8."""


def read_data(given: str) -> bytes:
    """The JSON that `given` stands for: itself, what ``@FILE`` holds, or, for ``-``, the input.

    Ends the command for what cannot be read, is no JSON, or is too long for any request.
    """
    if given == FROM_STDIN:
        where, text = " from standard input", _from_stdin()
    elif given.startswith(FROM_FILE):
        path = Path(given[len(FROM_FILE) :])
        where, text = f" in {path}", _from_file(path)
    else:
        where, text = "", given.encode(errors="surrogateescape")
    if len(text) > MAX_BODY:
        fail(f"--data{where} is longer than the {MAX_BODY:,} bytes of a payload", EXIT_USAGE)
    text = text.removeprefix(_BOM)
    try:
        orjson.loads(text)  # for its error message; the text itself is sent, as it is
    except orjson.JSONDecodeError as error:
        hint = "" if where else "; @FILE reads it from a file, and - from standard input"
        fail(f"--data{where} is not JSON: {error}{hint}", EXIT_USAGE)
    return text


def _from_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return _bounded(file)
    except OSError as error:
        fail(f"--data cannot be read from the file {path}: {error.strerror or error}", EXIT_USAGE)


def _from_stdin() -> bytes:
    if sys.stdin.isatty():
        typer.echo("Type the data as JSON, and end it with Ctrl-D on a line of its own:", err=True)
    try:
        return _bounded(sys.stdin.buffer)
    except OSError as error:
        fail(f"--data cannot be read from standard input: {error.strerror or error}", EXIT_USAGE)


def _bounded(file: BinaryIO) -> bytes:
    """At most a byte more than may be sent."""
    return file.read(MAX_BODY + 1)
