"""The same worker on FastStream, as its documentation shows it: a typed request in, an answer out.

Its RPC feature publishes what a subscriber returns to `reply_to`, with a confirm, and then acks the
request.
"""

import asyncio

import uvloop
from fast_depends.msgspec import MsgSpecSerializer
from faststream import AckPolicy
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue

from tests.bench.messages import Request, Response, meter_sample, peer_options


async def main() -> None:
    """Consume until ended."""
    options = peer_options()
    channel = Channel(prefetch_count=options.prefetch, publisher_confirms=True)
    broker = RabbitBroker(
        options.url, default_channel=channel, serializer=MsgSpecSerializer(), logger=None
    )

    async def on_request(request: Request) -> Response:
        return Response("Accepted", await meter_sample(request.data))

    for name in options.queues:
        broker.subscriber(RabbitQueue(name, declare=False), ack_policy=AckPolicy.NACK_ON_ERROR)(
            on_request
        )
    await broker.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
