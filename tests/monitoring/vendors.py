"""Handlers for all that a dashboard shows: quick, slow, failing, and those that block."""

import asyncio
import time

from bridge import Call, Retry, RetryPolicy, Router

quick = Router("com.acme")
slow = Router("EN+", timeout=1.0, concurrency=2)
failing = Router("org.example", timeout=1.0, retry=RetryPolicy(attempts=2, first=0.1))
lazy = Router("net.lazy")


@quick.on("GetTariff")
async def tariff(call: Call, data: str | None = None) -> str | None:
    return data


@quick.on("GetReading")
def reading(call: Call) -> None:
    """In a thread."""


@slow.on("GetLoad")
async def load(call: Call) -> None:
    await asyncio.sleep(0.9)


@failing.on("Raises")
async def raises(call: Call) -> None:
    raise RuntimeError("the meter is away")


@failing.on("Hangs")
async def hangs(call: Call) -> None:
    await asyncio.Event().wait()


@failing.on("NeverWorks")
async def never_works(call: Call) -> None:
    raise Retry


@lazy.on("Blocks")
async def blocks(call: Call) -> None:
    time.sleep(1.5)  # noqa: ASYNC251 - it is what must be seen


@lazy.on("TakesLong")
async def takes_long(call: Call) -> None:
    await asyncio.sleep(3)


routers = [quick, slow, failing, lazy]
