"""What is promised of the subscriptions of a paused vendor."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import pytest_asyncio

from bridge.dialects.native import Native
from bridge.dialects.topology import worker_topology
from bridge.testing.conformance.sides import NAMES, PATIENCE, Log, Side
from bridge.transport import Properties, Publishing, State, Subscription, Transport, Verdict

VENDORS = ("v", "w")

QUEUE, OTHER = map(NAMES.vendor_queue, VENDORS)


class Consuming:
    """A transport that consumes the queues of both vendors, and what it tells."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.v, self.w = Log(), Log()
        self.told: list[tuple[str, bool]] = []
        self._news = asyncio.Event()

    def on_pause(self, key: str, paused: bool) -> None:
        self.told.append((key, paused))
        self._news.set()

    async def until_told(self, *told: tuple[str, bool]) -> None:
        """Wait until it was told just that."""
        async with asyncio.timeout(PATIENCE):
            while self.told != list(told):
                self._news.clear()
                await self._news.wait()

    async def until_told_last(self, key: str, paused: bool) -> None:
        async with asyncio.timeout(PATIENCE):
            while [told for told in self.told if told[0] == key][-1:] != [(key, paused)]:
                self._news.clear()
                await self._news.wait()


Started = Callable[..., AbstractAsyncContextManager[Consuming]]


async def put(side: Side, queue: str, body: bytes) -> None:
    await side.put(Publishing(queue, body, Properties(delivery_mode=2)))


class PausingSuite:
    """What ``dtbridge pause`` needs: subscriptions that rest while the broker says so."""

    pytestmark = pytest.mark.asyncio

    @pytest.fixture
    def started(self, side: Side) -> Started:
        @asynccontextmanager
        async def start(keys: Sequence[str] = VENDORS) -> AsyncIterator[Consuming]:
            transport = side.transport(worker_topology(Native(NAMES), VENDORS))
            consuming = Consuming(transport)
            transport.watch_pauses(keys, consuming.on_pause)
            subscriptions = [
                Subscription(QUEUE, 10, consuming.v.on_delivery, pause_key="v"),
                Subscription(OTHER, 10, consuming.w.on_delivery, pause_key="w"),
            ]
            try:
                await transport.start(subscriptions, consuming.v.on_state)
                yield consuming
            finally:
                await transport.close()

        return start

    @pytest_asyncio.fixture(autouse=True)
    async def topology(self, side: Side) -> None:
        await side.declare(*VENDORS)

    async def test_what_is_paused_stays_in_its_queue_until_that_ends_and_others_are_untouched(
        self, side: Side, started: Started
    ) -> None:
        async with started() as consuming:
            await side.pause("v")
            await consuming.until_told(("v", True))
            await put(side, QUEUE, b"waits")
            await put(side, OTHER, b"comes")
            (await consuming.w.delivery(0)).settle(Verdict.ACK)
            assert await side.left(QUEUE) == 1
            assert consuming.v.deliveries == []
            await side.pause("v", paused=False)
            delivery = await consuming.v.delivery(0)
            assert (delivery.body, delivery.redelivered) == (b"waits", False)
            delivery.settle(Verdict.ACK)
            assert consuming.told == [("v", True), ("v", False)]

    async def test_what_is_in_hand_when_it_is_paused_can_be_settled(
        self, side: Side, started: Started
    ) -> None:
        async with started() as consuming:
            await put(side, QUEUE, b"done")
            await put(side, QUEUE, b"not begun")
            done, not_begun = await consuming.v.delivery(0), await consuming.v.delivery(1)
            await side.pause("v")
            await consuming.until_told(("v", True))
            done.settle(Verdict.ACK)
            not_begun.settle(Verdict.REQUEUE)
            async with asyncio.timeout(PATIENCE):
                while await side.left(QUEUE) != 1:
                    await asyncio.sleep(0.05)
            await side.pause("v", paused=False)
            again = await consuming.v.delivery(2)
            assert (again.body, again.redelivered) == (b"not begun", True)
            again.settle(Verdict.ACK)

    async def test_who_starts_later_finds_it_paused_and_consumes_nothing(
        self, side: Side, started: Started
    ) -> None:
        await side.pause("v", told=False)
        await put(side, QUEUE, b"waits")
        async with started() as consuming:
            assert consuming.told == [("v", True)]
            await put(side, OTHER, b"comes")
            (await consuming.w.delivery(0)).settle(Verdict.ACK)
            assert await side.left(QUEUE) == 1
            await side.pause("v", paused=False)
            (await consuming.v.delivery(0)).settle(Verdict.ACK)

    async def test_it_is_paused_still_after_a_lost_connection(
        self, side: Side, started: Started
    ) -> None:
        async with started() as consuming:
            await side.pause("v")
            await consuming.until_told(("v", True))
            side.cut(consuming.transport)
            await consuming.v.state(State.CONSUMING, times=2)
            await put(side, QUEUE, b"waits")
            await put(side, OTHER, b"comes")
            (await consuming.w.delivery(0)).settle(Verdict.ACK)
            assert (await side.left(QUEUE), consuming.told) == (1, [("v", True)])

    async def test_what_was_resumed_while_there_was_no_connection_is_consumed(
        self, side: Side, started: Started
    ) -> None:
        async with started() as consuming:
            await side.pause("v")
            await consuming.until_told(("v", True))
            await side.pause("v", paused=False, told=False)
            side.cut(consuming.transport)
            await put(side, QUEUE, b"comes")
            (await consuming.v.delivery(0)).settle(Verdict.ACK)
            assert consuming.told == [("v", True), ("v", False)]

    async def test_paused_and_resumed_again_and_again_it_ends_as_was_said_last(
        self, side: Side, started: Started
    ) -> None:
        async with started() as consuming:
            for _ in range(20):
                await side.pause("v")
                await side.pause("v", paused=False)
            await put(side, QUEUE, b"comes")
            (await consuming.v.delivery(0)).settle(Verdict.ACK)
            for _ in range(20):
                await side.pause("v", paused=False)
                await side.pause("v")
            for paused in (
                True,
                False,
            ):  # what was said of v has been heard before the second of these
                await side.pause("w", paused=paused)
                await consuming.until_told_last("w", paused)
            await consuming.until_told_last("v", True)
            await put(side, QUEUE, b"waits")
            await put(side, OTHER, b"comes")
            (await consuming.w.delivery(0)).settle(Verdict.ACK)
            assert await side.left(QUEUE) == 1

    async def test_nobody_is_told_of_a_key_that_nobody_watches(
        self, side: Side, started: Started
    ) -> None:
        async with started(keys=["w"]) as consuming:
            await side.pause("v")
            await side.pause("w")
            await consuming.until_told(("w", True))
            await put(side, QUEUE, b"comes")
            (await consuming.v.delivery(0)).settle(Verdict.ACK)

    async def test_a_transport_drains_while_a_vendor_is_paused(
        self, side: Side, started: Started
    ) -> None:
        async with started() as consuming:
            await put(side, OTHER, b"in hand")
            delivery = await consuming.w.delivery(0)
            await side.pause("v")
            await consuming.until_told(("v", True))
            draining = asyncio.create_task(consuming.transport.drain(PATIENCE))
            await consuming.v.state(State.DRAINING)
            delivery.settle(Verdict.ACK)
            assert await draining == 0
