"""The broker is what breaks."""

import asyncio
from collections.abc import AsyncIterator

from tests.faults.catalogue import Needs, fault
from tests.faults.stage import Stage


@fault("broker killed (SIGKILL) and back", needs=Needs.NODE)
async def killed(stage: Stage) -> AsyncIterator[None]:
    await asyncio.to_thread(stage.node.sync)
    await asyncio.to_thread(stage.node.kill)
    yield
    await asyncio.to_thread(stage.node.start)


@fault("broker restarted in order", needs=Needs.NODE)
async def restarted(stage: Stage) -> AsyncIterator[None]:
    await asyncio.to_thread(stage.node.stop)
    yield
    await asyncio.to_thread(stage.node.start)
