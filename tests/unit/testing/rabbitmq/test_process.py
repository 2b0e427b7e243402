"""Starting another program, and waiting for it."""

import os

import pytest

from bridge.testing.rabbitmq import BrokerUnavailable
from bridge.testing.rabbitmq.process import run, start, wait_until


def test_a_command_is_run_to_its_end() -> None:
    done = run(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_a_started_process_leads_a_session_of_its_own() -> None:
    """So Ctrl-C on our terminal does not reach it, and its group can be ended as a whole."""
    with start(["/bin/sleep", "60"]) as process:
        session = os.getsid(process.pid)
        process.kill()
    assert session == process.pid


def test_a_process_that_ends_while_it_is_awaited_shows_its_last_words() -> None:
    with (
        start(["/bin/sh", "-c", "exit 3"]) as process,
        pytest.raises(BrokerUnavailable, match="ended with exit code 3 while starting:\nno memory"),
    ):
        wait_until(lambda: False, process, 10.0, lambda: "no memory")


def test_who_does_not_answer_in_time_shows_its_last_words() -> None:
    with pytest.raises(BrokerUnavailable, match=r"did not answer within 0\.1 s:\nstarting"):
        wait_until(lambda: False, None, 0.1, lambda: "starting")
