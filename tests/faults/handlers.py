"""The vendor of the fault suite: handlers that behave, and handlers that do not.

Every answer carries the number of its request and a mark of the handler's run that made it. So two
answers to one request show whether the handler ran twice or its stored answer was sent twice.
"""

import asyncio
import gc
import os
import resource
import secrets
import signal
import time
from pathlib import Path
from typing import Any

import msgspec

from bridge import Call, Retry, Router

VENDOR = "faults.load"
POISON_VENDOR = "faults.poison"
OTHER_VENDOR = "faults.other"

BIG = 64 * 1024
"""Bytes of a big answer."""
BLOCK_SECONDS = 0.5
"""How long a bad handler blocks the event loop."""
STALL_SECONDS = 6.0
"""How long a handler waits: within its time-out, beyond the broker's consumer_timeout."""

router = Router(VENDOR)
poison = Router(POISON_VENDOR, prefetch=1)
other = Router(OTHER_VENDOR)
routers = [router, poison, other]

_leaked: set[asyncio.Task[Any]] = set()


class Numbered(msgspec.Struct):
    """What a request of the load carries."""

    number: int


class Ran(msgspec.Struct):
    """What its answer carries."""

    number: int
    run: str = msgspec.field(default_factory=lambda: secrets.token_hex(8))
    padding: str = ""


@router.on("Echo")
async def echo(call: Call, data: Numbered) -> Ran:
    return Ran(data.number)


@router.on("Slow")
async def slow(call: Call, data: Numbered) -> Ran:
    """Takes its time, so that something is in hand when the fault strikes."""
    await asyncio.sleep(0.05 + data.number % 7 * 0.05)
    return Ran(data.number)


@router.on("Flaky")
async def flaky(call: Call, data: Numbered) -> Ran:
    """Goes once through a delay queue."""
    if call.attempt == 1:
        raise Retry(after=0.1)
    return Ran(data.number)


@router.on("Big")
async def big(call: Call, data: Numbered) -> Ran:
    return Ran(data.number, padding="x" * BIG)


@router.on("Raise")
async def raise_error(call: Call, data: Numbered) -> Ran:
    raise RuntimeError("a secret that no station must see")


@router.on("Hang", timeout=1.0)
async def hang(call: Call, data: Numbered) -> Ran:
    await asyncio.Event().wait()
    return Ran(data.number)


@router.on("Stubborn", timeout=1.0)
async def stubborn(call: Call, data: Numbered) -> Ran:
    """Puts off its cancellation."""
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        await asyncio.sleep(0.2)
    return Ran(data.number)


@router.on("Block")
async def block(call: Call, data: Numbered) -> Ran:
    time.sleep(BLOCK_SECONDS)  # noqa: ASYNC251 - blocking the loop is the fault
    return Ran(data.number)


@router.on("Nonsense")
async def nonsense(call: Call, data: Numbered) -> Any:
    return object()


@router.on("Leak")
async def leak(call: Call, data: Numbered) -> Ran:
    task = asyncio.ensure_future(asyncio.Event().wait())
    _leaked.add(task)
    return Ran(data.number)


@router.on("Exit")
async def leave(call: Call, data: Numbered) -> Ran:
    raise SystemExit(f"number {data.number} wants to go home")


@router.on("Stall", timeout=30.0)
async def stall(call: Call, data: Numbered) -> Ran:
    await asyncio.sleep(STALL_SECONDS)
    return Ran(data.number)


class Vitals(msgspec.Struct):
    """A worker's tasks and memory."""

    pid: int
    tasks: int
    resident_kib: int
    peak_kib: int


@router.on("Vitals")
async def vitals(call: Call) -> Vitals:
    """Tasks and memory, after a garbage collection, so that garbage is not taken for a leak."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Vitals(
        os.getpid(), len(asyncio.all_tasks()), pages * resource.getpagesize() // 1024, peak
    )


@poison.on("Die")
async def die(call: Call) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@poison.on("Echo")
async def poison_echo(call: Call, data: Numbered) -> Ran:
    return Ran(data.number)


@other.on("Echo")
async def other_echo(call: Call, data: Numbered) -> Ran:
    return Ran(data.number)
