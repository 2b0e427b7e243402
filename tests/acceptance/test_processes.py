"""``--processes``: the children are started as their parent was."""

from pathlib import Path

import pytest

from bridge.testing.rabbitmq import free_ports
from tests.acceptance.command import MODULE, SCRIPT, dtbridge

GOOD = """\
import os
from bridge import Call, Router
os.chdir("/")  # as some modules do, when it is too late
router = Router("v")
@router.default
async def answer(call: Call) -> None: ...
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "vendor.py").write_text(GOOD)
    return tmp_path


def run(folder: Path, command: list[str], *arguments: str) -> str:
    """What workers say that find no broker; each says it for itself."""
    (closed,) = free_ports(1)
    options = ["--amqp-url", f"amqp://127.0.0.1:{closed}/", "--connect-timeout", "0.2"]
    done = dtbridge("run", *options, *arguments, folder=folder, command=command)
    assert done.returncode == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize("command", [SCRIPT, MODULE])
def test_what_stands_after_two_dashes_stays_a_target(folder: Path, command: list[str]) -> None:
    told = run(folder, command, "--processes", "2", "--", "vendor:router")
    assert "no broker at " in told


def test_a_package_of_our_name_in_the_users_folder_is_not_taken_for_ours(folder: Path) -> None:
    (folder / "bridge").mkdir()
    (folder / "bridge" / "__init__.py").write_text("raise RuntimeError('not the bridge')")
    told = run(folder, SCRIPT, "--processes", "2", "vendor:router")
    assert "no broker at " in told
    assert "not the bridge" not in told


def test_the_interpreters_own_options_are_kept(folder: Path) -> None:
    (folder / "optimised.py").write_text(f"{GOOD}assert False, 'python -O leaves this out'\n")
    optimised = [MODULE[0], "-O", *MODULE[1:]]
    told = run(folder, optimised, "--processes", "2", "optimised:router")
    assert "no broker at " in told
