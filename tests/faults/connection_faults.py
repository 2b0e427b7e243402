"""The network between worker and broker is what breaks."""

import asyncio
from collections.abc import AsyncIterator

from tests.faults import extent
from tests.faults.catalogue import fault
from tests.faults.load import Mix
from tests.faults.processes import StageError
from tests.faults.proxy import ACK, DELIVER, PUBLISH, Cut
from tests.faults.stage import Stage


async def _reset_four_times(stage: Stage) -> AsyncIterator[None]:
    for _ in range(3):
        stage.proxies[0].reset()
        await asyncio.sleep(0.7)
    stage.proxies[0].reset()
    stage.now()
    yield


@fault("connections reset, again and again", workers=1)
async def reset(stage: Stage) -> AsyncIterator[None]:
    """One worker: it remembers what it answered, so no handler may run twice."""
    async for _ in _reset_four_times(stage):
        yield


@fault("connections reset, replies kept in Redis", redis=True)
async def reset_with_redis(stage: Stage) -> AsyncIterator[None]:
    """Two workers, and still no handler may run twice."""
    async for _ in _reset_four_times(stage):
        yield


@fault("half-open connections (black hole)", heartbeat=2, hold=3.0, within=10.0)
async def black_hole(stage: Stage) -> AsyncIterator[None]:
    stage.proxies[0].swallow()
    stage.now()
    yield


@fault("garbage in place of frames")
async def garbage(stage: Stage) -> AsyncIterator[None]:
    connections = stage.proxies[0].accepted
    stage.proxies[0].inject(stage.random.randbytes(1000))
    stage.now()
    yield
    if stage.proxies[0].accepted < connections + 4:
        stage.complaints.append("not every worker has left its connections")


@fault("broker reads slowly (0.5 MB/s of 6)", make=Mix({"Echo": 70, "Big": 30}), hold=4.0)
async def slow_reader(stage: Stage) -> AsyncIterator[None]:
    stage.proxies[0].slow_down(500_000)
    yield
    stage.notes.append(f"{len(stage.load.unended)} requests waited in the end")
    if len(stage.load.unended) < 100:
        stage.complaints.append("nothing was slowed down")
    stage.proxies[0].slow_down(0)


SPANS = {
    "Basic.Deliver, header and body": (DELIVER, False, 400),
    "Basic.Publish, header and body": (PUBLISH, True, 340),
    "Basic.Ack, a confirm": (ACK, False, 21),
    "Basic.Ack, of a delivery": (ACK, True, 21),
}
"""Method, direction, bytes."""


@fault("connection cut at every byte of a frame", workers=1, rate=100.0)
async def cut(stage: Stage) -> AsyncIterator[None]:
    """Each request is settled before the next cut: one cut too often would count as poison."""
    proxy = stage.proxies[0]
    cuts = 0
    for method, to_broker, span in SPANS.values():
        for after in range(
            0, span, extent.CUT_STEP if span > extent.CUT_STEP * 4 else min(extent.CUT_STEP, 4)
        ):
            proxy.cut_next(Cut(method, to_broker, after))
            try:
                async with asyncio.timeout(10):
                    await proxy.has_cut.wait()
            except TimeoutError:
                raise StageError(f"no frame to cut after {after} bytes of {method}") from None
            cuts += 1
            stage.now()
            await stage.recovered()
            await stage.load.idle()
            if stage.load.unended or await stage.at_rest():
                raise StageError(f"requests are in hand long after cut {cuts}")
            stage.load.go()
    stage.notes.append(f"{cuts} cuts")
    yield
