"""When a client connects, and what whoever asks before, meanwhile and afterwards is told."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest

from bridge import (
    BrokerUnreachable,
    Call,
    Client,
    DataTransferRequest,
    DataTransferResponse,
    NoAnswer,
    Router,
    Worker,
)
from bridge.client.metrics import ClientCollector
from bridge.dialects.native import Native
from bridge.dialects.topology import worker_topology
from bridge.telemetry.handled import HANDLED
from bridge.testing import MemoryBroker, MemoryTransport
from bridge.transport import State, StateListener, Subscription

ASK = DataTransferRequest("v", "echo", 1)
HANG = DataTransferRequest("v", "hang")
SOON = 0.02


class Door(MemoryTransport):
    """Connects when it may, or fails."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self.open = asyncio.Event()
        self.knocked = asyncio.Event()
        self.failures: list[Exception] = []
        self.starts = 0
        self.handled: object = None

    async def start(self, subscriptions: Sequence[Subscription], on_state: StateListener) -> None:
        self.starts += 1
        self.knocked.set()
        self.handled = HANDLED.get()
        await self.open.wait()
        if self.failures:
            raise self.failures.pop()
        await super().start(subscriptions, on_state)


@pytest.fixture
async def broker() -> AsyncIterator[MemoryBroker]:
    router = Router("v")

    @router.on("echo")
    async def echo(call: Call, data: int) -> int:
        return data

    @router.on("hang")
    async def hang(call: Call) -> None:
        await asyncio.Event().wait()

    made = MemoryBroker()
    made.declare(worker_topology(Native(), ["v"]))
    worker = Worker([router], MemoryTransport(made))
    running = asyncio.create_task(worker.run())
    yield made
    worker.stop()
    await running


@pytest.fixture
def door(broker: MemoryBroker) -> Door:
    return Door(broker)


def asked(
    client: Client, request: DataTransferRequest = ASK, **options: Any
) -> "asyncio.Task[Any]":
    return asyncio.create_task(client.data_transfer("CP1", request, **options))


async def test_the_first_requests_connect_and_all_of_them_share_one_connection(door: Door) -> None:
    async with Client(transport=door, timeout=10) as client:
        assert door.starts == 0
        assert client.state is State.CONNECTING
        several = [asked(client) for _ in range(5)]
        await door.knocked.wait()
        door.open.set()
        answers = await asyncio.gather(*several)
        assert answers == [DataTransferResponse("Accepted", 1)] * 5
        assert (await client.data_transfer("CP1", ASK)).data == 1
        await client.connect()  # it is, already
        assert door.starts == 1


async def test_a_client_that_is_to_connect_at_once_says_so(door: Door) -> None:
    door.open.set()
    async with Client(transport=door) as client:
        await client.connect()
        assert client.state is State.CONSUMING


async def test_who_asks_after_a_failure_tries_again(door: Door) -> None:
    door.open.set()
    door.failures = [BrokerUnreachable("no broker at amqp://nowhere/: refused")]
    async with Client(transport=door, timeout=10) as client:
        with pytest.raises(BrokerUnreachable, match="no broker at"):
            await client.data_transfer("CP1", ASK)
        assert (await client.data_transfer("CP1", ASK)).data == 1
        assert door.starts == 2


async def test_the_wait_for_the_connection_counts_for_the_time_out(door: Door) -> None:
    async with Client(transport=door, timeout=10) as client:
        with pytest.raises(NoAnswer, match=r"within 0\.02 s: the client is not connected yet"):
            await client.data_transfer("CP1", ASK, timeout=SOON)
        patient = asked(client)
        door.open.set()
        assert (await patient).data == 1
        assert door.starts == 1, "it went on connecting meanwhile"
        samples = {
            sample.labels["outcome"]: sample.value
            for metric in ClientCollector(client).collect()
            for sample in metric.samples
            if sample.name == "dtbridge_client_requests_total"
            and sample.labels["direction"] == "to_csms"
        }
        assert (samples["no_answer"], samples["response"]) == (1, 1)


async def test_whoever_waits_when_the_block_ends_has_no_answer(door: Door) -> None:
    async with Client(transport=door, timeout=10) as client:
        early = asked(client)
        await door.knocked.wait()
    with pytest.raises(NoAnswer, match="closed: it was not connected yet"):
        await early
    assert not early.cancelled()


async def test_whoever_waits_for_an_answer_when_the_block_ends_has_none(
    broker: MemoryBroker,
) -> None:
    async with Client(transport=MemoryTransport(broker), timeout=10) as client:
        waits = asked(client, HANG)
        while not client.outstanding:
            await asyncio.sleep(0)
    with pytest.raises(NoAnswer, match="before the connection was closed"):
        await waits


async def test_outside_its_block_a_client_says_at_once_how_it_is_used(door: Door) -> None:
    client = Client(transport=door)
    for ask in (client.data_transfer, client.send_to_station):
        with pytest.raises(RuntimeError, match="outside its block: write `async with Client"):
            await ask("CP1", ASK)
    with pytest.raises(RuntimeError, match="outside its block"):
        await client.connect()
    async with client:
        with pytest.raises(RuntimeError, match="entered once"):
            await client.__aenter__()
    with pytest.raises(RuntimeError, match="its block has ended"):
        await client.data_transfer("CP1", ASK)
    with pytest.raises(RuntimeError, match="entered once"):
        await client.__aenter__()
    assert door.starts == 0


async def test_what_is_wrong_with_a_request_is_said_without_a_connection(door: Door) -> None:
    async with Client(transport=door) as client:
        with pytest.raises(ValueError, match="a station id"):
            await client.data_transfer("", ASK)
        with pytest.raises(TypeError, match="no answer can be read as complex: msgspec does not"):
            await client.data_transfer("CP1", ASK, answer=complex)
    assert door.starts == 0


async def test_a_connection_is_not_the_requests_that_it_was_opened_for(door: Door) -> None:
    door.open.set()
    async with Client(transport=door, timeout=10) as client:
        token = HANDLED.set(cast("Any", "the request"))
        try:
            await client.data_transfer("CP1", ASK)
        finally:
            HANDLED.reset(token)
    assert door.handled is None


NO_TIME = [0, -1, float("inf"), float("nan"), "5", True, None]


@pytest.mark.parametrize("seconds", NO_TIME)
async def test_a_time_out_is_a_number_of_seconds(door: Door, seconds: Any) -> None:
    for name in ("timeout", "connect_timeout"):
        with pytest.raises(ValueError, match=f"^{name} is a number of seconds above 0, not "):
            Client(transport=door, **{name: seconds})
    if seconds is not None:  # as the client says
        async with Client(transport=door) as client:
            for ask in (client.data_transfer, client.send_to_station):
                with pytest.raises(ValueError, match=r"^timeout is a number of seconds above 0"):
                    await ask("CP1", ASK, timeout=seconds)
