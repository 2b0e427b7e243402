"""`dtbridge run --reload`: what is saved is what answers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.command import dtbridge
from tests.integration.support import WorkerProcess

SOURCE = """\
from bridge import Call, Router
router = Router("com.acme")
@router.on("Ask")
async def ask(call: Call) -> str:
    return {answer!r}
"""


def save(folder: Path, answer: str) -> None:
    """As an editor does: all at once. Other sizes, so that no cached bytecode is taken for it."""
    write(folder, SOURCE.format(answer=answer))


def write(folder: Path, source: str) -> None:
    (folder / "new.tmp").write_text(source)
    (folder / "new.tmp").rename(folder / "vendor.py")


@pytest.fixture
def worker(amqp_url: str, tmp_path: Path) -> Iterator[WorkerProcess]:
    save(tmp_path, "one")
    with WorkerProcess("vendor:router", amqp_url, folder=tmp_path, reload=True) as worker:
        yield worker


def ask(amqp_url: str) -> str:
    arguments = ["--station", "CP1", "--vendor", "com.acme", "--message", "Ask"]
    done = dtbridge("send", *arguments, "--amqp-url", amqp_url)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_saved_file_is_run_after_the_old_one_has_drained(
    worker: WorkerProcess, amqp_url: str, tmp_path: Path
) -> None:
    assert '"one"' in ask(amqp_url)
    save(tmp_path, "number two")
    assert worker.until("files have changed")["files"] == ["vendor.py"]
    assert worker.until("drained")["returned_to_queue"] == 0
    worker.until("consuming", 2)
    assert '"number two"' in ask(amqp_url)


def test_a_module_with_a_syntax_error_says_so_and_waits_for_the_next_change(
    worker: WorkerProcess, amqp_url: str, tmp_path: Path
) -> None:
    write(tmp_path, "def ask(:\n")
    assert worker.until("worker ended, waiting for a change")["exit_code"] == 2
    (said,) = [
        line
        for line in worker.log
        if line.get("logger") == "bridge.cli" and "SyntaxError" in line["event"]
    ]
    assert "vendor.py:1" in said["event"]
    save(tmp_path, "mended")
    worker.until("consuming", 2)
    assert '"mended"' in ask(amqp_url)


def test_it_ends_with_0_at_sigterm_when_its_worker_has_drained(worker: WorkerProcess) -> None:
    assert worker.stop() == 0
    assert worker.log[-1]["event"] == "drained"


def test_it_can_be_stopped_while_it_waits(worker: WorkerProcess, tmp_path: Path) -> None:
    write(tmp_path, "raise RuntimeError\n")
    worker.until("worker ended, waiting for a change")
    assert worker.stop() == 0
