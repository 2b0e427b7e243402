"""The two brokers that one suite runs over: the twin in memory, and RabbitMQ.

RabbitMQ is used as a foreign process would use it: with aio-pika's channels, not with the bridge.
"""

import asyncio
from typing import Any

import aio_pika
import aiormq
import msgspec

from bridge.dialects.dialect import Dialect
from bridge.dialects.native import Native
from bridge.dialects.topology import Exchange, Mode, Queue, Topology, worker_topology
from bridge.rabbitmq.declaring import ensure
from bridge.rabbitmq.transport import RabbitTransport
from bridge.rabbitmq.urls import parse_urls
from bridge.testing import MemoryBroker, MemoryTransport
from bridge.testing.conformance import NAMES, PATIENCE, Received, Side
from bridge.transport import (
    Binding,
    Delivery,
    Properties,
    Publishing,
    Subscription,
    Transport,
)

__all__ = ["NAMES", "PATIENCE", "MemorySide", "RabbitSide", "Received", "Side"]


def _topology(vendor_ids: tuple[str, ...], delivery_limit: int) -> Topology:
    """What a worker needs, but for the delivery limit of the vendors' queues."""
    plan = worker_topology(Native(NAMES), vendor_ids)
    vendors = set(map(NAMES.vendor_queue, vendor_ids))
    limit = {"x-delivery-limit": delivery_limit}
    parts = (
        msgspec.structs.replace(part, arguments=part.arguments | limit)
        if isinstance(part, Queue) and part.name in vendors
        else part
        for part in plan.parts
    )
    return Topology(tuple(parts))


class MemorySide:
    """The twin."""

    def __init__(self) -> None:
        self._broker = MemoryBroker()
        self._inboxes: dict[str, asyncio.Queue[Delivery]] = {}

    async def declare(self, *vendor_ids: str, delivery_limit: int = 20) -> None:
        self._broker.declare(_topology(vendor_ids, delivery_limit))

    async def declare_dialect(self, dialect: Dialect) -> None:
        self._broker.declare(worker_topology(dialect))

    async def declare_topology(self, topology: Topology) -> None:
        self._broker.declare(topology)

    async def bind(self, queue: str, binding: Binding) -> None:
        self._broker.bind(queue, binding.exchange, binding.routing_key, binding.arguments)

    async def make_queue(self, name: str, *, full: bool = False) -> None:
        self._broker.declare_queue(name).full = full

    async def make_room(self, name: str) -> None:
        self._broker.queues[name].full = False

    async def pause(self, key: str, *, paused: bool = True, told: bool = True) -> None:
        if told:
            self._broker.pause(key, paused=paused)
        else:
            (self._broker.paused.add if paused else self._broker.paused.discard)(key)

    def transport(self, topology: Topology | None = None) -> Transport:
        if topology is not None and topology.mode is Mode.DECLARE:
            self._broker.declare(topology)
        return MemoryTransport(self._broker)

    async def declare_exchange(self, exchange: Exchange) -> None:
        self._broker.declare_exchange(exchange.name, exchange.kind)

    async def delete_exchange(self, name: str) -> None:
        del self._broker.exchanges[name]

    def cut(self, transport: Transport) -> None:
        assert isinstance(transport, MemoryTransport)
        assert transport._connection is not None
        transport._connection.end("cut by the test")

    async def put(self, publishing: Publishing) -> None:
        self._broker.publish(publishing)

    async def take(self, queue: str) -> Received:
        inbox = self._inboxes.get(queue)
        if inbox is None:
            inbox = self._inboxes[queue] = asyncio.Queue()
            subscription = Subscription(queue, 0, inbox.put_nowait, no_ack=True)
            await MemoryTransport(self._broker).start([subscription], lambda *_: None)
        async with asyncio.timeout(PATIENCE):
            delivery = await inbox.get()
        return Received(delivery.body, delivery.routing_key, delivery.properties, delivery.exchange)

    async def left(self, queue: str) -> int:
        inbox = self._inboxes.get(queue)
        return len(self._broker.queues[queue].ready) + (inbox.qsize() if inbox else 0)

    async def close(self) -> None:
        """There is nothing to close."""


class RabbitSide:
    """RabbitMQ."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: aio_pika.abc.AbstractConnection | None = None
        self._underlay: aiormq.abc.AbstractChannel | None = None
        self._inboxes: dict[str, asyncio.Queue[aiormq.abc.DeliveredMessage]] = {}

    async def open(self) -> None:
        self._connection = connection = await aio_pika.connect(self._url)
        self._underlay = await (await connection.channel()).get_underlay_channel()

    @property
    def _channel(self) -> aiormq.abc.AbstractChannel:
        assert self._underlay is not None
        return self._underlay

    async def declare(self, *vendor_ids: str, delivery_limit: int = 20) -> None:
        assert self._connection is not None
        await ensure(self._connection, _topology(vendor_ids, delivery_limit))

    async def declare_dialect(self, dialect: Dialect) -> None:
        assert self._connection is not None
        await ensure(self._connection, worker_topology(dialect))

    async def declare_topology(self, topology: Topology) -> None:
        assert self._connection is not None
        await ensure(self._connection, topology)

    async def bind(self, queue: str, binding: Binding) -> None:
        await self._channel.queue_bind(
            queue, binding.exchange, binding.routing_key, arguments=binding.arguments
        )

    async def make_queue(self, name: str, *, full: bool = False) -> None:
        arguments: dict[str, Any] = (
            {"x-max-length": 1, "x-overflow": "reject-publish"} if full else {}
        )
        await self._channel.queue_declare(name, durable=True, arguments=arguments)
        if full:
            await self._channel.basic_publish(b"in the way", routing_key=name)

    async def make_room(self, name: str) -> None:
        await self._channel.queue_purge(name)

    async def pause(self, key: str, *, paused: bool = True, told: bool = True) -> None:
        if paused:
            await self._channel.queue_bind(NAMES.paused, NAMES.paused, key)
        else:
            await self._channel.queue_unbind(NAMES.paused, NAMES.paused, key)
        if told:
            await self._channel.basic_publish(b"", exchange=NAMES.control, routing_key=key)

    def transport(self, topology: Topology | None = None) -> Transport:
        return RabbitTransport(parse_urls([self._url]), topology=topology)

    async def declare_exchange(self, exchange: Exchange) -> None:
        await self._channel.exchange_declare(
            exchange.name, exchange_type=exchange.kind, durable=exchange.durable
        )

    async def delete_exchange(self, name: str) -> None:
        await self._channel.exchange_delete(name)

    def cut(self, transport: Transport) -> None:
        assert isinstance(transport, RabbitTransport)
        assert transport._session is not None
        transport._session._consuming.protocol.abort("cut by the test")

    async def put(self, publishing: Publishing) -> None:
        given = publishing.properties
        properties = aiormq.spec.Basic.Properties(
            content_type=given.content_type,
            content_encoding=given.content_encoding,
            headers=given.headers,
            delivery_mode=given.delivery_mode,
            correlation_id=given.correlation_id,
            reply_to=given.reply_to,
            expiration=given.expiration,
            message_id=given.message_id,
            message_type=given.type,
            user_id=given.user_id,
            app_id=given.app_id,
        )
        await self._channel.basic_publish(
            publishing.body,
            exchange=publishing.exchange,
            routing_key=publishing.routing_key,
            properties=properties,
        )

    async def take(self, queue: str) -> Received:
        inbox = self._inboxes.get(queue)
        if inbox is None:
            inbox = self._inboxes[queue] = asyncio.Queue()

            async def keep(message: aiormq.abc.DeliveredMessage) -> None:
                await inbox.put(message)

            await self._channel.basic_consume(queue, keep, no_ack=True)
        async with asyncio.timeout(PATIENCE):
            message = await inbox.get()
        found = message.header.properties
        properties = Properties(
            content_type=found.content_type,
            content_encoding=found.content_encoding,
            headers=None if found.headers is None else dict(found.headers),
            delivery_mode=found.delivery_mode,
            priority=found.priority,
            correlation_id=found.correlation_id,
            reply_to=found.reply_to,
            expiration=found.expiration,
            message_id=found.message_id,
            type=found.message_type,
            user_id=found.user_id,
            app_id=found.app_id,
        )
        return Received(message.body, message.routing_key or "", properties, message.exchange or "")

    async def left(self, queue: str) -> int:
        inbox = self._inboxes.get(queue)
        waiting = -1
        while True:
            declared = await self._channel.queue_declare(queue, passive=True)
            before, waiting = waiting, int(declared.message_count or 0)
            if waiting in {0, before}:
                return waiting + (inbox.qsize() if inbox else 0)
            await asyncio.sleep(
                0.3
            )  # a quorum queue counts an acknowledgement when its log has it: ask twice

    async def close(self) -> None:
        assert self._connection is not None
        await self._connection.close()
