"""More requests than an intake can handle.

Those that it begins with are answered in time, the others at once.
"""

import asyncio
import time
from typing import Any

import msgspec
import pytest

from bridge import Call, Router
from bridge.dialects.headers import DEADLINE, STATION_ID
from bridge.dialects.native import Native
from bridge.request.chain import chain
from bridge.request.outcome import Kind
from bridge.routing.router import Routes
from bridge.telemetry.counts import WorkerCounts
from bridge.transport import Delivery, Properties, Publishing, Verdict
from bridge.worker.dispatch import Dispatcher
from bridge.worker.intake import Intake
from tests.support import UNTIL_SETTLED, payload

SERVICE = 0.02
"""Seconds a handler takes."""
HANDLERS = 4
PATIENCE = 0.2
"""Seconds a requester waits."""


class Timed(Delivery, eq=False, gc=True):
    """A delivery that notes when it was settled, and how."""

    settled_at: float | None = None
    reply: Publishing | None = None
    verdict: Verdict | None = None

    def settle(
        self, verdict: Verdict, reply: Publishing | None = None, copy: Publishing | None = None
    ) -> None:
        assert self.verdict is None, "settled twice"
        self.verdict, self.reply, self.settled_at = verdict, reply, time.time()

    @property
    def answer(self) -> str | None:
        return None if self.reply is None else self.reply.properties.type


def request(deadline: float) -> Timed:
    headers: dict[str, Any] = {STATION_ID: "CP001", DEADLINE: round(deadline * 1000)}
    return Timed(
        "datatransfer",
        "v",
        False,
        Properties(headers=headers, correlation_id="c", reply_to="amq.gen-1"),
        payload(),
    )


def an_intake(router: Router, counts: WorkerCounts) -> Intake:
    intake = Intake(
        "datatransfer.v",
        dialect=Native(),
        counts=counts,
        prefetch=1000,
        concurrency=HANDLERS,
        lacks=lambda _: False,
        worker="w",
    )
    chain(intake, Dispatcher(Routes([router])))
    return intake


def slow_router(seconds: list[float]) -> Router:
    router = Router("v")

    @router.on("m")
    async def slow(call: Call) -> None:
        await asyncio.sleep(seconds[0])

    return router


async def play(intake: Intake, *, factor: float, seconds: float, slowness: int = 1) -> list[Timed]:
    """Send requests at `factor` times what the handlers can do, and wait until all are settled.

    Handlers that take `slowness` times `SERVICE` have requesters who wait so much longer.
    """
    deliveries: list[Timed] = []
    pause = slowness * SERVICE / HANDLERS / factor
    end = time.time() + seconds
    while time.time() < end:
        # The timer of a busy machine is late: catch up, as arrivals would.
        while len(deliveries) * pause < seconds - (end - time.time()):
            delivery = request(time.time() + slowness * PATIENCE)
            deliveries.append(delivery)
            intake.on_delivery(delivery)
        await asyncio.sleep(pause)
    async with asyncio.timeout(UNTIL_SETTLED):
        while any(delivery.verdict is None for delivery in deliveries):
            await asyncio.sleep(SERVICE)
    return deliveries


def in_time(delivery: Timed) -> bool:
    """Answered with a response while its requester waited."""
    assert delivery.settled_at is not None
    assert delivery.properties.headers is not None
    deadline = delivery.properties.headers[DEADLINE] / 1000
    return delivery.answer == Kind.RESPONSE.value and delivery.settled_at <= deadline + 0.001


async def test_at_three_times_the_capacity_what_is_begun_is_answered_in_time() -> None:
    # A busy machine may hold the loop up for longer than these handlers take: slower ones are next.
    for slowness in (1, 5, 25):
        counts = WorkerCounts()
        intake = an_intake(slow_router([slowness * SERVICE]), counts)
        deliveries = await play(
            intake, factor=3.0, seconds=2.0 * min(slowness, 10), slowness=slowness
        )
        begun_in_vain = counts.late + counts.failed - counts.overloaded
        if begun_in_vain <= len(deliveries) * 0.1:
            break
    answered = sum(map(in_time, deliveries))
    # A third is what the handlers can do. If none were refused, almost none would be answered in
    # time once the queue has grown.
    assert answered >= len(deliveries) * 0.15, (
        answered,
        len(deliveries),
        msgspec.to_builtins(counts),
    )
    assert counts.overloaded > 0
    assert begun_in_vain <= len(deliveries) * 0.1


async def test_who_is_not_begun_with_is_told_at_once_and_kept() -> None:
    counts = WorkerCounts()
    intake = an_intake(slow_router([SERVICE]), counts)
    deliveries = await play(intake, factor=3.0, seconds=1.0)
    refused = [delivery for delivery in deliveries if delivery.answer == Kind.CALL_ERROR.value]
    assert counts.overloaded > 0
    assert len(refused) >= counts.overloaded
    assert all(
        delivery.reply is not None and b"GenericError" in delivery.reply.body
        for delivery in refused
    )


async def test_within_the_capacity_nobody_is_refused() -> None:
    counts = WorkerCounts()
    intake = an_intake(slow_router([SERVICE]), counts)
    deliveries = await play(intake, factor=0.3, seconds=1.0)
    assert counts.overloaded == 0
    assert all(map(in_time, deliveries))


async def test_a_bad_spell_keeps_those_that_come_later_out_for_a_while_and_not_for_ever() -> None:
    """Although handlers are as busy as before, so that nothing new is measured."""
    go_on, begun = asyncio.Event(), asyncio.Event()
    seconds = [0.3]
    counts = WorkerCounts()
    router = slow_router(seconds)

    @router.on("hold")
    async def hold(call: Call) -> None:
        await go_on.wait()

    @router.on("last")
    async def last(call: Call) -> None:
        begun.set()

    intake = an_intake(router, counts)
    bad = [request(time.time() + 60) for _ in range(3 * HANDLERS)]
    for delivery in bad:
        intake.on_delivery(delivery)
    async with asyncio.timeout(UNTIL_SETTLED):
        while any(delivery.verdict is None for delivery in bad):
            await asyncio.sleep(SERVICE)
    for _ in range(HANDLERS - 1):
        holding = request(time.time() + 60)
        holding.body = payload(message_id="hold")
        intake.on_delivery(holding)
    refusals = 0
    while not begun.is_set():
        late = request(time.time() + PATIENCE)
        late.body = payload(message_id="last")
        intake.on_delivery(late)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        refusals += not begun.is_set()
        assert refusals < 1_000, "kept out for ever"
    assert counts.overloaded > 0
    go_on.set()


@pytest.mark.parametrize("step", [10.0, -10.0, 3600.0])
async def test_a_clock_that_is_set_keeps_nobody_out(
    monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    """How long handling takes is no time of day: deadlines of after the step are met as before."""
    counts = WorkerCounts()
    begun = asyncio.Semaphore(0)
    go_on = asyncio.Event()
    router = Router("v")

    @router.on("m")
    async def waits(call: Call) -> None:
        begun.release()
        await go_on.wait()

    intake = an_intake(router, counts)

    async def fill() -> list[Timed]:
        """As many requests as there are handlers, so that the last are measured."""
        deliveries = [request(time.time() + 7200.0) for _ in range(HANDLERS)]
        for delivery in deliveries:
            intake.on_delivery(delivery)
        for _ in deliveries:
            await begun.acquire()
        return deliveries

    before = await fill()
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + step)
    go_on.set()
    async with asyncio.timeout(UNTIL_SETTLED):
        while any(delivery.verdict is None for delivery in before):
            await asyncio.sleep(0)
    go_on.clear()
    # Long enough for what these handlers took, and not for an hour.
    near = [request(time.time() + 5.0) for _ in range(2 * HANDLERS)]
    for delivery in near:
        intake.on_delivery(delivery)
    go_on.set()
    async with asyncio.timeout(UNTIL_SETTLED):
        while any(delivery.verdict is None for delivery in near):
            await asyncio.sleep(0)
    assert counts.overloaded == 0
    assert all(delivery.answer == Kind.RESPONSE.value for delivery in near)
