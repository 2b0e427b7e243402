"""Events of a worker on a real RabbitMQ: told to whoever listens, and never at a request's cost."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
import aio_pika.abc
import pytest

from bridge import Call, CallError, Client, Retry, Router
from bridge.dialects.native import Native
from bridge.dialects.topology import Exchange, Mode, Purpose, worker_topology
from bridge.telemetry.events import EventMode
from bridge.testing.rabbitmq import PrivateBroker
from bridge.transport import State
from bridge.worker.worker import Settings, Worker
from tests.integration.support import (
    NAMES,
    PATIENCE,
    WatchedTransport,
    WorkerProcess,
    add_user,
    ready,
    request,
)

router = Router("v")
EXCHANGE = "datatransfer.events"


@router.on("m")
async def answer(call: Call, data: Any = None) -> Any:
    return data


@router.on("break")
async def break_(call: Call) -> None:
    raise ValueError("secret")


@router.on("later")
async def later(call: Call) -> str:
    if call.attempt == 1:
        raise Retry(0.1, "secret")
    return "at last"


gate = asyncio.Event()


@router.on("hold")
async def hold(call: Call) -> str:
    await gate.wait()
    return "held"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


class Listener:
    """A queue of its own at the exchange, and what came there."""

    def __init__(self, queue: aio_pika.abc.AbstractQueue) -> None:
        self._queue = queue
        self.messages: list[aio_pika.abc.AbstractIncomingMessage] = []

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            while (message := await self._queue.get(fail=False, no_ack=True)) is None:
                await asyncio.sleep(0.01)
        self.messages.append(message)
        return json.loads(message.body)  # type: ignore[no-any-return]

    async def until(self, **fields: Any) -> dict[str, Any]:
        """The next event with these fields."""
        while True:
            event = await self.next()
            if fields.items() <= event.items():
                return event

    @property
    def keys(self) -> list[str | None]:
        return [message.routing_key for message in self.messages]


@asynccontextmanager
async def listening(url: str, *keys: str) -> AsyncIterator[Listener]:
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        exchange = await channel.declare_exchange(EXCHANGE, "topic", durable=True)
        queue = await channel.declare_queue(exclusive=True)
        for key in keys or ("#",):
            await queue.bind(exchange, key)
        yield Listener(queue)


class Telling:
    """A worker that tells, and its transport."""

    def __init__(self, worker: Worker, transport: WatchedTransport) -> None:
        self.worker = worker
        self.transport = transport

    @property
    def dropped(self) -> int:
        return self.worker.counts.events_dropped


@asynccontextmanager
async def telling(
    url: str,
    events: EventMode = EventMode.ALL,
    *,
    bodies: bool = False,
    mode: Mode = Mode.DECLARE,
) -> AsyncIterator[Telling]:
    topology = worker_topology(Native(NAMES), ["v"], mode, events=True)
    transport = WatchedTransport(url, topology=topology)
    settings = Settings(events=events, event_bodies=bodies, drain_timeout=5.0)
    worker = Worker([router], transport, settings=settings)
    task = asyncio.create_task(worker.run())
    await transport.until(State.CONSUMING)
    try:
        yield Telling(worker, transport)
    finally:
        worker.stop()
        await task


# ---- what is told ----


async def test_each_request_is_told_with_its_outcome(amqp_url: str) -> None:
    async with (
        listening(amqp_url) as listener,
        telling(amqp_url) as it,
        Client(amqp_url) as client,
    ):
        await client.data_transfer("CP1", request(data=1))
        with pytest.raises(CallError):
            await client.data_transfer("CP2", request(message_id="break"))
        assert (await client.data_transfer("CP3", request(message_id="later"))).data == "at last"
        await client.data_transfer("CP4", request("nobody", "m"))
        await client.data_transfer("CP5", request(message_id="unknown"))
        events = [await listener.next() for _ in range(6)]
        assert it.dropped == 0
    assert [(event["station"], event["outcome"]) for event in events] == [
        ("CP1", "accepted"),
        ("CP2", "failed"),
        ("CP3", "retried"),
        ("CP3", "accepted"),
        ("CP4", "unknown_vendor"),
        ("CP5", "unknown_message"),
    ]
    assert listener.keys == [
        "v.accepted",
        "v.failed",
        "v.retried",
        "v.accepted",
        "other.unknown_vendor",
        "v.unknown_message",
    ]
    assert events[3]["attempt"] == 2
    assert events[1]["error"] == "ValueError"
    message = listener.messages[0]
    assert (message.type, message.content_type) == ("DataTransferEvent", "application/json")
    assert message.delivery_mode == 1
    assert message.correlation_id == events[0]["ocpp_message_id"]
    everything = b"".join(message.body for message in listener.messages)
    assert b"secret" not in everything
    assert b'"request"' not in everything


async def test_failures_alone_are_told_if_that_is_asked_for(amqp_url: str) -> None:
    async with (
        listening(amqp_url) as listener,
        telling(amqp_url, EventMode.FAILURES),
        Client(amqp_url) as client,
    ):
        await client.data_transfer("CP1", request(data=1))
        with pytest.raises(CallError):
            await client.data_transfer("CP2", request(message_id="break"))
        assert (await listener.next())["outcome"] == "failed"


async def test_bodies_are_told_if_that_is_asked_for(amqp_url: str) -> None:
    async with (
        listening(amqp_url) as listener,
        telling(amqp_url, bodies=True),
        Client(amqp_url) as client,
    ):
        await client.data_transfer("CP1", request(data={"a": ["é"]}))
        await client.data_transfer("CP1", request(data="x" * 100_000))
        small, large = await listener.next(), await listener.next()
    assert json.loads(small["request"])["data"] == {"a": ["é"]}
    assert json.loads(small["answer"]) == {"status": "Accepted", "data": {"a": ["é"]}}
    assert (large["request_size"] > 100_000, "request" in large) == (True, False)


async def test_a_binding_key_chooses_one_vendor_and_its_failures(amqp_url: str) -> None:
    async with (
        listening(amqp_url, "v.failed", "other.*") as listener,
        telling(amqp_url),
        Client(amqp_url) as client,
    ):
        await client.data_transfer("CP1", request())
        with pytest.raises(CallError):
            await client.data_transfer("CP2", request(message_id="break"))
        await client.data_transfer("CP3", request("v.failed", "m"))
        assert [(await listener.next())["station"] for _ in range(2)] == ["CP2", "CP3"]


async def test_a_worker_that_is_not_asked_tells_nothing_and_declares_nothing(
    amqp_url: str,
) -> None:
    with WorkerProcess("tests.integration.echo_vendor:router", amqp_url):
        async with await aio_pika.connect(amqp_url) as connection:
            channel = await connection.channel()
            with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
                await channel.get_exchange(EXCHANGE)


# ---- nobody else pays ----


async def load(client: Client, count: int) -> list[float]:
    """So many requests, 50 at a time. Seconds that each took; all are answered."""
    times: list[float] = []
    places = asyncio.Semaphore(50)

    async def one(number: int) -> None:
        async with places:
            began = time.monotonic()
            assert (await client.data_transfer("CP", request(data=number))).data == number
            times.append(time.monotonic() - began)

    await asyncio.gather(*(one(number) for number in range(count)))
    return times


async def test_an_exchange_that_is_deleted_under_load_costs_no_request(amqp_url: str) -> None:
    async with (
        telling(amqp_url) as it,
        Client(amqp_url) as client,
        await aio_pika.connect(amqp_url) as connection,
    ):
        channel = await (await connection.channel()).get_underlay_channel()
        under_load = asyncio.create_task(load(client, 3_000))
        for _ in range(5):
            await channel.exchange_delete(EXCHANGE)
            await asyncio.sleep(0.05)
        assert len(await under_load) == 3_000
        assert it.transport.sessions == 1
        assert it.transport.history.count(State.CONNECTING) == 1
        assert it.worker.counts.replied == 3_000
        async with listening(amqp_url) as listener:
            async with asyncio.timeout(PATIENCE):
                while True:
                    await client.data_transfer("CP", request(data="again"))
                    before = it.dropped
                    await client.data_transfer("CP", request(data="once more"))
                    if it.dropped == before:
                        break
            assert (await listener.next())["outcome"] == "accepted"


async def test_a_missing_exchange_is_told_once_and_the_worker_works(
    amqp_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with telling(amqp_url):
        pass
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await (await connection.channel()).get_underlay_channel()
        await channel.exchange_delete(EXCHANGE)
        for mode in (Mode.VERIFY, Mode.NONE):
            caplog.clear()
            async with telling(amqp_url, mode=mode) as it, Client(amqp_url) as client:
                for number in range(20):
                    await client.data_transfer("CP", request(data=number))
                    await asyncio.sleep(0.02)
                assert it.dropped == 20
                assert it.transport.sessions == 1
            told = [line for line in caplog.messages if "events are" in line]
            assert len(told) == 1
            assert "events are off" in told[0]
            assert EXCHANGE in told[0]


async def test_a_queue_that_nobody_reads_delays_no_request(amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
        exchange = await channel.declare_exchange(EXCHANGE, "topic", durable=True)
        unread = await channel.declare_queue(
            "unread", exclusive=True, arguments={"x-max-length": 10}
        )
        stuck = await channel.declare_queue("stuck", exclusive=True)
        for queue in (unread, stuck):
            await queue.bind(exchange, "#")
        async with telling(amqp_url, bodies=True) as it, Client(amqp_url) as client:
            assert len(await load(client, 2_000)) == 2_000
            assert it.transport.sessions == 1


async def test_a_worker_without_the_right_to_the_exchange_works(
    breakable_broker: PrivateBroker,
) -> None:
    url = breakable_broker.add_vhost("no-events")
    everything_else = "^(?!datatransfer.events$).*$"
    add_user(breakable_broker, "mute", "mute", "no-events", [everything_else] * 3)
    async with (
        telling(url.replace("guest:guest", "mute:mute")) as it,
        Client(url) as client,
    ):
        await load(client, 100)
        assert it.dropped == 100
        assert it.transport.sessions == 1


async def set_watermark(broker: PrivateBroker, part: str) -> None:
    """The part of the memory from which on the broker blocks publishers."""
    await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", part)


async def test_while_the_broker_blocks_publishing_events_are_dropped_and_come_again(
    breakable_broker: PrivateBroker,
) -> None:
    url = breakable_broker.add_vhost("blocked-events")
    async with telling(url) as it, Client(url, timeout=PATIENCE) as client:
        gate.clear()
        asked = [
            asyncio.create_task(client.data_transfer("CP", request(message_id="hold")))
            for _ in range(50)
        ]
        await until(lambda: it.worker.intakes[0].in_hand == 50)
        await set_watermark(breakable_broker, "0.00001")
        try:
            gate.set()
            await it.transport.until(State.BLOCKED)
        finally:
            await set_watermark(breakable_broker, "0.6")
        await it.transport.until(State.BLOCKED, State.CONSUMING)
        answers = await asyncio.gather(*asked)
        assert [answer.data for answer in answers] == ["held"] * 50
        assert len(await load(client, 500)) == 500
        async with listening(url) as listener:
            async with asyncio.timeout(PATIENCE):
                while True:
                    await client.data_transfer("CP", request(data="again"))
                    before = it.dropped
                    await client.data_transfer("CP", request(data="once more"))
                    if it.dropped == before:
                        break
            assert (await listener.next())["outcome"] == "accepted"
        assert it.transport.sessions == 1


async def test_a_broker_that_closes_the_connection_of_events_ends_nothing_else(
    breakable_broker: PrivateBroker,
) -> None:
    url = breakable_broker.add_vhost("cut-events")
    async with telling(url) as it, Client(url) as client:
        under_load = asyncio.create_task(load(client, 1_000))
        breakable_broker.eval(
            '[(catch rabbit_networking:close_connection(Pid, "closed by the test"))'
            " || Pid <- rabbit_networking:connections(),"
            " [{client_properties, P}] <- [(catch rabbit_networking:connection_info(Pid,"
            " [client_properties]))],"
            ' {<<"connection_name">>, _, N} <- P, binary:match(N, <<" events">>) =/= nomatch]'
        )
        assert len(await under_load) == 1_000
        assert it.transport.sessions == 1
        async with listening(url) as listener, asyncio.timeout(PATIENCE):
            while not listener.messages:
                await client.data_transfer("CP", request(data="again"))
                message = await listener._queue.get(fail=False, no_ack=True)
                if message is not None:
                    listener.messages.append(message)


async def test_events_of_what_is_in_hand_at_the_end_arrive(amqp_url: str) -> None:
    async with listening(amqp_url) as listener, Client(amqp_url) as client:
        async with telling(amqp_url):
            await load(client, 200)
        assert [(await listener.next())["outcome"] for _ in range(200)] == ["accepted"] * 200
    assert (await ready(amqp_url, NAMES.vendor_queue("v"))) == {NAMES.vendor_queue("v"): 0}


def test_the_exchange_is_in_the_plan_of_those_who_need_it() -> None:
    plan = worker_topology(Native(NAMES), ["v"], events=True)
    assert plan.events == Exchange(EXCHANGE, "topic", Purpose.EVENTS)
    assert plan.needed == worker_topology(Native(NAMES), ["v"]).needed
