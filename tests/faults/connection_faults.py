"""What lies between worker and broker breaks."""

import asyncio
import secrets
from collections.abc import AsyncIterator

from tests.faults.catalogue import fault
from tests.faults.load import Mix
from tests.faults.stage import Stage


@fault("connections reset")
async def reset(stage: Stage) -> AsyncIterator[None]:
    for _ in range(3):
        stage.proxies[0].reset()
        await asyncio.sleep(0.7)
    stage.proxies[0].reset()
    stage.now()
    yield


@fault("half-open connections (black hole)", heartbeat=2, hold=3.0, within=10.0)
async def black_hole(stage: Stage) -> AsyncIterator[None]:
    stage.proxies[0].swallow()
    stage.now()
    yield


@fault("garbage in place of frames")
async def garbage(stage: Stage) -> AsyncIterator[None]:
    stage.proxies[0].inject(secrets.token_bytes(1000))
    stage.now()
    yield
