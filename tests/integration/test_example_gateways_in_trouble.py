"""What docs/gateways.md asks of a gateway beyond the plain exchange, held against the examples.

The worker here is written by hand, so that it does what a real one does rarely.
"""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from websockets import ConnectionClosed

from bridge import CallError, Client, DataTransferRequest, NoAnswer, StationOffline
from bridge.testing.rabbitmq import PrivateBroker
from tests.integration.example_gateways import TESTED, Gateway, accept, reached, running
from tests.integration.support import PATIENCE, ROOT, WorkerProcess, close_connections

HELLO = DataTransferRequest("com.acme", "Hello")
VENDORS = {
    vector["vendor_id"]: vector["key"]
    for vector in json.loads((ROOT / "tests" / "vectors" / "vendor_key.json").read_text())
}
WHOLE = [name for name in TESTED if name != "python"]
"""Those that are whole programs. That of the page leaves its end, and some answers, to its user;
and its link has the bridge absorb a CALL that comes again.
"""


class ByHand:
    """A worker that answers requests when it is told to."""

    def __init__(self, channel: AbstractChannel) -> None:
        self.channel = channel
        self.requests: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()

    async def bind(self, *keys: str, **arguments: Any) -> aio_pika.abc.AbstractQueue:
        """A queue for requests with these keys; it may be the first to declare the exchange."""
        exchange = await self.channel.declare_exchange(
            "datatransfer",
            durable=True,
            arguments={"alternate-exchange": "datatransfer.unrouted"},
        )
        queue = await self.channel.declare_queue(exclusive=True, arguments=arguments)
        for key in keys:
            await queue.bind(exchange, key)
        return queue

    async def consume(self, *keys: str) -> None:
        await (await self.bind(*keys)).consume(self.requests.put, no_ack=True)

    async def next(self) -> AbstractIncomingMessage:
        return await asyncio.wait_for(self.requests.get(), PATIENCE)

    async def answer(self, request: AbstractIncomingMessage, **fields: Any) -> None:
        assert request.reply_to is not None
        station = fields.pop("station", request.headers["ocpp-station-id"])
        reply = aio_pika.Message(
            json.dumps({"status": "Accepted"} | fields).encode(),
            type="DataTransferResponse",
            correlation_id=request.correlation_id,
            headers={"ocpp-station-id": station},
        )
        await self.channel.default_exchange.publish(reply, request.reply_to)


@pytest.fixture(params=TESTED)
async def gateway(
    request: pytest.FixtureRequest, amqp_url: str, tmp_path: Path
) -> AsyncIterator[Gateway]:
    async with running(request.param, amqp_url, tmp_path) as gateway:
        yield gateway


@pytest.fixture(params=WHOLE)
async def whole(
    request: pytest.FixtureRequest, amqp_url: str, tmp_path: Path
) -> AsyncIterator[Gateway]:
    async with running(request.param, amqp_url, tmp_path) as gateway:
        yield gateway


@pytest.fixture
async def worker(amqp_url: str) -> AsyncIterator[ByHand]:
    async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
        yield ByHand(channel)


@pytest.fixture
async def client(amqp_url: str) -> AsyncIterator[Client]:
    async with Client(amqp_url, timeout=PATIENCE) as client:
        yield client


# ---- station → CSMS ----


async def test_each_vendor_has_the_key_of_the_contract(gateway: Gateway, worker: ByHand) -> None:
    await worker.consume(*VENDORS.values(), "")
    expected = {vendor: key if len(vendor) <= 255 else "" for vendor, key in VENDORS.items()}
    async with gateway.station() as station:
        for vendor, key in expected.items():
            asking = asyncio.create_task(station.ask(json.dumps({"vendorId": vendor})))
            request = await worker.next()
            assert request.routing_key == key, vendor
            await worker.answer(request)
            assert (await asking)[2]["status"] == "Accepted"


async def test_a_request_says_all_that_the_contract_asks_for(
    whole: Gateway, worker: ByHand
) -> None:
    await worker.consume("com.acme")
    async with whole.station("CP 1") as station:
        asking = asyncio.create_task(station.ask('{"vendorId":"com.Acme", "data":[1.0]}'))
        first = await worker.next()
        await worker.answer(first)
        await asking
        asking = asyncio.create_task(station.ask('{"vendorId":"com.Acme"}'))
        second = await worker.next()
        await worker.answer(second)
        await asking
    assert first.body == b'{"vendorId":"com.Acme", "data":[1.0]}'
    assert (first.type, first.content_type) == ("DataTransfer", "application/json")
    assert (first.message_id, second.message_id) == ("id-1", "id-2")
    assert first.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    assert first.timestamp is not None
    assert isinstance(first.expiration, int | float)
    assert 0 < first.expiration <= 30
    assert str(first.reply_to).startswith("amq.gen-")
    assert first.correlation_id != second.correlation_id
    headers = dict(first.headers)
    assert headers["ocpp-station-id"] == "CP 1"
    assert headers["ocpp-version"] == "ocpp2.0.1"
    assert headers["ocpp-connection-id"] == second.headers["ocpp-connection-id"]
    deadline = headers["ocpp-deadline"]
    assert isinstance(deadline, int)
    assert abs(deadline / 1000 - first.timestamp.timestamp() - 30) < 2


async def test_one_request_of_a_station_is_under_way_and_each_is_answered_once(
    whole: Gateway, worker: ByHand
) -> None:
    await worker.consume("v")
    async with whole.station() as station:
        first = asyncio.create_task(station.ask('{"vendorId":"v"}', "a"))
        request = await worker.next()
        second = asyncio.create_task(station.ask('{"vendorId":"v"}', "b"))
        await station.socket.send('[2, "a", "DataTransfer", {"vendorId":"v"}]')  # once more
        await station.say('[2,"h","Heartbeat",{}]', "h")  # it has read all that
        await worker.answer(request, station="another")  # is not for this station
        await worker.answer(request)
        assert (await first)[1] == "a"
        request = await worker.next()
        assert request.message_id == "b"
        await worker.answer(request)
        await worker.answer(request)  # too late
        assert (await second)[1] == "b"
        assert worker.requests.empty()


async def test_a_full_queue_is_told_within_seconds(gateway: Gateway, worker: ByHand) -> None:
    await worker.bind("v", **{"x-max-length": 0, "x-overflow": "reject-publish"})
    async with gateway.station() as station, asyncio.timeout(PATIENCE / 2):
        assert (await station.ask('{"vendorId":"v"}'))[2] == "GenericError"


async def test_a_message_id_that_is_too_long_is_refused(gateway: Gateway) -> None:
    async with gateway.station(version="ocpp2.1") as station:
        answer = await station.ask('{"vendorId":"v"}', "x" * 37)
        assert answer[:3] == [4, "x" * 37, "RpcFrameworkError"]


# ---- CSMS → station ----


async def test_a_flooded_station_refuses_more_at_once(gateway: Gateway, client: Client) -> None:
    given, may_answer = asyncio.Event(), asyncio.Event()

    async def later(payload: str) -> str | None:
        if "Hello" in payload:
            given.set()
            await may_answer.wait()
        return await accept(payload)

    async with gateway.station(answer=later) as station:
        await reached(client)
        waiting = {asyncio.create_task(client.send_to_station("CP1", HELLO)) for _ in range(21)}
        done, waiting = await asyncio.wait(
            waiting, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED
        )
        (one,) = done
        with pytest.raises(CallError, match="GenericError"):
            one.result()
        await given.wait()
        may_answer.set()
        assert {(await each).status for each in waiting} == {"Accepted"}
        assert sum("Hello" in payload for payload in station.payloads) == 20


async def test_an_answer_is_given_again_and_a_failure_is_not(
    gateway: Gateway, client: Client
) -> None:
    with pytest.raises(StationOffline):
        await client.send_to_station("CP1", HELLO, message_id="1")
    answers = iter(('[4,"ID","Odd","no",{"a":1}]', '[3,"ID",{"status":"Accepted"}]'))

    async def in_turn(payload: str) -> str | None:
        return next(answers) if "Hello" in payload else await accept(payload)

    async with gateway.station(answer=in_turn) as station:
        await reached(client)
        for _ in range(2):  # what the station said stands, a CALLERROR as well
            with pytest.raises(CallError) as raised:
                await client.send_to_station("CP1", HELLO, message_id="1")
            assert (raised.value.code, raised.value.details) == ("Odd", {"a": 1})
        for _ in range(2):
            answer = await client.send_to_station("CP1", HELLO, message_id="2")
            assert answer.status == "Accepted"
        assert sum("Hello" in payload for payload in station.payloads) == 2


@pytest.mark.parametrize("version", ["ocpp1.6", "ocpp2.0.1"])
async def test_an_answer_that_cannot_be_read_is_told_at_once(
    whole: Gateway, client: Client, version: str
) -> None:
    answers = iter(('[3,"ID"', '[3,"ID"]', '[4,"ID",7,"text",{}]', '[4,"ID","Odd","text",[]]'))

    async def badly(payload: str) -> str | None:
        return next(answers) if "Hello" in payload else await accept(payload)

    async with whole.station(version=version, answer=badly):
        await reached(client)
        async with asyncio.timeout(PATIENCE / 2):
            for expected in (*["FormatViolation"] * 3, "Odd"):
                with pytest.raises(CallError) as raised:
                    await client.send_to_station("CP1", HELLO)
                assert (raised.value.code, raised.value.details) == (expected, {})


@pytest.mark.parametrize("body", [b"{", b"[1]", b"7"])
async def test_what_is_no_request_is_not_sent(
    gateway: Gateway, client: Client, worker: ByHand, body: bytes
) -> None:
    async with gateway.station() as station:
        await reached(client)
        seen = len(station.payloads)
        replies = await worker.channel.declare_queue("datatransfer.replies.test", exclusive=True)
        exchange = await worker.channel.get_exchange("datatransfer.stations")
        message = aio_pika.Message(
            body,
            correlation_id="c",
            reply_to=replies.name,
            headers={"ocpp-station-id": "CP1", "traceparent": "as it is"},
        )
        await exchange.publish(message, "CP1")
        async with asyncio.timeout(PATIENCE):
            while (reply := await replies.get(fail=False, no_ack=True)) is None:
                await asyncio.sleep(0.01)
        assert (reply.type, reply.correlation_id) == ("CallError", "c")
        assert json.loads(reply.body)["errorCode"].endswith("Violation")
        assert reply.headers["ocpp-version"] == "ocpp2.0.1"
        assert len(station.payloads) == seen


# ---- both ----


async def test_connections_that_are_lost_again_and_again_cost_no_answer(
    broker: PrivateBroker, gateway: Gateway, client: Client, amqp_url: str
) -> None:
    """But to a request of the CSMS that was in the queue which went with the connection."""
    over = False
    asked = sent = lost = cuts = 0

    async def ask() -> None:
        nonlocal asked
        while not over:
            asked += 1
            answer = await station.ask(json.dumps({"vendorId": "hostile", "data": asked}))
            assert answer[2] == {"status": "Accepted", "data": asked}

    async def send() -> None:
        nonlocal sent, lost
        while not over:
            try:
                answer = await client.send_to_station("CP1", HELLO, timeout=PATIENCE / 6)
            except NoAnswer:
                lost += 1
                assert lost <= cuts
            except StationOffline:  # until its key is bound again
                await asyncio.sleep(0.01)
            else:
                assert answer.status == "Accepted"
                sent += 1

    async with (
        WorkerProcess("tests.integration.load_vendors:routers", amqp_url),
        gateway.station() as station,
        asyncio.TaskGroup() as both,
    ):
        await reached(client)
        both.create_task(ask())
        both.create_task(send())
        for _ in range(3):
            before = asked, sent
            async with asyncio.timeout(PATIENCE):
                while asked < before[0] + 3 or sent < before[1] + 3:
                    await asyncio.sleep(0.01)
            cuts += 1
            await asyncio.to_thread(close_connections, broker, amqp_url)
        await reached(client)
        over = True


# ---- the end ----


@pytest.mark.parametrize("name", WHOLE)
async def test_a_gateway_that_is_stopped_answers_what_is_in_hand(
    amqp_url: str, tmp_path: Path, client: Client, worker: ByHand, name: str
) -> None:
    await worker.consume("v")
    given, may_answer = asyncio.Event(), asyncio.Event()

    async def later(payload: str) -> str | None:
        if "Hello" in payload:
            given.set()
            await may_answer.wait()
        return await accept(payload)

    async with (
        running(name, amqp_url, tmp_path, may_end_with=(0, 143)) as gateway,
        gateway.station(answer=later) as station,
    ):
        await reached(client)
        sent = asyncio.create_task(client.send_to_station("CP1", HELLO))
        await given.wait()
        asked = asyncio.create_task(station.ask('{"vendorId":"v"}'))
        request = await worker.next()
        gateway.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            while True:  # its queue is gone before anything else
                try:
                    await client.send_to_station("CP1", HELLO, timeout=1.0)
                except StationOffline:
                    break
                except TimeoutError:
                    await asyncio.sleep(0.01)
        may_answer.set()
        assert (await sent).status == "Accepted"
        await worker.answer(request)
        assert (await asked)[2]["status"] == "Accepted"
        await asyncio.wait_for(gateway.process.wait(), PATIENCE)
        with pytest.raises(ConnectionClosed):
            await station.socket.send("too late")
        assert station.socket.close_code == 1001
