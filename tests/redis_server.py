"""A Redis of a test's own: on loopback, keeping nothing on disk, and gone at the end."""

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from bridge.testing.rabbitmq import free_ports

PROGRAMS = ("redis-server", "valkey-server")
START_TIMEOUT = 20.0
"""Seconds until it must answer; it needs some hundredths."""


class RedisMissingError(Exception):
    """There is no Redis on this machine."""


class RedisServer:
    """A server that can be killed, started again on its port, and frozen.

    What it knew is gone when it is killed.
    """

    def __init__(self, conf: Path | None = None, users: Path | None = None) -> None:
        """`conf`: its configuration. `users`: the list of its users, by the time that it starts.

        Raises RedisMissingError if Redis is not installed.
        """
        found = next(filter(None, map(shutil.which, PROGRAMS)), None)
        if found is None:
            raise RedisMissingError(
                "redis-server is not on PATH: `make test` and `make faults` install it with apt-get"
            )
        self._command = [found] if conf is None else [found, str(conf)]
        self._users = users
        self._folder = tempfile.TemporaryDirectory(prefix="dtbridge-redis-")
        self._process: subprocess.Popen[bytes] | None = None
        [self.port] = free_ports(1)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._folder.cleanup()

    def start(self) -> None:
        """Start it empty, unless it runs, and return when it answers."""
        if self._process is not None:
            return
        settings = {
            "port": self.port,
            "bind": "127.0.0.1",
            "save": "",
            "appendonly": "no",
            "dir": self._folder.name,
        }
        if self._users is not None:
            settings["aclfile"] = str(self._users)
        arguments = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
        self._process = subprocess.Popen(
            [*self._command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        give_up_at = time.monotonic() + START_TIMEOUT
        while not self._answers():
            assert self._process.poll() is None, "redis-server has ended"
            assert time.monotonic() < give_up_at, "redis-server does not answer"
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1.0) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Freeze it: connections stay open, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
