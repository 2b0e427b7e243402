"""Handlers for load. Run as `dtbridge run tests.integration.load_vendors:routers`."""

import asyncio
import os
from typing import Any

import msgspec
import structlog

from bridge import Call, Router

log = structlog.get_logger()


class Reading(msgspec.Struct):
    value: int


hostile = Router("hostile")
slow = Router("slow", timeout=60.0)
hanging = Router("hanging", timeout=60.0)


@hostile.on("Read")
async def read(call: Call, data: Reading) -> Reading:
    return Reading(data.value + 1)


@hostile.on("Text")
async def text(call: Call, data: str | None) -> str | None:
    return data


@hostile.default
async def anything(call: Call, data: Any = None) -> Any:
    return call.request.data


@slow.default
async def take_a_while(call: Call, data: int) -> list[int]:
    await asyncio.sleep(0.02)
    return [data, os.getpid()]


@hanging.default
async def hang_once(call: Call) -> str:
    """Hang in the first worker, and answer in the one that gets the request again."""
    if not call.redelivered:
        log.info("the handler hangs")
        await asyncio.Event().wait()
    return "by the second"


routers = [hostile, slow, hanging]
