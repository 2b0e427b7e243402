"""Standard output that is closed, full, or read by somebody who has seen enough."""

import subprocess
import sys

import pytest

from tests.acceptance.command import FULL, needs_full_device
from tests.acceptance.test_dead_cli import fill
from tests.integration.support import PATIENCE, ROOT, clean_environment

COMMAND = f"'{sys.executable}' -m bridge"
CHECK = "check examples.acme:router"


def shell(line: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A line of bash, whose pipes fail with the last command of them that fails."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=ROOT,
        env=clean_environment(settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * PATIENCE,
    )


@pytest.mark.parametrize(
    "command",
    [CHECK, "password --station CP1", "--help", "send -h", "--version", "completion bash"],
)
@needs_full_device
def test_a_full_disk_is_told_in_one_sentence(command: str) -> None:
    done = shell(f"echo secret | {COMMAND} {command} > {FULL}")
    told = "dtbridge: standard output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, told)


def test_so_is_a_closed_output() -> None:
    done = shell(f"{COMMAND} {CHECK} >&-")
    assert (done.returncode, done.stderr) == (1, "dtbridge: standard output is closed\n")


@pytest.mark.parametrize("command", [CHECK, "-h", "run -h", "--version", "completion bash"])
def test_a_reader_that_has_gone_is_no_reason_for_a_word(command: str) -> None:
    """The pipe has no reader from the first byte on."""
    done = shell(f"exec 3> >(true); wait $!; {COMMAND} {command} >&3")
    assert done.stderr == ""


def test_with_every_stream_closed_it_ends_with_its_code() -> None:
    assert shell(f"{COMMAND} {CHECK} <&- >&- 2>&-").returncode == 1
    assert shell(f"{COMMAND} check no.such:router <&- 2>&-").returncode == 2


def test_what_an_output_cannot_encode_is_escaped() -> None:
    done = shell(f"{COMMAND} {CHECK}", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_reader_of_a_list_may_have_seen_enough(amqp_url: str) -> None:
    """More lines than a pipe holds, so that the command does meet the closed one."""
    fill(amqp_url, [{"dtbridge-error": "x" * 2_000}] * 100)
    done = shell(f"{COMMAND} dead list --json | head -n 1", DTBRIDGE_AMQP_URL=amqp_url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    done = shell(f"{COMMAND} dead list | head -n 1", DTBRIDGE_AMQP_URL=amqp_url)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("closed", "code", "told"),
    [
        (">&-", 1, "dtbridge: standard output is closed\n"),
        ("<&-", 0, ""),
        ("<&- >&- 2>&-", 1, ""),
    ],
)
def test_no_socket_takes_the_place_of_a_closed_stream(
    amqp_url: str, closed: str, code: int, told: str
) -> None:
    fill(amqp_url, [{}])
    done = shell(f"{COMMAND} dead list {closed}", DTBRIDGE_AMQP_URL=amqp_url)
    assert (done.returncode, done.stderr) == (code, told)
