"""A worker or a gateway as a process of its own, as in production.

It runs `dtbridge …`, with its settings in environment variables.
"""

import asyncio
import contextlib
import os
import sys
import tempfile
from types import TracebackType
from typing import Self

STOP_TIMEOUT = 30.0
"""Seconds that a process may take to drain after SIGTERM before it is killed."""

LOG_TAIL = 20
"""Lines of the log that are shown when a process fails."""


class ProcessFailed(RuntimeError):
    """A process did not start, ended too early, or did not end well.

    The text holds the end of its log.
    """


class BridgeProcess:
    """A context manager that runs `dtbridge` with the given arguments, and ends it on leaving.

    The process gets a session of its own: Ctrl-C in the terminal reaches the demo alone, which then
    ends the process. The log goes to a file without a name, which vanishes with the last process
    that has it open.
    """

    def __init__(self, *arguments: str, settings: dict[str, str]) -> None:
        self.name = {"run": "worker"}.get(arguments[0], arguments[0])
        self._arguments = arguments
        self._settings = settings
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __aexit__
        self._process: asyncio.subprocess.Process

    async def __aenter__(self) -> Self:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("DTBRIDGE_")
        }
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "bridge", *self._arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self._log,
            stderr=asyncio.subprocess.STDOUT,
            env=inherited | self._settings,
            start_new_session=True,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            exit_code = await self._stop()
            if exit_code != 0 and error is None:
                raise self.failure(f"The {self.name} ended with exit code {exit_code}")
        finally:
            self._log.close()

    async def ended(self) -> ProcessFailed:
        """Wait until the process ends by itself. Returns the error that this is."""
        exit_code = await self._process.wait()
        return self.failure(f"The {self.name} ended by itself with exit code {exit_code}")

    async def _stop(self) -> int:
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                return await self._process.wait()
        except TimeoutError:
            raise self.failure(
                f"The {self.name} did not end within {STOP_TIMEOUT:.0f} s of SIGTERM"
            ) from None
        finally:
            if self._process.returncode is None:
                self._process.kill()

    def failure(self, what: str) -> ProcessFailed:
        """The error that says `what` happened and shows the end of the log."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").splitlines()
        return ProcessFailed("\n".join([f"{what}. The end of its log:", *lines[-LOG_TAIL:]]))
