"""Workers of a vendor with partitions break, or the number of its partitions changes."""

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Final

from bridge.dialects.partitions import Partitions
from tests.faults.catalogue import Needs, fault
from tests.faults.commands import begin, dtbridge
from tests.faults.load import Mix
from tests.faults.spread import target
from tests.faults.stage import Stage

IN_LINE: Final = Mix({"Echo": 88, "Slow": 12}, stations=24)
"""So few stations that requests of one stand in line. None is tried again: it would lose its place.
"""
DEATHS: Final = 8


@fault(
    "workers of a vendor in order killed, again and again",
    spread=Partitions(4, ordered=True),
    make=IN_LINE,
    rate=150.0,
    workers=3,
    may_rerun=True,
    hold=0.5,
)
async def killed_in_order(stage: Stage) -> AsyncIterator[None]:
    """The oldest of them dies each time: it has most partitions, and the next worker takes them."""
    for number in range(DEATHS):
        await stage.workers[number].kill()
        await stage.start_worker()
        await asyncio.sleep(stage.random.uniform(0.3, 1.5))
    stage.now()
    yield


def _migrate(stage: Stage) -> tuple[str, ...]:
    assert stage.spread is not None
    management = stage.node.management_url
    return "topology", "migrate", target(stage.spread), "--yes", "--management", management


async def _change(stage: Stage, count: int, *, command_killed: bool = False) -> AsyncIterator[None]:
    """As in a rollout, but that a worker is killed when requests come to the new queues.

    `command_killed`: so is the command, and it is run again.
    """
    assert stage.spread is not None
    old = list(stage.workers)
    stage.spread = Partitions(count, stage.spread.ordered)
    stage.sessions_end = True  # the vendor's own queue is replaced under its workers
    command = await begin(stage, *_migrate(stage))
    await command.says(": switched")
    await old[0].kill()
    if command_killed:
        await command.kill()
        command = await begin(stage, *_migrate(stage))
        await command.says(": switched")
    for _ in old:
        await stage.start_worker()
    code = await command.ended(40.0)
    stage.notes.append(f"the command ended with {code}")
    yield
    for worker in old[1:]:
        worker.signal(signal.SIGTERM)
        if (code := await worker.ended()) != 0:
            stage.complaints.append(f"a drained worker ended with {code}")
    stage.now()
    await dtbridge(stage, *_migrate(stage))  # the old queues go, now that their workers are gone


@fault(
    "partitions in order, 1 to 4: worker killed in the change",
    needs=Needs.MANAGED,
    spread=Partitions(1, ordered=True),
    make=IN_LINE,
    rate=80.0,
    may_rerun=True,
    may_move=True,
    hold=0.0,
)
async def more_in_order(stage: Stage) -> AsyncIterator[None]:
    async for _ in _change(stage, 4):
        yield


@fault(
    "partitions in order, 4 to 2: worker and command killed in the change",
    needs=Needs.MANAGED,
    spread=Partitions(4, ordered=True),
    make=IN_LINE,
    rate=80.0,
    may_rerun=True,
    may_move=True,
    hold=0.0,
)
async def fewer_in_order(stage: Stage) -> AsyncIterator[None]:
    async for _ in _change(stage, 2, command_killed=True):
        yield


@fault(
    "partitions, 1 to 4: worker and command killed in the change",
    needs=Needs.MANAGED,
    spread=Partitions(1),
    make=IN_LINE,
    rate=80.0,
    may_rerun=True,
    may_move=True,
    hold=0.0,
)
async def more(stage: Stage) -> AsyncIterator[None]:
    async for _ in _change(stage, 4, command_killed=True):
        yield


@fault(
    "partitions, 4 to 2: worker killed in the change",
    needs=Needs.MANAGED,
    spread=Partitions(4),
    make=IN_LINE,
    rate=80.0,
    may_rerun=True,
    may_move=True,
    hold=0.0,
)
async def fewer(stage: Stage) -> AsyncIterator[None]:
    async for _ in _change(stage, 2):
        yield
