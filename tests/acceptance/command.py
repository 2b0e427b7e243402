"""The installed command as a process."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.acceptance.forks import forked
from tests.integration.support import PATIENCE, clean_environment

FULL = Path("/dev/full")
"""A device on which every write fails as on a full disk."""
# macOS has no such device, and a disk that is really full cannot be had without being root.
needs_full_device = pytest.mark.skipif(
    not FULL.exists(), reason="this system has no device that is always full (/dev/full)"
)

MODULE = [sys.executable, "-m", "bridge"]
READ_AT_START = ("DTBRIDGE_PURE", "PYTHON")
"""How the variables begin that Python or the package reads before there is a command."""
STARTS_OTHERS = frozenset({"--processes", "--reload"})
"""What has a command start others as it was started itself."""
SCRIPT = [str(Path(sys.executable).with_name("dtbridge"))]


def dtbridge(
    *arguments: str,
    settings: Mapping[str, str] | None = None,
    folder: Path | None = None,
    command: list[str] | None = None,
    given: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run it to its end. `settings`: environment variables. `folder`: where it is started.
    `command`: what is started; by default, the process is forked from one that has imported
    everything (:mod:`tests.acceptance.forks`). `given`: what comes from standard input.
    """
    environment = clean_environment(settings)
    apart = any(name.startswith(READ_AT_START) for name in settings or ())
    if command is None and not apart and not STARTS_OTHERS.intersection(arguments):
        return forked(arguments, environment, folder or Path.cwd(), given)
    return subprocess.run(
        [*(command or MODULE), *arguments],
        env=environment,
        cwd=folder,
        input=given,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """What is said at the end on standard error, beside log lines. Checks that there is no more.

    A command that logs says it as a record, where its log is JSON.
    """
    lines = [line for line in done.stderr.splitlines() if not line.startswith('{"')]
    records = [json.loads(line) for line in done.stderr.splitlines() if line.startswith('{"')]
    lines += [f"dtbridge: {each['event']}" for each in records if "exit_code" in each]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("dtbridge: ")
    assert done.returncode not in {0, None}
    assert done.stdout == ""
    return lines[0].removeprefix("dtbridge: ")
