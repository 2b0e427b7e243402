"""``dtbridge completion``: what a shell needs to complete commands and options. Typer writes it."""

import enum
import os
from typing import Annotated, Any, Final

import typer
import typer.completion

from bridge.cli.output import say

PROGRAM: Final = "dtbridge"
VARIABLE: Final = "_DTBRIDGE_COMPLETE"
"""The variable in which a shell asks."""
_typer: Final[Any] = typer.completion


class Shell(enum.StrEnum):
    """The shells that can complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"


def completion(
    shell: Annotated[
        Shell,
        typer.Argument(envvar="DTBRIDGE_COMPLETION_SHELL", help="The shell.", show_default=False),
    ],
) -> None:
    """Print the script that completes commands and options in a shell.

    bash, in ~/.bashrc: eval "$(dtbridge completion bash)"
    """
    say(_typer.get_completion_script(prog_name=PROGRAM, complete_var=VARIABLE, shell=shell.value))


def mind_completion() -> None:
    """Have Typer answer where a shell asks."""
    if VARIABLE in os.environ:
        _typer.completion_init()
