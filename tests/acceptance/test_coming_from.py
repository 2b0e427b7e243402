"""Whoever comes from another library has the same answers, before, meanwhile and after.

The code of the how-to guides, as it stands there, on a real broker.
"""

import ast
import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aio_pika
import pytest

from bridge import Client, DataTransferRequest
from tests.acceptance.walking import Saved, Shell, acme_of, blocks, load
from tests.integration.support import PATIENCE, ROOT, WorkerProcess, working

TARIFF = {"currency": "EUR", "energyPrice": 1.49}
GET_TARIFF = DataTransferRequest("com.acme", "GetTariff", {"connectorId": 1})


@asynccontextmanager
async def beside(running: Awaitable[None]) -> AsyncIterator[None]:
    """Run a program until the end of the block."""
    task = asyncio.ensure_future(running)
    try:
        yield
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@asynccontextmanager
async def old_gateway(guide_url: str) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    """A gateway as it was: it asks at the queue ``data_transfer``, in a form of its own."""
    async with await aio_pika.connect(guide_url) as connection:
        channel = await connection.channel()
        await channel.declare_queue("data_transfer", durable=True)
        replies = await channel.declare_queue("old-replies", exclusive=True)

        async def ask() -> Any:
            name = uuid4().hex
            request = {"vendorId": "com.acme", "messageId": "GetTariff", "data": {"connectorId": 1}}
            message = aio_pika.Message(
                json.dumps(request).encode(),
                content_type="application/json",
                correlation_id=name,
                message_id=name,
                reply_to="old-replies",
                headers={"station": "CP001"},
            )
            await channel.default_exchange.publish(message, routing_key="data_transfer")
            async with asyncio.timeout(PATIENCE), replies.iterator(no_ack=True) as answers:
                answer = await anext(answers)
            assert answer.correlation_id == name
            return json.loads(answer.body)

        yield ask


async def test_whoever_comes_from_aio_pika_has_the_same_answers(
    saved: Saved, guide_url: str
) -> None:
    router = acme_of("from-aio-pika.md", saved)
    answer = {"status": "Accepted", "data": TARIFF}
    async with old_gateway(guide_url) as ask:
        async with beside(load("before").main()):
            assert await ask() == answer
        async with working(guide_url, router):
            async with beside(load("adapter").main()):
                assert await ask() == answer
            async with Client(guide_url) as client:
                assert (await client.data_transfer("CP001", GET_TARIFF)).data == TARIFF
    saved("from-aio-pika.md")
    [command] = [
        block.text for block in blocks("how-to/from-aio-pika.md") if block.language == "sh"
    ]
    Shell(ROOT, {"AMQP_URL": guide_url}).run(command)
    async with await aio_pika.connect(guide_url) as connection:
        channel = await connection.channel()
        with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
            await channel.get_queue("data_transfer")


async def test_whoever_comes_from_faststream_has_the_same_answers(
    saved: Saved, guide_url: str
) -> None:
    router = acme_of("from-faststream.md", saved)
    answer = {"status": "Accepted", "data": TARIFF}
    async with old_gateway(guide_url) as ask:
        async with beside(load("before").app.run(run_extra_options={"loop": "asyncio"})):
            assert await ask() == answer
        async with working(guide_url, router), beside(load("adapter").app.run()):
            assert await ask() == answer


def test_whoever_comes_from_celery_has_the_same_answers(saved: Saved, guide_url: str) -> None:
    folder = saved("from-celery.md")
    answer = {"status": "Accepted", "data": TARIFF}
    request = {"vendorId": "com.acme", "messageId": "GetTariff", "data": {"connectorId": 1}}
    ask = (
        "import before; "
        f"print(before.data_transfer.delay('CP001', {request!r}).get(timeout={PATIENCE:.0f}))"
    )
    shell = Shell(folder, {})
    shell.environment |= {"AMQP_URL": guide_url}
    for module in ("before", "adapter"):
        with WorkerProcess("my_vendors.acme:router", guide_url, folder=folder):
            celery = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", module, "worker", "--pool", "solo"],
                cwd=folder,
                env=shell.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                told = shell.run(f'{sys.executable} -c "{ask}"')
                assert ast.literal_eval(told) == answer
            finally:
                celery.terminate()
                celery.wait(PATIENCE)


async def test_a_handler_hands_what_takes_long_to_celery(saved: Saved, guide_url: str) -> None:
    saved("from-celery.md")
    reports = load("my_vendors.reports")
    async with await aio_pika.connect(guide_url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("celery", durable=True)
        async with working(guide_url, reports.router), Client(guide_url) as client:
            request = DataTransferRequest("com.acme", "MakeReport", {"month": "2026-11"})
            response = await client.data_transfer("CP001", request)
            assert response.status == "Accepted"
        async with asyncio.timeout(PATIENCE), queue.iterator(no_ack=True) as tasks:
            assert (await anext(tasks)).headers["task"] == "reports.make"
