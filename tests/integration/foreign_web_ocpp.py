"""The plugin rabbitmq-web-ocpp, simulated with aio-pika and without any code of this project.

It reads one JSON object from standard input: `exchange`, `messages` (each with `key`, the routing
key, `body`, in base64, and `correlation_id`, `reply_to`, `type` and `delivery_mode` as the plugin
sets them) and `expected`, the number of answers to wait for. The answers come to the queue
``ocpp.CP-1`` of the one station, bound by its id. It prints one JSON list of them, in the order in
which they came.

With `stations` in place of `messages` it simulates charging stations until its standard input ends.
`stations` is an object of station id → how the station answers a CALL: `protocol`, `key` (the
middle word of the routing key of its answers) and `frame`, the answer without its message id. Each
CALL is printed as a line of JSON.
"""

import asyncio
import base64
import contextlib
import json
import sys
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractIncomingMessage

WAIT = 25.0


def told(message: AbstractIncomingMessage, station: str) -> dict[str, Any]:
    return {
        "station": station,
        "exchange": message.exchange,
        "routing_key": message.routing_key,
        "body": message.body.decode(),
        "content_type": message.content_type,
        "delivery_mode": message.delivery_mode,
        "correlation_id": message.correlation_id,
        "expiration": message.expiration,
        "type": message.type,
        "reply_to": message.reply_to,
        "message_id": message.message_id,
        "headers": message.headers,
    }


async def connect_station(
    channel: AbstractChannel, exchange: AbstractExchange, station: str, take: Any
) -> None:
    queue = await channel.declare_queue(f"ocpp.{station}", durable=True)
    await queue.bind(exchange, station)
    await queue.consume(take, no_ack=True)


async def send(
    channel: AbstractChannel,
    exchange: AbstractExchange,
    messages: list[dict[str, Any]],
    expected: int,
) -> None:
    answers: list[dict[str, Any]] = []
    complete = asyncio.Event()

    async def take(message: AbstractIncomingMessage) -> None:
        answers.append(told(message, "CP-1"))
        if len(answers) >= expected:
            complete.set()

    await connect_station(channel, exchange, "CP-1", take)
    for message in messages:
        published = aio_pika.Message(
            base64.b64decode(message["body"]),
            content_type="application/json",
            delivery_mode=message["delivery_mode"],
            correlation_id=message["correlation_id"],
            reply_to=message["reply_to"],
            type=message["type"],
        )
        await exchange.publish(published, message["key"])
    with contextlib.suppress(TimeoutError):  # the test finds what is missing
        async with asyncio.timeout(WAIT):
            await complete.wait()
    sys.stdout.write(json.dumps(answers))


async def serve(
    channel: AbstractChannel, exchange: AbstractExchange, stations: dict[str, dict[str, Any]]
) -> None:
    for station, answer in stations.items():

        async def take(
            message: AbstractIncomingMessage,
            station: str = station,
            answer: dict[str, Any] = answer,
        ) -> None:
            sys.stdout.write(json.dumps(told(message, station)) + "\n")
            sys.stdout.flush()
            message_id = json.loads(message.body)[1]
            kind, *rest = answer["frame"]
            frame = json.dumps([kind, message_id, *rest])
            reply = aio_pika.Message(
                frame.encode(),
                content_type="application/json",
                delivery_mode=1,
                correlation_id=message_id,
                reply_to=station,
                type=answer["key"] if kind == 3 else None,
            )
            direction = "conf" if kind == 3 else "error"
            await exchange.publish(reply, f"{answer['protocol']}.{answer['key']}.{direction}")

        await connect_station(channel, exchange, station, take)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)


async def main(url: str, told: dict[str, Any]) -> None:
    async with await aio_pika.connect(url) as connection:
        # The plugin publishes inside the broker: without confirms, and without the message_id that
        # aio-pika adds for them.
        channel = await connection.channel(publisher_confirms=False)
        exchange = await channel.declare_exchange(told["exchange"], "topic", durable=True)
        if "stations" in told:
            await serve(channel, exchange, told["stations"])
        else:
            await send(channel, exchange, told["messages"], told["expected"])


asyncio.run(main(sys.argv[1], json.loads(sys.stdin.readline())))
