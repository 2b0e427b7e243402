"""What is published, and how a transport drains."""

import asyncio

from bridge.testing.conformance.sides import NAMES, PATIENCE, Side
from bridge.testing.conformance.transporting import (
    OTHER,
    QUEUE,
    REPLIES,
    Started,
    TransportBase,
    confirmed,
    to,
)
from bridge.transport import (
    Confirm,
    Properties,
    Publishing,
    State,
    Verdict,
)


class Publishings(TransportBase):
    """Publishings and draining."""

    # ---- publishings ----

    async def test_each_publishing_is_reported_once_with_its_fate(
        self, side: Side, started: Started
    ) -> None:
        await side.make_queue(REPLIES)
        await side.make_queue(OTHER, full=True)
        fates = [
            (to(REPLIES), Confirm.CONFIRMED),
            (to(REPLIES, mandatory=True), Confirm.CONFIRMED),
            (to("nowhere"), Confirm.CONFIRMED),
            (to("nowhere", mandatory=True), Confirm.RETURNED),
            (to(OTHER), Confirm.REFUSED),
            (to(OTHER, mandatory=True), Confirm.REFUSED),
            (
                Publishing("nobody", b"", Properties(), NAMES.requests, mandatory=True),
                Confirm.CONFIRMED,
            ),
            (
                Publishing("CP001", b"", Properties(), NAMES.stations, mandatory=True),
                Confirm.RETURNED,
            ),
        ]
        async with started() as (transport, _):
            assert [await confirmed(transport, publishing) for publishing, _ in fates] == [
                fate for _, fate in fates
            ]
            # All at once: the broker may confirm many by one frame, and out of order.
            reports: list[list[Confirm]] = [[] for _ in range(10 * len(fates))]
            for report, (publishing, _) in zip(reports, 10 * fates, strict=True):
                transport.publish(publishing, report.append)
            await confirmed(transport, to(REPLIES))
            async with asyncio.timeout(PATIENCE):
                while not all(reports):
                    await confirmed(transport, to(REPLIES))
            assert reports == [[fate] for _, fate in 10 * fates]
            assert transport.returned == 11 * 2
        assert await side.left(NAMES.unknown_vendor) == 11

    async def test_without_a_connection_a_publishing_is_lost_at_once(self, side: Side) -> None:
        transport = side.transport()
        reports: list[Confirm] = []
        transport.publish(to(REPLIES), reports.append)
        assert reports == [Confirm.LOST]

    async def test_a_message_with_an_expiration_that_nobody_takes_goes_to_the_dead_letters(
        self,
        side: Side,
    ) -> None:
        await side.put(to(QUEUE, b"late", expiration="1"))
        dead = await side.take(NAMES.dead)
        assert (dead.body, dead.headers["x-first-death-reason"]) == (b"late", "expired")
        assert dead.properties.expiration is None
        (death,) = dead.headers["x-death"]
        assert (death["reason"], death["original-expiration"]) == ("expired", "1")
        assert await side.left(QUEUE) == 0

    async def test_a_message_that_expires_at_once_reaches_a_consumer_that_is_free(
        self, side: Side, started: Started
    ) -> None:
        await side.make_queue(REPLIES)
        async with started(REPLIES) as (transport, log):
            assert (
                await confirmed(transport, to(REPLIES, b"now", expiration="0", mandatory=True))
                is Confirm.CONFIRMED
            )
            delivery = await log.delivery(0)
            assert delivery.body == b"now"
            delivery.settle(Verdict.ACK)

    async def test_what_is_published_just_before_the_end_arrives(
        self, side: Side, started: Started
    ) -> None:
        await side.make_queue(REPLIES)
        async with started() as (transport, _):
            for number in range(100):
                transport.publish(to(REPLIES, b"%d" % number), lambda _: None)
        assert [(await side.take(REPLIES)).body for _ in range(100)] == [
            b"%d" % number for number in range(100)
        ]

    # ---- draining ----

    async def test_draining_waits_until_everything_is_settled(
        self, side: Side, started: Started
    ) -> None:
        await side.make_queue(REPLIES)
        await side.put(to(QUEUE, b"1"))
        async with started() as (transport, log):
            first = await log.delivery(0)
            draining = asyncio.create_task(transport.drain(100 * PATIENCE))
            await log.state(State.DRAINING)
            assert transport.state is State.DRAINING
            assert not draining.done()
            first.settle(Verdict.ACK, to(REPLIES, b"reply"))
            async with asyncio.timeout(PATIENCE):  # by its last settlement, not by its time
                assert await draining == 0
            await side.put(to(QUEUE, b"2"))
            assert (await side.take(REPLIES)).body == b"reply"
            assert log.bodies == [b"1"]
        assert await side.left(QUEUE) == 1

    async def test_draining_ends_in_time_and_says_how_many_are_not_settled(
        self, side: Side, started: Started
    ) -> None:
        for body in (b"1", b"2", b"3"):
            await side.put(to(QUEUE, body))
        async with started() as (transport, log):
            (await log.delivery(2)).settle(Verdict.ACK)
            assert await transport.drain(0.05) == 2
        async with started() as (transport, log):
            assert [(await log.delivery(number)).body for number in range(2)] == [b"1", b"2"]
            assert all(delivery.redelivered for delivery in log.deliveries)
            for delivery in log.deliveries:
                delivery.settle(Verdict.ACK)
            assert await transport.drain(PATIENCE) == 0

    async def test_what_is_unsettled_at_the_end_goes_back_to_its_queue(
        self, side: Side, started: Started
    ) -> None:
        await side.put(to(QUEUE, b"unsettled"))
        async with started() as (_, log):
            void = await log.delivery(0)
        void.settle(Verdict.ACK)
        async with started() as (_, log):
            again = await log.delivery(0)
            assert (again.body, again.redelivered) == (b"unsettled", True)
            again.settle(Verdict.ACK)
