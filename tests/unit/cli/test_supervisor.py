"""The supervisor of several workers, with small real children."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from bridge.cli.supervisor import Start, Supervisor


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Await a condition that another process brings about."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def children_of(supervisor: Supervisor, folder: Path) -> set[int]:
    """The children that have said that they are up."""
    return {int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal()} & set(
        supervisor.pids
    )


@pytest.fixture
def waits(tmp_path: Path) -> Start:
    """A child that leaves a file named by its number once it is up, and ends with 0 at SIGTERM."""
    code = (
        "import os, pathlib, signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        f"pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch()\n"
        "while True: signal.pause()\n"
    )
    return Start(command=[sys.executable, "-c", code])


async def test_runs_as_many_as_asked_and_stops_them_all(waits: Start, tmp_path: Path) -> None:
    supervisor = Supervisor(waits, 3, 5.0)
    running = asyncio.create_task(supervisor.run())
    await until(lambda: len(children_of(supervisor, tmp_path)) == 3)
    supervisor.stop()
    assert await running == 0
    assert supervisor.pids == []


async def test_a_child_that_is_killed_is_started_again(waits: Start, tmp_path: Path) -> None:
    supervisor = Supervisor(waits, 2, 5.0)
    running = asyncio.create_task(supervisor.run())
    await until(lambda: len(children_of(supervisor, tmp_path)) == 2)
    victim = supervisor.pids[0]
    os.kill(victim, signal.SIGKILL)
    await until(lambda: len(children_of(supervisor, tmp_path) - {victim}) == 2)
    assert supervisor.restarts == 1
    supervisor.stop()
    assert await running == 0


async def test_a_child_that_cannot_be_started_again_is_tried_until_it_can(
    waits: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "deployed"
    folder.mkdir()
    supervisor = Supervisor(msgspec.structs.replace(waits, folder=folder), 2, 5.0)
    running = asyncio.create_task(supervisor.run())
    await until(lambda: len(children_of(supervisor, tmp_path)) == 2)
    victim, other = supervisor.pids
    folder.rmdir()
    os.kill(victim, signal.SIGKILL)
    await until(lambda: "process not started" in caplog.text)
    assert supervisor.pids == [other]
    folder.mkdir()
    await until(lambda: len(children_of(supervisor, tmp_path) - {victim}) == 2)
    supervisor.stop()
    assert await running == 0


async def test_children_that_cannot_be_started_at_all_are_an_end(tmp_path: Path) -> None:
    nowhere = Start(command=[sys.executable, "-c", ""], folder=tmp_path / "nowhere")
    assert await Supervisor(nowhere, 2, 5.0).run() == 1


async def test_a_child_knows_the_port_that_all_listen_on(tmp_path: Path) -> None:
    code = (
        "import pathlib; from bridge.cli.supervisor import Start\n"
        "start = Start.of_this_process()\n"
        f"pathlib.Path({str(tmp_path)!r}, f'{{start.number}}-{{start.port}}').touch()\n"
    )
    start = Start(command=[sys.executable, "-c", code]).on_port(9000)
    supervisor = Supervisor(start, 2, 5.0, what="gateway")
    running = asyncio.create_task(supervisor.run())
    await until(lambda: {entry.name for entry in tmp_path.iterdir()} == {"1-9000", "2-9000"})
    supervisor.stop()
    await running
    assert Start.of_this_process().port is None


async def test_a_child_that_fails_at_its_first_start_ends_all_with_its_exit_code() -> None:
    code = await Supervisor(
        Start(command=[sys.executable, "-c", "import sys; sys.exit(7)"]), 2, 5.0
    ).run()
    assert code == 7


def pausing(tmp_path: Path, on_signal: str) -> Start:
    """A child that does this at SIGTERM, and leaves a file named by its number once it is up."""
    code = (
        "import os, pathlib, signal, sys\n"
        f"signal.signal(signal.SIGTERM, {on_signal})\n"
        f"pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch()\n"
        "while True: signal.pause()\n"
    )
    return Start(command=[sys.executable, "-c", code])


async def test_a_child_that_does_not_end_well_is_the_exit_code(tmp_path: Path) -> None:
    supervisor = Supervisor(pausing(tmp_path, "lambda *_: sys.exit(5)"), 1, 5.0)
    running = asyncio.create_task(supervisor.run())
    await until(lambda: len(children_of(supervisor, tmp_path)) == 1)
    supervisor.stop()
    assert await running == 5


async def test_a_child_that_is_stopped_before_it_has_begun_ends_well(tmp_path: Path) -> None:
    """It has not set up what happens at a signal yet, so the signal ends it."""
    supervisor = Supervisor(pausing(tmp_path, "signal.SIG_DFL"), 2, 5.0)
    running = asyncio.create_task(supervisor.run())
    await until(lambda: len(children_of(supervisor, tmp_path)) == 2)
    supervisor.stop()
    assert await running == 0


async def test_a_second_signal_that_ends_a_child_is_the_exit_code(tmp_path: Path) -> None:
    supervisor = Supervisor(
        pausing(tmp_path, "lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL)"), 1, 5.0
    )
    running = asyncio.create_task(supervisor.run())
    await until(lambda: len(children_of(supervisor, tmp_path)) == 1)
    supervisor.stop()
    while not running.done():
        supervisor.stop()
        await asyncio.sleep(0.01)
    assert await running == 128 + signal.SIGTERM


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
async def test_children_end_with_a_supervisor_that_is_killed(waits: Start, tmp_path: Path) -> None:
    code = (
        "import asyncio, sys; from bridge.cli.supervisor import Start, Supervisor\n"
        f"asyncio.run(Supervisor(Start(command={waits.command!r}), 2, 5.0).run())\n"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    await until(lambda: len(list(tmp_path.iterdir())) == 2)
    pids = [int(entry.name) for entry in tmp_path.iterdir()]
    parent.kill()
    await parent.wait()
    await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
