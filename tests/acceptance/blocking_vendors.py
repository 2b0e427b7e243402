"""Handlers that block the event loop, and one that waits as it should."""

import asyncio
import time

import structlog

from bridge import Call, Router

log = structlog.get_logger()
router = Router("blocking", timeout=0.5)


@router.on("block")
async def blocks_the_loop(call: Call, seconds: float) -> str:
    log.info("the handler blocks")
    time.sleep(seconds)  # noqa: ASYNC251 - that is what it is for
    log.info("the handler returns")
    return "done"


@router.on("block and wait")
async def blocks_the_loop_and_waits(call: Call, seconds: float) -> str:
    log.info("the handler blocks")
    time.sleep(seconds)  # noqa: ASYNC251 - likewise
    await asyncio.sleep(60)
    return "too late"


@router.on("wait", timeout=60.0)
async def waits(call: Call, seconds: float) -> str:
    log.info("the handler waits")
    await asyncio.sleep(seconds)
    return "done"
