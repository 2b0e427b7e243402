"""A worker that is asked to stop ends, whatever its handlers do, and only a signal ends it."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bridge import CallError
from bridge.client.client import Client
from tests.integration.support import PATIENCE, WorkerProcess, request

STUBBORN = "tests.integration.stubborn_vendors:router"
DRAIN = 0.5
SLACK = 6.0
"""Seconds for a slow machine, and for the farewell; the handlers take a minute."""


async def hang(client: Client, worker: WorkerProcess, message: str) -> "asyncio.Task[object]":
    """A request whose handler has begun and will not end."""
    asked: asyncio.Task[object] = asyncio.create_task(
        client.data_transfer("CP", request("stubborn", message))
    )
    await asyncio.to_thread(worker.until, "the handler hangs")
    return asked


async def ended_after(worker: WorkerProcess) -> float:
    since = time.monotonic()
    worker.exit_code = await asyncio.to_thread(worker.wait)
    return time.monotonic() - since


@pytest.mark.parametrize(
    ("message", "processes"),
    [("thread", 1), ("default executor", 1), ("own thread", 1), ("task", 1), ("thread", 2)],
)
async def test_it_ends_when_its_drain_timeout_is_over_whatever_a_handler_does(
    amqp_url: str, message: str, processes: int
) -> None:
    async with (
        Client(amqp_url, timeout=PATIENCE) as client,
        WorkerProcess(STUBBORN, amqp_url, drain_timeout=DRAIN, processes=processes) as worker,
    ):
        asked = await hang(client, worker, message)
        worker.signal(signal.SIGTERM)
        took = await ended_after(worker)
        asked.cancel()
    assert DRAIN <= took < DRAIN + SLACK
    assert worker.exit_code == 0
    assert sum(line.get("event") == "drained" for line in worker.log) == processes
    at_work = [line for line in worker.log if line.get("event") == "ended what was still at work"]
    assert len(at_work) == 1
    assert at_work[0]["tasks"] or at_work[0]["threads"]


async def test_it_ends_even_if_a_handler_blocks_its_event_loop(amqp_url: str) -> None:
    async with (
        Client(amqp_url, timeout=PATIENCE) as client,
        WorkerProcess(STUBBORN, amqp_url, drain_timeout=DRAIN) as worker,
    ):
        asked = await hang(client, worker, "loop")
        worker.signal(signal.SIGTERM)
        took = await ended_after(worker)
        asked.cancel()
    assert took < DRAIN + 2 * SLACK
    assert worker.exit_code == 1
    assert "event loop" in worker.until("did not end in time")["hint"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGINT),
        (signal.SIGINT, signal.SIGTERM),
        (signal.SIGHUP, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGHUP),
    ],
)
async def test_a_second_signal_of_any_kind_ends_it_at_once(
    amqp_url: str, first: signal.Signals, second: signal.Signals
) -> None:
    async with (
        Client(amqp_url, timeout=PATIENCE) as client,
        WorkerProcess(STUBBORN, amqp_url, drain_timeout=PATIENCE) as worker,
    ):
        asked = await hang(client, worker, "patient")
        worker.signal(first)
        await asyncio.to_thread(worker.until, "draining")
        worker.signal(second)
        await ended_after(worker)
        asked.cancel()
    assert worker.exit_code == -second


async def test_a_terminal_that_is_closed_hangs_up_twice_and_the_worker_drains(
    amqp_url: str,
) -> None:
    async with (
        Client(amqp_url, timeout=PATIENCE) as client,
        WorkerProcess(STUBBORN, amqp_url, drain_timeout=DRAIN) as worker,
    ):
        asked = await hang(client, worker, "patient")
        worker.signal(signal.SIGHUP)
        await asyncio.to_thread(worker.until, "draining")
        worker.signal(signal.SIGHUP)
        await ended_after(worker)
        asked.cancel()
    assert worker.exit_code == 0
    assert worker.counts["returned_to_queue"] == 1


class Nohup(WorkerProcess):
    within = ("nohup",)


async def test_a_hang_up_that_its_starter_had_ignored_stops_nothing(amqp_url: str) -> None:
    async with Client(amqp_url, timeout=PATIENCE) as client:
        with Nohup(STUBBORN, amqp_url) as worker:
            worker.signal(signal.SIGHUP)
            assert (await client.data_transfer("CP", request("stubborn", "any"))).data == "here"


# ---- process 1 ----

UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc")


def _may_unshare() -> bool:
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    return subprocess.run([*UNSHARE, "true"], check=False, capture_output=True).returncode == 0


process_one = pytest.mark.skipif(
    not _may_unshare(), reason="a PID namespace of its own needs Linux, unshare and permission"
)


class ProcessOne(WorkerProcess):
    """A worker that is process 1, as in a container."""

    within = UNSHARE

    def signal(self, number: signal.Signals) -> None:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        os.kill(int(path.read_text()), number)


@process_one
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_process_1_ends_at_a_second_signal_too(
    amqp_url: str, first: signal.Signals, processes: int
) -> None:
    async with (
        Client(amqp_url, timeout=PATIENCE) as client,
        ProcessOne(STUBBORN, amqp_url, drain_timeout=PATIENCE, processes=processes) as worker,
    ):
        asked = await hang(client, worker, "patient")
        worker.signal(first)
        await asyncio.to_thread(worker.until, "draining")
        worker.signal(signal.SIGTERM)
        took = await ended_after(worker)
        asked.cancel()
    assert took < SLACK
    assert worker.exit_code == 128 + signal.SIGTERM


@process_one
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_process_1_drains_at_the_first_signal(amqp_url: str, number: signal.Signals) -> None:
    async with ProcessOne(STUBBORN, amqp_url) as worker:
        worker.signal(number)
        await ended_after(worker)
    assert worker.exit_code == 0
    assert worker.counts["returned_to_queue"] == 0


@process_one
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_process_1_ends_at_a_signal_while_it_is_still_importing(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "slow.py").write_text(
        "import sys, time\nprint('importing', file=sys.stderr, flush=True)\ntime.sleep(60)\n"
    )
    command = [*UNSHARE, sys.executable, "-m", "bridge", "check", "slow:router"]
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "importing\n"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        os.kill(int(children), number)
        assert process.wait(PATIENCE) in {128 + number, 130}


# ---- what is no signal ----


async def test_what_a_handler_raises_never_stops_the_worker(amqp_url: str) -> None:
    messages = [
        f"{what} {where}"
        for what in ("interrupt", "exit")
        for where in ("at once", "later", "in a thread")
    ]
    async with (
        Client(amqp_url, timeout=PATIENCE) as client,
        WorkerProcess(STUBBORN, amqp_url) as worker,
    ):
        for message in messages:
            with pytest.raises(CallError):
                await client.data_transfer("CP", request("stubborn", message))
        assert (await client.data_transfer("CP", request("stubborn", "any"))).data == "here"
    assert worker.counts["failed"] == len(messages)
