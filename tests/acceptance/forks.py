"""The command as a process, forked from one that has imported everything already.

To import what it needs costs a command half a second of the processor, and the tests run a
thousand of them. Here all share one import. Whatever else makes a process is its own: arguments,
environment, folder, standard streams and exit code. It cannot start others as it was started.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.integration.support import PATIENCE, clean_environment

FORKING = Path(__file__).with_name("forking.py")


class _Server:
    """The process that is forked. It is started when it is needed first."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.address = ""
        self._starting = threading.Lock()

    def ensure(self) -> None:
        with self._starting:
            if self.process is None:
                self._start()

    def _start(self) -> None:
        self.address = str(Path(tempfile.mkdtemp(prefix="dtbridge-")) / "forks")
        self.process = subprocess.Popen(
            [sys.executable, str(FORKING), self.address],
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.communicate(timeout=PATIENCE)
        shutil.rmtree(Path(self.address).parent)
        self.process = None


_server = _Server()
stop = _server.stop


def forked(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, given: str
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end. `folder`: where it is started. `given`: its standard input."""
    _server.ensure()
    order = {
        "arguments": arguments,
        "environment": environment,
        "folder": str(folder),
    }
    with (
        tempfile.TemporaryFile("w+") as stdin,
        tempfile.TemporaryFile("w+") as stdout,
        tempfile.TemporaryFile("w+") as stderr,
        socket.socket(socket.AF_UNIX) as asking,
    ):
        stdin.write(given)
        stdin.seek(0)
        asking.settimeout(2 * PATIENCE)
        asking.connect(_server.address)
        streams = [stdin.fileno(), stdout.fileno(), stderr.fileno()]
        socket.send_fds(asking, [json.dumps(order).encode() + b"\n"], streams)
        with asking.makefile("r") as answers:
            number = int(answers.readline())
            try:
                code = int(answers.readline())
            except TimeoutError:
                os.kill(number, signal.SIGKILL)
                raise
        stdout.seek(0)
        stderr.seek(0)
        done = [stdout.read(), stderr.read()]
    return subprocess.CompletedProcess(["dtbridge", *arguments], code, *done)
