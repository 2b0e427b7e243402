"""Several workers or gateways on one machine: starts children again that died, passes signals on.

One process uses one core. The broker shares the requests out among workers as it does among
machines, and the kernel the connections of stations among gateways; the supervisor has nothing to
do with them.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

import msgspec

from bridge.backoff import back_off
from bridge.telemetry.logs import get_logger

log = get_logger("bridge.cli")

RESTART_FIRST: Final = 0.5
"""Seconds: the longest pause before a child is started again for the first time; doubled each time
that it dies young."""
RESTART_LONGEST: Final = 30.0
"""Seconds: the longest pause between starts."""
HEALTHY: Final = 60.0
"""Seconds after which a child is taken for healthy: after its next death, pauses begin anew."""
PATIENCE: Final = 30.0
"""Seconds that children have to end, unless it is said."""
HURRY: Final = 1.0
"""Seconds that children have to end after a second signal."""
_PR_SET_PDEATHSIG: Final = 1
_CHILD: Final = "_DTBRIDGE_CHILD"
"""The variable by which a child knows that it is one, and which. Options could not tell it as
surely: what stands after ``--`` is no option."""
_SOCKET: Final = "_DTBRIDGE_SOCKET"
"""The variable that says where a child answers its supervisor's questions."""
_PORT: Final = "_DTBRIDGE_PORT"
"""The variable that names the port on which the children of a supervisor listen together."""
_libc: Final = ctypes.CDLL(None) if sys.platform == "linux" else None
"""Loaded here: between fork and exec, a child of a process with threads should load nothing."""


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """How a process was started."""

    command: Sequence[str]
    folder: Path | None = None
    """Where; None: where it is started from."""
    environment: Mapping[str, str] | None = None
    """None: that of whoever starts it."""
    socket: Path | None = None
    """The Unix socket at which it answers the supervisor's questions; None: it asks none."""
    number: int | None = None
    """Which one of a supervisor's children it is, from 1; None: it is nobody's child."""
    port: int | None = None
    """On which it listens together with its supervisor's other children; None: on none."""

    @property
    def is_child(self) -> bool:
        """Whether a supervisor has started it."""
        return self.number is not None

    @classmethod
    def of_this_process(cls) -> Self:
        """This process. Ask once, before any module of a vendor can change what it was."""
        asked_at = os.environ.pop(_SOCKET, None)
        number = os.environ.pop(_CHILD, None)
        port = os.environ.pop(_PORT, None)
        folder = None
        with contextlib.suppress(OSError):  # it has been deleted
            folder = Path.cwd()
        return cls(
            # With the interpreter's own options; by whichever module or script it was called.
            command=[sys.executable, *sys.orig_argv[1:]],
            folder=folder,
            environment=dict(os.environ),
            socket=None if asked_at is None else Path(asked_at),
            number=None if number is None else int(number) if number.isdecimal() else 0,
            port=int(port) if port is not None and port.isdecimal() else None,
        )

    def on_port(self, port: int) -> Self:
        """The same for children that listen on this port together."""
        return msgspec.structs.replace(self, port=port)


class Supervisor:
    """Runs a command several times over until it is told to stop."""

    def __init__(
        self,
        start: Start,
        count: int,
        start_timeout: float,
        *,
        patience: float = PATIENCE,
        sockets: Path | None = None,
        what: str = "worker",
    ) -> None:
        """`start`: how each child is started.

        `start_timeout`: seconds. If a child fails within them at its very first start, all end: it
        has said why, and the others would fail for the same reason. `patience`: seconds after
        :meth:`stop` when children that have not ended are killed. `sockets`: the folder in which
        each child is to answer questions, at a socket that has its number; None: nobody asks.
        `what`: what a child is called in the log.
        """
        self._start = start
        self._start_timeout = start_timeout
        self._patience = patience
        self._killing: asyncio.TimerHandle | None = None
        self._stopped_by = 0
        self._hurried = False
        self._children: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()
        self._exit_code = 0
        self._sockets = sockets
        self._died = f"{what} died"
        self.numbers = range(1, count + 1)
        """Of the children."""
        self._not_running = dict.fromkeys(self.numbers, "it has not been started yet")
        """Why, by the child's number."""
        self._restarts = dict.fromkeys(self.numbers, 0)

    @property
    def pids(self) -> list[int]:
        """The process ids of the children that run."""
        return [child.pid for child in self._children.values()]

    @property
    def restarts(self) -> int:
        """Times that a child was started again."""
        return sum(self._restarts.values())

    def restarts_of(self, number: int) -> int:
        """Times that this child was started again."""
        return self._restarts[number]

    @property
    def stopping(self) -> bool:
        """Whether it has been told to stop."""
        return self._stopping.is_set()

    def why_not_running(self, number: int) -> str | None:
        """Why this child has no process now, as a clause; None: it has."""
        return self._not_running.get(number)

    async def run(self) -> int:
        """Run until every child has ended after :meth:`stop`.

        Returns 0, or the exit code of the first child that failed.
        """
        async with asyncio.TaskGroup() as group:
            for number in self.numbers:
                group.create_task(self._keep_running(number))
        if self._killing is not None:
            self._killing.cancel()
        return self._exit_code

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Pass a signal on to every child, and start none again. Call it on the event loop.

        Children that have not ended in time are killed; sooner, if they were asked twice. A hang-up
        that comes again, as it does when a terminal is closed, is no second request.
        """
        if not self._stopping.is_set():
            self._stopping.set()
            self._stopped_by = number
            self._kill_after(self._patience)
        elif not number == self._stopped_by == getattr(signal, "SIGHUP", None):
            self._hurried = True
            self._kill_after(HURRY)
        self._signal(number)

    def _kill_after(self, seconds: float) -> None:
        if self._killing is not None:
            self._killing.cancel()
        loop = asyncio.get_running_loop()
        self._killing = loop.call_later(seconds, self._signal, signal.SIGKILL)

    def _signal(self, number: int) -> None:
        for child in self._children.values():
            if child.returncode is None:
                child.send_signal(number)

    async def _keep_running(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        deaths = 0
        first = True
        while not self._stopping.is_set():
            started = loop.time()
            try:
                code = await self._run_child(number)
            except OSError as error:  # too many processes, or the folder is gone
                log.warning("process not started", process=number, error=str(error))
                code = 1
            lived = loop.time() - started
            if self._stopping.is_set():
                # A child that had not begun yet has no hand on the signal, and nothing to drain.
                if code != -self._stopped_by or self._hurried:
                    self._exit_code = self._exit_code or as_exit_code(code)
                self._not_running[number] = "it has stopped"
                return
            if first and code > 0 and lived < self._start_timeout:
                self._exit_code = code
                self.stop()
                return
            first = False
            deaths = 0 if lived > HEALTHY else deaths + 1
            pause = back_off(deaths, first=RESTART_FIRST, longest=RESTART_LONGEST)
            log.warning(
                self._died,
                process=number,
                exit_code=code,
                lived_s=round(lived, 1),
                restart_in_s=round(pause, 1),
            )
            self._restarts[number] += 1
            self._not_running[number] = (
                f"it ended with exit code {code}, and is started again within {pause:.1f} s"
            )
            try:
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def _run_child(self, number: int) -> int:
        start = self._start
        environment = {**(os.environ if start.environment is None else start.environment)}
        environment[_CHILD] = str(number)
        if self._sockets is not None:
            environment[_SOCKET] = str(self._sockets / str(number))
        if start.port is not None:
            environment[_PORT] = str(start.port)
        child = await asyncio.create_subprocess_exec(
            *start.command,
            cwd=start.folder,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches the supervisor alone, which passes it on once
            preexec_fn=end_with_parent,
        )
        self._children[number] = child
        self._not_running.pop(number, None)
        if self._stopping.is_set():  # since the loop asked, and before there was a child to stop
            child.send_signal(self._stopped_by)
        try:
            return await child.wait()
        finally:
            del self._children[number]
            self._not_running[number] = "it has ended"


def end_with_parent() -> None:
    """Have this child end with a supervisor that is killed. Linux only; elsewhere it goes on."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def as_exit_code(code: int) -> int:
    """As a shell has it: 128 and the number of the signal, for a child that a signal ended."""
    return 128 - code if code < 0 else code
