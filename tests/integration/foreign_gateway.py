"""A station gateway written from the wire contract with aio-pika, without any code of this project.

It reads one JSON list of requests from standard input, publishes them all at once, and prints one
JSON object: the id of each request → the replies to it. Each request has an `id`, a `vendor_id`
(the vendor to route to), a `body` (text), `headers`, `reply` ("gen", "direct", "named", "none", or
{"to": a queue's name}), `within` (seconds until its deadline), `expiration` (milliseconds),
`message_id`, and `expected`, the number of replies. The last request is a sentinel: its reply comes
after those to requests that should have none.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

KEPT = b"abcdefghijklmnopqrstuvwxyz0123456789.-"
NAMED = "datatransfer.replies.x"
WAIT = 25.0


def vendor_key(vendor_id: str) -> str:
    key = ""
    for byte in vendor_id.encode().lower():
        key += chr(byte) if byte in KEPT else f"_{byte:02x}"
    if len(key) > 200:
        key = key[:100] + "_x" + hashlib.sha256(key.encode()).hexdigest()
    return key


class Replies:
    def __init__(self, expected: dict[str, int]) -> None:
        self.expected = expected
        self.by_id: dict[str, list[dict[str, Any]]] = {name: [] for name in expected}
        self.complete = asyncio.Event()

    async def take(self, message: AbstractIncomingMessage, came_by: str) -> None:
        self.by_id[message.correlation_id or ""].append(
            {
                "type": message.type,
                "content_type": message.content_type,
                "expiration": message.expiration,
                "headers": message.headers,
                "message_id": message.message_id,
                "reply_to": message.reply_to,
                "user_id": message.user_id,
                "body": message.body.decode(),
                "came_by": came_by,
            }
        )
        if all(len(self.by_id[name]) >= count for name, count in self.expected.items()):
            self.complete.set()


def consumer(
    replies: Replies, came_by: str
) -> Callable[[AbstractIncomingMessage], Awaitable[None]]:
    async def take(message: AbstractIncomingMessage) -> None:
        await replies.take(message, came_by)

    return take


async def main(url: str, requests: list[dict[str, Any]]) -> None:
    replies = Replies({request["id"]: request["expected"] for request in requests})
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(on_return_raises=True)
        private = await channel.declare_queue(exclusive=True)
        await private.consume(consumer(replies, "gen"), no_ack=True)
        named = await channel.declare_queue(NAMED, durable=True)
        await named.consume(consumer(replies, "named"), no_ack=True)
        direct = aio_pika.Queue(channel, "amq.rabbitmq.reply-to", False, False, False, None)
        await direct.consume(consumer(replies, "direct"), no_ack=True)
        addresses = {
            "gen": private.name,
            "direct": "amq.rabbitmq.reply-to",
            "named": NAMED,
            "none": None,
        }
        exchange = await channel.get_exchange("datatransfer")
        for request in requests:
            reply, headers = request["reply"], request["headers"]
            if request["within"] is not None:
                headers["ocpp-deadline"] = int((time.time() + request["within"]) * 1000)
            message = aio_pika.Message(
                base64.b64decode(request["body"]),
                content_type="application/json",
                type="DataTransfer",
                correlation_id=request["id"] if reply != "none" else None,
                message_id=request.get("message_id"),
                reply_to=reply["to"] if isinstance(reply, dict) else addresses[reply],
                headers=headers,
                expiration=None
                if request.get("expiration") is None
                else request["expiration"] / 1000,
                delivery_mode=2,
            )
            await exchange.publish(message, vendor_key(request["vendor_id"]))
        with contextlib.suppress(TimeoutError):  # the test finds what is missing
            async with asyncio.timeout(WAIT):
                await replies.complete.wait()
        await named.delete(if_unused=False, if_empty=False)
    sys.stdout.write(json.dumps(replies.by_id))


asyncio.run(main(sys.argv[1], json.load(sys.stdin)))
