"""What is sent and forgotten, as the seam promises it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import pytest_asyncio

from bridge.dialects.topology import Exchange, Mode, Purpose, Topology
from bridge.testing.conformance.sides import NAMES, PATIENCE, Log, Side
from bridge.transport import (
    Binding,
    Confirm,
    Properties,
    Publishing,
    State,
    Subscription,
    Transport,
    Verdict,
)

VENDOR = "v"

QUEUE = NAMES.vendor_queue(VENDOR)

EVENTS = "datatransfer.events"

INBOX = "inbox"

TOPOLOGY = Topology((Exchange(EVENTS, "topic", Purpose.EVENTS),))

PROPERTIES = Properties(content_type="application/json", delivery_mode=1, type="Event")

Started = Callable[..., AbstractAsyncContextManager[tuple[Transport, Log]]]


def event(body: bytes = b"{}", key: str = "com.acme.failed") -> Publishing:
    return Publishing(key, body, PROPERTIES, EVENTS, correlation_id="4711")


async def bound(side: Side, key: str = "#") -> None:
    await side.make_queue(INBOX)
    await side.bind(INBOX, Binding(EVENTS, key))


async def emitted(transport: Transport, publishing: Publishing) -> None:
    """Emit until it is taken: a connection that is gone is opened again after a pause."""
    async with asyncio.timeout(PATIENCE):
        while not transport.emit(publishing):
            await asyncio.sleep(0.01)


async def answers(side: Side, log: Log, number: int) -> None:
    """A request is delivered and settled as if nothing had happened."""
    await side.put(Publishing(QUEUE, b"request", Properties(delivery_mode=2)))
    (await log.delivery(number)).settle(Verdict.ACK)


class EmittingSuite:
    """What events need: to be sent without delaying anything."""

    pytestmark = pytest.mark.asyncio

    @pytest.fixture
    def started(self, side: Side) -> Started:
        """A transport that consumes from the vendor's queue, and has an exchange for events."""

        @asynccontextmanager
        async def start(
            topology: Topology | None = TOPOLOGY,
        ) -> AsyncIterator[tuple[Transport, Log]]:
            log = Log()
            transport = side.transport(topology)
            try:
                await transport.start([Subscription(QUEUE, 10, log.on_delivery)], log.on_state)
                yield transport, log
            finally:
                await transport.close()

        return start

    @pytest_asyncio.fixture(autouse=True)
    async def topology(self, side: Side) -> None:
        await side.declare(VENDOR)

    async def test_what_is_emitted_comes_to_whoever_has_bound_a_queue(
        self, side: Side, started: Started
    ) -> None:
        async with started() as (transport, _):
            await bound(side, "com.acme.*")
            assert transport.emit(event(b"1"))
            assert transport.emit(event(b"for nobody", "com.acme.eu.failed"))
            assert transport.emit(event(b"2", "com.acme.accepted"))
            first, second = await side.take(INBOX), await side.take(INBOX)
            assert (first.body, first.routing_key, first.exchange) == (
                b"1",
                "com.acme.failed",
                EVENTS,
            )
            assert first.properties == Properties(
                content_type="application/json",
                delivery_mode=1,
                correlation_id="4711",
                type="Event",
            )
            assert second.body == b"2"

    async def test_what_is_emitted_just_before_the_end_arrives(
        self, side: Side, started: Started
    ) -> None:
        async with started() as (transport, _):
            await bound(side)
            for number in range(100):
                assert transport.emit(event(b"%d" % number))
        assert [(await side.take(INBOX)).body for _ in range(100)] == [
            b"%d" % n for n in range(100)
        ]

    async def test_without_a_connection_nothing_is_emitted(self, side: Side) -> None:
        transport = side.transport(TOPOLOGY)
        assert not transport.emit(event())

    async def test_without_an_exchange_for_it_nothing_is_emitted_and_all_else_goes_on(
        self, side: Side, started: Started
    ) -> None:
        async with started(None) as (transport, log):
            assert not transport.emit(event())
            await answers(side, log, 0)
            assert transport.state is State.CONSUMING

    @pytest.mark.parametrize(
        "wrong",
        [
            Publishing("k" * 256, b"", PROPERTIES, EVENTS),
            Publishing("k", b"", PROPERTIES, EVENTS, correlation_id="c" * 256),
            Publishing("k", b"", PROPERTIES, "nowhere"),
        ],
        ids=["key", "correlation id", "exchange"],
    )
    async def test_what_cannot_be_carried_is_dropped_alone(
        self, side: Side, started: Started, wrong: Publishing
    ) -> None:
        async with started() as (transport, log):
            await bound(side)
            assert not transport.emit(wrong)
            assert transport.emit(event(b"after it"))
            assert (await side.take(INBOX)).body == b"after it"
            await answers(side, log, 0)
            assert [state for state, _ in log.states] == [State.CONNECTING, State.CONSUMING]

    async def test_an_exchange_that_is_deleted_costs_nothing_but_what_is_emitted(
        self, side: Side, started: Started
    ) -> None:
        async with started() as (transport, log):
            await side.delete_exchange(EVENTS)
            for number in range(20):
                transport.emit(event())
                await answers(side, log, number)
            future: asyncio.Future[Confirm] = asyncio.get_running_loop().create_future()
            transport.publish(Publishing(QUEUE, b"", Properties()), future.set_result)
            async with asyncio.timeout(PATIENCE):
                assert await future is Confirm.CONFIRMED
            assert [state for state, _ in log.states] == [State.CONNECTING, State.CONSUMING]

    async def test_an_exchange_that_is_there_again_is_used_again(
        self, side: Side, started: Started
    ) -> None:
        async with started() as (transport, _):
            await side.delete_exchange(EVENTS)
            transport.emit(event())
            await side.declare_exchange(TOPOLOGY.exchanges[0])
            await bound(side)
            await emitted(transport, event(b"again"))
            while (await side.take(INBOX)).body != b"again":
                pass  # one of those before it, if it was there in time

    async def test_after_a_lost_connection_it_goes_on(self, side: Side, started: Started) -> None:
        async with started() as (transport, log):
            await bound(side)
            side.cut(transport)
            await log.state(State.CONSUMING, 2)
            await emitted(transport, event(b"again"))
            assert (await side.take(INBOX)).body == b"again"

    async def test_a_private_queue_with_a_bound_keeps_the_newest(
        self, side: Side, started: Started
    ) -> None:
        """Its messages wait while the first one is not settled."""
        log = Log()
        listener = side.transport()
        bindings = [Binding(EVENTS, "#")]
        async with started() as (transport, _):
            subscription = Subscription("", 1, log.on_delivery, bindings=bindings, max_length=3)
            await listener.start([subscription], log.on_state)
            try:
                for number in range(10):
                    assert transport.emit(event(b"%d" % number))
                first = await log.delivery(0)
                await side.declare()  # whatever was sent before has come by then
                await asyncio.sleep(0.2)
                first.settle(Verdict.ACK)
                for number in range(1, 4):
                    (await log.delivery(number)).settle(Verdict.ACK)
                assert log.bodies[-1] == b"9"
                assert len(log.bodies) == 4
            finally:
                await listener.close()

    async def test_nothing_is_emitted_by_mode_none_to_an_exchange_that_is_not_there(
        self, side: Side, started: Started
    ) -> None:
        """A worker whose exchange is missing works without it."""
        plan = Topology(TOPOLOGY.parts, Mode.NONE)
        async with started(plan) as (transport, log):
            assert not transport.emit(event())
            await answers(side, log, 0)
            await side.declare_exchange(TOPOLOGY.exchanges[0])
            await bound(side)
            await emitted(transport, event(b"now"))
            assert (await side.take(INBOX)).body == b"now"
