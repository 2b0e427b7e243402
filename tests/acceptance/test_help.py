"""What the command says of itself: help, versions, and what a shell completes."""

import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest
import typer

from bridge.cli.main import application
from tests.acceptance.command import MODULE, SCRIPT, dtbridge, sentence
from tests.integration.support import PATIENCE, ROOT, clean_environment


def commands(group: Any, *before: str) -> Iterator[tuple[str, ...]]:
    yield before
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *before, name)
        else:
            yield (*before, name)


@pytest.mark.parametrize("words", list(commands(typer.main.get_group(application()))), ids=" ".join)
def test_every_command_has_short_help(words: tuple[str, ...]) -> None:
    # In a process of its own each has only what it imports itself.
    done = dtbridge(*words, "-h", command=MODULE if len(words) < 2 else None)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.lstrip().startswith(f"Usage: {' '.join(('dtbridge', *words))} ")
    assert "-h, --help" in done.stdout


@pytest.mark.parametrize("command", [MODULE, SCRIPT])
def test_the_version_says_what_runs(command: list[str]) -> None:
    done = dtbridge("--version", settings={"DTBRIDGE_PURE": "1"}, command=command)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"dtbridge {version('datatransfer-bridge')} (plain Python: DTBRIDGE_PURE is set), "
        f"{platform.python_implementation()} {platform.python_version()}, "
        f"msgspec {version('msgspec')}\n"
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_there_is_a_completion_for_each_shell(shell: str) -> None:
    done = dtbridge("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert "_DTBRIDGE_COMPLETE" in done.stdout


def test_bash_completes_commands_and_options_by_the_script() -> None:
    script = dtbridge("completion", "bash").stdout
    assert complete(script, "dtbridge", "send-") == ["send-to-station"]
    assert complete(script, "dtbridge", "run", "--rel") == ["--reload"]
    assert complete(script, "dtbridge", "dead", "pur") == ["purge"]
    assert complete(script, "dtbridge", "run", "--log-format", "js") == ["json"]


def complete(script: str, *words: str) -> list[str]:
    """What bash offers for the last of these words."""
    (function,) = re.findall(r"^complete .*-F (\S+)", script, re.MULTILINE)
    line = f"""{script}
COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1}
{function} dtbridge
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    folder = SCRIPT[0].rpartition("/")[0]
    done = subprocess.run(
        [shutil.which("bash") or "bash", "-c", line],
        cwd=ROOT,
        env=clean_environment({"PATH": f"{folder}:/usr/bin:/bin"}),
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("rnu", "Did you mean 'run'? (see `dtbridge -h`)"),
        ("run m:r --bogus", "(see `dtbridge run -h`)"),
        ("dead purge --bogus", "(see `dtbridge dead purge -h`)"),
        ("run", "name your routers, as my_vendors.acme:router, or begin with `dtbridge new NAME`"),
        ("check nowhere.a:router", f"; modules are looked for in {ROOT}, and where Python looks"),
        ("check examples.acme:routr", "module examples.acme has no 'routr'; it has router"),
        ("completion csh", "'csh' is not one of 'bash', 'zsh', 'fish', 'powershell'"),
    ],
)
def test_a_mistake_says_what_to_do_next(arguments: str, told: str) -> None:
    assert told in sentence(dtbridge(*arguments.split(), folder=ROOT))
