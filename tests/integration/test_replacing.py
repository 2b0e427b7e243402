"""A queue is deleted and declared anew under its consumer."""

import asyncio

import aio_pika
import msgspec
import pytest
from aio_pika.exceptions import DeliveryError, PublishError
from yarl import URL

from bridge import Call, Router
from bridge.client.client import Client
from bridge.dialects.native import Native
from bridge.dialects.topology import Queue, QueueType, worker_topology
from bridge.rabbitmq.changing import open_changes
from bridge.rabbitmq.replacing import declare_first, replace
from bridge.rabbitmq.urls import parse_urls
from bridge.testing.rabbitmq import PrivateBroker
from bridge.transport import Binding
from tests.integration.support import NAMES, PATIENCE, request, working

QUEUE = NAMES.vendor_queue("v")


def echo() -> Router:
    router = Router("v")

    @router.default
    async def answer(call: Call, data: int) -> int:
        return data

    return router


def own_queue(queue_type: QueueType) -> Queue:
    topology = worker_topology(Native(), ["v"], queue_type=queue_type)
    return next(each for each in topology.queues if each.name == QUEUE)


def deafen(broker: PrivateBroker, url: str) -> str:
    """Suspend the channels that consume the queue; returns them."""
    vhost = URL(url).path.removeprefix("/")
    pids = broker.eval(
        f'{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"{vhost}">>, queue, <<"{QUEUE}">>)), '
        "Pids = lists:usort([element(1, C) || C <- rabbit_amqqueue:consumers(Q)]), "
        "[sys:suspend(Pid) || Pid <- Pids], [pid_to_list(Pid) || Pid <- Pids]."
    )
    assert pids.startswith('["<')
    return pids


def undeafen(broker: PrivateBroker, pids: str) -> None:
    """Let channels go on."""
    broker.eval(f"[sys:resume(list_to_pid(Pid)) || Pid <- {pids}], ok.")


@pytest.mark.parametrize("queue_type", QueueType)
async def test_requests_are_answered_though_the_consumers_channel_heard_of_it_late(
    broker: PrivateBroker, amqp_url: str, queue_type: QueueType
) -> None:
    queue = own_queue(queue_type)
    deleted = asyncio.Event()
    async with (
        working(amqp_url, echo(), queue_type=queue_type),
        Client(amqp_url, timeout=PATIENCE) as client,
        open_changes(parse_urls([amqp_url]), "changes") as changes,
    ):
        deaf = await asyncio.to_thread(deafen, broker, amqp_url)
        replacing = asyncio.create_task(
            replace(changes, queue, only_if_empty=False, on_deleted=deleted.set)
        )
        await deleted.wait()
        assert await changes.look(QUEUE) is not None  # something has the name again
        await asyncio.to_thread(undeafen, broker, deaf)
        await replacing
        await changes.bind(QUEUE, Binding(NAMES.requests, "v"))
        for number in range(10):
            reply = await client.data_transfer("CP1", request(data=number))
            assert (reply.status, reply.data) == ("Accepted", number)


async def test_meanwhile_what_is_published_to_it_is_refused_and_not_lost(amqp_url: str) -> None:
    deleted = asyncio.Event()
    async with (
        await aio_pika.connect(amqp_url) as connection,
        open_changes(parse_urls([amqp_url]), "changes") as changes,
    ):
        channel = await connection.channel()
        replacing = asyncio.create_task(
            replace(
                changes, own_queue(QueueType.QUORUM), only_if_empty=False, on_deleted=deleted.set
            )
        )
        await deleted.wait()
        assert await changes.look(QUEUE) is not None
        message = aio_pika.Message(b"{}")
        with pytest.raises(DeliveryError) as refused:
            await channel.default_exchange.publish(message, QUEUE, mandatory=True)
        assert refused.type is not PublishError, "returned: the name was free"
        await replacing
        await channel.default_exchange.publish(message, QUEUE, mandatory=True)


async def test_a_worker_that_was_quicker_is_replaced_as_well(amqp_url: str) -> None:
    quorum, classic = own_queue(QueueType.QUORUM), own_queue(QueueType.CLASSIC)
    async with open_changes(parse_urls([amqp_url]), "changes") as changes:
        await changes.declare(classic)
        await declare_first(changes, quorum)
        await changes.declare(quorum)  # it would be refused with other arguments


async def test_the_node_still_dead_letters_though_a_worker_was_quicker_again_and_again(
    breakable_broker: PrivateBroker,
) -> None:
    queue = own_queue(QueueType.QUORUM)
    others = msgspec.structs.replace(
        queue, arguments={**queue.arguments, "x-dead-letter-routing-key": "other"}
    )
    urls = parse_urls([breakable_broker.add_vhost("quicker")])
    async with open_changes(urls, "worker") as worker, open_changes(urls, "changes") as changes:
        for _ in range(10):
            declaring = asyncio.create_task(worker.declare(others))
            while await changes.look(QUEUE) is None:
                await asyncio.sleep(0)
            await declare_first(changes, queue)
            await asyncio.gather(declaring, return_exceptions=True)
            await changes.delete(QUEUE, only_if_empty=False)
    assert breakable_broker.eval("is_pid(whereis(rabbit_fifo_dlx_sup)).") == "true"
    breakable_broker.delete_vhost("quicker")
