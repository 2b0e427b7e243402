"""Connected but not consuming: a consumer that the broker has forgotten is noticed and replaced."""

import asyncio
import os
import socket

import aio_pika
import msgspec
import pytest

from bridge.dialects.names import Names
from bridge.dialects.native import Native
from bridge.dialects.topology import Mode, QueueType, worker_topology
from bridge.rabbitmq import declaring, watch
from bridge.rabbitmq.transport import RabbitTransport
from bridge.rabbitmq.urls import parse_urls
from bridge.request.retry import DELAYS
from bridge.testing.rabbitmq import PrivateBroker
from bridge.transport import (
    Confirm,
    Delivery,
    Properties,
    Publishing,
    State,
    Subscription,
    TopologyError,
    Verdict,
)
from tests.integration.support import WatchedTransport

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
        found = await declaring.otherwise(connection, plan)
        assert found.sentence.startswith(f"queue {QUEUE!r}: PRECONDITION_FAILED - inequivalent arg")
        assert not found.is_stronger
        nobodys = worker_topology(NATIVE, [], Mode.NONE)
        assert (await declaring.otherwise(connection, nobodys)).sentence == ""


async def test_queues_that_are_taken_as_they_are_are_told_of_once_and_by_their_type(
    amqp_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "bridge.rabbitmq")
    classic = worker_topology(NATIVE, ["v", "w"], Mode.VERIFY, QueueType.CLASSIC)
    quorum = worker_topology(NATIVE, ["v", "w"], Mode.VERIFY)

    def told() -> list[tuple[str, str, str]]:
        records, caplog.records[:] = list(caplog.records), []
        shown = [(each.levelname, each.__dict__["bridge"]) for each in records]
        return [
            (level, pairs["event"], pairs.get("reason") or pairs["warning"])
            for level, pairs in shown
        ]

    async with await aio_pika.connect(amqp_url) as connection:
        for plan, other in ((quorum, classic), (classic, quorum)):
            await declaring.ensure(connection, msgspec.structs.replace(plan, mode=Mode.DECLARE))
            await declaring.see_to(connection, plan)
            assert [event for _, event, _ in told()] == ["delivery limit"] * (plan is classic)
            await declaring.see_to(connection, other)
            [(level, event, reason), *more] = told()
            assert event == "queues are taken as they are"
            assert reason.startswith("queues 'audit.unknown-vendor', 'audit.v', 'audit.w' ")
            # That a request may kill its workers is worth a warning, whatever the options say.
            if plan is quorum:
                assert (level, more) == ("INFO", [])
                assert reason.endswith(" are quorum, and the options say classic")
            else:
                assert (level, [each for _, each, _ in more]) == ("WARNING", ["delivery limit"])
            channel = await connection.channel()
            for queue in plan.queues:
                await channel.queue_delete(queue.name)


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


class Looks:
    """Counts how often a queue is looked at, and waits until it has been often enough."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self._news = asyncio.Semaphore(0)
        original = getattr(watch.Watch, name)

        async def look(*arguments: object) -> object:
            found = await original(*arguments)
            self._news.release()
            return found

        monkeypatch.setattr(watch.Watch, name, look)

    async def until(self, count: int) -> None:
        async with asyncio.timeout(30):
            for _ in range(count):
                await self._news.acquire()


async def test_a_standby_of_a_single_active_consumer_is_not_taken_for_a_forgotten_one(
    amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = "single"
    held: asyncio.Queue[Delivery] = asyncio.Queue()
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(
            queue,
            durable=True,
            arguments={"x-queue-type": "quorum", "x-single-active-consumer": True},
        )
        active = RabbitTransport(parse_urls([amqp_url]))
        await active.start([Subscription(queue, 1, held.put_nowait)], lambda *_: None)
        for _ in range(3):
            await channel.default_exchange.publish(aio_pika.Message(b"waits"), queue)
        await held.get()
        monkeypatch.setattr(watch, "AUDIT", 0.05)
        monkeypatch.setattr(watch, "SERVED_WITHIN", 0.2)
        looks = Looks(monkeypatch, "_another_is_served")
        standby = RabbitTransport(parse_urls([amqp_url]))
        await standby.start([Subscription(queue, 1, held.put_nowait)], lambda *_: None)
        try:
            await looks.until(3)
            assert (standby.state, standby.sessions) == (State.CONSUMING, 1)
            await active.close()
            await held.get()  # now it is the active one
        finally:
            await standby.close()


async def test_a_consumer_that_is_given_nothing_while_another_would_be_is_replaced(
    amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others consume the queue as well, so that it has consumers; but they have enough."""
    queue = "shared"
    taken: asyncio.Queue[Delivery] = asyncio.Queue()
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(queue, durable=True, arguments={"x-queue-type": "quorum"})
        busy = RabbitTransport(parse_urls([amqp_url]))
        await busy.start([Subscription(queue, 1, taken.put_nowait)], lambda *_: None)
        for _ in range(2):
            await channel.default_exchange.publish(aio_pika.Message(b"waits"), queue)
        await taken.get()
        forgotten = WatchedTransport(amqp_url)
        await forgotten.start([Subscription(queue, 1, taken.put_nowait)], lambda *_: None)
        try:
            (await taken.get()).settle(Verdict.ACK)
            session = forgotten._session
            assert session is not None
            assert session._watch is not None
            await session.cancel_consumers()
            await channel.default_exchange.publish(aio_pika.Message(b"waits"), queue)
            monkeypatch.setattr(watch, "AUDIT", 0.05)
            session._watch.start_audit()
            async with asyncio.timeout(30):
                await taken.get()
            await forgotten.until(State.CONSUMING, State.CONNECTING, State.CONSUMING)
            assert (busy.sessions, forgotten.sessions) == (1, 2)
        finally:
            await forgotten.close()
            await busy.close()


async def test_a_broker_that_allows_two_channels_is_content_without_an_audit(
    breakable_broker: PrivateBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "AUDIT", 0.05)
    before = breakable_broker.eval("application:get_env(rabbit, channel_max, 2047)").strip()
    breakable_broker.eval("application:set_env(rabbit, channel_max, 2)")
    try:
        url = breakable_broker.add_vhost("two")
        looks = Looks(monkeypatch, "_audit")
        topology = worker_topology(NATIVE, ["v"])
        taken: asyncio.Queue[Delivery] = asyncio.Queue()
        transport = RabbitTransport(parse_urls([url]), topology=topology)
        subscriptions = [
            Subscription(QUEUE, 10, taken.put_nowait),
            Subscription(NAMES.retry(0.1), 10, lambda _: None, waits=True),
        ]
        await transport.start(subscriptions, lambda *_: None)
        try:
            await looks.until(1)
            for size in (1, 100_000):  # the second is tried on a channel of its own
                for _ in range(2):
                    confirmed: asyncio.Queue[Confirm] = asyncio.Queue()
                    publishing = Publishing(QUEUE, bytes(size), Properties())
                    transport.publish(publishing, confirmed.put_nowait)
                    async with asyncio.timeout(30):
                        assert await confirmed.get() is Confirm.CONFIRMED
                        (await taken.get()).settle(Verdict.ACK)
            assert transport.sessions == 1
        finally:
            await transport.close()
    finally:
        breakable_broker.delete_vhost("two")
        breakable_broker.eval(f"application:set_env(rabbit, channel_max, {before})")


async def test_a_queue_that_is_exclusive_elsewhere_is_named_at_once(amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.declare_queue("theirs", exclusive=True)
        transport = RabbitTransport(parse_urls([amqp_url]), start_timeout=30.0)
        async with asyncio.timeout(15):
            with pytest.raises(TopologyError, match=r"queue .theirs. cannot be consumed: .*LOCKED"):
                await transport.start([Subscription("theirs", 1, lambda _: None)], lambda *_: None)
        await transport.close()


async def test_the_names_of_connections_say_which_process_has_them(
    breakable_broker: PrivateBroker,
) -> None:
    url = breakable_broker.add_vhost("named")
    transport = RabbitTransport(parse_urls([url]), name="mine")
    await transport.start([], lambda *_: None)
    try:
        told = breakable_broker.eval(
            "[rabbit_misc:pget(client_properties, "
            "rabbit_networking:connection_info(Pid, [client_properties]))"
            " || Pid <- rabbit_networking:connections()]"
        )
        for purpose in ("publish", "consume"):
            assert f"mine@{socket.gethostname()}:{os.getpid()} {purpose}" in told
    finally:
        await transport.close()
        breakable_broker.delete_vhost("named")


async def test_a_worker_that_has_all_it_may_have_in_hand_is_left_alone(
    amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages wait and none comes, but only because nothing in hand is finished."""
    taken: asyncio.Queue[Delivery] = asyncio.Queue()
    transport = RabbitTransport(parse_urls([amqp_url]), topology=worker_topology(NATIVE, ["v"]))
    monkeypatch.setattr(watch, "AUDIT", 0.05)
    looks = Looks(monkeypatch, "look_at")
    await transport.start([Subscription(QUEUE, 1, taken.put_nowait)], lambda *_: None)
    try:
        async with await aio_pika.connect(amqp_url) as connection:
            channel = await connection.channel()
            for _ in range(3):
                await channel.default_exchange.publish(aio_pika.Message(b"waits"), QUEUE)
        in_hand = await taken.get()
        await looks.until(5)
        assert transport.sessions == 1
        in_hand.settle(Verdict.ACK)
        await taken.get()
    finally:
        await transport.close()


async def test_exchanges_that_are_missing_are_known_where_nothing_is_declared(
    amqp_url: str,
) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        await declaring.ensure(connection, worker_topology(NATIVE, ["v"]))
        channel = await connection.channel()
        await channel.exchange_delete(NAMES.dead)
        await channel.exchange_delete(NAMES.retry(0.5))
    plan = worker_topology(NATIVE, ["v"], Mode.NONE)
    transport = RabbitTransport(parse_urls([amqp_url]), topology=plan)
    assert not transport.lacks(NAMES.dead)  # nothing is known yet
    await transport.start([Subscription(QUEUE, 1, lambda _: None)], lambda *_: None)
    try:
        lacking = {NAMES.dead, NAMES.retry(0.5)}
        known = {NAMES.dead, NAMES.requests, *map(NAMES.retry, DELAYS)}
        assert {name for name in known if transport.lacks(name)} == lacking
    finally:
        await transport.close()
