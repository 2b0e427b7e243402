"""Requests that wait for their next try."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bridge.testing.conformance.sides import NAMES, PATIENCE, Log, Side
from bridge.testing.conformance.transporting import (
    QUEUE,
    VENDOR,
    Started,
    TransportBase,
    to,
    until,
)
from bridge.transport import (
    Properties,
    Publishing,
    State,
    Subscription,
    Transport,
    Verdict,
)
from bridge.worker.delay_queue import DelayQueue

WAITING = Publishing(
    VENDOR, b"again", Properties(delivery_mode=2), NAMES.retry(0.5), mandatory=True
)


@asynccontextmanager
async def with_delay_queue(
    side: Side, log: Log, *, until_cut: bool = False
) -> AsyncIterator[tuple[Transport, DelayQueue]]:
    """A transport that consumes from the vendor's queue and from a delay queue.

    `until_cut`: what waits is held until the connection is lost, however slow the machine is.
    """
    delay_queue = DelayQueue(0.5, NAMES)
    transport = side.transport()

    def on_state(state: State, reason: str) -> None:
        if state is State.CONNECTING:
            delay_queue.void()
            delay_queue._delay = 0.5
        log.on_state(state, reason)

    try:
        await transport.start(
            [Subscription(QUEUE, 10, log.on_delivery), delay_queue.subscription], on_state
        )
        if until_cut:
            delay_queue._delay = 3600.0
        yield transport, delay_queue
    finally:
        await transport.close()


class Delays(TransportBase):
    """What waits in a delay queue."""

    async def test_a_copy_to_a_retry_queue_comes_back_after_its_delay(self, side: Side) -> None:
        await side.put(to(QUEUE, b"first"))
        log = Log()
        async with with_delay_queue(side, log) as (transport, _):
            sent = asyncio.get_running_loop().time()
            assert not transport.lacks(WAITING.exchange)
            (await log.delivery(0)).settle(Verdict.ACK, None, WAITING)
            again = await log.delivery(1)
            assert asyncio.get_running_loop().time() - sent >= 0.499
            assert (again.exchange, again.routing_key, again.body, again.redelivered) == (
                NAMES.requests,
                VENDOR,
                b"again",
                False,
            )
            again.settle(Verdict.ACK)
            assert await transport.drain(PATIENCE) == 0
        assert await side.left(NAMES.retry(0.5)) == 0

    async def test_what_waits_holds_up_no_acknowledgement_of_others(self, side: Side) -> None:
        log = Log()
        async with with_delay_queue(side, log, until_cut=True) as (transport, delay_queue):
            await side.put(WAITING)
            await until(lambda: delay_queue.waiting == 1)
            for number in range(50):
                await side.put(to(QUEUE))
                (await log.delivery(number)).settle(Verdict.ACK)
            assert delay_queue.waiting == 1
            assert await side.left(QUEUE) == 0
            delay_queue.give_back()
            assert await transport.drain(PATIENCE) == 0

    async def test_a_lost_connection_loses_nothing_that_waits(self, side: Side) -> None:
        log = Log()
        async with with_delay_queue(side, log, until_cut=True) as (transport, delay_queue):
            await side.put(WAITING)
            await until(lambda: delay_queue.waiting == 1)
            side.cut(transport)
            await log.state(State.CONSUMING, times=2)
            (await log.delivery(0)).settle(Verdict.ACK)
            assert log.bodies == [b"again"]
            assert await transport.drain(PATIENCE) == 0
        assert await side.left(NAMES.retry(0.5)) == 0

    async def test_another_holds_what_a_transport_gives_back_when_it_drains(
        self, side: Side
    ) -> None:
        log = Log()
        async with with_delay_queue(side, log) as (first, delay_queue):
            await side.put(WAITING)
            await until(lambda: delay_queue.waiting == 1)
            delay_queue.give_back()
            assert await first.drain(PATIENCE) == 0
            async with with_delay_queue(side, log) as (second, _):
                (await log.delivery(0)).settle(Verdict.ACK)
                assert await second.drain(PATIENCE) == 0
        assert await side.left(NAMES.retry(0.5)) == 0

    async def test_a_retry_queue_that_is_not_there_is_no_error(
        self, side: Side, started: Started
    ) -> None:
        await side.put(to(QUEUE, b"all the same"))
        log = Log()
        transport = side.transport()
        missing = Subscription("datatransfer.retry.1", 10, log.on_delivery, waits=True)
        await transport.start([Subscription(QUEUE, 10, log.on_delivery), missing], log.on_state)
        try:
            (await log.delivery(0)).settle(Verdict.ACK)
            assert await transport.drain(PATIENCE) == 0
        finally:
            await transport.close()
