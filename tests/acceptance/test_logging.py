"""The log of a command, and what becomes of the logging that a vendor's module sets up."""

import json
from pathlib import Path

import pytest

from bridge.testing.rabbitmq import free_ports
from tests.acceptance.command import dtbridge

MODULE = """
import logging, warnings
from bridge import Call, Router
router = Router("v")
warnings.warn("careful")
logging.basicConfig(filename="vendor.log", level="INFO", format="%(name)s: %(message)s")

@router.default
async def answer(call: Call) -> None: ...
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "vendor.py").write_text(MODULE)
    return tmp_path


def run(folder: Path, log_format: str) -> tuple[list[str], list[str]]:
    """The lines of a worker that finds no broker: on standard error, and in the module's file."""
    (closed,) = free_ports(1)
    url = f"amqp://127.0.0.1:{closed}/"
    options = ["--amqp-url", url, "--connect-timeout", "0.2", "--log-format", log_format]
    done = dtbridge("run", "vendor:router", *options, folder=folder)
    assert (done.returncode, done.stdout) == (1, "")
    *lines, last = done.stderr.splitlines()
    told = json.loads(last)["event"] if log_format == "json" else last.removeprefix("dtbridge: ")
    assert told.startswith(f"no broker at {url}: ")
    return lines, (folder / "vendor.log").read_text().splitlines()


def test_lines_are_json_from_the_import_on_and_the_modules_own_handler_gets_them_too(
    folder: Path,
) -> None:
    lines, own = run(folder, "json")
    warning, *states = map(json.loads, lines)
    assert (warning["logger"], warning["level"]) == ("py.warnings", "warning")
    assert "UserWarning: careful" in warning["event"]
    assert [state["event"] for state in states[:1]] == ["starting"]
    loggers = {state["logger"] for state in states}
    assert loggers == {"bridge.cli", "bridge.worker", "bridge.rabbitmq"}
    connecting = next(state for state in states if state["event"] == "connecting")
    assert f"bridge.worker: connecting reason={connecting['reason']!r}" in own


def test_without_a_format_there_is_only_what_the_module_has_set_up(folder: Path) -> None:
    lines, own = run(folder, "none")
    assert "UserWarning: careful" in lines[0]  # as Python writes it
    assert not any("connecting" in line for line in lines)
    assert any(line.startswith("bridge.worker: connecting reason='to amqp://") for line in own)


def test_check_shows_warnings_of_modules_as_lines(folder: Path) -> None:
    done = dtbridge("check", "vendor:router", folder=folder)
    [line] = map(json.loads, done.stderr.splitlines())
    assert "UserWarning: careful" in line["event"]
    assert done.returncode == 0
