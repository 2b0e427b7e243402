"""``dtbridge run --reload``: the worker is started again whenever its files change.

For development. The worker is a child. It drains as at SIGTERM; if it ends by itself, as one does
whose module has a syntax error, it has said why, and the next change starts it again.
"""

import asyncio
import contextlib
import importlib.util
import logging
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bridge.cli.config_file import NAME
from bridge.cli.exits import EXIT_USAGE, fail
from bridge.cli.process import complete, stopping_signals
from bridge.cli.routers import look_here
from bridge.cli.supervisor import HURRY, Start, as_exit_code, end_with_parent
from bridge.telemetry.logs import get_logger

log = get_logger("bridge.cli")

SHOWN: Final = 5
"""Changed files that are named at most."""
_RELOADED: Final = "_DTBRIDGE_RELOADED"
"""The variable by which a child knows that it is watched already."""


def is_watched() -> bool:
    """Whether this process is such a child. Ask once: whoever it starts is none."""
    return os.environ.pop(_RELOADED, None) is not None


def run_reloading(
    start: Start, targets: Sequence[str], config: str | None, *, patience: float
) -> int:
    """Run the worker, again and again. Returns the exit code.

    `start`: how it is started. `targets`: where its routers are, for the folders to watch. `config`
    is watched, too. `patience`: seconds that the worker has to drain. Ends the command if the extra
    is not installed.
    """
    if importlib.util.find_spec("watchfiles") is None:
        fail("--reload needs the extra: pip install 'datatransfer-bridge[reload]'", EXIT_USAGE)
    settings = Path(NAME if config is None else config).absolute()
    reloader = Reloader(start, watched(targets, settings), settings, patience=patience)
    try:
        return complete(reloader.run())
    except ExceptionGroup as group:
        error = group.exceptions[0]
        if not isinstance(error, OSError | RuntimeError):
            raise
        fail(
            f"files cannot be watched: {error}; where there are too many of them, set "
            "WATCHFILES_FORCE_POLLING=1"
        )


def watched(targets: Sequence[str], config: Path) -> list[Path]:
    """The current folder, and what lies elsewhere: the targets' packages, and `config` if it is
    there.

    Nothing of the user's is imported.
    """
    look_here()
    here = Path.cwd()
    found = [here]
    for target in targets:
        top = target.partition(":")[0].partition(".")[0]
        with contextlib.suppress(ImportError, ValueError, AttributeError):
            spec = importlib.util.find_spec(top)
            places = [] if spec is None else spec.submodule_search_locations or [spec.origin or ""]
            found += [Path(place) for place in places if place and Path(place).exists()]
    if config.exists():
        found.append(config)
    return [
        path
        for number, path in enumerate(found)
        if path not in found[:number] and (path == here or here not in path.parents)
    ]


class Reloader:
    """Runs a command until it is told to stop, and starts it again when files change."""

    def __init__(
        self, start: Start, paths: Sequence[Path], config: Path, *, patience: float
    ) -> None:
        """`paths`: folders and files to watch, for changes of Python's files and of `config`.

        `patience`: seconds for a child to end.
        """
        self._start = start
        self._config = config
        self._paths = list(paths)
        self._patience = patience
        self._child: asyncio.subprocess.Process | None = None
        self._killing: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._stopped_by = 0
        self._hurried = False

    async def run(self) -> int:
        """Run until :meth:`stop`. Returns the child's exit code then, 0 if it has drained.

        Raises OSError, in a group, if the files cannot be watched.
        """
        loop = asyncio.get_running_loop()
        for number in stopping_signals():
            loop.add_signal_handler(number, self.stop, number)
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._watch())
            await asyncio.sleep(0)  # until it watches: nothing that changes from now on is missed
            log.info("watching for changes", paths=[str(path) for path in self._paths])
            code = await self._keep_running()
            watching.cancel()
        return code

    def stop(self, number: int) -> None:
        """Pass a signal on, and start nothing again. A second one ends the child at once.

        A hang-up that comes again, as it does when a terminal is closed, is no second request.
        """
        if number == self._stopped_by == getattr(signal, "SIGHUP", None):
            return
        self._hurried, self._stopped_by = self._stopped_by != 0, number
        self._changed.set()
        self._end_child(number, HURRY if self._hurried else self._patience)

    async def _keep_running(self) -> int:
        while True:
            self._changed.clear()
            code = await self._run_child()
            if self._stopped_by:
                # A child that had not begun yet has no hand on the signal, and nothing to drain.
                not_begun = code == -self._stopped_by and not self._hurried
                return 0 if not_begun else as_exit_code(code)
            if not self._changed.is_set():
                log.warning("worker ended, waiting for a change", exit_code=as_exit_code(code))
                if await self._stopped_while_it_waits():
                    return 0

    async def _stopped_while_it_waits(self) -> bool:
        await self._changed.wait()
        return self._stopped_by != 0

    async def _run_child(self) -> int:
        environment = os.environ if self._start.environment is None else self._start.environment
        child = await asyncio.create_subprocess_exec(
            *self._start.command,
            cwd=self._start.folder,
            env={**environment, _RELOADED: "1"},
            start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on once
            preexec_fn=end_with_parent,
        )
        self._child = child
        if self._changed.is_set():  # since it was asked for
            self._end_child(self._stopped_by or signal.SIGTERM, self._patience)
        try:
            return await child.wait()
        finally:
            self._child = None
            if self._killing is not None:
                self._killing.cancel()

    def _end_child(self, number: int, seconds: float) -> None:
        """Ask the child to end, and kill it after so many seconds."""
        if self._child is None or self._child.returncode is not None:
            return
        if self._killing is not None:
            self._killing.cancel()
        self._killing = asyncio.get_running_loop().call_later(seconds, self._kill, self._child)
        self._child.send_signal(number)

    def _kill(self, child: asyncio.subprocess.Process) -> None:
        if child.returncode is None:
            log.warning("worker killed", reason="it did not drain in time")
            child.kill()

    async def _watch(self) -> None:
        from watchfiles import PythonFilter, awatch

        logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it counts what we name below
        only = PythonFilter(extra_extensions=[str(self._config)])
        async for changes in awatch(*self._paths, watch_filter=only):
            names = sorted({_shown(path) for _, path in changes})
            if self._stopped_by or self._changed.is_set():
                continue
            log.info("files have changed", files=names[:SHOWN], count=len(names))
            self._changed.set()
            self._end_child(signal.SIGTERM, self._patience)


def _shown(path: str) -> str:
    with contextlib.suppress(ValueError):
        return str(Path(path).relative_to(Path.cwd()))
    return path
