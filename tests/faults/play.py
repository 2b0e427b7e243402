"""One fault, from start to verdict."""

import asyncio
import shutil
from collections import Counter

from bridge.testing.rabbitmq import BrokerUnavailable, PrivateBroker
from tests.faults import extent
from tests.faults.catalogue import Fault
from tests.faults.checker import LISTED, Checker, Result, fates
from tests.faults.processes import StageError
from tests.faults.stage import Stage
from tests.postgres_server import PostgresServer
from tests.redis_server import RedisServer


async def play(
    fault: Fault,
    nodes: list[PrivateBroker],
    urls: list[str],
    seed: int,
    *,
    redis: RedisServer | None,
    postgres: PostgresServer | None,
) -> Result:
    """Set the stage, break something, mend it, measure the recovery, and check the proof."""
    stage = Stage(
        nodes,
        urls,
        make=fault.make,
        rate=fault.rate,
        seed=seed,
        workers=fault.workers,
        options=fault.options if redis is None else (*fault.options, "--idempotency", redis.url),
        heartbeat=fault.heartbeat,
        user=fault.user,
        reply_arguments=fault.reply_arguments,
        window=fault.window,
        redis=redis,
        spread=fault.spread,
        postgres=postgres,
    )
    recovery: float | None = None
    trouble: list[str] = []
    unsettled = 0
    left: dict[str, int] = {}
    contents: list[str] = []
    try:
        async with asyncio.timeout(extent.longest()), stage:
            stage.load.go()
            await asyncio.sleep(fault.warm_up)
            async with fault.strike(stage):
                await asyncio.sleep(fault.hold)
            recovery = await stage.recovered()
            await asyncio.sleep(fault.cool_down)
            await stage.load.idle(fault.patience)
            unsettled = await stage.at_rest()
            trouble = await stage.stop_workers()
            left = await stage.left()
            contents = await stage.contents()
            broken = stage.broken()
            trouble += broken[:LISTED]
            if len(broken) > LISTED:
                trouble.append(f"and {len(broken) - LISTED} more of that kind")
    except (StageError, BrokerUnavailable, TimeoutError) as error:
        trouble.append(f"{type(error).__name__}: {error}")
    checker = Checker(
        fault.name,
        stage.load,
        stage.witness,
        may_rerun=fault.may_rerun,
        may_expire=fault.may_expire,
        may_move=fault.may_move,
        may_wear_out=fault.may_wear_out,
    )
    result = checker.check(left)
    result.recovery = recovery
    result.violations += trouble + stage.complaints
    if unsettled:
        result.violations.append(f"{unsettled} deliveries unsettled at rest")
    within = fault.within * extent.SLACK
    if recovery is not None and recovery > within:
        result.violations.append(f"recovery took {recovery:.1f} s, and {within:g} s are allowed")
    reasons = Counter(letter.reason for sent in stage.load.sent.values() for letter in sent.dead)
    result.notes = [
        *stage.notes,
        *(f"{count} dead letters: {reason}" for reason, count in reasons.items()),
    ]
    if times := stage.said("idempotency store failed"):
        result.notes.append(f"the store failed {times} times")
    result.notes += [f"{count} {fate}" for fate, count in fates(stage.load).items()]
    if result.holds:
        shutil.rmtree(stage.folder)
    else:
        result.notes += [
            f"{count}x {trouble}" for trouble, count in stage.load.troubles.most_common(3)
        ]
        result.notes += [stage.trace(sent) for sent in stage.load.unended[:LISTED]]
        result.notes += contents
        result.notes.append(f"logs: {stage.folder}")
    return result
