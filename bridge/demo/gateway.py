"""The requester's side of the wire contract in one page: what a station gateway does, with nothing but aio-pika.

A gateway written in any other language does the same. The names below are the contract's, spelled out on purpose.
"""

import asyncio
import time
import uuid
from types import TracebackType
from typing import Self

import aio_pika
import aio_pika.abc
import msgspec

from bridge.contract import vendor_key
from bridge.demo.verdict import Answer

REPLY_GRACE = 1.0
"""Seconds to wait for a reply beyond its deadline: a reply may be under way when the time is up."""


class _Vendor(msgspec.Struct, rename="camel"):
    vendor_id: str


def routing_key(payload: bytes) -> str:
    """The routing key of a request: `vendor_key(vendorId)`.

    A payload that has no vendorId to be read has an empty key. No queue is bound to that, so the alternate exchange
    takes it to a worker, and the station gets the CALLERROR it deserves.
    """
    try:
        return vendor_key(msgspec.json.decode(payload, type=_Vendor).vendor_id)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


class Gateway:
    """Asks the bridge for answers. Use it as an async context manager; any number of requests may be outstanding.

    `exchange` is the one requests go to, `datatransfer` unless the bridge runs under another prefix.
    """

    def __init__(self, url: str, exchange: str) -> None:
        self._url = url
        self._exchange_name = exchange
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        self._connection: aio_pika.abc.AbstractConnection
        self._exchange: aio_pika.abc.AbstractExchange
        self._reply_to: str

    async def __aenter__(self) -> Self:
        self._connection = await aio_pika.connect(self._url)
        channel = await self._connection.channel()
        replies = await channel.declare_queue(exclusive=True)  # the broker names it amq.gen-…
        await replies.consume(self._on_reply, no_ack=True)
        self._reply_to = replies.name
        self._exchange = await channel.get_exchange(self._exchange_name)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.close()

    async def ask(self, station_id: str, ocpp_version: str, payload: bytes, wait: float) -> Answer:
        """Send a station's DataTransferRequest and wait up to `wait` seconds for its answer.

        Raises:
            TimeoutError: nobody answered.

        """
        correlation_id = uuid.uuid4().hex
        reply: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[correlation_id] = reply
        request = aio_pika.Message(
            payload,
            content_type="application/json",
            type="DataTransfer",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            correlation_id=correlation_id,
            message_id=str(uuid.uuid4()),  # the message id of the station's CALL
            reply_to=self._reply_to,
            expiration=wait,  # aio-pika takes seconds and sends milliseconds
            headers={
                "ocpp-station-id": station_id,
                "ocpp-version": ocpp_version,
                "ocpp-deadline": int((time.time() + wait) * 1000),
            },
        )
        try:
            await self._exchange.publish(request, routing_key(payload))
            async with asyncio.timeout(wait + REPLY_GRACE):
                return await reply
        finally:
            del self._waiting[correlation_id]

    async def _on_reply(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        """Hand a reply to whoever waits for it; one that comes too late is dropped."""
        waiting = self._waiting.get(message.correlation_id or "")
        if waiting is not None and not waiting.done():
            waiting.set_result(Answer(message.type or "", message.body))
