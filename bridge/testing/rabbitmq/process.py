"""Other programs: run one to its end, start one, wait until it is ready."""

import contextlib
import signal
import subprocess
import threading
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
    return subprocess.run(
        command,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def run_to_the_end(
    command: Sequence[str], on_interrupt: Callable[[], None]
) -> subprocess.CompletedProcess[str]:
    """As :func:`run`, for what must put things in order before it ends.

    Ctrl-C on our terminal reaches the command, too. It is waited for until it has ended, and then
    KeyboardInterrupt is raised; a second Ctrl-C kills it. `on_interrupt`: called at the first.
    """
    if threading.current_thread() is not threading.main_thread():
        return run(command)  # Ctrl-C interrupts the main thread alone
    interrupts = 0
    process: subprocess.Popen[str] | None = None

    def forward() -> None:
        if process is None:
            return  # it is being started, and hears of it then
        if interrupts > 1:
            process.kill()
            return
        with contextlib.suppress(PermissionError):  # through sudo, it is not ours to signal
            process.send_signal(signal.SIGINT)  # who sent ours may have sent it to us alone

    def interrupt(*_: object) -> None:
        nonlocal interrupts
        interrupts += 1
        if interrupts == 1:
            on_interrupt()
        forward()

    # A handler, and no `except KeyboardInterrupt`: that may come while the process is being
    # started, when nobody could wait for it yet.
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if interrupts:
            forward()
        with process:
            stdout, stderr = process.communicate()
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupts:
        raise KeyboardInterrupt
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


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
    return subprocess.Popen(
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
