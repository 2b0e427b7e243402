"""The bridge's own handlers for the benchmark: what a user writes, and no more.

The environment configures them: BENCH_VENDORS is the number of vendors (1 by default), with
BENCH_HANG=1 the first one's handlers never return, with BENCH_SURROUNDED=1 all have the state of a
lifespan and a middleware around them, and BENCH_WAIT_MS is how long each handler waits.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

from bridge import Call, CallNext, Router
from tests.bench.messages import MeterAck, MeterSample, vendor_ids
from tests.bench.messages import meter_sample as work


async def meter_sample(call: Call, data: MeterSample) -> MeterAck:
    """Answer a reading."""
    return await work(data)


async def hang(call: Call, data: MeterSample) -> MeterAck:
    """Wait for what never comes, as behind a database that has stopped answering."""
    await asyncio.Event().wait()
    return await work(data)


class Totals:
    """What the handlers of a router share."""

    def __init__(self) -> None:
        self.requests = 0


async def lifespan() -> AsyncIterator[Totals]:
    """Make the state."""
    yield Totals()


async def counting(call: Call[Totals], data: Any, call_next: CallNext) -> Any:
    """Use the state around a handler."""
    call.state.requests += 1
    return await call_next(call, data)


def make_router(vendor_id: str, *, hangs: bool) -> Router:
    """One vendor with its one message."""
    router = Router(vendor_id)
    if os.environ.get("BENCH_SURROUNDED") == "1":
        router.lifespan(lifespan)
        router.middleware(counting)
    router.on("MeterSample")(hang if hangs else meter_sample)
    return router


def make_routers() -> list[Router]:
    """The routers that the environment asks for."""
    vendors = vendor_ids(int(os.environ.get("BENCH_VENDORS", "1")))
    first_hangs = os.environ.get("BENCH_HANG") == "1"
    return [make_router(vendor, hangs=first_hangs and vendor == vendors[0]) for vendor in vendors]


routers = make_routers()
