"""Reading a queue without a broker: what a browser's lane does with a message."""

import asyncio
from types import SimpleNamespace
from typing import Any

from bridge.rabbitmq.browser import BrowsingLane
from bridge.rabbitmq.frames.writing import Encoder
from bridge.rabbitmq.outbox import Outbox
from bridge.rabbitmq.publishing import PublishLane
from bridge.transport import Delivery, Properties, Subscription


async def test_a_message_without_readable_properties_is_handed_on_and_not_rejected() -> None:
    """A worker's lane rejects it to the dead-letter exchange; that queue has none, and loses it."""
    socket: Any = SimpleNamespace(is_closing=lambda: True)
    outbox = Outbox(socket, asyncio.get_running_loop())
    ends: list[str] = []
    publishes = PublishLane(
        1,
        outbox,
        Encoder(),
        on_end=ends.append,
        on_returned=lambda: None,
        on_refused=lambda: None,
    )
    lane = BrowsingLane(1, outbox, publishes, on_end=ends.append, on_settled=lambda: None)
    handed_on: list[Delivery] = []
    lane.subscribe("t", Subscription("q", 10, handed_on.append))
    lane.on_deliver(b"t", 1, False, "x", "k", None, b"body")
    assert [(delivery.body, delivery.properties) for delivery in handed_on] == [
        (b"body", Properties())
    ]
    assert outbox.parts == []
    assert lane.unsettled == 1
