"""Standard output: where it is closed or full, or its reader has seen enough."""

import errno
import os
import sys
from typing import Final

import typer

from bridge.cli.exits import fail


def open_standard_streams() -> None:
    """Make sure that no socket gets the number of a standard stream that is closed.

    The event loop would abort the process when it closes that socket. What is written to a closed
    standard error is lost; a closed standard output stays one, for :func:`say` to report. What the
    encoding of standard output does not have is escaped.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for as long as the process lives
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - likewise
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def say(text: str) -> bool:
    """Print to standard output. Returns whether somebody reads it.

    A reader that has gone (``| head``) has what it wanted. Anything else that keeps the text from
    being written ends the command.
    """
    if sys.stdout is None:
        fail("standard output is closed")
    try:
        typer.echo(text)
    except BrokenPipeError:
        _discard_the_rest()
        return False
    except OSError as error:
        _discard_the_rest()
        fail(f"standard output cannot be written: {error.strerror}")
    return True


def is_unwritable(error: OSError) -> bool:
    """Whether an error is that standard output cannot be written, by :func:`say` or another."""
    if error.errno not in _NOT_WRITTEN or error.filename is not None:
        return False
    _discard_the_rest()
    return True


_NOT_WRITTEN: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EPIPE}
)


def _discard_the_rest() -> None:
    """Python writes at its end what has not been written."""
    if sys.stdout is None:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
