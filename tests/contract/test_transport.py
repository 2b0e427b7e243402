"""The promises of `bridge.transport`, kept by the twin in memory and by RabbitMQ alike."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from bridge.dialects.native import Native
from bridge.dialects.partitions import Partitions
from bridge.dialects.topology import worker_topology
from bridge.transport import (
    Binding,
    Confirm,
    Delivery,
    Properties,
    Publishing,
    State,
    Subscription,
    TopologyError,
    Transport,
    Verdict,
)
from bridge.worker.delay_queue import DelayQueue
from tests.contract.sides import NAMES, PATIENCE, Log, Side

VENDOR = "v"
QUEUE = NAMES.vendor_queue(VENDOR)
OTHER = "datatransfer.other"
REPLIES = "datatransfer.replies.test"

Started = Callable[..., AbstractAsyncContextManager[tuple[Transport, Log]]]


def to(
    queue: str, body: bytes = b"", *, mandatory: bool = False, expiration: str | None = None
) -> Publishing:
    return Publishing(
        queue, body, Properties(delivery_mode=2, expiration=expiration), mandatory=mandatory
    )


@pytest.fixture
def started(side: Side) -> Started:
    """A transport that consumes from the vendor's queue, or from others."""

    @asynccontextmanager
    async def start(*queues: str, prefetch: int = 10) -> AsyncIterator[tuple[Transport, Log]]:
        log = Log()
        transport = side.transport()
        try:
            subscriptions = [
                Subscription(queue, prefetch, log.on_delivery) for queue in queues or (QUEUE,)
            ]
            await transport.start(subscriptions, log.on_state)
            yield transport, log
        finally:
            await transport.close()

    return start


@pytest.fixture(autouse=True)
async def topology(side: Side) -> None:
    await side.declare(VENDOR)


async def confirmed(transport: Transport, publishing: Publishing) -> Confirm:
    future: asyncio.Future[Confirm] = asyncio.get_running_loop().create_future()
    transport.publish(publishing, future.set_result)
    async with asyncio.timeout(PATIENCE):
        return await future


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


# ---- deliveries ----


async def test_messages_arrive_once_each_in_the_order_of_their_queue(
    side: Side, started: Started
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


async def test_a_delivery_is_the_message_that_was_published(side: Side, started: Started) -> None:
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
    side: Side, started: Started, size: int
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
    side: Side, started: Started
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
    side: Side, started: Started
) -> None:
    async with started(prefetch=10) as (_, one), started(prefetch=10) as (_, other):
        for number in range(10):
            await side.put(to(QUEUE, b"%d" % number))
        await one.delivery(4)
        await other.delivery(4)
        assert sorted(one.bodies + other.bodies) == [b"%d" % number for number in range(10)]


# ---- verdicts ----


async def test_what_is_acknowledged_is_forgotten(side: Side, started: Started) -> None:
    await side.put(to(QUEUE))
    async with started() as (transport, log):
        (await log.delivery(0)).settle(Verdict.ACK)
        assert await transport.drain(PATIENCE) == 0
    assert await side.left(QUEUE) == 0
    assert await side.left(NAMES.dead) == 0


async def test_what_is_rejected_goes_to_the_dead_letters_with_its_reason(
    side: Side, started: Started
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
        assert await transport.drain(PATIENCE) == 0
    assert await side.left(QUEUE) == 0


async def test_what_is_requeued_comes_again_and_says_so(side: Side, started: Started) -> None:
    await side.put(to(QUEUE, b"again"))
    async with started() as (_, log):
        (await log.delivery(0)).settle(Verdict.REQUEUE)
        again = await log.delivery(1)
        assert (again.body, again.redelivered) == (b"again", True)
        again.settle(Verdict.ACK)


async def test_what_comes_back_beyond_the_delivery_limit_goes_to_the_dead_letters(
    side: Side, started: Started
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
        assert (dead.body, dead.headers["x-first-death-reason"]) == (b"poison", "delivery_limit")
        assert len(log.deliveries) == 3


@pytest.mark.parametrize("reply", [None, to(REPLIES)])
async def test_settling_twice_is_an_error(
    side: Side, started: Started, reply: Publishing | None
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
    side: Side, started: Started, verdict: Verdict
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
    side: Side, started: Started, verdict: Verdict
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
    side: Side, started: Started, mandatory: bool
) -> None:
    await side.put(to(QUEUE))
    async with started() as (transport, log):
        (await log.delivery(0)).settle(Verdict.ACK, to("amq.gen-gone", mandatory=mandatory))
        assert await transport.drain(PATIENCE) == 0
        assert len(log.deliveries) == 1
    assert await side.left(QUEUE) == 0
    assert await side.left(NAMES.dead) == 0


# ---- copies ----


def to_dead(body: bytes) -> Publishing:
    return Publishing("k", body, Properties(delivery_mode=2), NAMES.dead, mandatory=True)


@pytest.mark.parametrize("reply", [to(REPLIES, b"reply", mandatory=True), None])
async def test_the_copy_and_the_reply_are_sent_and_then_the_verdict_given(
    side: Side, started: Started, reply: Publishing | None
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
    side: Side, started: Started, fate: str
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


async def test_a_void_delivery_sends_no_copy(side: Side, started: Started) -> None:
    await side.put(to(QUEUE))
    async with started() as (transport, log):
        void = await log.delivery(0)
        side.cut(transport)
        await log.state(State.CONSUMING, times=2)
        (await log.delivery(1)).settle(Verdict.ACK)
        void.settle(Verdict.ACK, None, to_dead(b"copy of a void delivery"))
        assert await transport.drain(PATIENCE) == 0
    assert await side.left(NAMES.dead) == 0


# ---- requests that wait for their next try ----


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


async def test_a_copy_to_a_retry_queue_comes_back_after_its_delay(side: Side) -> None:
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


async def test_what_waits_holds_up_no_acknowledgement_of_others(side: Side) -> None:
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


async def test_a_lost_connection_loses_nothing_that_waits(side: Side) -> None:
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


async def test_another_holds_what_a_transport_gives_back_when_it_drains(side: Side) -> None:
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


async def test_a_retry_queue_that_is_not_there_is_no_error(side: Side, started: Started) -> None:
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


# ---- publishings ----


async def test_each_publishing_is_reported_once_with_its_fate(side: Side, started: Started) -> None:
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
        (Publishing("CP001", b"", Properties(), NAMES.stations, mandatory=True), Confirm.RETURNED),
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


async def test_without_a_connection_a_publishing_is_lost_at_once(side: Side) -> None:
    transport = side.transport()
    reports: list[Confirm] = []
    transport.publish(to(REPLIES), reports.append)
    assert reports == [Confirm.LOST]


async def test_a_message_with_an_expiration_that_nobody_takes_goes_to_the_dead_letters(
    side: Side,
) -> None:
    await side.put(to(QUEUE, b"late", expiration="1"))
    dead = await side.take(NAMES.dead)
    assert (dead.body, dead.headers["x-first-death-reason"]) == (b"late", "expired")
    assert dead.properties.expiration is None
    assert await side.left(QUEUE) == 0


async def test_a_message_that_expires_at_once_reaches_a_consumer_that_is_free(
    side: Side, started: Started
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


async def test_what_is_published_just_before_the_end_arrives(side: Side, started: Started) -> None:
    await side.make_queue(REPLIES)
    async with started() as (transport, _):
        for number in range(100):
            transport.publish(to(REPLIES, b"%d" % number), lambda _: None)
    assert [(await side.take(REPLIES)).body for _ in range(100)] == [
        b"%d" % number for number in range(100)
    ]


# ---- draining ----


async def test_draining_waits_until_everything_is_settled(side: Side, started: Started) -> None:
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
    side: Side, started: Started
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
    side: Side, started: Started
) -> None:
    await side.put(to(QUEUE, b"unsettled"))
    async with started() as (_, log):
        void = await log.delivery(0)
    void.settle(Verdict.ACK)
    async with started() as (_, log):
        again = await log.delivery(0)
        assert (again.body, again.redelivered) == (b"unsettled", True)
        again.settle(Verdict.ACK)


# ---- lost connections ----


async def test_a_lost_connection_makes_deliveries_void_and_they_come_again_in_order(
    side: Side, started: Started
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


async def test_an_open_publishing_is_lost_with_its_connection(side: Side, started: Started) -> None:
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
    side: Side, started: Started
) -> None:
    async with started() as (transport, log):
        # No queue took it, and none would the next time: that it is lost would invite another try.
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
    side: Side, started: Started
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


async def test_a_queue_that_is_missing_is_named_at_the_start(side: Side, started: Started) -> None:
    with pytest.raises(TopologyError, match=r"queue 'datatransfer\.missing' cannot be consumed"):
        async with started("datatransfer.missing"):
            pass


# ---- reply queues ----


async def test_a_private_reply_queue_lives_as_long_as_its_connection(side: Side) -> None:
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


async def test_what_a_private_queue_is_bound_to_comes_to_it_on_each_connection(side: Side) -> None:
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
                    Publishing(key, b"%d%b" % (life, key.encode()), Properties(), NAMES.requests)
                )
            await log.delivery(2 * life - 1)
            side.cut(transport)
    finally:
        await transport.close()
    assert log.bodies == [b"1a", b"1b", b"2a", b"2b"]
    assert await side.left(QUEUE) == 2


async def test_an_exchange_that_a_private_queue_cannot_be_bound_to_is_named_at_the_start(
    side: Side,
) -> None:
    transport = side.transport()
    with pytest.raises(TopologyError, match="exchange 'gone'"):
        await transport.start(
            [Subscription("", 0, lambda _: None, bindings=[Binding("gone")])], lambda *_: None
        )
    await transport.close()


async def test_a_delivery_handler_may_settle_and_publish_at_once(side: Side) -> None:
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
