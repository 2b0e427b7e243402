"""The broker adds headers to a message whose content header fills a frame already."""

import asyncio
import struct
from collections.abc import Iterator

import pytest

from bridge.client.client import Client
from bridge.rabbitmq.frames.writing import Encoder
from bridge.testing.rabbitmq import PrivateBroker
from bridge.transport import Confirm, Delivery, Properties, Publishing, State, Subscription
from tests.integration.support import (
    NAMES,
    PATIENCE,
    WatchedTransport,
    close_connections,
    ready,
    working,
)
from tests.integration.test_session import RECOVERED, Gate, answers, ask

FRAME_MAX = 8192
"""Bytes. RabbitMQ 4.1 and later refuse to agree on less."""
QUEUE = NAMES.vendor_queue("v")


@pytest.fixture
def url(breakable_broker: PrivateBroker) -> Iterator[str]:
    """A virtual host of a broker whose frames are small."""
    default = breakable_broker.eval("application:get_env(rabbit, frame_max, 131072)").strip()
    breakable_broker.eval(f"application:set_env(rabbit, frame_max, {FRAME_MAX})")
    try:
        yield breakable_broker.add_vhost("full")
    finally:
        breakable_broker.delete_vhost("full")
        breakable_broker.eval(f"application:set_env(rabbit, frame_max, {default})")


def filled(reply_to: str) -> Publishing:
    """A request whose content header is as large as a frame may be."""

    def padded(size: int) -> Publishing:
        properties = Properties(
            headers={"ocpp-station-id": "CP", "padding": "x" * size},
            correlation_id="full",
            reply_to=reply_to,
            delivery_mode=2,
        )
        body = b'{"vendorId":"v","messageId":"m","data":"full"}'
        return Publishing("v", body, properties, NAMES.requests)

    frames = Encoder().publish(1, padded(0))
    method = struct.unpack_from(">I", frames, 3)[0] + 8
    header = struct.unpack_from(">I", frames, method + 3)[0]
    return padded(FRAME_MAX - 8 - int(header))


async def test_a_request_whose_header_the_broker_makes_larger_than_a_frame_is_answered_as_others(
    breakable_broker: PrivateBroker, url: str
) -> None:
    gate = Gate()
    replies: asyncio.Queue[Delivery] = asyncio.Queue()
    requester = WatchedTransport(url, name="requester")
    client = Client(transport=WatchedTransport(url, name="client"), timeout=PATIENCE)
    await requester.start([Subscription("", 0, replies.put_nowait, no_ack=True)], lambda *_: None)
    async with working(url, gate.router) as it, client:
        assert requester.reply_queue is not None
        confirmed: asyncio.Queue[Confirm] = asyncio.Queue()
        fate = confirmed.put_nowait
        asked = ask(client, 1)
        requester.publish(filled(requester.reply_queue), fate)
        await gate.admit(2)
        close_connections(breakable_broker, url)
        await it.transport.until(State.CONSUMING, *RECOVERED)
        gate.open.set()
        assert await answers(asked) == ["0"]
        # Its reply queue is gone with the connection that asked. It was settled all the same.
        await it.transport.drain(PATIENCE)
        assert it.transport.sessions == 2
    await requester.close()
    assert await ready(url, QUEUE, NAMES.dead) == {QUEUE: 0, NAMES.dead: 0}
