"""A vendor is paused and resumed while workers, connections and the command itself break."""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator
from typing import Final

from bridge.dialects.partitions import Partitions
from tests.faults.catalogue import fault
from tests.faults.checker import EXPIRED
from tests.faults.commands import BIND, BIND_OK, UNBIND, UNBIND_OK, dtbridge, killed_at
from tests.faults.handlers import OTHER_VENDOR, VENDOR
from tests.faults.load import Load, Message, Sent, request
from tests.faults.processes import StageError
from tests.faults.stage import NAMES, Stage

QUEUE: Final = NAMES.vendor_queue(VENDOR)
HURRY: Final = 1.5
"""Seconds until the deadline of some requests: their time is over before the pause is."""
BITES: Final = 10
"""How many of them there must be, for the fault to prove anything."""
QUIET: Final = 0.7
"""Seconds without an answer, after which no handler that has begun is at work any more."""
LOOKED_WITHIN: Final = 11.0
"""Seconds in which a worker sees by itself that a vendor is not paused any more: ten, and a bit."""


def some_in_a_hurry(load: Load, number: int, reply_to: str) -> Message:
    """One request in four has little time, one in ten is slow."""
    message = "Slow" if number % 10 == 5 else "Echo"
    patience = HURRY if number % 4 == 0 else 120.0
    return request(load, number, reply_to, VENDOR, message, patience, stations=24)


class Pause:
    """A pause that has begun, and what is promised of it."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._began_at = time.monotonic()
        self._ends_at = math.inf
        self._unix = time.time() - self._began_at
        self._others: list[Sent] = []
        stage.checks.append(self._broken)

    @classmethod
    async def begins(cls, stage: Stage, seconds: float = 15.0) -> "Pause":
        """When no worker takes requests, and what had begun has its answer."""
        give_up_at = time.monotonic() + seconds
        while (await stage.count(QUEUE))[1]:
            if time.monotonic() > give_up_at:
                raise StageError(f"the vendor's queue is still consumed after {seconds:g} s")
            await asyncio.sleep(0.05)
        while stage.load.last_answer_at > time.monotonic() - QUIET:
            if time.monotonic() > give_up_at:
                raise StageError(f"requests are still answered after {seconds:g} s")
            await asyncio.sleep(0.05)
        return cls(stage)

    async def holds(self) -> None:
        """Check that the broker says so, and that nobody takes the vendor's requests."""
        if VENDOR not in await dtbridge(self._stage, "paused", VENDOR):
            self._stage.complaints.append("the vendor is not paused any more")
        _, consumers = await self._stage.count(QUEUE)
        if consumers > 0:
            self._stage.complaints.append(f"{consumers} consumers take requests in the pause")

    async def others_go_on(self) -> None:
        """Check that another vendor's requests are answered."""
        self._others = [
            self._stage.load.publish_next(
                lambda load, number, reply_to: request(
                    load, number, reply_to, OTHER_VENDOR, "Echo", 120.0
                )
            )
            for _ in range(20)
        ]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5.0):
                while not all(sent.answers for sent in self._others):
                    await asyncio.sleep(0.02)
                return
        self._stage.complaints.append("another vendor's requests wait, too")

    def ends(self) -> None:
        """From now on, workers may take requests again."""
        self._ends_at = time.monotonic()

    def _broken(self) -> list[str]:
        accepted = self._stage.load.accepted
        found = [line for sent in accepted for line in self._wrong(sent)]
        waited = [sent for sent in accepted if self._expires_in_it(sent)]
        self._stage.notes.append(f"{len(waited)} requests began and expired in the pause")
        if len(waited) < BITES:
            found.append("hardly any request expired in the pause")
        return found

    def _due(self, sent: Sent) -> float:
        assert sent.deadline is not None
        return sent.deadline - self._unix

    def _expires_in_it(self, sent: Sent) -> bool:
        return sent.published_at > self._began_at and self._due(sent) < self._ends_at

    def _wrong(self, sent: Sent) -> list[str]:
        """What is wrong with how a request ended. If it is lost, the checker says so."""
        found = []
        reasons = {letter.reason for letter in sent.dead}
        patient = self._due(sent) - sent.published_at > 2 * HURRY
        if patient and (reasons or not sent.answers):
            found.append(f"request {sent.number} had time, and ended with {reasons}")
        if reasons - EXPIRED:
            found.append(f"request {sent.number} is a dead letter: {reasons}")
        if self._expires_in_it(sent) and not (reasons and not sent.answers):
            found.append(f"request {sent.number} had no time, and is no dead letter")
        in_it = [a for a in sent.answers if self._began_at < a.at < self._ends_at]
        if in_it and sent not in self._others:
            found.append(f"request {sent.number} was answered in the pause")
        return found[:1]


async def _another_worker(stage: Stage, number: int) -> None:
    """A worker dies, all connections of the others are cut, and a new one starts, in a pause."""
    await stage.workers[number].kill()
    stage.sessions_end = True
    stage.proxies[0].reset()
    worker = await stage.start_worker()
    await worker.says('"vendor paused"')


@fault(
    "vendor paused and resumed; workers, connections and both commands break",
    make=some_in_a_hurry,
    rate=60.0,
    may_rerun=True,
    may_expire=True,
    hold=HURRY,
    within=LOOKED_WITHIN,
)
async def paused(stage: Stage) -> AsyncIterator[None]:
    """The first command has paused the vendor when it dies, and the last has resumed it; no worker
    has been told of either.
    """
    await killed_at(stage, BIND_OK, "pause", VENDOR)
    await _another_worker(stage, 0)
    pause = await Pause.begins(stage)
    await pause.others_go_on()
    await _another_worker(stage, 1)
    yield
    await killed_at(stage, UNBIND, "resume", VENDOR)
    await pause.holds()
    pause.ends()
    await killed_at(stage, UNBIND_OK, "resume", VENDOR)
    stage.now()


@fault(
    "vendor in order paused and resumed; workers, connections and both commands break",
    spread=Partitions(2, ordered=True),
    make=some_in_a_hurry,
    rate=60.0,
    may_rerun=True,
    may_expire=True,
    hold=HURRY,
)
async def paused_in_order(stage: Stage) -> AsyncIterator[None]:
    """Workers have requests in hand and unbegun when they die, and these keep their places."""
    await killed_at(stage, BIND, "pause", VENDOR)
    if "None of them is paused" not in await dtbridge(stage, "paused", VENDOR):
        stage.complaints.append("a command that was killed before it paused the vendor has done so")
    await dtbridge(stage, "pause", VENDOR)
    pause = await Pause.begins(stage)
    await _another_worker(stage, 0)
    await _another_worker(stage, 1)
    yield
    await pause.holds()
    pause.ends()
    await killed_at(stage, UNBIND_OK, "resume", VENDOR)
    await dtbridge(stage, "resume", VENDOR)
    stage.now()
