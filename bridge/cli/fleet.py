"""Several workers or gateways under a supervisor, and one place that speaks for all of them.

Each child answers at a Unix socket in a folder that only this user can enter. Nothing is kept: the
children are asked when somebody asks the supervisor, all at once, and have a second to answer.
"""

import asyncio
import contextlib
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Final, Self, TypeVar

import msgspec
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from bridge.cli.exits import fail
from bridge.cli.observing import beating, serving
from bridge.cli.probe import ask
from bridge.cli.process import complete, stopping_signals
from bridge.cli.supervisor import Start, Supervisor
from bridge.telemetry.families import decode, merge
from bridge.telemetry.health import STALLED, Check, Finding, Health, loop_check, together
from bridge.telemetry.http import Listener
from bridge.telemetry.metrics import registry as process_registry
from bridge.telemetry.pages import FAMILIES, LIVE, READY, pages

Found = TypeVar("Found")
Joined = Callable[[dict[str, Finding]], Finding]
"""What several processes make together, of what each says, by its name."""

START_MARGIN: Final = 15.0
"""Seconds beyond the time to find a broker in which a child may fail at its first start, and so end
the supervisor: it has to import the vendors' modules, too."""
ANSWER_WITHIN: Final = 1.0
"""Seconds that a child has to answer."""
LONGEST_FOLDER: Final = 90
"""Characters of a folder's name: the path of a Unix socket has some hundred at most."""
FOLDERS: Final = (None, "/tmp", "/dev/shm")  # noqa: S108 - what is made there is this user's alone
"""Where the folder of the sockets is tried to be made. None: as the environment says."""


def supervise(
    start: Start,
    count: int,
    start_timeout: float,
    *,
    patience: float,
    listener: Listener | None,
    what: str = "worker",
    ready: Joined = together,
) -> int:
    """Run a command `count` times side by side. Returns its exit code.

    The seconds and `what` are as in :class:`~bridge.cli.supervisor.Supervisor`. `listener`: where
    to answer for all; None: nowhere. `ready`: whether all together do their work.
    """
    run = partial(Supervisor, start, count, start_timeout, patience=patience, what=what)
    if listener is None:
        return complete(_run(run()))
    folder = _make_folder()
    try:
        return complete(_run_observed(run(sockets=folder), listener, folder, ready))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _run(supervisor: Supervisor) -> int:
    loop = asyncio.get_running_loop()
    for number in stopping_signals():
        loop.add_signal_handler(number, supervisor.stop, number)
    return await supervisor.run()


async def _run_observed(
    supervisor: Supervisor, listener: Listener, folder: Path, ready: Joined
) -> int:
    with (
        beating() as pulse,
        Fleet(supervisor, folder, loop_check(pulse, STALLED), ready) as fleet,
    ):
        registry = CollectorRegistry()
        registry.register(fleet)
        with serving(listener, pages(Health(fleet.live, fleet.ready), registry)):
            return await _run(supervisor)


def _make_folder() -> Path:
    folder = next(filter(None, map(_folder_in, FOLDERS)), None)
    if folder is None:
        fail(
            "--http with --processes needs a folder for its sockets, and none can be made: mount a "
            "tmpfs at /tmp, or name one by TMPDIR"
        )
    return folder


def _folder_in(parent: str | None) -> Path | None:
    with contextlib.suppress(OSError):
        folder = Path(tempfile.mkdtemp(prefix="dtbridge-", dir=parent))  # with mode 0700
        if len(str(folder)) <= LONGEST_FOLDER:
            return folder
        folder.rmdir()
    return None


class Absent(Finding, frozen=True):
    """Of a process that is not there, or has not begun: nothing of its work goes well or badly."""


def all_that_are_reached(found: dict[str, Finding]) -> Finding:
    """Gateways on one port as one: ready, if each is that stations can reach, and there is one.

    The kernel gives connections only to processes that listen. While one is started again, the
    others take what comes, and the reason names it.
    """
    reached = {name: each for name, each in found.items() if _is_reached(each)}
    joined = together(reached or found)
    return joined if not joined.ok else Finding(True, together(found).reason, found)


def _is_reached(found: Finding) -> bool:
    if isinstance(found, Absent):
        return False
    stations = found.checks.get("stations")
    return stations is None or stations.ok


class Fleet(Collector):
    """What the children of a supervisor say, within a ``with`` block. For any thread."""

    def __init__(
        self, supervisor: Supervisor, folder: Path, loop: Check, ready: Joined = together
    ) -> None:
        """`folder`: where the children's sockets are. `loop`: the check of our own event loop.

        `ready`: whether the children together do their work.
        """
        self._supervisor = supervisor
        self._folder = folder
        self._loop = loop
        self._ready = ready
        self._own = process_registry()
        # Several may ask at a time, and a child that hangs holds a thread for a second.
        self._threads = ThreadPoolExecutor(4 * len(supervisor.numbers), "fleet")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def live(self) -> Finding:
        """Whether every child is there and its event loop turns."""
        found = self._from_all(partial(self._finding, LIVE), _no_answer)
        return together({"supervisor": self._loop(), **_named(found)})

    def ready(self) -> Finding:
        """Whether the children do their work."""
        found = _named(self._from_all(partial(self._finding, READY), _no_answer))
        own = Finding(False, "it stops") if self._supervisor.stopping else self._loop()
        joined = self._ready(found)
        # What is not well here comes first.
        return Finding(
            own.ok and joined.ok,
            joined.reason if own.ok else f"supervisor: {own.reason}",
            {"supervisor": own, **found},
        )

    def collect(self) -> Iterator[Metric]:
        """The metrics of all children, told apart by the label ``process``, and our own."""
        up = GaugeMetricFamily(
            "dtbridge_process_up", "Whether a process answers.", labels=["process"]
        )
        restarts = CounterMetricFamily(
            "dtbridge_process_restarts", "Starts of a process again.", labels=["process"]
        )
        processes = {"supervisor": list(self._own.collect())}
        for number, metrics in self._from_all(self._metrics, _no_metrics).items():
            name = str(number)
            up.add_metric([name], 1 if metrics else 0)
            restarts.add_metric([name], self._supervisor.restarts_of(number))
            processes[name] = metrics
        yield up
        yield restarts
        yield from merge(processes)

    def _from_all(
        self, question: Callable[[int], Found], without: Callable[[], Found]
    ) -> dict[int, Found]:
        """What each child says, by its number. `without`: makes what stands for one that is late"""
        asked = {
            number: self._threads.submit(question, number) for number in self._supervisor.numbers
        }
        wait(asked.values(), ANSWER_WITHIN * 1.1)
        return {
            number: answer.result() if answer.done() else without()
            for number, answer in asked.items()
        }

    def _finding(self, page: str, number: int) -> Finding:
        reason = self._supervisor.why_not_running(number)
        if reason is not None:
            # Whoever has drained before the others is no reason to end these.
            return Absent(page == LIVE and self._supervisor.stopping, reason)
        try:
            _, body = self._ask(number, page)
            return msgspec.json.decode(body, type=Finding)
        except TimeoutError:
            return _no_answer()
        except (FileNotFoundError, ConnectionRefusedError):
            return Absent(False, "it is starting, and does not listen yet")
        except (OSError, ValueError) as error:  # a DecodeError is a ValueError
            return Finding(False, f"its answer cannot be read: {type(error).__name__}")

    def _metrics(self, number: int) -> list[Metric]:
        try:
            _, body = self._ask(number, FAMILIES)
            return decode(body)
        except (OSError, ValueError):  # as above
            return []

    def _ask(self, number: int, page: str) -> tuple[int, bytes]:
        def connect(seconds: float) -> socket.socket:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.settimeout(seconds)
                connection.connect(str(self._folder / str(number)))
            except BaseException:
                connection.close()
                raise
            return connection

        return ask(connect, page, ANSWER_WITHIN)


def _no_answer() -> Finding:
    return Finding(False, f"it does not answer within {ANSWER_WITHIN:g} s")


def _no_metrics() -> list[Metric]:
    return []


def _named(found: dict[int, Finding]) -> dict[str, Finding]:
    return {f"process {number}": finding for number, finding in found.items()}
