"""Big messages pass both ways, and one too big is answered, not lost."""

import random

import pytest

from bridge import Call, CallError, Router
from bridge.client.client import Client
from tests.integration.support import NAMES, dead_letters, ready, request, working

KIB = 1024
router = Router("v")


@router.on("m")
async def echo(call: Call, data: str) -> str:
    return data


@router.on("inflate")
async def inflate(call: Call, data: int) -> str:
    return "x" * data


@pytest.mark.parametrize("size", [16_000, 131_064, 131_065, 200_000, KIB * KIB, 3 * KIB * KIB])
async def test_a_body_of_any_allowed_size_passes_both_ways(amqp_url: str, size: int) -> None:
    """Around 131,064 bytes a body begins to need a second frame."""
    text = random.Random(size).randbytes(size // 2).hex()[: size - 40]
    async with working(amqp_url, router), Client(amqp_url) as client:
        for _ in range(3):
            assert (await client.data_transfer("CP", request(data=text))).data == text


async def test_a_body_too_big_gets_a_callerror_and_the_worker_goes_on(amqp_url: str) -> None:
    async with working(amqp_url, router, max_body=100_000) as it, Client(amqp_url) as client:
        with pytest.raises(CallError, match="and at most 100000 are taken") as refusal:
            await client.data_transfer("CP", request(data="x" * 100_000))
        assert refusal.value.code == "PropertyConstraintViolation"
        assert (await client.data_transfer("CP", request(data="x" * 99_000))).data == "x" * 99_000
        assert it.transport.sessions == 1
    assert await ready(amqp_url, NAMES.vendor_queue("v")) == {NAMES.vendor_queue("v"): 0}


async def test_an_answer_too_big_is_the_handlers_fault(amqp_url: str) -> None:
    async with working(amqp_url, router, max_body=100_000), Client(amqp_url) as client:
        with pytest.raises(CallError, match="InternalError"):
            await client.data_transfer("CP", request(message_id="inflate", data=100_000))
        assert (
            await client.data_transfer("CP", request(message_id="inflate", data=10))
        ).data == "x" * 10
    assert len(await dead_letters(amqp_url)) == 1
