"""Private queues bound by keys, as the seam promises them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import pytest_asyncio

from bridge.testing.conformance.sides import NAMES, PATIENCE, Log, Side
from bridge.transport import (
    Confirm,
    Properties,
    Publishing,
    State,
    Subscription,
    TopologyError,
    Transport,
    Verdict,
)

Bound = Callable[..., AbstractAsyncContextManager[tuple[Transport, Log, Log]]]


def at(key: str, body: bytes = b"") -> Publishing:
    return Publishing(key, body, Properties(), NAMES.stations, mandatory=True)


async def confirmed(transport: Transport, publishing: Publishing) -> Confirm:
    future: asyncio.Future[Confirm] = asyncio.get_running_loop().create_future()
    transport.publish(publishing, future.set_result)
    async with asyncio.timeout(PATIENCE):
        return await future


class Done:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = asyncio.Event()

    def __call__(self) -> None:
        self.count += 1
        self._changed.set()

    async def times(self, count: int = 1) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.count < count:
                self._changed.clear()
                await self._changed.wait()


async def bind(transport: Transport, *keys: str) -> None:
    done = Done()
    for key in keys:
        transport.bind(key, done)
    await done.times(len(keys))


async def unbind(transport: Transport, *keys: str) -> None:
    done = Done()
    for key in keys:
        transport.unbind(key, done)
    await done.times(len(keys))


class BindingSuite:
    """What gateways need: private queues that are bound by the keys of stations."""

    pytestmark = pytest.mark.asyncio

    @pytest.fixture
    def bound(self, side: Side) -> Bound:
        """A transport with a reply queue and queues bound by keys, and the logs of either."""

        @asynccontextmanager
        async def start(
            prefetch: int = 10, queues: int = 1
        ) -> AsyncIterator[tuple[Transport, Log, Log]]:
            requests, replies = Log(), Log()
            transport = side.transport()
            subscriptions = [
                Subscription("", 0, replies.on_delivery, no_ack=True),
                Subscription(
                    "", prefetch, requests.on_delivery, exchange=NAMES.stations, queues=queues
                ),
            ]
            try:
                await transport.start(subscriptions, requests.on_state)
                yield transport, requests, replies
            finally:
                await transport.close()

        return start

    @pytest_asyncio.fixture(autouse=True)
    async def topology(self, side: Side) -> None:
        await side.declare()

    @pytest.mark.parametrize("queues", [1, 3])
    async def test_what_is_published_with_a_key_comes_while_it_is_bound(
        self, bound: Bound, queues: int
    ) -> None:
        keys = [f"CP{number}" for number in range(20)]
        async with bound(queues=queues) as (transport, requests, _):
            assert await confirmed(transport, at("CP1")) is Confirm.RETURNED
            await bind(transport, *keys)
            for key in keys:
                assert await confirmed(transport, at(key, key.encode())) is Confirm.CONFIRMED
            for number in range(20):
                (await requests.delivery(number)).settle(Verdict.ACK)
            assert sorted(requests.bodies) == sorted(key.encode() for key in keys)
            assert {delivery.routing_key for delivery in requests.deliveries} == set(keys)
            assert {delivery.exchange for delivery in requests.deliveries} == {NAMES.stations}
            await unbind(transport, *keys[:10])
            fates = [await confirmed(transport, at(key)) for key in keys]
            assert fates == [Confirm.RETURNED] * 10 + [Confirm.CONFIRMED] * 10

    async def test_a_key_is_bound_once_however_often_it_is_asked_for(self, bound: Bound) -> None:
        async with bound() as (transport, requests, _):
            await bind(transport, "CP1", "CP1")
            await bind(transport, "CP1")
            await confirmed(transport, at("CP1", b"one"))
            await confirmed(transport, at("CP1", b"two"))
            await requests.delivery(1)
            assert requests.bodies == [b"one", b"two"]
            await unbind(transport, "CP1")
            assert await confirmed(transport, at("CP1")) is Confirm.RETURNED
            await unbind(transport, "CP1", "never bound")

    async def test_the_last_word_on_a_key_counts(self, bound: Bound) -> None:
        async with bound(queues=2) as (transport, _, _):
            done = Done()
            for number in range(50):
                for key in (f"on {number}", f"off {number}"):
                    transport.bind(key, done)
                    transport.unbind(key, done)
                transport.bind(f"on {number}", done)
            await done.times(250)
            assert done.count == 250
            for number in range(50):
                assert await confirmed(transport, at(f"on {number}")) is Confirm.CONFIRMED
                assert await confirmed(transport, at(f"off {number}")) is Confirm.RETURNED

    async def test_one_key_of_two_transports_leads_to_both(self, bound: Bound) -> None:
        """A station that came to another gateway before its first one noticed."""
        async with bound() as (one, log_of_one, _), bound() as (other, log_of_other, _):
            await bind(one, "CP1")
            await bind(other, "CP1")
            await confirmed(one, at("CP1", b"both"))
            assert (
                (await log_of_one.delivery(0)).body
                == (await log_of_other.delivery(0)).body
                == b"both"
            )
            await unbind(one, "CP1")
            await confirmed(one, at("CP1", b"the other"))
            assert (await log_of_other.delivery(1)).body == b"the other"
            assert len(log_of_one.deliveries) == 1

    async def test_no_more_than_the_prefetch_of_a_queue_is_unsettled(self, bound: Bound) -> None:
        async with bound(prefetch=2) as (transport, requests, replies):
            await bind(transport, "CP1")
            for number in range(4):
                await confirmed(transport, at("CP1", b"%d" % number))
            await requests.delivery(1)
            await confirmed(
                transport,
                Publishing(transport.reply_queue or "", b"reply", Properties(), mandatory=True),
            )
            await replies.delivery(0)  # anything else would have come before it
            assert requests.bodies == [b"0", b"1"]
            requests.deliveries[0].settle(Verdict.ACK)
            assert (await requests.delivery(2)).body == b"2"

    async def test_a_lost_connection_is_made_good_before_the_transport_consumes_again(
        self, side: Side, bound: Bound
    ) -> None:
        keys = [f"CP{number}" for number in range(1_000)]
        async with bound(queues=4) as (transport, requests, _):
            await bind(transport, *keys)
            await unbind(transport, *keys[:100])
            first = transport.reply_queue
            side.cut(transport)
            await requests.state(State.CONSUMING, times=2)
            assert transport.reply_queue != first
            fates = await asyncio.gather(*(confirmed(transport, at(key)) for key in keys))
            assert fates == [Confirm.RETURNED] * 100 + [Confirm.CONFIRMED] * 900

    async def test_what_is_asked_for_without_a_connection_is_done_with_the_next(
        self, side: Side, bound: Bound
    ) -> None:
        async with bound() as (transport, requests, _):
            await bind(transport, "stays", "goes")
            side.cut(transport)
            await requests.state(State.CONNECTING, times=2)
            bound_, unbound = Done(), Done()
            transport.bind("comes", bound_)
            transport.bind("comes and goes", bound_)
            transport.unbind("goes", unbound)
            transport.unbind("comes and goes", unbound)
            # Nothing is bound without a connection. Who goes may be told at once, or later.
            assert (bound_.count <= 1, unbound.count) == (True, 2)
            await requests.state(State.CONSUMING, times=2)
            await bound_.times(2)
            assert await confirmed(transport, at("stays")) is Confirm.CONFIRMED
            assert await confirmed(transport, at("comes")) is Confirm.CONFIRMED
            assert await confirmed(transport, at("goes")) is Confirm.RETURNED
            assert await confirmed(transport, at("comes and goes")) is Confirm.RETURNED
            assert (bound_.count, unbound.count) == (2, 2)

    async def test_what_was_on_its_way_when_the_connection_was_lost_is_reported_once(
        self, side: Side, bound: Bound
    ) -> None:
        async with bound() as (transport, requests, _):
            bound_, unbound = Done(), Done()
            for number in range(700):
                transport.bind(f"CP{number}", bound_)
                transport.bind(f"gone {number}", bound_)
                transport.unbind(f"gone {number}", unbound)
            side.cut(transport)
            await requests.state(State.CONSUMING, times=2)
            await bound_.times(1_400)
            await unbound.times(700)
            fates = await asyncio.gather(
                *(confirmed(transport, at(f"CP{number}")) for number in range(700))
            )
            assert fates == [Confirm.CONFIRMED] * 700
            fates = await asyncio.gather(
                *(confirmed(transport, at(f"gone {number}")) for number in range(700))
            )
            assert fates == [Confirm.RETURNED] * 700
            assert (bound_.count, unbound.count) == (1_400, 700)

    async def test_draining_returns_what_is_published_to_keys_and_lets_replies_come(
        self,
        bound: Bound,
    ) -> None:
        async with bound() as (transport, requests, replies), bound() as (other, _, _):
            await bind(transport, "CP1")
            await confirmed(other, at("CP1", b"in hand"))
            in_hand = await requests.delivery(0)
            draining = asyncio.create_task(transport.drain(PATIENCE))
            await requests.state(State.DRAINING)
            async with asyncio.timeout(PATIENCE):
                while await confirmed(other, at("CP1", b"too late")) is not Confirm.RETURNED:
                    pass
            reply = Publishing(transport.reply_queue or "", b"reply", Properties(), mandatory=True)
            assert await confirmed(other, reply) is Confirm.CONFIRMED
            assert (await replies.delivery(0)).body == b"reply"
            assert not draining.done()
            for delivery in requests.deliveries:
                delivery.settle(Verdict.ACK)
            assert in_hand.body == b"in hand"
            assert await draining == 0
            done = Done()
            transport.bind("CP2", done)
            transport.unbind("CP1", done)
            assert done.count == 2
            assert await confirmed(other, at("CP2")) is Confirm.RETURNED

    async def test_who_still_waits_at_the_end_is_told(self, side: Side, bound: Bound) -> None:
        done = Done()
        async with bound() as (transport, requests, _):
            side.cut(transport)
            await requests.state(State.CONNECTING, times=2)
            transport.bind("CP1", done)
        assert done.count == 1

    async def test_an_exchange_that_is_missing_is_named_at_the_start(self, side: Side) -> None:
        transport = side.transport()
        with pytest.raises(TopologyError, match="exchange 'missing' cannot be bound to"):
            await transport.start(
                [Subscription("", 10, lambda _: None, exchange="missing")], lambda *_: None
            )
        await transport.close()

    async def test_a_key_that_amqp_cannot_carry_is_refused_at_once(self, bound: Bound) -> None:
        async with bound() as (transport, _, _):
            for change in (transport.bind, transport.unbind):
                with pytest.raises(ValueError, match="256 bytes, and AMQP allows 255"):
                    change("é" * 128, lambda: None)
            await bind(transport, "é" * 127)
            assert await confirmed(transport, at("é" * 127)) is Confirm.CONFIRMED
