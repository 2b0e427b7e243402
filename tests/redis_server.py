"""A Redis of a test's own: on loopback, without a file, and gone at the end."""

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

START_TIMEOUT = 20.0
"""Seconds until it answers; it needs some hundredths."""


class RedisServer:
    """A server process that can be killed, started again on its port, and held still."""

    def __init__(self, folder: Path) -> None:
        """`folder`: an empty one; nothing is written there. Raises FileNotFoundError where Redis is not installed."""
        server = shutil.which("redis-server")
        if server is None:
            raise FileNotFoundError(
                "these tests need redis-server on PATH: make test installs it with apt"
            )
        self._server = server
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, empty, and return when it answers."""
        settings = {
            "port": self.port,
            "bind": "127.0.0.1",
            "save": "",
            "appendonly": "no",
            "dir": self._folder,
        }
        arguments = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
        self._process = subprocess.Popen([self._server, *arguments], stdout=subprocess.DEVNULL)
        give_up_at = time.monotonic() + START_TIMEOUT
        while not self._answers():
            assert self._process.poll() is None, "redis-server has ended"
            assert time.monotonic() < give_up_at, "redis-server does not answer"
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1.0) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Connections stay open, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
