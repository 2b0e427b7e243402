"""The soak: whatever can break breaks, in the order of a seed, and nothing may pile up."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from tests.faults import extent
from tests.faults.catalogue import Needs, fault
from tests.faults.load import Mix
from tests.faults.stage import Stage

GROWTH_KIB: Final = 49_152
"""Kibibytes by which a worker may grow, as the store of answers fills up to its bound.

A leak of 1 kB for each request would be 200 MB in 20 minutes."""
TASKS: Final = 8
"""How many more tasks than before a worker may have: handlers put off their cancellation."""


async def _reset(stage: Stage) -> None:
    stage.proxies[0].reset()


async def _garbage(stage: Stage) -> None:
    stage.proxies[0].inject(stage.random.randbytes(300))


async def _black_hole(stage: Stage) -> None:
    stage.proxies[0].swallow()


async def _slow(stage: Stage) -> None:
    stage.proxies[0].slow_down(20_000)
    await asyncio.sleep(1.0)
    stage.proxies[0].slow_down(0)


async def _kill_worker(stage: Stage) -> None:
    """Kill the last worker: the first one is under observation."""
    await stage.workers[-1].kill()
    await stage.start_worker()


async def _drain_worker(stage: Stage) -> None:
    worker = stage.workers[-1]
    await worker.begun()
    worker.signal(signal.SIGTERM)
    if (code := await worker.ended()) != 0:
        stage.complaints.append(f"a drained worker ended with {code}")
    await stage.start_worker()


async def _freeze_worker(stage: Stage) -> None:
    stage.workers[-1].signal(signal.SIGSTOP)
    await asyncio.sleep(stage.random.uniform(0.5, 8.0))
    stage.workers[-1].signal(signal.SIGCONT)


async def _restart_broker(stage: Stage) -> None:
    await asyncio.to_thread(stage.node.sync)
    await asyncio.to_thread(stage.node.kill if stage.random.random() < 0.5 else stage.node.stop)
    await asyncio.to_thread(stage.node.start)


async def _alarm(stage: Stage) -> None:
    await stage.control_node("set_vm_memory_high_watermark", "0.00001")
    await asyncio.sleep(1.0)
    await stage.control_node("set_vm_memory_high_watermark", "0.4")


Deed = Callable[[Stage], Awaitable[None]]
DEEDS: Final[tuple[Deed, ...]] = (
    _reset,
    _reset,
    _garbage,
    _black_hole,
    _slow,
    _kill_worker,
    _drain_worker,
    _freeze_worker,
    _restart_broker,
    _alarm,
)


@fault(
    "soak: whatever can break, in any order",
    needs=Needs.NODE,
    make=Mix(
        {"Echo": 850, "Slow": 80, "Flaky": 40, "Big": 20, "Raise": 5, "Hang": 3, "Stubborn": 2}
    ),
    rate=400.0,
    heartbeat=2,
    hold=0.0,
    warm_up=3.0,
    patience=60.0,
)
async def soak(stage: Stage) -> AsyncIterator[None]:
    pid = stage.workers[0].pid
    before = await stage.vitals(pid)
    ends_at = time.monotonic() + extent.SOAK_SECONDS
    deeds: list[Deed] = []
    done = 0
    while time.monotonic() < ends_at:
        if not deeds:
            deeds = stage.random.sample(DEEDS, len(DEEDS))
        await deeds.pop()(stage)
        done += 1
        await asyncio.sleep(stage.random.uniform(0.2, 2.0))
    await stage.consuming(40.0)
    await stage.load.idle(60.0)
    after = await stage.vitals(pid)
    stage.load.running.set()
    stage.now()
    grown = after.resident_kib - before.resident_kib
    stage.notes.append(
        f"{done} breaks; memory {before.resident_kib // 1024} → {after.resident_kib // 1024} MiB, "
        f"tasks {before.tasks} → {after.tasks}"
    )
    if grown > GROWTH_KIB:
        stage.complaints.append(f"the worker's memory grew by {grown} KiB")
    if after.tasks > before.tasks + TASKS:
        stage.complaints.append(f"the worker's tasks grew from {before.tasks} to {after.tasks}")
    yield
