"""The worker is what breaks."""

import asyncio
import signal
from collections.abc import AsyncIterator

from tests.faults.catalogue import fault
from tests.faults.handlers import POISON_VENDOR
from tests.faults.load import Mix, request
from tests.faults.stage import Stage


@fault("worker killed (SIGKILL), another started", may_rerun=True)
async def killed(stage: Stage) -> AsyncIterator[None]:
    await stage.workers[0].kill()
    yield
    await stage.start_worker()
    stage.now()


@fault("worker drained (SIGTERM), another started")
async def drained(stage: Stage) -> AsyncIterator[None]:
    worker = stage.workers[0]
    worker.signal(signal.SIGTERM)
    code = await worker.ended()
    if code != 0:
        stage.notes.append(f"the drained worker ended with {code}")
    yield
    await stage.start_worker()


@fault(
    "worker frozen (SIGSTOP) for longer than the heartbeat", heartbeat=2, hold=8.0, may_rerun=True
)
async def frozen(stage: Stage) -> AsyncIterator[None]:
    stage.workers[0].signal(signal.SIGSTOP)
    yield
    stage.workers[0].signal(signal.SIGCONT)


@fault(
    "handlers raise, exit, return nonsense",
    make=Mix({"Echo": 80, "Raise": 8, "Nonsense": 8, "Exit": 4}),
    hold=2.0,
)
async def failing(stage: Stage) -> AsyncIterator[None]:
    yield


@fault(
    "handlers hang, and will not be cancelled",
    make=Mix({"Echo": 90, "Hang": 5, "Stubborn": 5}),
    hold=2.0,
)
async def hanging(stage: Stage) -> AsyncIterator[None]:
    yield


@fault("handlers block the event loop", make=Mix({"Echo": 99, "Block": 1}), rate=200, hold=3.0)
async def blocking(stage: Stage) -> AsyncIterator[None]:
    yield


@fault("handlers leak tasks", make=Mix({"Echo": 80, "Leak": 20}), hold=2.0)
async def leaking(stage: Stage) -> AsyncIterator[None]:
    yield


@fault(
    "a request that kills its worker (poison)",
    workers=1,
    rate=50.0,
    may_rerun=True,
    may_wear_out=True,
    patience=40.0,
    hold=0.0,
)
async def poisoned(stage: Stage) -> AsyncIterator[None]:
    """It is dead-lettered at the delivery limit; until then the worker is started again."""
    poison = stage.load.publish_next(
        lambda load, number, reply_to: request(load, number, reply_to, POISON_VENDOR, "Die", 120.0)
    )
    deaths = 0
    worker = stage.workers[0]
    while not poison.dead:
        if not worker.running:
            deaths += 1
            worker = await stage.start_worker()
        await asyncio.sleep(0.02)
    yield
    if not worker.running:
        await stage.start_worker()
    stage.notes.append(f"{deaths} deaths, then dead-lettered: {poison.dead[0].reason}")
