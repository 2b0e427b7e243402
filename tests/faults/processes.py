"""`dtbridge` as a process of its own, as a user starts it: workers, and commands of an operator."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.processes import end_with_parent

ROOT: Final = Path(__file__).resolve().parents[2]


class StageError(Exception):
    """The fault could not be played to its end."""


class BridgeProcess:
    """One of them."""

    def __init__(
        self, arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """`arguments`: of `dtbridge`. `log`: where everything goes that it says.

        `environment`: more variables than our own.
        """
        self._arguments = list(arguments)
        self._environment = dict(environment or {})
        self.log = log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("DTBRIDGE_")
        }
        environment |= {
            name: value for name, value in os.environ.items() if name.startswith("DTBRIDGE_TEST_")
        }
        environment |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **self._environment}
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bridge", *self._arguments),
                cwd=ROOT,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=end_with_parent(signal.SIGKILL),
            )

    def signal(self, number: int) -> None:
        assert self._process is not None
        if not self.running:
            raise StageError(
                f"a process has ended by itself, with {self._process.returncode}: {self.log}"
            )
        self._process.send_signal(number)

    async def begun(self, seconds: float = 20.0) -> None:
        """Wait for the first line of its log: from then on it takes SIGTERM as a request to drain.

        Raises TimeoutError.
        """
        async with asyncio.timeout(seconds):
            while self.log.stat().st_size == 0:
                await asyncio.sleep(0.02)

    async def says(self, words: str, seconds: float = 30.0) -> None:
        """Wait until these words stand in its log. Raises StageError if they never will."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while words not in self.said:
                    if not self.running and words not in self.said:
                        break
                    await asyncio.sleep(0.02)
                else:
                    return
        raise StageError(f"it does not say {words!r}: {tail(self.log)}")

    @property
    def said(self) -> str:
        """What stands in its log."""
        return self.log.read_text(errors="replace")

    async def ended(self, seconds: float = 20.0) -> int | None:
        """Its exit code, or None if it does not end in time."""
        assert self._process is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await self._process.wait()
        return None

    async def kill(self) -> None:
        """SIGKILL."""
        if self.running:
            self.signal(signal.SIGKILL)
            await self.ended()


def tail(log: Path, lines: int = 2) -> str:
    """The last lines of a log."""
    return " / ".join(log.read_text(errors="replace").splitlines()[-lines:])
