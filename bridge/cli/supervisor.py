"""Several workers on one machine: a small supervisor that restarts a child that died and passes signals on.

One worker uses one core. The broker shares the requests out among processes as it does among machines; the supervisor touches none.
"""

import asyncio
import ctypes
import random
import signal
import sys
from collections.abc import Sequence
from typing import Final

from bridge.telemetry.logs import get_logger

log = get_logger("bridge.cli")

BACK_OFF_FIRST: Final = 0.5
"""Seconds at most before a child that died is started again; doubled each time it dies young."""
BACK_OFF_LONGEST: Final = 30.0
"""Seconds between starts at most."""
HEALTHY: Final = 60.0
"""Seconds after which a child counts as well: its next death starts the back-off anew."""
_PR_SET_PDEATHSIG: Final = 1


class Supervisor:
    """Runs a command several times over until told to stop."""

    def __init__(self, command: Sequence[str], count: int, start_timeout: float) -> None:
        """`start_timeout`: seconds. A child that fails within them at its very first start ends all: it has said why."""
        self._command = list(command)
        self._count = count
        self._start_timeout = start_timeout
        self._children: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()
        self._exit_code = 0
        self.restarts = 0

    @property
    def pids(self) -> list[int]:
        """Of the children that run."""
        return [child.pid for child in self._children.values()]

    async def run(self) -> int:
        """Until every child has ended after :meth:`stop`. Returns 0, or the exit code of what failed."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._count):
                group.create_task(self._keep_running(number))
        return self._exit_code

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Pass a signal on to every child, and start none again."""
        self._stopping.set()
        for child in self._children.values():
            if child.returncode is None:
                child.send_signal(number)

    async def _keep_running(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        deaths = 0
        first = True
        while not self._stopping.is_set():
            started = loop.time()
            code = await self._run_child(number)
            lived = loop.time() - started
            if self._stopping.is_set():
                self._exit_code = self._exit_code or _as_exit_code(code)
                return
            if first and code > 0 and lived < self._start_timeout:
                self._exit_code = code
                self.stop()
                return
            first = False
            deaths = 0 if lived > HEALTHY else deaths + 1
            pause = random.uniform(
                0, min(BACK_OFF_LONGEST, BACK_OFF_FIRST * 2.0 ** min(deaths, 16))
            )  # noqa: S311 - jitter
            log.warning(
                "worker died",
                number=number,
                exit_code=code,
                lived_s=round(lived, 1),
                restart_in_s=round(pause, 1),
            )
            self.restarts += 1
            try:
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def _run_child(self, number: int) -> int:
        child = await asyncio.create_subprocess_exec(
            *self._command,
            start_new_session=True,  # Ctrl-C reaches the supervisor alone, which passes it on once
            preexec_fn=_end_with_parent,
        )
        self._children[number] = child
        if self._stopping.is_set():  # between the loop's question and the child's start
            child.send_signal(signal.SIGTERM)
        try:
            return await child.wait()
        finally:
            del self._children[number]


def _end_with_parent() -> None:
    """A supervisor that is killed must not leave its workers behind. Linux only; elsewhere they go on."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _as_exit_code(code: int) -> int:
    """As a shell has it: 128 and the signal for a child that a signal ended."""
    return 128 - code if code < 0 else code
