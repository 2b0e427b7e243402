"""One place speaks for several processes, with small real children."""

import asyncio
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from bridge.cli import fleet as fleets
from bridge.cli.fleet import Absent, Fleet, all_that_are_reached
from bridge.cli.supervisor import Start, Supervisor
from bridge.telemetry.health import Finding

CHILD = """
import os, signal, sys
from bridge.telemetry.health import Finding, Health
from bridge.telemetry.http import Listener
from bridge.telemetry.pages import FAMILIES, families_page, pages
from bridge.cli.supervisor import Start
from pathlib import Path
from prometheus_client import CollectorRegistry, Counter
start = Start.of_this_process()
assert start.is_child
registry = CollectorRegistry()
Counter("asked", "Asked.", registry=registry).inc(7)
ill = Path(str(start.socket) + ".ill")
health = Health(
    lambda: Finding(True), lambda: Finding(not ill.exists(), "ill" if ill.exists() else "")
)
listener = Listener.on_path(start.socket)
listener.start({**pages(health, registry), FAMILIES: families_page(registry)})
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
while True: signal.pause()
"""


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Await what another process brings about. It is looked for in a thread, as probes look."""
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.01)


class Running:
    def __init__(self, supervisor: Supervisor, fleet: Fleet, folder: Path) -> None:
        self.supervisor = supervisor
        self.fleet = fleet
        self.folder = folder
        self.registry = CollectorRegistry()
        self.registry.register(fleet)

    def value(self, name: str, process: str) -> float | None:
        return self.registry.get_sample_value(name, {"process": process})


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    supervisor = Supervisor(Start(command=[sys.executable, "-c", CHILD]), 2, 5.0, sockets=tmp_path)
    task = asyncio.create_task(supervisor.run())
    with Fleet(supervisor, tmp_path, lambda: Finding(True)) as fleet:
        try:
            await until(lambda: fleet.ready().ok)
            yield Running(supervisor, fleet, tmp_path)
        finally:
            supervisor.stop()
            await task


async def test_all_are_ready_if_each_is_and_each_is_named(running: Running) -> None:
    assert list(running.fleet.ready().checks) == ["supervisor", "process 1", "process 2"]
    (running.folder / "1.ill").touch()
    found = await asyncio.to_thread(running.fleet.ready)
    assert (found.ok, found.reason) == (False, "process 1: ill")
    assert running.fleet.live().ok
    (running.folder / "1.ill").unlink()
    assert running.fleet.ready().ok


async def test_metrics_of_all_are_told_apart(running: Running) -> None:
    assert [running.value("asked_total", name) for name in "12"] == [7.0, 7.0]
    assert [running.value("dtbridge_process_up", name) for name in "12"] == [1.0, 1.0]
    assert [running.value("dtbridge_process_restarts_total", name) for name in "12"] == [0.0, 0.0]
    assert running.value("process_cpu_seconds_total", "supervisor") is not None


async def test_a_child_that_hangs_is_missed_after_a_second(running: Running) -> None:
    (pid, _) = running.supervisor.pids
    os.kill(pid, signal.SIGSTOP)
    try:
        found = await asyncio.to_thread(running.fleet.live)
        assert not found.ok
        assert found.reason.endswith("it does not answer within 1 s")
        up = [running.value("dtbridge_process_up", name) for name in "12"]
        assert sorted(up, key=str) == [0.0, 1.0]
    finally:
        os.kill(pid, signal.SIGCONT)
    await until(lambda: running.fleet.live().ok)


async def test_a_child_that_has_died_is_missed_until_it_is_back(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.cli.supervisor.RESTART_FIRST", 0.01)
    os.kill(running.supervisor.pids[0], signal.SIGKILL)
    await until(lambda: not running.fleet.live().ok)
    await until(lambda: running.fleet.live().ok)
    restarts = [running.value("dtbridge_process_restarts_total", name) for name in "12"]
    assert sorted(restarts, key=str) == [0.0, 1.0]


async def test_a_supervisor_that_stops_is_not_ready(running: Running) -> None:
    running.supervisor.stop()
    assert running.fleet.ready().reason == "supervisor: it stops"


# ---- gateways on one port ----

WELL = Finding(True, "", {"stations": Finding(True, "they can connect")})
ILL = Finding(False, "publishing: blocked", {"stations": Finding(True, "they can connect")})
OUT = Finding(False, "stations: they cannot connect", {"stations": Finding(False, "not yet")})
AWAY = Absent(False, "it is starting, and does not listen yet")
SILENT = Finding(False, "it does not answer within 1 s")


@pytest.mark.parametrize(
    ("one", "other", "ok", "reason"),
    [
        (WELL, WELL, True, ""),
        (WELL, AWAY, True, f"2: {AWAY.reason}"),
        (WELL, OUT, True, f"2: {OUT.reason}"),
        (WELL, ILL, False, f"2: {ILL.reason}"),
        (WELL, SILENT, False, f"2: {SILENT.reason}"),
        (AWAY, ILL, False, f"2: {ILL.reason}"),
        (AWAY, OUT, False, f"1: {AWAY.reason}"),
    ],
)
def test_gateways_on_one_port_are_ready_if_each_is_that_stations_can_reach(
    one: Finding, other: Finding, ok: bool, reason: str
) -> None:
    found = {"1": one, "2": other}
    joined = all_that_are_reached(found)
    assert (joined.ok, joined.reason) == (ok, reason)


async def test_a_gateway_that_has_died_leaves_the_others_ready(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.cli.supervisor.back_off", lambda *_, **__: 3600.0)
    supervisor = running.supervisor
    with Fleet(supervisor, running.folder, lambda: Finding(True), all_that_are_reached) as fleet:
        os.kill(supervisor.pids[0], signal.SIGKILL)
        await until(lambda: "started again within" in fleet.ready().reason)
        assert fleet.ready().ok
        assert not fleet.live().ok
        assert not running.fleet.ready().ok, "workers are not: each has its own part of the work"
        (left,) = (number for number in (1, 2) if supervisor.why_not_running(number) is None)
        (running.folder / f"{left}.ill").touch()
        assert fleet.ready().reason == f"process {left}: ill"
        supervisor.stop()
        assert fleet.ready().reason == "supervisor: it stops"


def test_the_folder_of_the_sockets_is_this_users_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "no such folder"))
    folder = fleets._make_folder()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.rmdir()


def test_a_folder_whose_name_is_too_long_for_a_socket_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    folder = fleets._make_folder()
    assert len(str(folder)) < 100
    assert list(deep.iterdir()) == []
    folder.rmdir()
