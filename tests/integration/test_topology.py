"""Exchanges and queues: declared, verified or trusted; how a vendor's queue protects the others."""

import asyncio
import re
from typing import Any

import aio_pika
import pytest

from bridge import Call, Router
from bridge.client.client import Client
from bridge.dialects import Native, topology
from bridge.dialects.topology import Mode, QueueType, worker_topology
from bridge.rabbitmq.declaring import ensure
from bridge.testing.rabbitmq import PrivateBroker
from bridge.transport import State, TopologyError
from tests.integration.support import NAMES, PATIENCE, ready, request, working

QUEUE = NAMES.vendor_queue("v")


def answering(vendor_id: str = "v") -> Router:
    router = Router(vendor_id)

    @router.default
    async def accept(call: Call) -> None:
        pass

    return router


async def refusal(url: str, mode: Mode, *vendor_ids: str) -> str:
    with pytest.raises(TopologyError) as caught:
        async with working(url, *map(answering, vendor_ids or ["v"]), mode=mode):
            pass
    return str(caught.value)


@pytest.mark.parametrize("queue_type", QueueType)
async def test_declaring_twice_changes_nothing_and_verifying_finds_it_all(
    amqp_url: str, queue_type: QueueType
) -> None:
    for mode in (Mode.DECLARE, Mode.DECLARE, Mode.VERIFY, Mode.NONE):
        async with (
            working(amqp_url, answering(), mode=mode, queue_type=queue_type),
            Client(amqp_url) as client,
        ):
            assert (await client.data_transfer("CP", request())).status == "Accepted"
            assert (await client.data_transfer("CP", request("w"))).status == "UnknownVendorId"


async def test_classic_queues_are_classic_and_quorum_queues_quorum(amqp_url: str) -> None:
    async with working(amqp_url, answering(), queue_type=QueueType.CLASSIC):
        pass
    assert " are classic, and the options say quorum: " in await refusal(amqp_url, Mode.DECLARE)


async def test_verify_names_the_exchange_that_is_missing(amqp_url: str) -> None:
    told = await refusal(amqp_url, Mode.VERIFY)
    assert re.match(
        r"exchange 'datatransfer\.unrouted': NOT_FOUND - no exchange \S+ in vhost 'test-\w+'; "
        r"likewise 'datatransfer', .*; "
        r"queue 'datatransfer\.dead': NOT_FOUND - no queue \S+ in vhost 'test-\w+'; "
        r"likewise .*'datatransfer\.v'; "
        r"`dtbridge topology apply`, .*, makes what is missing, and .* shows it$",
        told,
    )


async def test_verify_names_the_queue_that_is_missing(amqp_url: str) -> None:
    async with working(amqp_url, answering("v")):
        pass
    told = await refusal(amqp_url, Mode.VERIFY, "v", "new")
    assert re.fullmatch(
        r"queue 'datatransfer\.new': NOT_FOUND - no queue .* in vhost 'test-\w+'; "
        r"`dtbridge topology apply`.*",
        told,
    )


async def test_trusting_a_topology_that_is_not_there_names_what_cannot_be_consumed(
    amqp_url: str,
) -> None:
    told = await refusal(amqp_url, Mode.NONE)
    assert told.startswith("queue 'datatransfer.v' cannot be consumed: NOT_FOUND")


@pytest.mark.parametrize("name", [QUEUE, NAMES.dead, NAMES.unknown_vendor])
async def test_a_queue_with_other_arguments_is_named_with_the_argument(
    amqp_url: str, name: str
) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        await (await connection.channel()).declare_queue(
            name, durable=True, arguments={"x-max-length": 1}
        )
    told = await refusal(amqp_url, Mode.DECLARE)
    assert told.startswith(f"queue '{name}': PRECONDITION_FAILED - inequivalent arg 'x-")
    assert "\n" not in told


async def test_all_queues_with_other_arguments_are_named_at_once_with_what_to_do(
    amqp_url: str,
) -> None:
    async with working(amqp_url, answering(), queue_type=QueueType.CLASSIC):
        pass
    told = await refusal(amqp_url, Mode.DECLARE)
    for queue in worker_topology(Native(NAMES), ["v"]).needed.queues:
        assert f"'{queue.name}'" in told
    assert "PRECONDITION_FAILED" not in told
    assert "`dtbridge topology migrate`" in told
    assert "start with queue type classic, or in topology mode verify" in told


async def test_nobody_is_told_to_make_quorum_queues_classic(
    amqp_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One queue is quorum, or all are: the options are what is to change."""
    async with working(amqp_url, answering(), queue_type=QueueType.CLASSIC) as it:
        before = len(it.transport.history)
        async with await aio_pika.connect(amqp_url) as connection:
            channel = await connection.channel()
            await channel.queue_delete(QUEUE)
            [wanted] = [
                each for each in worker_topology(Native(NAMES), ["v"]).queues if each.name == QUEUE
            ]
            made = await channel.declare_queue(QUEUE, durable=True, arguments=wanted.arguments)
            await made.bind(NAMES.requests, "v")
        await it.transport.until(State.CONNECTING, State.CONSUMING, since=before)
    told = (
        "queue 'datatransfer.v' is quorum, and the options say classic: start with queue type "
        "quorum, or in topology mode verify while some are quorum and some classic"
    )
    [reason] = [
        pairs["reason"]
        for record in caplog.records
        if (pairs := record.__dict__.get("bridge", {})).get("event")
        == "queues are taken as they are"
    ]
    assert reason == told
    with pytest.raises(TopologyError) as caught:
        async with working(amqp_url, answering(), queue_type=QueueType.CLASSIC):
            pass
    assert str(caught.value) == told


async def test_a_quorum_queue_of_an_older_release_is_known_as_one(amqp_url: str) -> None:
    arguments: dict[str, Any] = {"x-queue-type": "quorum", "x-delivery-limit": 20}
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(
            QUEUE,
            durable=True,
            arguments=arguments | {"x-dead-letter-exchange": NAMES.dead},
        )
    with pytest.raises(TopologyError, match="is quorum, and the options say"):
        async with working(amqp_url, answering(), queue_type=QueueType.CLASSIC):
            pass


async def test_a_worker_goes_on_with_queues_that_were_changed_under_it(
    amqp_url: str, broker: PrivateBroker, caplog: pytest.LogCaptureFixture
) -> None:
    async with working(amqp_url, answering()) as it, Client(amqp_url) as client:
        before = len(it.transport.history)
        async with await aio_pika.connect(amqp_url) as connection:
            channel = await connection.channel()
            await channel.queue_delete(QUEUE)
            changed = await channel.declare_queue(
                QUEUE, durable=True, arguments={"x-max-length": 9}
            )
            await changed.bind(NAMES.requests, "v")
        await it.transport.until(State.CONNECTING, State.CONSUMING, since=before)
        assert (await client.data_transfer("CP", request())).status == "Accepted"
    assert "queues are taken as they are" in caplog.text


async def test_an_exchange_of_another_kind_is_named(amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        await (await connection.channel()).declare_exchange(
            NAMES.requests, aio_pika.ExchangeType.TOPIC, durable=True
        )
    told = await refusal(amqp_url, Mode.DECLARE)
    assert told.startswith("exchange 'datatransfer': PRECONDITION_FAILED - inequivalent arg 'type'")


@pytest.mark.parametrize(
    ("name", "kind", "durable", "arguments", "told"),
    [
        (NAMES.requests, "direct", True, {}, "alternate-exchange"),
        (NAMES.requests, "direct", True, {"alternate-exchange": "x"}, "alternate-exchange"),
        (NAMES.unrouted, "topic", True, {}, "type"),
        (NAMES.dead, "direct", True, {}, "type"),
        (NAMES.unrouted, "fanout", False, {}, "durable"),
    ],
)
async def test_verify_names_an_exchange_that_is_not_what_it_must_be(
    amqp_url: str, name: str, kind: str, durable: bool, arguments: dict[str, Any], told: str
) -> None:
    async with working(amqp_url, answering()):
        pass
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.exchange_delete(name)
        made = await channel.declare_exchange(name, kind, durable=durable, arguments=arguments)
        if name in {NAMES.unrouted, NAMES.dead}:
            queue = NAMES.unknown_vendor if name == NAMES.unrouted else NAMES.dead
            await (await channel.get_queue(queue)).bind(made)
    refused = await refusal(amqp_url, Mode.VERIFY)
    assert refused.startswith(f"exchange '{name}': PRECONDITION_FAILED - inequivalent arg '{told}'")


async def test_without_the_permission_to_configure_verify_trusts_what_it_cannot_compare(
    breakable_broker: PrivateBroker,
) -> None:
    url = breakable_broker.add_vhost("verify")
    async with working(url, answering()):
        pass
    backend, name = "rabbit_auth_backend_internal", '<<"verifier">>'
    breakable_broker.eval(f'ok = {backend}:add_user({name}, <<"secret">>, <<"guest">>)')
    breakable_broker.eval(
        f'ok = {backend}:set_permissions({name}, <<"verify">>, <<"^$">>, <<".*">>, <<".*">>, '
        '<<"guest">>)'
    )
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.exchange_delete(NAMES.unrouted)
        await channel.declare_exchange(NAMES.unrouted, "topic", durable=True)
    verifier = url.replace("guest:guest", "verifier:secret")
    async with working(verifier, answering(), mode=Mode.VERIFY) as it:
        assert it.worker.state is State.CONSUMING
    assert "inequivalent arg 'type'" in await refusal(url, Mode.VERIFY)
    breakable_broker.eval(f'ok = {backend}:delete_user({name}, <<"guest">>)')
    breakable_broker.delete_vhost("verify")


async def test_what_no_worker_takes_from_a_retry_queue_the_broker_sends_back(
    amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topology, "GRACE", 0.1)
    async with await aio_pika.connect(amqp_url) as connection:
        await ensure(connection, worker_topology(Native(NAMES), ["v"]))
        channel = await connection.channel()
        waiting = await channel.get_exchange(NAMES.retry(0.1))
        await waiting.publish(aio_pika.Message(b"again", delivery_mode=2), "v")
        queue = await channel.get_queue(QUEUE)
        async with asyncio.timeout(PATIENCE), queue.iterator() as messages:
            message = await anext(messages)
            await message.ack()
        assert (message.body, message.exchange, message.routing_key) == (
            b"again",
            NAMES.requests,
            "v",
        )


async def test_a_vendor_whose_handlers_hang_holds_up_nobody_else(amqp_url: str) -> None:
    """Of 50 requests it gets its prefetch and runs its concurrency; the rest stay in its queue."""
    slow = Router("slow", prefetch=4, concurrency=2)
    started = asyncio.Event()
    release = asyncio.Event()
    running = most = 0

    @slow.default
    async def hang(call: Call) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 2:
            started.set()
        await release.wait()
        running -= 1

    async with (
        working(amqp_url, slow, answering("quick")) as it,
        Client(amqp_url, timeout=PATIENCE) as client,
    ):
        hanging = [
            asyncio.create_task(client.data_transfer("CP", request("slow"))) for _ in range(50)
        ]
        async with asyncio.timeout(PATIENCE):
            await started.wait()
        replies = await asyncio.gather(
            *(client.data_transfer("CP", request("quick")) for _ in range(500))
        )
        assert {reply.status for reply in replies} == {"Accepted"}
        assert not any(task.done() for task in hanging)
        assert (it.worker.intakes[0].running, it.worker.intakes[0].waiting) == (2, 2)
        slow_queue = NAMES.vendor_queue("slow")
        assert await ready(amqp_url, slow_queue) == {slow_queue: 46}
        release.set()
        await asyncio.gather(*hanging)
    assert most == 2
