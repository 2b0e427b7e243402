"""Handlers that hold up the end of a process, or mean to end it."""

import asyncio
import contextlib
import threading
import time

import structlog

from bridge import Call, Router

log = structlog.get_logger()
router = Router("stubborn", timeout=120.0)
LONG = 60.0
"""Seconds, longer than any test waits."""


@router.on("thread")
def holds_its_thread(call: Call) -> None:
    log.info("the handler hangs")
    time.sleep(LONG)


@router.on("default executor")
async def holds_another_thread(call: Call) -> None:
    log.info("the handler hangs")
    await asyncio.to_thread(time.sleep, LONG)


@router.on("own thread")
async def starts_a_thread(call: Call) -> None:
    threading.Thread(target=time.sleep, args=(LONG,), name="the vendor's own").start()
    log.info("the handler hangs")
    await asyncio.Event().wait()


@router.on("task")
async def swallows_its_cancellation(call: Call) -> None:
    log.info("the handler hangs")
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(LONG)


@router.on("loop")
async def blocks_the_loop(call: Call) -> None:
    log.info("the handler hangs")
    time.sleep(LONG)  # noqa: ASYNC251 - that is what it is for


@router.on("patient")
async def can_be_cancelled(call: Call) -> None:
    log.info("the handler hangs")
    await asyncio.Event().wait()


@router.on("interrupt at once")
async def interrupts_at_once(call: Call) -> None:
    raise KeyboardInterrupt


@router.on("interrupt later")
async def interrupts_later(call: Call) -> None:
    await asyncio.sleep(0.01)
    raise KeyboardInterrupt


@router.on("interrupt in a thread")
def interrupts_in_a_thread(call: Call) -> None:
    raise KeyboardInterrupt


@router.on("exit at once")
async def exits_at_once(call: Call) -> None:
    raise SystemExit(3)


@router.on("exit later")
async def exits_later(call: Call) -> None:
    await asyncio.sleep(0.01)
    raise SystemExit(3)


@router.on("exit in a thread")
def exits_in_a_thread(call: Call) -> None:
    raise SystemExit(3)


@router.default
async def accept(call: Call) -> str:
    return "here"
