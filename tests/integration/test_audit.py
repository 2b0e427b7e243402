"""Connected but not consuming: a consumer that the broker has forgotten is noticed and replaced."""

import asyncio

import aio_pika
import pytest

from bridge.dialects.names import Names
from bridge.dialects.native import Native
from bridge.dialects.topology import Mode, QueueType, worker_topology
from bridge.rabbitmq import declaring, watch
from bridge.rabbitmq.transport import RabbitTransport
from bridge.rabbitmq.urls import parse_urls
from bridge.transport import Delivery, State, Subscription, Verdict

NAMES = Names("audit")
NATIVE = Native(NAMES)
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

    transport = RabbitTransport(parse_urls([amqp_url]), topology=worker_topology(NATIVE, ["v"]))
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
    transport = RabbitTransport(parse_urls([amqp_url]), topology=worker_topology(NATIVE, ["v"]))
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
        await declaring.ensure(connection, worker_topology(NATIVE, ["v"]))
        await channel.queue_delete(QUEUE)
        await channel.declare_queue(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
        plan = worker_topology(NATIVE, ["v"], Mode.VERIFY)
        warnings = await declaring.check_delivery_limits(connection, plan)
        assert len(warnings) == 1
        assert QUEUE in warnings[0]
        assert "inequivalent arg" in warnings[0]
        nobodys = worker_topology(NATIVE, [], Mode.NONE)
        assert await declaring.check_delivery_limits(connection, nobodys) == []
        plan = worker_topology(NATIVE, ["v"], Mode.NONE, QueueType.CLASSIC)
        (classic,) = await declaring.check_delivery_limits(connection, plan)
        assert "no delivery limit" in classic


async def test_a_worker_that_starts_says_so(
    amqp_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    transport = RabbitTransport(
        parse_urls([amqp_url]),
        topology=worker_topology(NATIVE, ["v"], queue_type=QueueType.CLASSIC),
    )
    await transport.start([], lambda *_: None)
    await transport.close()
    warnings = [record for record in caplog.records if record.name == "bridge.rabbitmq"]
    assert [record.__dict__["bridge"]["event"] for record in warnings] == ["delivery limit"]
