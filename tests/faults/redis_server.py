"""A Redis server of our own on loopback, to kill and start again."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final, Self

from bridge.testing.rabbitmq import BrokerUnavailable, free_ports

START_SECONDS: Final = 10.0
_NAMES: Final = ("redis-server", "valkey-server")


def ensure_server() -> str:
    """The server's path; it is installed if need be. Raises BrokerUnavailable with a sentence if that cannot be."""
    found = _find()
    if found is None:
        for manager, command in (
            (
                "apt-get",
                [
                    *_as_root(),
                    "apt-get",
                    "install",
                    "-qq",
                    "-y",
                    "--no-install-recommends",
                    "redis-server",
                ],
            ),
            ("brew", ["brew", "install", "redis"]),
        ):
            if shutil.which(manager):
                # The package must not start a server of its own.
                environment = {**os.environ, "RUNLEVEL": "1", "DEBIAN_FRONTEND": "noninteractive"}
                subprocess.run(command, env=environment, capture_output=True, check=False)
                break
        found = _find()
    if found is None:
        raise BrokerUnavailable(
            "Redis is not installed and could not be: install the package redis-server."
        )
    return found


def _as_root() -> list[str]:
    return [] if os.geteuid() == 0 else ["sudo", "-n"]


def _find() -> str | None:
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


class RedisServer:
    """Keeps nothing on disk: what it knew is gone when it is killed."""

    def __init__(self) -> None:
        self._program = ensure_server()
        [self._port] = free_ports(1)
        self._folder = tempfile.TemporaryDirectory(prefix="dtbridge-redis-")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._folder.cleanup()

    async def start(self) -> None:
        if self._process is not None:
            return
        options = [
            "--port",
            str(self._port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        with (Path(self._folder.name) / "log").open("ab") as output:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once, and kill() must not wait for a loop
                [self._program, *options],
                cwd=self._folder.name,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        async with asyncio.timeout(START_SECONDS):
            while not await self._answers():
                await asyncio.sleep(0.02)

    async def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            writer.write(b"PING\r\n")
            answer = await reader.readline()
            writer.close()
            return answer == b"+PONG\r\n"
        return False

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
