"""CitrineOS's router, simulated with aio-pika and without any code of this project.

It reads one JSON object from standard input: `exchange`, `messages` (each with `headers` and
`body`, in base64) and `expected`, the number of answers to wait for. It listens as version 1 does
(one queue for each station, by ``stationId``) and as version 2 does (one queue for the router, by
``ocppConnectionName``). It prints one JSON list of the answers, in the order in which they came.

With `stations` in place of `messages` it simulates charging stations too, until its standard input
ends. `stations` is an object of station id → `protocol`, `name` (what that version calls a station)
and `payload`, the station's answer to a CALL; without `payload` it does not answer. Each CALL is
printed as a line of JSON.
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
ROUTING = {"action": "DataTransfer", "eventGroup": "router"}


def told(message: AbstractIncomingMessage, queue: str) -> dict[str, Any]:
    return {
        "queue": queue,
        "exchange": message.exchange,
        "routing_key": message.routing_key,
        "body": message.body.decode(),
        "content_type": message.content_type,
        "content_encoding": message.content_encoding,
        "correlation_id": message.correlation_id,
        "reply_to": message.reply_to,
        "expiration": message.expiration,
        "headers": message.headers,
    }


async def listen(
    channel: AbstractChannel,
    exchange: AbstractExchange,
    name: str,
    station: str,
    states: list[str],
    take: Any,
) -> None:
    """The router's subscription to what the CSMS tells a station."""
    identifier = f"1:{station}" if name == "stationId" else "ocpp-router"
    queue = await channel.declare_queue(
        f"rabbit_queue_{identifier}", durable=True, auto_delete=True
    )
    for state in states:
        filters: dict[str, Any] = {
            "x-match": "all",
            "tenantId": "1",
            name: station,
            "state": state,
            "origin": "csms",
        }
        await queue.bind(exchange, "", arguments=filters)
    await queue.consume(take, no_ack=True)


async def send(
    channel: AbstractChannel,
    exchange: AbstractExchange,
    messages: list[dict[str, Any]],
    expected: int,
) -> None:
    answers: list[dict[str, Any]] = []
    complete = asyncio.Event()
    for name in ("stationId", "ocppConnectionName"):

        async def take(message: AbstractIncomingMessage, name: str = name) -> None:
            answers.append(told(message, name))
            if len(answers) >= expected:
                complete.set()

        await listen(channel, exchange, name, "CP-1", ["1", "2"], take)
    for message in messages:
        published = aio_pika.Message(
            base64.b64decode(message["body"]),
            content_type="application/json",
            content_encoding="utf-8",
            headers=message["headers"],
        )
        await exchange.publish(published, "")
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
            if "payload" not in answer:
                return
            asked = json.loads(message.body)
            context = {
                answer["name"]: station,
                "correlationId": asked["context"]["correlationId"],
                "tenantId": asked["context"]["tenantId"],
                "timestamp": asked["context"]["timestamp"],
            }
            told_again = {
                "origin": "cs",
                **ROUTING,
                "context": context,
                "state": 2,
                "protocol": answer["protocol"],
            }
            reply = aio_pika.Message(
                json.dumps({**told_again, "payload": answer["payload"]}).encode(),
                content_type="application/json",
                content_encoding="utf-8",
                headers={
                    "origin": "cs",
                    **ROUTING,
                    "state": "2",
                    **context,
                    "tenantId": str(context["tenantId"]),
                },
            )
            await exchange.publish(reply, "")

        await listen(channel, exchange, answer["name"], station, ["1", "2"], take)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)


async def main(url: str, told: dict[str, Any]) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(publisher_confirms=False)
        exchange = await channel.declare_exchange(told["exchange"], "headers", durable=False)
        if "stations" in told:
            await serve(channel, exchange, told["stations"])
        else:
            await send(channel, exchange, told["messages"], told["expected"])


asyncio.run(main(sys.argv[1], json.loads(sys.stdin.readline())))
