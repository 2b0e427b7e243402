"""What the management API of a real node tells, and what it refuses."""

import asyncio
from collections import Counter
from collections.abc import Iterator

import aio_pika
import pytest
from yarl import URL

from bridge.client.client import Client
from bridge.rabbitmq.management import LiveBinding, LiveConnection, LiveConsumer, Management
from bridge.rabbitmq.management_http import ManagementError
from bridge.testing.rabbitmq import PrivateBroker
from tests.integration.support import NAMES, PATIENCE, request, working
from tests.integration.test_migrating import Place, echo

QUEUE = NAMES.vendor_queue("v")


@pytest.fixture
def place(managed_broker: PrivateBroker) -> Iterator[Place]:
    place = Place(managed_broker)
    yield place
    managed_broker.delete_vhost(place.vhost)


async def test_it_tells_what_there_is(place: Place) -> None:
    management = place.management
    assert (await management.overview()).rabbitmq_version == place.broker.version
    async with asyncio.timeout(PATIENCE):  # it gathers them every five seconds
        while not (node := (await management.nodes())[0]).mem_limit:
            await asyncio.sleep(0.2)
    assert node.running
    assert node.fd_total
    assert (await management.whoami()).name == "guest"
    async with working(place.url, echo(Counter())), Client(place.url) as client:
        await client.data_transfer("CP", request(data=1))
        queues = {queue.name: queue for queue in await management.queues(place.vhost, NAMES.prefix)}
        assert queues[QUEUE].type == "quorum"
        assert queues[QUEUE].arguments["x-dead-letter-exchange"] == NAMES.dead
        exchanges = {each.name: each for each in await management.exchanges(place.vhost)}
        assert exchanges[NAMES.requests].arguments == {"alternate-exchange": NAMES.unrouted}
        assert exchanges["amq.topic"].type == "topic"
        bound = LiveBinding(NAMES.requests, QUEUE, "queue", "v")
        assert bound in await management.bindings_of_exchange(place.vhost, NAMES.requests)
        assert await management.bindings_of_queue(place.vhost, QUEUE) == [bound]
        consumers, connections = await until_known(management, place)
        [consumer] = [each for each in consumers if each.queue.name == QUEUE]
        assert consumer.prefetch_count == 200
        names = {each.name: each.user_provided_name for each in connections}
        assert names[consumer.channel_details.connection_name].endswith(" consume")
    permissions = {each.vhost: each for each in await management.permissions("guest")}
    assert permissions[place.vhost].configure == ".*"


async def until_known(
    management: Management, place: Place
) -> tuple[list[LiveConsumer], list[LiveConnection]]:
    """It learns of consumers and connections within five seconds."""
    async with asyncio.timeout(PATIENCE):
        while True:
            consumers = await management.consumers(place.vhost)
            connections = await management.connections(place.vhost)
            known = {each.name for each in connections if each.user_provided_name}
            if consumers and {each.channel_details.connection_name for each in consumers} <= known:
                return consumers, connections
            await asyncio.sleep(0.2)


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
async def test_totals_count_what_is_in_hand(place: Place, queue_type: str) -> None:
    async with await aio_pika.connect(place.url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(
            "q.1", durable=True, arguments={"x-queue-type": queue_type}
        )
        for _ in range(3):
            await channel.default_exchange.publish(aio_pika.Message(b""), "q.1")
        taken = await queue.get()
        async with asyncio.timeout(PATIENCE):
            while (await place.management.totals(place.vhost, "q")) != {"q.1": 3}:
                await asyncio.sleep(0.1)
            await taken.ack()
            while (await place.management.totals(place.vhost, "q")) != {"q.1": 2}:
                await asyncio.sleep(0.1)
    assert await place.management.totals(place.vhost, "q.") == {}


async def test_who_is_not_let_in_is_told_so(place: Place) -> None:
    url = URL(place.broker.management_url)
    with pytest.raises(ManagementError, match="refused the user name or password") as refused:
        await Management(url.with_password("wrong")).overview()
    assert refused.value.status == 401
    with pytest.raises(ManagementError, match="there is no exchanges/nowhere at"):
        await place.management.exchanges("nowhere")
