"""The same worker on plain aio-pika, as its users write it: publish with confirm, then ack."""

import aio_pika
import uvloop
from aio_pika.abc import AbstractIncomingMessage

from tests.bench.messages import RESPONSE_TYPE, answer, peer_options


async def main() -> None:
    """Consume until the connection ends."""
    options = peer_options()
    connection = await aio_pika.connect(options.url)
    channel = await connection.channel(publisher_confirms=True)
    await channel.set_qos(prefetch_count=options.prefetch)
    exchange = channel.default_exchange

    async def on_request(request: AbstractIncomingMessage) -> None:
        assert request.reply_to
        reply = aio_pika.Message(
            await answer(request.body),
            content_type="application/json",
            type=RESPONSE_TYPE,
            correlation_id=request.correlation_id,
        )
        await exchange.publish(reply, routing_key=request.reply_to)
        await request.ack()

    for name in options.queues:
        queue = await channel.get_queue(name, ensure=False)
        await queue.consume(on_request)
    await connection.closed()


if __name__ == "__main__":
    uvloop.run(main())
