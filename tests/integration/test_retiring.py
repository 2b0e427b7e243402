"""A vendor's queue that nobody handles any more: its requests are answered, then it is deleted."""

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest

from bridge.client.client import Client
from bridge.dialects.native import Native
from bridge.dialects.topology import QueueType, worker_topology
from bridge.rabbitmq.changing import open_changes
from bridge.rabbitmq.declaring import refusals
from bridge.rabbitmq.retiring import Retired, retire
from bridge.rabbitmq.urls import parse_urls
from bridge.testing.rabbitmq import PrivateBroker
from bridge.transport import TopologyError
from tests.integration.support import NAMES, PATIENCE, request, working
from tests.integration.test_migrating import Place, echo

OLD = NAMES.vendor_queue("old")


@pytest.fixture
def place(managed_broker: PrivateBroker) -> Iterator[Place]:
    place = Place(managed_broker)
    yield place
    managed_broker.delete_vhost(place.vhost)


async def prune(place: Place, queue: str = OLD, patience: float = PATIENCE) -> Retired:
    async with open_changes(parse_urls([place.url]), "prune") as changes:
        return await retire(
            changes,
            place.management,
            place.vhost,
            queue,
            names=NAMES,
            name="prune",
            patience=patience,
        )


@pytest.mark.parametrize("queue_type", QueueType)
async def test_what_is_in_it_is_answered_and_it_is_deleted(
    place: Place, queue_type: QueueType
) -> None:
    async with open_changes(parse_urls([place.url]), "declare") as changes:
        topology = worker_topology(Native(), ["old", "v"], queue_type=queue_type)
        assert await refusals(changes.connection.connection, topology.parts, passive=False) == []
    async with Client(place.url, timeout=PATIENCE) as client:
        waiting = [
            asyncio.create_task(client.data_transfer("CP", request("old"))) for _ in range(50)
        ]
        async with open_changes(parse_urls([place.url]), "look") as changes:
            async with asyncio.timeout(PATIENCE):
                while (seen := await changes.look(OLD)) is None or seen.ready < 50:
                    await asyncio.sleep(0.05)
        assert await prune(place) == Retired(OLD, 50)
        async with working(place.url, echo(Counter()), queue_type=queue_type):
            replies = await asyncio.gather(*waiting)
            after = await client.data_transfer("CP", request("old"))
    assert {reply.status for reply in (*replies, after)} == {"UnknownVendorId"}
    assert await place.management.queue(place.vhost, OLD) is None


async def test_one_that_a_worker_consumes_is_left_alone_and_the_worker_is_named(
    place: Place,
) -> None:
    async with working(place.url, echo(Counter())), Client(place.url, timeout=PATIENCE) as client:
        with pytest.raises(TopologyError, match=r"still has a consumer \(dtbridge@.* consume\)"):
            await prune(place, NAMES.vendor_queue("v"))
        assert (await client.data_transfer("CP", request(data=1))).status == "Accepted"


async def test_one_that_is_gone_is_no_error(place: Place) -> None:
    assert await prune(place) == Retired(OLD, 0)
