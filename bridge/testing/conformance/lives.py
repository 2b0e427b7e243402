"""What a transport does when its connection ends, and what is private to it."""

import asyncio

import pytest

from bridge.dialects.native import Native
from bridge.dialects.partitions import Partitions
from bridge.dialects.topology import worker_topology
from bridge.testing.conformance.sides import NAMES, PATIENCE, Log, Side
from bridge.testing.conformance.transporting import (
    QUEUE,
    REPLIES,
    VENDOR,
    Started,
    TransportBase,
    confirmed,
    to,
)
from bridge.transport import (
    Binding,
    Confirm,
    Delivery,
    Properties,
    Publishing,
    State,
    Subscription,
    TopologyError,
    Verdict,
)


class Lives(TransportBase):
    """Lost connections, states, private queues and order."""

    # ---- lost connections ----

    async def test_a_lost_connection_makes_deliveries_void_and_they_come_again_in_order(
        self, side: Side, started: Started
    ) -> None:
        await side.make_queue(REPLIES)
        for body in (b"0", b"1", b"2", b"3", b"4"):
            await side.put(to(QUEUE, body))
        async with started(prefetch=4) as (transport, log):
            void = [await log.delivery(number) for number in range(4)]
            side.cut(transport)
            await log.state(State.CONSUMING, times=2)
            for delivery, verdict in zip(void, Verdict, strict=True):
                delivery.settle(
                    verdict, to(REPLIES, b"of a void delivery") if verdict is Verdict.ACK else None
                )
            again = [await log.delivery(number) for number in range(4, 8)]
            assert [(delivery.body, delivery.redelivered) for delivery in again] == [
                (b"0", True),
                (b"1", True),
                (b"2", True),
                (b"3", True),
            ]
            for delivery in again:
                delivery.settle(Verdict.ACK)
            last = await log.delivery(8)
            assert (last.body, last.redelivered) == (b"4", False)
            last.settle(Verdict.ACK)
            assert await transport.drain(PATIENCE) == 0
        assert await side.left(QUEUE) == 0
        assert await side.left(NAMES.dead) == 0
        assert await side.left(REPLIES) == 0

    async def test_an_open_publishing_is_lost_with_its_connection(
        self, side: Side, started: Started
    ) -> None:
        async with started() as (transport, log):
            reports: list[Confirm] = []
            transport.publish(to("nowhere"), reports.append)
            side.cut(transport)
            transport.publish(to("nowhere"), reports.append)
            await log.state(State.CONSUMING, times=2)
            assert reports == [Confirm.LOST, Confirm.LOST]
            assert await confirmed(transport, to("nowhere")) is Confirm.CONFIRMED
            assert reports == [Confirm.LOST, Confirm.LOST]

    async def test_a_publishing_to_an_exchange_that_is_missing_ends_the_connection(
        self, side: Side, started: Started
    ) -> None:
        async with started() as (transport, log):
            # No queue took it, and none would the next time: lost, it would be tried again.
            assert (
                await confirmed(transport, Publishing("k", b"", Properties(), "missing"))
                is Confirm.RETURNED
            )
            await log.state(State.CONSUMING, times=2)
            lost, reason = log.states[2]
            assert lost is State.CONNECTING
            assert "404" in reason
            await side.put(to(QUEUE))
            (await log.delivery(0)).settle(Verdict.ACK)

    # ---- states ----

    async def test_every_change_of_state_is_told_in_order_with_its_reason(
        self, side: Side, started: Started
    ) -> None:
        async with started() as (transport, log):
            while_started = transport.state
            side.cut(transport)
            await log.state(State.CONSUMING, times=2)
            await transport.drain(PATIENCE)
        assert (while_started, transport.state) == (State.CONSUMING, State.STOPPED)
        states = [state for state, _ in log.states]
        assert states[:3] == [State.CONNECTING, State.CONSUMING, State.CONNECTING]
        # Trying to connect again is told as well, or not: it is the same state.
        assert [state for state in states[3:] if state is not State.CONNECTING] == [
            State.CONSUMING,
            State.DRAINING,
            State.STOPPED,
        ]
        assert all(reason for _, reason in log.states)
        assert "cut by the test" in log.states[2][1]

    async def test_a_queue_that_is_missing_is_named_at_the_start(
        self, side: Side, started: Started
    ) -> None:
        with pytest.raises(
            TopologyError, match=r"queue 'datatransfer\.missing' cannot be consumed"
        ):
            async with started("datatransfer.missing"):
                pass

    # ---- reply queues ----

    async def test_a_private_reply_queue_lives_as_long_as_its_connection(self, side: Side) -> None:
        log = Log()
        transport = side.transport()
        names = [transport.reply_queue]
        await transport.start([Subscription("", 0, log.on_delivery, no_ack=True)], log.on_state)
        try:
            name = transport.reply_queue or ""
            assert name.startswith("amq.gen-")
            for number in range(3):
                await side.put(to(name, b"%d" % number))
            assert (await log.delivery(2)).body == b"2"
            assert log.bodies == [b"0", b"1", b"2"]
            with pytest.raises(RuntimeError, match="settled once"):
                log.deliveries[0].settle(Verdict.ACK)

            side.cut(transport)
            await log.state(State.CONSUMING, times=2)
            other = transport.reply_queue or ""
            assert other.startswith("amq.gen-")
            assert other != name
            assert await confirmed(transport, to(name, mandatory=True)) is Confirm.RETURNED
            assert await confirmed(transport, to(other, b"3", mandatory=True)) is Confirm.CONFIRMED
            assert (await log.delivery(3)).body == b"3"
            assert await transport.drain(PATIENCE) == 0
        finally:
            await transport.close()
        names.append(transport.reply_queue)
        assert names == [None, None]

    async def test_what_a_private_queue_is_bound_to_comes_to_it_on_each_connection(
        self, side: Side
    ) -> None:
        log = Log()
        transport = side.transport()
        bindings = [Binding(NAMES.requests, "a"), Binding(NAMES.requests, "b")]
        await transport.start(
            [Subscription("", 0, log.on_delivery, no_ack=True, bindings=bindings)], log.on_state
        )
        try:
            for life in (1, 2):
                await log.state(State.CONSUMING, times=life)
                for key in ("a", "b", VENDOR):
                    await side.put(
                        Publishing(
                            key, b"%d%b" % (life, key.encode()), Properties(), NAMES.requests
                        )
                    )
                await log.delivery(2 * life - 1)
                side.cut(transport)
        finally:
            await transport.close()
        assert log.bodies == [b"1a", b"1b", b"2a", b"2b"]
        assert await side.left(QUEUE) == 2

    async def test_an_exchange_that_a_private_queue_cannot_be_bound_to_is_named_at_the_start(
        self,
        side: Side,
    ) -> None:
        transport = side.transport()
        with pytest.raises(TopologyError, match="exchange 'gone'"):
            await transport.start(
                [Subscription("", 0, lambda _: None, bindings=[Binding("gone")])], lambda *_: None
            )
        await transport.close()

    async def test_a_delivery_handler_may_settle_and_publish_at_once(self, side: Side) -> None:
        """As handlers that never wait do."""
        await side.make_queue(REPLIES)
        transport = side.transport()

        def echo(delivery: Delivery) -> None:
            delivery.settle(Verdict.ACK, to(REPLIES, delivery.body, mandatory=True))

        for number in range(200):
            await side.put(to(QUEUE, b"%d" % number))
        await transport.start([Subscription(QUEUE, 20, echo)], lambda *_: None)
        replies = [(await side.take(REPLIES)).body for _ in range(200)]
        assert replies == [b"%d" % number for number in range(200)]
        assert await transport.drain(PATIENCE) == 0
        await transport.close()
        assert await side.left(QUEUE) == 0

    # ---- in order ----

    async def test_what_is_left_of_a_subscription_in_order_comes_to_the_next_in_its_place(
        self,
        side: Side,
    ) -> None:
        vendor, spread = "ordered", Partitions(1, ordered=True)
        topology = worker_topology(Native(), [vendor], partitions={vendor: spread})
        (queue,) = spread.queues(NAMES.vendor_queue(vendor))
        await side.declare_topology(topology)
        for number in range(8):
            await side.put(to(queue, b"%d" % number))
        logs = Log(), Log()
        stops = False

        def take(delivery: Delivery) -> None:
            if stops:
                delivery.settle(Verdict.LEAVE)
            else:
                logs[0].on_delivery(delivery)

        first, second = side.transport(), side.transport()
        try:
            for transport, log, on_delivery in (
                (first, logs[0], take),
                (second, logs[1], logs[1].on_delivery),
            ):
                subscription = Subscription(queue, 4, on_delivery, in_order=True)
                await transport.start([subscription], log.on_state)
            for number in range(4):
                await logs[0].delivery(number)
            assert logs[1].bodies == []
            stops = True
            for delivery in logs[0].deliveries[1:]:
                delivery.settle(Verdict.LEAVE)
            draining = asyncio.create_task(first.drain(PATIENCE))
            await asyncio.sleep(0.1)
            assert logs[1].bodies == []  # the first of them is still at work
            logs[0].deliveries[0].settle(Verdict.ACK)
            assert await draining == 0
            await first.close()
            for number in range(7):
                (await logs[1].delivery(number)).settle(Verdict.ACK)
            assert logs[1].bodies == [b"%d" % number for number in range(1, 8)]
        finally:
            await first.close()
            await second.close()
