"""Connected but not consuming: a consumer that the broker has forgotten is noticed and replaced."""

import asyncio

import aio_pika
import pytest
import structlog

from bridge.dialects.names import Names
from bridge.dialects.topology import Mode, QueueType, Topology
from bridge.rabbitmq import watch
from bridge.rabbitmq.transport import RabbitTransport
from bridge.rabbitmq.urls import parse_urls
from bridge.transport import Delivery, State, Subscription, Verdict

NAMES = Names("audit")
QUEUE = NAMES.vendor_queue("v")


async def test_a_forgotten_consumer_is_replaced(
    amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "AUDIT", 0.1)
    taken: asyncio.Queue[bytes] = asyncio.Queue()
    reasons: list[tuple[State, str]] = []

    def on_delivery(delivery: Delivery) -> None:
        taken.put_nowait(delivery.body)
        delivery.settle(Verdict.ACK)

    transport = RabbitTransport(parse_urls([amqp_url]), topology=Topology(NAMES, ["v"]))
    await transport.start(
        [Subscription(QUEUE, 10, on_delivery)],
        lambda state, reason: reasons.append((state, reason)),
    )
    try:
        session = transport._session
        assert session is not None
        assert session._watch is not None
        await session.cancel_consumers()  # the broker forgets it; the transport does not know
        session._watch.start_audit()
        assert transport.state is State.CONSUMING
        async with await aio_pika.connect(amqp_url) as connection:
            channel = await connection.channel()
            await channel.default_exchange.publish(aio_pika.Message(b"waits"), QUEUE)
        async with asyncio.timeout(10):
            assert await taken.get() == b"waits"
        assert any(
            state is State.CONNECTING and "not consuming" in reason for state, reason in reasons
        )
    finally:
        await transport.close()


async def test_a_broker_that_says_nothing_of_a_queue_is_left(
    amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "AUDIT", 0.1)
    reasons: list[str] = []
    again = asyncio.Event()

    async def say_nothing(*_: object) -> None:
        monkeypatch.undo()
        raise TimeoutError

    def on_state(state: State, reason: str) -> None:
        reasons.append(reason)
        if state is State.CONSUMING and "says nothing" in " ".join(reasons):
            again.set()

    monkeypatch.setattr(watch.Watch, "look_at", say_nothing)
    transport = RabbitTransport(parse_urls([amqp_url]), topology=Topology(NAMES, ["v"]))
    await transport.start([Subscription(QUEUE, 10, lambda _: None)], on_state)
    try:
        async with asyncio.timeout(10):
            await again.wait()
        assert f"not consuming: the broker says nothing of queue {QUEUE!r}" in reasons
    finally:
        await transport.close()


async def test_queues_without_the_delivery_limit_are_warned_of(amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await Topology(NAMES, ["v"]).ensure(connection)
        await channel.queue_delete(QUEUE)
        await channel.declare_queue(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
        warnings = await Topology(NAMES, ["v"], Mode.VERIFY).check_delivery_limits(connection)
        assert len(warnings) == 1
        assert QUEUE in warnings[0]
        assert "inequivalent arg" in warnings[0]
        assert await Topology(NAMES, [], Mode.NONE).check_delivery_limits(connection) == []
        (classic,) = await Topology(
            NAMES, ["v"], Mode.NONE, QueueType.CLASSIC
        ).check_delivery_limits(connection)
        assert "no delivery limit" in classic


async def test_a_worker_that_starts_says_so(amqp_url: str) -> None:
    transport = RabbitTransport(
        parse_urls([amqp_url]), topology=Topology(NAMES, ["v"], queue_type=QueueType.CLASSIC)
    )
    with structlog.testing.capture_logs() as lines:
        await transport.start([], lambda *_: None)
        await transport.close()
    assert [line["event"] for line in lines if line["log_level"] == "warning"] == ["delivery limit"]
