"""What is delivered, and how it is settled."""

import time

import pytest

from bridge.testing.conformance.sides import NAMES, PATIENCE, Side
from bridge.testing.conformance.transporting import (
    OTHER,
    QUEUE,
    REPLIES,
    VENDOR,
    Started,
    TransportBase,
    to,
)
from bridge.transport import (
    Properties,
    Publishing,
    State,
    Verdict,
)


def to_dead(body: bytes) -> Publishing:
    return Publishing("k", body, Properties(delivery_mode=2), NAMES.dead, mandatory=True)


class Deliveries(TransportBase):
    """Deliveries, verdicts, replies and copies."""

    # ---- deliveries ----

    async def test_messages_arrive_once_each_in_the_order_of_their_queue(
        self, side: Side, started: Started
    ) -> None:
        bodies = [b"%d" % number for number in range(100)]
        for body in bodies[:50]:
            await side.put(to(QUEUE, body))
        async with started() as (_, log):
            for body in bodies[50:]:
                await side.put(to(QUEUE, body))
            for number in range(100):
                (await log.delivery(number)).settle(Verdict.ACK)
            assert log.bodies == bodies
            assert not any(delivery.redelivered for delivery in log.deliveries)

    async def test_a_delivery_is_the_message_that_was_published(
        self, side: Side, started: Started
    ) -> None:
        properties = Properties(
            content_type="application/json",
            headers={
                "ocpp-station-id": "CP001",
                "ocpp-deadline": 2**40,
                "list": ["a", None, True],
                "own": {"a": 1},
            },
            delivery_mode=2,
            correlation_id="c",
            reply_to="amq.gen-x",
            message_id="m",
            type="DataTransfer",
            app_id="gateway",
        )
        await side.put(Publishing(VENDOR, b'{"vendorId":"v"}', properties, NAMES.requests))
        async with started() as (_, log):
            delivery = await log.delivery(0)
            assert (delivery.exchange, delivery.routing_key) == (NAMES.requests, VENDOR)
            assert (delivery.body, delivery.properties) == (b'{"vendorId":"v"}', properties)
            delivery.settle(Verdict.ACK)

    @pytest.mark.parametrize("size", [0, 1, 200_000, 1024 * 1024])
    async def test_a_body_of_any_size_arrives_and_leaves_whole(
        self, side: Side, started: Started, size: int
    ) -> None:
        body = bytes(number % 251 for number in range(size))
        await side.make_queue(REPLIES)
        await side.put(to(QUEUE, body))
        async with started() as (_, log):
            delivery = await log.delivery(0)
            assert delivery.body == body
            delivery.settle(Verdict.ACK, to(REPLIES, body, mandatory=True))
            assert (await side.take(REPLIES)).body == body

    async def test_no_more_than_the_prefetch_of_one_subscription_is_unsettled(
        self, side: Side, started: Started
    ) -> None:
        """A full subscription does not hold up another one.

        What comes through the other shows that nothing else will come.
        """
        await side.make_queue(OTHER)
        for number in range(6):
            await side.put(to(QUEUE, b"%d" % number))
        async with started(QUEUE, OTHER, prefetch=2) as (_, log):
            second = await log.delivery(1)
            await side.put(to(OTHER, b"other"))
            other = await log.delivery(2)
            assert log.bodies == [b"0", b"1", b"other"]
            second.settle(Verdict.ACK)
            assert (await log.delivery(3)).body == b"2"
            other.settle(Verdict.ACK)
            await side.put(to(OTHER, b"other"))
            await log.delivery(4)
            assert log.bodies == [b"0", b"1", b"other", b"2", b"other"]

    async def test_two_transports_share_a_queue_by_turns_and_each_message_goes_to_one(
        self, side: Side, started: Started
    ) -> None:
        async with started(prefetch=10) as (_, one), started(prefetch=10) as (_, other):
            for number in range(10):
                await side.put(to(QUEUE, b"%d" % number))
            await one.delivery(4)
            await other.delivery(4)
            assert sorted(one.bodies + other.bodies) == [b"%d" % number for number in range(10)]

    # ---- verdicts ----

    async def test_what_is_acknowledged_is_forgotten(self, side: Side, started: Started) -> None:
        await side.put(to(QUEUE))
        async with started() as (transport, log):
            (await log.delivery(0)).settle(Verdict.ACK)
            assert await transport.drain(PATIENCE) == 0
        assert await side.left(QUEUE) == 0
        assert await side.left(NAMES.dead) == 0

    async def test_what_is_rejected_goes_to_the_dead_letters_with_its_reason(
        self, side: Side, started: Started
    ) -> None:
        properties = Properties(headers={"own": "1"}, correlation_id="c")
        await side.put(Publishing(VENDOR, b"body", properties, NAMES.requests))
        async with started() as (transport, log):
            (await log.delivery(0)).settle(Verdict.REJECT)
            dead = await side.take(NAMES.dead)
            assert (dead.body, dead.routing_key, dead.properties.correlation_id) == (
                b"body",
                VENDOR,
                "c",
            )
            assert dead.headers["own"] == "1"
            assert dead.headers["x-first-death-reason"] == "rejected"
            assert dead.headers["x-first-death-queue"] == QUEUE
            assert dead.headers["x-first-death-exchange"] == NAMES.requests
            (death,) = dead.headers["x-death"]
            assert abs(death.pop("time").timestamp() - time.time()) < PATIENCE
            assert death == {
                "count": 1,
                "reason": "rejected",
                "queue": QUEUE,
                "exchange": NAMES.requests,
                "routing-keys": [VENDOR],
            }
            assert await transport.drain(PATIENCE) == 0
        assert await side.left(QUEUE) == 0

    async def test_what_is_requeued_comes_again_and_says_so(
        self, side: Side, started: Started
    ) -> None:
        await side.put(to(QUEUE, b"again"))
        async with started() as (_, log):
            (await log.delivery(0)).settle(Verdict.REQUEUE)
            again = await log.delivery(1)
            assert (again.body, again.redelivered) == (b"again", True)
            again.settle(Verdict.ACK)

    async def test_what_comes_back_beyond_the_delivery_limit_goes_to_the_dead_letters(
        self, side: Side, started: Started
    ) -> None:
        await side.declare("poison", delivery_limit=2)
        queue = NAMES.vendor_queue("poison")
        await side.put(to(queue, b"poison"))
        async with started(queue) as (transport, log):
            for number in range(3):
                await log.delivery(number)
                side.cut(transport)  # what is given back instead, RabbitMQ 4.3 does not count
                await log.state(State.CONSUMING, times=number + 2)
            dead = await side.take(NAMES.dead)
            assert (dead.body, dead.headers["x-first-death-reason"]) == (
                b"poison",
                "delivery_limit",
            )
            assert [death["reason"] for death in dead.headers["x-death"]] == ["delivery_limit"]
            assert len(log.deliveries) == 3

    @pytest.mark.parametrize("reply", [None, to(REPLIES)])
    async def test_settling_twice_is_an_error(
        self, side: Side, started: Started, reply: Publishing | None
    ) -> None:
        await side.make_queue(REPLIES)
        await side.put(to(QUEUE))
        async with started() as (transport, log):
            delivery = await log.delivery(0)
            delivery.settle(Verdict.ACK, reply)
            with pytest.raises(RuntimeError, match="a delivery is settled once"):
                delivery.settle(Verdict.ACK)
            assert await transport.drain(PATIENCE) == 0

    # ---- replies ----

    @pytest.mark.parametrize("verdict", [Verdict.ACK, Verdict.REJECT])
    async def test_the_reply_is_sent_and_then_the_verdict_given(
        self, side: Side, started: Started, verdict: Verdict
    ) -> None:
        await side.make_queue(REPLIES)
        await side.put(to(QUEUE))
        async with started() as (transport, log):
            (await log.delivery(0)).settle(verdict, to(REPLIES, b"reply", mandatory=True))
            assert (await side.take(REPLIES)).body == b"reply"
            assert await transport.drain(PATIENCE) == 0
        if verdict is Verdict.REJECT:
            await side.take(NAMES.dead)
        assert await side.left(QUEUE) == 0
        assert await side.left(NAMES.dead) == 0

    @pytest.mark.parametrize("verdict", [Verdict.ACK, Verdict.REJECT])
    async def test_a_request_whose_reply_is_refused_comes_back(
        self, side: Side, started: Started, verdict: Verdict
    ) -> None:
        """A request is never acknowledged before its reply is safe."""
        await side.make_queue(REPLIES, full=True)
        await side.put(to(QUEUE, b"request"))
        async with started() as (transport, log):
            (await log.delivery(0)).settle(verdict, to(REPLIES, b"refused"))
            again = await log.delivery(1)
            assert (again.body, again.redelivered) == (b"request", True)
            await side.make_room(REPLIES)
            again.settle(Verdict.ACK, to(REPLIES, b"taken"))
            assert (await side.take(REPLIES)).body == b"taken"
            assert await transport.drain(PATIENCE) == 0
        assert await side.left(NAMES.dead) == 0

    @pytest.mark.parametrize("mandatory", [True, False])
    async def test_a_reply_queue_that_is_gone_is_no_reason_to_handle_a_request_again(
        self, side: Side, started: Started, mandatory: bool
    ) -> None:
        await side.put(to(QUEUE))
        async with started() as (transport, log):
            (await log.delivery(0)).settle(Verdict.ACK, to("amq.gen-gone", mandatory=mandatory))
            assert await transport.drain(PATIENCE) == 0
            assert len(log.deliveries) == 1
        assert await side.left(QUEUE) == 0
        assert await side.left(NAMES.dead) == 0

    @pytest.mark.parametrize("reply", [to(REPLIES, b"reply", mandatory=True), None])
    async def test_the_copy_and_the_reply_are_sent_and_then_the_verdict_given(
        self, side: Side, started: Started, reply: Publishing | None
    ) -> None:
        await side.make_queue(REPLIES)
        await side.put(to(QUEUE))
        async with started() as (transport, log):
            delivery = await log.delivery(0)
            delivery.settle(Verdict.ACK, reply, to_dead(b"copy"))
            with pytest.raises(RuntimeError, match="a delivery is settled once"):
                delivery.settle(Verdict.ACK)
            assert (await side.take(NAMES.dead)).body == b"copy"
            if reply is not None:
                assert (await side.take(REPLIES)).body == b"reply"
            assert await transport.drain(PATIENCE) == 0
        assert await side.left(QUEUE) == 0
        assert await side.left(NAMES.dead) == 0
        assert await side.left(REPLIES) == 0

    @pytest.mark.parametrize("fate", ["refused", "returned"])
    async def test_a_request_whose_copy_does_not_arrive_gets_no_reply_and_comes_back(
        self, side: Side, started: Started, fate: str
    ) -> None:
        """The request itself must arrive somewhere; until then it is kept where it is."""
        await side.make_queue(REPLIES)
        if fate == "refused":
            await side.make_queue(OTHER, full=True)
        await side.put(to(QUEUE, b"request"))
        async with started() as (transport, log):
            (await log.delivery(0)).settle(
                Verdict.ACK, to(REPLIES, b"too early"), to(OTHER, b"copy", mandatory=True)
            )
            again = await log.delivery(1)
            assert (again.body, again.redelivered) == (b"request", True)
            again.settle(Verdict.ACK, to(REPLIES, b"reply"), to_dead(b"copy"))
            assert (await side.take(REPLIES)).body == b"reply"
            assert await transport.drain(PATIENCE) == 0
        assert await side.left(REPLIES) == 0

    async def test_a_void_delivery_sends_no_copy(self, side: Side, started: Started) -> None:
        await side.put(to(QUEUE))
        async with started() as (transport, log):
            void = await log.delivery(0)
            side.cut(transport)
            await log.state(State.CONSUMING, times=2)
            (await log.delivery(1)).settle(Verdict.ACK)
            void.settle(Verdict.ACK, None, to_dead(b"copy of a void delivery"))
            assert await transport.drain(PATIENCE) == 0
        assert await side.left(NAMES.dead) == 0
