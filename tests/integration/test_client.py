"""The requester's side: many requests at a time, each with its own answer or its own error."""

import asyncio
from typing import Any

import aio_pika
import pytest

from bridge import Call, CallError, DataTransferRequest, Router
from bridge.client.client import Client, NoAnswer, NotAccepted
from bridge.ocpp import ErrorCode
from bridge.testing.rabbitmq import PrivateBroker
from tests.integration.support import NAMES, PATIENCE, close_connections, request, working

router = Router("v", timeout=PATIENCE)


@router.on("echo")
async def echo(call: Call, data: int) -> dict[str, object]:
    """Answers overtake each other."""
    await asyncio.sleep(data % 7 / 1000)
    return {"station": call.station_id, "number": data}


@router.on("refuse")
async def refuse(call: Call) -> None:
    raise CallError(ErrorCode.SECURITY_ERROR, "not you", {"why": 1})


async def test_5000_concurrent_requests_get_each_its_own_answer(amqp_url: str) -> None:
    async with working(amqp_url, router), Client(amqp_url, timeout=2 * PATIENCE) as client:

        async def ask(number: int) -> object:
            return (
                await client.data_transfer(f"CP{number}", request(message_id="echo", data=number))
            ).data

        answers = await asyncio.gather(*map(ask, range(5_000)))
        assert client.outstanding == 0
        assert client.late == 0
    assert answers == [{"station": f"CP{number}", "number": number} for number in range(5_000)]


async def test_who_gets_no_answer_in_time_is_told_so_and_the_late_one_is_counted(
    amqp_url: str,
) -> None:
    """The worker does not know the deadline and answers all the same; the client stops earlier."""
    release = asyncio.Event()
    slow = Router("slow")

    @slow.default
    async def wait(call: Call) -> None:
        await release.wait()

    async with working(amqp_url, slow), Client(amqp_url) as client:
        patient = asyncio.create_task(client.data_transfer("CP", request("slow"), timeout=PATIENCE))
        waiting = asyncio.create_task(client.data_transfer("CP", request("slow"), timeout=PATIENCE))
        while client.outstanding < 2:
            await asyncio.sleep(0)
        first = next(iter(client._requester.outstanding.values()))
        first.out_of_time()
        with pytest.raises(NoAnswer, match="no answer within"):
            await patient
        release.set()
        await waiting
        assert (client.late, client.outstanding) == (1, 0)


async def test_a_real_time_out(amqp_url: str) -> None:
    hanging = Router("v")

    @hanging.default
    async def hang(call: Call) -> None:
        await asyncio.Event().wait()

    async with working(amqp_url, hanging), Client(amqp_url) as client:
        with pytest.raises(NoAnswer):
            await client.data_transfer("CP", request(), timeout=0.2)
        assert client.outstanding == 0


async def test_a_callerror_arrives_as_an_exception(amqp_url: str) -> None:
    async with working(amqp_url, router), Client(amqp_url) as client:
        with pytest.raises(CallError) as caught:
            await client.data_transfer("CP", request(message_id="refuse"))
        assert (caught.value.code, caught.value.description) == (
            ErrorCode.SECURITY_ERROR,
            "not you",
        )
        assert caught.value.details == {"why": 1}


async def test_a_request_that_no_version_allows_is_not_sent(amqp_url: str) -> None:
    async with working(amqp_url, router) as it, Client(amqp_url) as client:
        with pytest.raises(CallError, match="vendorId"):
            await client.data_transfer("CP", DataTransferRequest("v" * 256))
        assert it.worker.counts.received == 0


async def test_without_a_topology_the_request_is_not_accepted(amqp_url: str) -> None:
    async with Client(amqp_url) as client:
        async with asyncio.timeout(PATIENCE / 2):
            with pytest.raises(NotAccepted, match="is the topology declared"):
                await client.data_transfer("CP", request())
        async with working(amqp_url, router):  # once there is one, the same client goes on
            answered = await client.data_transfer("CP", request(message_id="echo", data=1))
            assert answered.status == "Accepted"


async def test_an_exchange_that_leads_nowhere_does_not_accept_it(amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        await (await connection.channel()).declare_exchange(NAMES.requests, durable=True)
    async with Client(amqp_url) as client:
        with pytest.raises(NotAccepted):
            await client.data_transfer("CP", request())


async def test_a_full_queue_does_not_accept_it_and_leaves_the_client_as_it_was(
    amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.client.requester.REFUSALS", 2)
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(NAMES.requests, durable=True)
        arguments: dict[str, Any] = {"x-max-length": 1, "x-overflow": "reject-publish"}
        queue = await channel.declare_queue("full", durable=True, arguments=arguments)
        await queue.bind(exchange, "v")
        await channel.default_exchange.publish(aio_pika.Message(b""), "full")
        async with Client(amqp_url) as client:
            with pytest.raises(NotAccepted, match="queue is full"):
                await client.data_transfer("CP", request())
            await queue.purge()
            with pytest.raises(NoAnswer):
                await client.data_transfer("CP", request(), timeout=0.1)


async def test_a_client_survives_one_lost_connection_after_the_other(
    broker: PrivateBroker, amqp_url: str
) -> None:
    async with working(amqp_url, router), Client(amqp_url, timeout=PATIENCE) as client:
        for round_ in range(3):
            asked = [
                asyncio.create_task(
                    client.data_transfer("CP", request(message_id="echo", data=number))
                )
                for number in range(100)
            ]
            await asyncio.sleep(0)
            close_connections(broker, amqp_url)
            answers = await asyncio.gather(*asked)
            assert [
                answer.data["number"] for answer in answers if isinstance(answer.data, dict)
            ] == list(range(100)), round_
