"""Workers and the database break, between a handler's effect, its commit and its reply."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from tests.faults import extent
from tests.faults.catalogue import fault
from tests.faults.effects import COMMIT, EFFECT, MIX, REPLY, deaths
from tests.faults.stage import Stage

RATE = 60.0
"""Requests per second: each is three statements and a commit, on a machine that does all of it."""
SECONDS = 4.0
"""For which workers die at one point."""
ONE_IN = 100
"""Requests for one death."""
OPTIONS = ("--prefetch", "20")
"""Of a worker, whose transactions have ten connections."""
BACKLOG, BURST = 100, 20
"""While fewer requests than that are in the queue, so many more are published: as many come as are
handled."""

EFFECTS: Any = {"effects": True, "make": MIX, "rate": RATE, "options": OPTIONS}


async def _replace(stage: Stage) -> None:
    """Start a worker for each that has died."""
    while sum(worker.running for worker in stage.workers) < stage.expected_workers:
        await stage.start_worker()


async def _have_them_die(stage: Stage, points: str, one_in: int, seconds: float) -> None:
    """Replace workers that kill themselves at these points, for so long, and until one has."""
    stage.deaths.write_text(f"{points} {one_in}")
    until = time.monotonic() + seconds
    while time.monotonic() < until or not deaths(stage.deaths):
        await _replace(stage)
        await asyncio.sleep(0.02)
    await _stop_dying(stage)


async def _stop_dying(stage: Stage) -> None:
    stage.deaths.unlink()
    await asyncio.sleep(0.1)  # who is about to die, dies
    await _replace(stage)
    counted = deaths(stage.deaths)
    stage.notes.append(", ".join(f"{count} deaths at the {at}" for at, count in counted.items()))


@fault("workers killed between effect and commit", **EFFECTS, hold=0.0)
async def before_commit(stage: Stage) -> AsyncIterator[None]:
    await _have_them_die(stage, EFFECT, ONE_IN, SECONDS)
    yield


@fault("workers killed between commit and reply", **EFFECTS, hold=0.0)
async def before_reply(stage: Stage) -> AsyncIterator[None]:
    await _have_them_die(stage, REPLY, ONE_IN, SECONDS)
    yield


@fault("database restarted, and away for three seconds", **EFFECTS, hold=3.0)
async def away(stage: Stage) -> AsyncIterator[None]:
    assert stage.postgres is not None
    await asyncio.to_thread(stage.postgres.stop)
    yield
    await asyncio.to_thread(stage.postgres.start)


@fault("database killed and back, again and again", **EFFECTS, hold=0.0)
async def crashing(stage: Stage) -> AsyncIterator[None]:
    assert stage.postgres is not None
    for _ in range(3):
        await asyncio.to_thread(stage.postgres.kill)
        await asyncio.to_thread(stage.postgres.start)
        await asyncio.sleep(stage.random.uniform(0.2, 1.0))
    yield


@fault(
    "workers killed at random between effect, commit and reply",
    **EFFECTS,
    workers=3,
    hold=0.0,
    within=8.0,
    patience=60.0,
)
async def at_random(stage: Stage) -> AsyncIterator[None]:
    """By themselves, and from outside, at any moment."""
    stage.deaths.write_text(f"{EFFECT},{COMMIT},{REPLY} {max(500, extent.EFFECTS // 50)}")
    killed = 0
    every = max(200, extent.EFFECTS // 100)
    next_kill = every
    while len(stage.load.sent) < extent.EFFECTS:
        await _replace(stage)
        if len(stage.load.sent) >= next_kill:
            next_kill += round(stage.random.uniform(0.5, 1.5) * every)
            at_work = [each for each in stage.workers if each.running and "consuming" in each.said]
            if at_work:
                await stage.random.choice(at_work).kill()
                killed += 1
        waiting, _ = await stage.count(stage.request_queues[0])
        for _ in range(BURST if 0 <= waiting < BACKLOG else 0):
            stage.load.publish_next()
        await asyncio.sleep(0.05)
    await _stop_dying(stage)
    stage.notes.append(f"{killed} killed from outside")
    yield
