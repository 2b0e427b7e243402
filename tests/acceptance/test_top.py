"""`dtbridge top` as people run it: on a terminal, in a pipe, and where something is silent."""

import errno
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest

from bridge.testing.rabbitmq import free_ports
from tests.acceptance.command import MODULE, dtbridge, sentence
from tests.acceptance.test_dead_cli import fill
from tests.integration.support import PATIENCE, clean_environment
from tests.unit.top.exposition import a_worker
from tests.unit.top.test_scraping import serving, silent

QUIET = {"DTBRIDGE_MANAGEMENT": "http://127.0.0.1:1"}


def test_in_a_pipe_it_is_shown_once(amqp_url: str) -> None:
    fill(amqp_url, [{}, {}, {}])
    with serving(a_worker(accepted=5, running=2)) as port, silent() as hanging:
        workers = f"http://127.0.0.1:{port} http://127.0.0.1:{hanging}"
        settings = QUIET | {"DTBRIDGE_TOP_WORKERS": workers, "DTBRIDGE_AMQP_URL": amqp_url}
        done = dtbridge("top", "--interval", "0.3", settings=settings)
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 dead letters" in done.stdout
    assert "(1 silent)" in done.stdout
    assert re.search(r"^acme +0 +0 ", done.stdout, re.MULTILINE)
    assert "it does not answer" in done.stdout
    assert "no management API" in done.stdout


def test_as_json_it_is_an_object_with_everything(amqp_url: str) -> None:
    fill(amqp_url, [{}])
    with serving(a_worker(accepted=5, running=2)) as port:
        done = dtbridge(
            "top", "--once", "--json", "--interval", "0.3", "--workers", f"127.0.0.1:{port}",
            "--amqp-url", amqp_url, settings=QUIET,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    [row] = [row for row in found["vendors"] if row["vendor"] == "acme"]
    assert (row["running"], row["rate"], row["backlog"]) == (2, 0.0, 0)
    assert found["workers"][0]["state"] == "consuming"
    assert (found["dead_letters"], found["broker"]) == (1, "amqp")


def test_a_reader_that_has_seen_enough_ends_it(amqp_url: str) -> None:
    line = f"'{sys.executable}' -m bridge top --json --interval 0.2 | head -n 2"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        env=clean_environment(QUIET | {"DTBRIDGE_AMQP_URL": amqp_url}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 2


def test_where_nobody_answers_it_says_so() -> None:
    [port] = free_ports(1)
    done = dtbridge(
        "top", "--once", "--interval", "0.2", "--workers", f"127.0.0.1:{port}",
        "--amqp-url", f"amqp://me:secret@127.0.0.1:{port}/", settings=QUIET,
    )  # fmt: skip
    assert done.returncode == 1
    assert "neither a worker nor the broker answers" in done.stderr
    assert "secret" not in done.stdout + done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT])
def test_on_a_terminal_it_is_live_until_it_is_interrupted(
    amqp_url: str, number: signal.Signals
) -> None:
    terminal, other_end = pty.openpty()
    settings = QUIET | {"DTBRIDGE_AMQP_URL": amqp_url, "TERM": "xterm", "COLUMNS": "80"}
    with serving(a_worker(accepted=5)) as port:
        process = subprocess.Popen(
            [*MODULE, "top", "--interval", "0.2", "--workers", f"127.0.0.1:{port}"],
            env=clean_environment(settings),
            stdin=other_end,
            stdout=other_end,
            stderr=other_end,
        )
        os.close(other_end)
        output = ""
        give_up_at = time.monotonic() + PATIENCE
        try:
            while output.count("consuming") < 3:
                assert time.monotonic() < give_up_at, output
                output += os.read(terminal, 65_536).decode()
            process.send_signal(number)
            while chunk := _read(terminal):
                output += chunk
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            process.wait()
            os.close(terminal)
    assert "Traceback" not in output


def _read(terminal: int) -> str:
    try:
        return os.read(terminal, 65_536).decode()
    except OSError as error:  # how Linux says that the other end is closed
        if error.errno != errno.EIO:
            raise
        return ""


def test_a_mistake_is_one_sentence() -> None:
    for arguments, told in (
        ("top --workers ftp://a", "'ftp://a' is not where a worker serves its metrics"),
        (
            "top --workers http://u:Qx7@a:1",
            "what was given is not where a worker serves its metrics",
        ),
        ("top --sort size", "'size' is not one of"),
        ("top --interval 0", "--interval"),
        ("top --amqp-url http://a", "is not a broker URL"),
    ):
        done = dtbridge(*arguments.split())
        assert told in sentence(done)
        assert done.returncode == 2
        assert "Qx7" not in done.stderr
