"""The store of replies breaks."""

import asyncio
import signal
from collections.abc import AsyncIterator

from tests.faults.catalogue import fault
from tests.faults.stage import Stage


@fault(
    "Redis killed and back, and connections reset meanwhile", redis=True, may_rerun=True, hold=2.0
)
async def redis_killed(stage: Stage) -> AsyncIterator[None]:
    assert stage.redis is not None
    stage.redis.kill()
    await asyncio.sleep(1.0)
    stage.proxies[0].reset()
    yield
    await asyncio.to_thread(stage.redis.start)


@fault("worker killed, replies kept in Redis", redis=True, may_rerun=True)
async def worker_killed(stage: Stage) -> AsyncIterator[None]:
    """What the dead worker had begun must not stay its own."""
    stage.workers[0].signal(signal.SIGKILL)
    await stage.workers[0].ended()
    yield
    await stage.start_worker()
