"""A bridge worker as its own process, as in production: `dtbridge run` with its settings in the environment."""

import asyncio
import contextlib
import os
import sys
import tempfile
from types import TracebackType
from typing import Self

STOP_TIMEOUT = 30.0
"""Seconds the worker may take to drain after SIGTERM before it is killed."""

LOG_TAIL = 20
"""Lines of the worker's log shown when it fails."""


class WorkerFailed(RuntimeError):
    """The worker did not start, ended before its time, or did not end well. The text holds the end of its log."""


class WorkerProcess:
    """A context manager: inside it the worker runs, after it the worker has ended.

    It gets a process group of its own, so that a Ctrl-C in the terminal ends the demo and the demo ends the worker, in
    this order. Its log goes to a file without a name, which vanishes with the last process that has it open.
    """

    def __init__(self, target: str, settings: dict[str, str]) -> None:
        self._target = target
        self._settings = settings
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __aexit__
        self._process: asyncio.subprocess.Process

    async def __aenter__(self) -> Self:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DTBRIDGE_")}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "bridge", "run", self._target),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self._log,
            stderr=asyncio.subprocess.STDOUT,
            env=inherited | self._settings,
            start_new_session=True,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            exit_code = await self._stop()
            if exit_code != 0 and error is None:
                raise self.failure(f"The worker ended with exit code {exit_code}")
        finally:
            self._log.close()

    async def ended(self) -> WorkerFailed:
        """Wait until the worker ends by itself; what that means."""
        exit_code = await self._process.wait()
        return self.failure(f"The worker ended by itself with exit code {exit_code}")

    async def _stop(self) -> int:
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                return await self._process.wait()
        except TimeoutError:
            raise self.failure(f"The worker did not end within {STOP_TIMEOUT:.0f} s of SIGTERM") from None
        finally:
            if self._process.returncode is None:
                self._process.kill()

    def failure(self, what: str) -> WorkerFailed:
        """An error that says `what` happened and shows the end of the log."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").splitlines()
        return WorkerFailed("\n".join([f"{what}. The end of its log:", *lines[-LOG_TAIL:]]))
