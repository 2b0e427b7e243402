"""How the commands end: exit codes, and one sentence about what failed."""

import contextlib
from typing import Final, NoReturn

import typer

from bridge.telemetry.lines import escaped

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_CALL_ERROR: Final = 3
EXIT_DIFFERENT: Final = 3
"""Of `dtbridge topology`: the broker does not have what it must have."""
EXIT_NO_ANSWER: Final = 4
EXIT_STATION_OFFLINE: Final = 5
EXIT_INTERRUPTED: Final = 130
"""As a shell has it: 128 and the number of the signal, SIGINT."""


def fail(sentence: str, code: int = EXIT_FAILED) -> NoReturn:
    """End the command with one sentence on standard error."""
    with contextlib.suppress(OSError):  # nobody is there to be told
        typer.echo(f"dtbridge: {escaped(sentence)}", err=True)
    raise typer.Exit(code)
