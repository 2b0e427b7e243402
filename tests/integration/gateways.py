"""Gateways as processes, with thousands of stations, for tests and measurements."""

import asyncio
import json
import resource
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.integration.support import PATIENCE, ROOT, clean_environment

AT_A_TIME = 2_000
"""Stations that connect at the same time: a little more than a link binds at a time."""


class GatewayProcess:
    """Runs `tests.integration.gateway_process` and gives it commands."""

    def __init__(self, url: str, name: str) -> None:
        self._arguments = [sys.executable, "-m", "tests.integration.gateway_process", url, name]
        self._commands = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self.process = await asyncio.create_subprocess_exec(
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=clean_environment(),
            cwd=ROOT,
            limit=64 * 1024 * 1024,
        )
        await self._done("start")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and self.process.returncode is None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            assert await asyncio.wait_for(self.process.wait(), PATIENCE) == 0
        elif self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def do(
        self, word: str, value: object = True, seconds: float = PATIENCE
    ) -> dict[str, Any]:
        """Give a command and wait until it is done."""
        async with self._commands:
            assert self.process.stdin is not None
            self.process.stdin.write(json.dumps({word: value}).encode() + b"\n")
            return await self._done(word, seconds)

    async def _done(self, word: str, seconds: float = PATIENCE) -> dict[str, Any]:
        assert self.process.stdout is not None
        async with asyncio.timeout(seconds):
            said: dict[str, Any] = json.loads(await self.process.stdout.readline())
        assert said["done"] == word
        return said

    def kill(self) -> None:
        self.process.kill()


async def all_of(change: Callable[[str], Awaitable[object]], stations: Sequence[str]) -> None:
    """Do `change` to all stations, AT_A_TIME of them at a time."""
    for start in range(0, len(stations), AT_A_TIME):
        await asyncio.gather(*map(change, stations[start : start + AT_A_TIME]))


def resident() -> int:
    """Bytes of memory that this process occupies."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
