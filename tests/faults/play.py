"""One fault from start to verdict."""

import asyncio
import time

from bridge.private_broker import PrivateBroker
from tests.faults.catalogue import Fault
from tests.faults.checker import Checker, Result, fates
from tests.faults.stage import Stage, StageError

BACK_SECONDS = 40.0
"""After which we stop waiting for a recovery; far beyond what is allowed, so that the table can say how long it took."""


async def play(fault: Fault, nodes: list[PrivateBroker], urls: list[str], seed: int) -> Result:
    """Set the stage, break, mend, measure, and prove."""
    stage = Stage(
        nodes,
        urls,
        make=fault.make,
        rate=fault.rate,
        seed=seed,
        workers=fault.workers,
        options=fault.options,
        heartbeat=fault.heartbeat,
        user=fault.user,
        reply_arguments=fault.reply_arguments,
    )
    async with stage:
        recovery: float | None = None
        trouble: list[str] = []
        stage.load.go()
        await asyncio.sleep(fault.warm_up)
        async with fault.strike(stage):
            await asyncio.sleep(fault.hold)
        try:
            recovery = await _recovery(stage)
        except StageError as error:
            trouble.append(str(error))
        await asyncio.sleep(fault.cool_down)
        await stage.load.finish(fault.patience)
        unsettled = await stage.at_rest()
        trouble += await stage.stop_workers()
        left = await stage.left()
        checker = Checker(
            fault.name, stage.load, stage.witness, may_rerun=fault.may_rerun, may_expire=fault.may_expire
        )
        result = checker.check(left)
        result.recovery = recovery
        result.violations += trouble
        if unsettled:
            result.violations.append(f"{unsettled} deliveries unsettled at rest")
        if recovery is not None and recovery > fault.within:
            result.violations.append(f"recovery took {recovery:.1f} s, and {fault.within:g} s are allowed")
        result.notes = [*stage.notes, *(f"{count} {fate}" for fate, count in fates(stage.load).items())]
        if result.violations:
            result.notes.append(f"logs: {stage.folder}")
    return result


async def _recovery(stage: Stage) -> float:
    """Seconds until every consumer is back and a request published after the fault has its answer."""
    if stage.clock_started is None:
        stage.now()
    assert stage.clock_started is not None
    started = stage.clock_started
    consuming_at = await stage.consuming(BACK_SECONDS)
    try:
        async with asyncio.timeout(BACK_SECONDS):
            answered_at = await stage.load.answer_after(started)
    except TimeoutError:
        raise StageError(f"no answer to a new request in {time.monotonic() - started:.0f} s") from None
    return max(consuming_at, answered_at) - started
