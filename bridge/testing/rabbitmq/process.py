"""Other programs: run one to its end, start one, wait until it is ready."""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from bridge.testing.rabbitmq.errors import BrokerUnavailable

POLL_SECONDS = 0.05
"""Pause between two looks at a process that is starting."""


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and capture its output. The caller looks at the exit code."""
    return subprocess.run(  # noqa: S603 - no part of a command comes from outside
        command,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def start(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stderr: int | IO[bytes] = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, so that Ctrl-C on our terminal does not reach it."""
    return subprocess.Popen(  # noqa: S603 - no part of a command comes from outside
        command,
        env=environment,
        cwd=folder,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )


def wait_until(
    ready: Callable[[], bool],
    process: subprocess.Popen[bytes] | None,
    seconds: float,
    tail: Callable[[], str],
) -> None:
    """Ask `ready` until it says yes.

    Args:
        ready: whether the wait is over.
        process: what is starting; None if it is no child of ours.
        seconds: how long to wait.
        tail: the end of its log, for the error.

    Raises:
        BrokerUnavailable: the process ended, or the time is up.

    """
    deadline = time.monotonic() + seconds
    while not ready():
        code = process.poll() if process is not None else None
        if code is not None:
            raise BrokerUnavailable(
                f"RabbitMQ ended with exit code {code} while starting:\n{tail()}"
            )
        if time.monotonic() > deadline:
            raise BrokerUnavailable(f"RabbitMQ did not answer within {seconds:g} s:\n{tail()}")
        time.sleep(POLL_SECONDS)
