"""Requests of stations without a task or a timer each: their turns, their ends, what is left."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from bridge.client.errors import NoAnswer, NotAccepted
from bridge.dialects import Native
from bridge.dialects.topology import worker_topology
from bridge.gateway import GatewayLink
from bridge.gateway.forwarding import Forwarding
from bridge.gateway.stations import LARGEST
from bridge.ocpp import OcppVersion
from bridge.request.outcome import Kind, Reply
from bridge.testing import MemoryBroker, MemoryTransport, Message
from bridge.transport import Confirm, Properties, Publishing

SOON = 0.02
LATER = 10.0
PAYLOAD = b'{"vendorId":"v"}'
ACCEPTED = Reply(b'{"status":"Accepted"}')


class World:
    """A link, the queue that its stations' requests come to, and what it was told."""

    def __init__(self, transport: Callable[[MemoryBroker], MemoryTransport] | None = None) -> None:
        self.broker = MemoryBroker()
        self.broker.declare(worker_topology(Native(), ["v"]))
        self.inbox = self.broker.declare_queue("datatransfer.v")
        self.link = GatewayLink(transport=(transport or MemoryTransport)(self.broker))
        self.told: list[tuple[str, Reply | Exception]] = []

    def start(self, message_id: str, timeout: float = LATER, **other: Any) -> Forwarding:
        fields: dict[str, Any] = {
            "station_id": "CP1",
            "version": OcppVersion.V1_6,
            "payload": PAYLOAD,
        } | other
        return self.link.start_forward(
            **fields,
            message_id=message_id,
            timeout=timeout,
            on_reply=lambda reply: self.told.append((message_id, reply)),
        )

    async def asked(self, count: int = 1) -> Message:
        """The newest request in the queue, once there are so many."""
        await until(lambda: len(self.inbox.ready) >= count)
        return self.inbox.ready[-1]

    async def until_told(self, count: int) -> None:
        await until(lambda: len(self.told) >= count)

    @property
    def sent(self) -> list[str | None]:
        """The message ids of all that were published."""
        return [message.properties.message_id for message in self.inbox.ready]

    def answer(self, request: Message, reply: Reply = ACCEPTED) -> None:
        asked = request.properties
        properties = Properties(correlation_id=asked.correlation_id, type=reply.kind.value)
        self.broker.publish(Publishing(asked.reply_to or "", reply.body, properties))

    def counted(self) -> dict[str, int]:
        return {kind: count for kind, count in self.link.tallies[0].counts.items() if count}


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LATER):
        while not condition():
            await asyncio.sleep(0.001)


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    async with made.link:
        yield made


async def test_the_answer_is_told_once_whatever_it_is(world: World) -> None:
    world.start("1")
    first = await world.asked()
    world.answer(first)
    world.answer(first)
    await until(lambda: world.link.late)
    refused = Reply(b'{"errorCode":"InternalError"}', Kind.CALL_ERROR)
    world.start("2")
    world.answer(await world.asked(2), refused)
    await until(lambda: len(world.told) == 2)
    assert world.told == [("1", ACCEPTED), ("2", refused)]
    assert world.counted() == {"response": 1, "call_error": 1}


async def test_what_cannot_be_sent_is_told_before_it_returns(world: World) -> None:
    world.start("large", payload=b" " * (LARGEST + 1))
    world.start("x" * 37)
    (_, large), (_, long) = world.told
    assert isinstance(large, Reply)
    assert large.kind is Kind.CALL_ERROR
    assert msgspec.json.decode(large.body)["errorCode"] == "PropertyConstraintViolation"
    assert isinstance(long, ValueError)
    assert (world.link.outstanding, world.counted()) == (0, {})


async def test_a_station_has_one_request_on_its_way_and_others_do_not_mind(world: World) -> None:
    for number in range(3):
        world.start(f"{number}")
    world.start("other", station_id="CP2")
    await world.asked(2)
    await turns()
    assert world.sent == ["0", "other"]
    for number in range(3):
        world.answer(world.inbox.ready[-1 if number else 0])
        await world.until_told(number + 1)
        await turns()
    assert world.sent == ["0", "other", "1", "2"]
    assert [message_id for message_id, _ in world.told] == ["0", "1", "2"]


async def test_a_request_costs_no_task_and_no_timer(world: World) -> None:
    loop: Any = asyncio.get_running_loop()
    world.start("0", station_id="first")
    tasks, timers = len(asyncio.all_tasks()), len(loop._scheduled)
    for number in range(100):
        world.start(f"{number}", station_id=f"CP{number}")
    assert (len(asyncio.all_tasks()), len(loop._scheduled)) == (tasks, timers)
    assert world.link.outstanding == 101


async def test_who_is_abandoned_is_told_nothing_and_gives_up_the_turn(world: World) -> None:
    first = world.start("1")
    request = await world.asked()
    world.start("2")
    first.abandon()
    await world.asked(2)
    world.answer(request)
    await until(lambda: world.link.late)
    world.answer(world.inbox.ready[-1])
    await until(lambda: world.told)
    assert world.told == [("2", ACCEPTED)]
    first.abandon()  # it has ended
    assert world.counted() == {"cancelled": 1, "response": 1}


async def test_the_turn_of_one_that_is_abandoned_is_free_at_once(world: World) -> None:
    world.start("1").abandon()
    world.start("2")
    assert world.link.outstanding == 1
    assert (await world.asked(2)).properties.message_id == "2"


async def test_those_that_are_abandoned_in_one_breath_are_not_sent_any_more(world: World) -> None:
    forwardings = [world.start(f"{number}") for number in range(3)]
    await world.asked()
    for forwarding in forwardings:
        forwarding.abandon()
    await turns()
    assert (world.sent, world.told) == (["0"], [])
    world.start("3")
    await world.asked(2)
    assert world.sent == ["0", "3"]
    assert world.counted() == {"cancelled": 1}  # the others have not been asked


async def test_without_an_answer_or_a_turn_in_time_there_is_none(world: World) -> None:
    world.start("1", SOON)
    world.start("2", SOON)
    await until(lambda: len(world.told) == 2)
    told = dict(world.told)
    assert isinstance(told["1"], NoAnswer)
    assert isinstance(told["2"], NoAnswer)
    assert str(told["1"]) == "no answer within 0.02 s"
    assert world.counted() == {"no_answer": 2}
    assert (world.link.outstanding, len(world.link._up)) == (0, 0)


async def test_one_whose_turn_does_not_come_is_not_sent(world: World) -> None:
    world.start("1")
    await world.asked()
    world.start("2", SOON)
    await until(lambda: world.told)
    ((_, error),) = world.told
    assert isinstance(error, NoAnswer)
    assert str(error).startswith("not sent: an earlier request")
    world.answer(world.inbox.ready[0])
    await until(lambda: len(world.told) == 2)
    assert world.sent == ["1"]


async def test_it_is_published_again_on_the_next_connection(world: World) -> None:
    world.start("1")
    first = await world.asked()
    world.broker.cut()
    second = await world.asked(2)
    assert second.properties.message_id == "1"
    assert second.properties.correlation_id == first.properties.correlation_id
    assert second.properties.reply_to != first.properties.reply_to
    world.answer(second)
    await until(lambda: world.told)
    assert world.told == [("1", ACCEPTED)]


async def test_a_full_queue_is_told_at_last(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.client.requester.REFUSALS", 1)
    world.inbox.full = True
    world.start("1")
    await until(lambda: world.told)
    assert isinstance(world.told[0][1], NotAccepted)
    assert world.counted() == {"not_accepted": 1}


async def test_whoever_waits_when_the_link_ends_is_told_so() -> None:
    world = World()
    async with world.link:
        for number in range(3):
            world.start(f"{number}")
        await world.asked()
    assert [message_id for message_id, _ in world.told] == ["0", "1", "2"]
    assert {str(error) for _, error in world.told} == {
        "no answer came before the connection was closed"
    }


class Refusing(MemoryTransport):
    """Cannot carry anything."""

    def publish(self, publishing: Publishing, on_confirm: Callable[[Confirm], None]) -> None:
        raise ValueError("AMQP cannot carry it")


async def test_what_cannot_be_carried_costs_itself_alone_however_many_wait() -> None:
    """Each that fails gives its turn to the next, which fails at once."""
    world = World(Refusing)
    async with world.link:
        turns = world.link._up.turns
        assert turns.take("CP1", world.start("before", station_id="CP2"))
        for number in range(5_000):
            world.start(f"{number}")
        turns.give("CP1")
        assert len(world.told) == 5_001
        assert all(isinstance(error, ValueError) for _, error in world.told)
        assert len(turns) == 0


async def test_a_station_may_ask_again_when_it_is_told(world: World) -> None:
    told: list[int] = []

    def ask(reply: Reply | Exception | None = None) -> None:
        told.append(len(told))
        if len(told) <= 3:
            world.link.start_forward(
                "CP1", OcppVersion.V1_6, PAYLOAD, message_id="m", timeout=LATER, on_reply=ask
            )

    ask()
    for number in range(1, 4):
        world.answer(await world.asked(number))
        while len(told) == number:
            await asyncio.sleep(0)
    assert len(world.link._up) == 0


@pytest.mark.parametrize("end", ["answered", "abandoned", "too late"])
async def test_nothing_is_left_of_one_that_has_ended(world: World, end: str) -> None:
    await turns()
    gc.collect()
    gc.disable()
    try:
        forwardings = [
            world.start(f"{number}", SOON if end == "too late" else LATER, station_id=f"CP{number}")
            for number in range(200)
        ]
        if end == "answered":
            await world.asked(200)
            while world.inbox.ready:
                world.answer(world.inbox.ready.popleft())
        elif end == "abandoned":
            for forwarding in forwardings:
                forwarding.abandon()
        del forwardings
        await until(lambda: not world.link.outstanding)
        await turns()
        world.inbox.ready.clear()
        world.told.clear()
        assert gc.collect() == 0
    finally:
        gc.enable()


async def test_forward_tells_the_same_as_a_coroutine(world: World) -> None:
    async def forward(timeout: float, payload: bytes = PAYLOAD) -> Reply:
        return await world.link.forward("CP1", "ocpp1.6", payload, message_id="1", timeout=timeout)

    asked = asyncio.create_task(forward(LATER))
    world.answer(await world.asked())
    assert await asked == ACCEPTED
    with pytest.raises(NoAnswer):
        await forward(SOON)
    cancelled = asyncio.create_task(forward(LATER))
    await world.asked(3)
    cancelled.cancel()
    await asyncio.wait((cancelled,))
    assert cancelled.cancelled()
    assert len(world.link._up) == 0
    assert world.counted() == {"response": 1, "no_answer": 1, "cancelled": 1}
