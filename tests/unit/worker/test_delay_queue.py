"""Requests of a delay queue: held until the pause is over, and no longer, and then sent back."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from bridge.dialects.names import Names
from bridge.transport import Delivery, Properties, Publishing, Verdict
from bridge.worker.delay_queue import DRAIN_PAUSE, DelayQueue

UNTIL_SETTLED = 5.0
"""Seconds after which a test gives up waiting for what should happen at once."""


class Kept(Delivery, eq=False, gc=True):
    """A delivery that keeps what it is settled with, and refuses a second time."""

    verdict: Verdict | None = None
    copy: Publishing | None = None
    settled: asyncio.Event = msgspec.field(default_factory=asyncio.Event)

    def settle(
        self, verdict: Verdict, reply: Publishing | None = None, copy: Publishing | None = None
    ) -> None:
        assert self.verdict is None, "settled twice"
        assert reply is None, "who waits here has no answer"
        self.verdict, self.copy = verdict, copy
        self.settled.set()


def delivery(not_before: Any = None, **headers: Any) -> Kept:
    if not_before is not None:
        headers["dtbridge-not-before"] = not_before
    properties = Properties(
        headers=headers or None, delivery_mode=2, correlation_id="c", reply_to="amq.gen-1"
    )
    return Kept("datatransfer.retry.300000", "acme", False, properties, b'{"vendorId":"Acme"}')


def delay_queue(delay: float = 300.0) -> DelayQueue:
    return DelayQueue(delay, Names())


async def settled(*deliveries: Kept) -> None:
    async with asyncio.timeout(UNTIL_SETTLED):
        for each in deliveries:
            await each.settled.wait()


def in_milliseconds(seconds: float) -> int:
    return round((time.time() + seconds) * 1000)


def test_it_consumes_the_queue_of_its_delay_apart_from_the_others() -> None:
    subscription = DelayQueue(2.5, Names("acme")).subscription
    assert (subscription.queue, subscription.prefetch, subscription.waits) == (
        "acme.retry.2500",
        200,
        True,
    )


async def test_a_request_goes_back_to_its_vendor_when_its_pause_is_over() -> None:
    waiting = delay_queue()
    request = delivery(in_milliseconds(0.1), own=[1])
    waiting.on_delivery(request)
    began = time.time()
    assert (waiting.waiting, request.verdict) == (1, None)
    await settled(request)
    assert time.time() - began > 0.09
    assert (waiting.waiting, request.verdict) == (0, Verdict.ACK)
    assert request.copy == Publishing(
        "acme",
        request.body,
        Properties(headers={"own": [1]}, delivery_mode=2, correlation_id="c", reply_to="amq.gen-1"),
        "datatransfer",
        mandatory=True,
    )


async def test_one_whose_pause_is_over_when_it_comes_goes_at_once() -> None:
    request = delivery(in_milliseconds(-0.001))
    delay_queue().on_delivery(request)
    assert (request.verdict, request.copy is not None) == (Verdict.ACK, True)


FAR = pytest.param(in_milliseconds(3600), id="an hour")


@pytest.mark.parametrize("not_before", [None, "soon", 1.5, [1], FAR])
async def test_none_waits_longer_than_its_queue_says(not_before: Any) -> None:
    """Neither one that was put there by somebody else, nor one by a worker whose clock is fast."""
    waiting = delay_queue(0.1)
    request = delivery(not_before)
    began = time.monotonic()
    waiting.on_delivery(request)
    await settled(request)
    assert 0.09 < time.monotonic() - began < UNTIL_SETTLED
    assert request.verdict is Verdict.ACK


async def test_a_lost_connection_ends_the_waiting_here() -> None:
    waiting = delay_queue()
    void = delivery(in_milliseconds(0.01))
    waiting.on_delivery(void)
    waiting.void()
    assert waiting.waiting == 0
    later = delivery(in_milliseconds(0.02))
    waiting.on_delivery(later)
    await settled(later)
    assert void.verdict is None


@pytest.mark.parametrize("end", [DelayQueue.void, DelayQueue.give_back])
async def test_what_is_held_no_longer_leaves_no_timer_behind(
    end: Callable[[DelayQueue], None],
) -> None:
    waiting = delay_queue()
    for _ in range(3):
        waiting.on_delivery(delivery(in_milliseconds(300)))
    timers = list(waiting._held)
    end(waiting)
    assert len(timers) == 3
    assert all(timer.cancelled() for timer in timers)


async def test_a_worker_that_stops_lets_others_hold_what_waits() -> None:
    waiting = delay_queue()
    request = delivery(in_milliseconds(300))
    waiting.on_delivery(request)
    waiting.give_back()
    assert (request.verdict, request.copy, waiting.waiting) == (Verdict.REQUEUE, None, 0)


async def test_what_still_comes_to_a_worker_that_stops_goes_back_after_a_breath() -> None:
    waiting = delay_queue()
    waiting.give_back()
    late = delivery(in_milliseconds(-1))
    began = time.monotonic()
    waiting.on_delivery(late)
    assert (
        not late.settled.is_set()
    )  # at once would be a busy loop until the consumers are cancelled
    await settled(late)
    assert time.monotonic() - began >= DRAIN_PAUSE - 0.01
    assert (late.verdict, late.copy) == (Verdict.REQUEUE, None)


class Unsendable(Kept, eq=False, gc=True):
    """A delivery no copy of which can be written."""

    def settle(
        self, verdict: Verdict, reply: Publishing | None = None, copy: Publishing | None = None
    ) -> None:
        if copy is not None:
            raise ValueError("a header integer must fit 64 bits")
        super().settle(verdict, reply)


@pytest.mark.parametrize(
    ("x_death", "verdict"),
    [
        (None, Verdict.REJECT),  # the broker sends it the way that a copy would have gone
        ([{"count": 1, "queue": "q", "reason": "expired"}], Verdict.REJECT),
        ([None], Verdict.ACK),  # given back, it would end the dead-lettering of RabbitMQ 3.10
    ],
)
async def test_what_cannot_be_copied_is_settled_all_the_same(
    x_death: Any, verdict: Verdict
) -> None:
    headers = {"dtbridge-not-before": 0, "odd": 2**64 - 1}
    if x_death is not None:
        headers["x-death"] = x_death
    request = Unsendable("datatransfer.retry.100", "acme", False, Properties(headers=headers), b"")
    delay_queue().on_delivery(request)
    assert request.verdict is verdict
