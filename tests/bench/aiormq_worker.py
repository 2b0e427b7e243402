"""The same worker on raw aiormq, aio-pika's lower half.

It uses no publisher confirms, so it promises less than all the others.
"""

import asyncio

import aiormq
import uvloop
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from tests.bench.messages import RESPONSE_TYPE, answer, peer_options


async def main() -> None:
    """Consume until the connection ends."""
    options = peer_options()
    connection = await aiormq.connect(options.url)
    channel = await connection.channel(publisher_confirms=False)
    await channel.basic_qos(prefetch_count=options.prefetch)

    async def on_request(request: DeliveredMessage) -> None:
        properties = request.header.properties
        assert properties.reply_to
        assert request.delivery_tag
        await channel.basic_publish(
            await answer(request.body),
            routing_key=properties.reply_to,
            properties=Basic.Properties(
                content_type="application/json",
                message_type=RESPONSE_TYPE,
                correlation_id=properties.correlation_id,
            ),
        )
        await channel.basic_ack(request.delivery_tag)

    for name in options.queues:
        await channel.basic_consume(name, on_request)
    await asyncio.wait([connection.closing])


if __name__ == "__main__":
    uvloop.run(main())
