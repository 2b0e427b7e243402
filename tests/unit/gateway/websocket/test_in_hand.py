"""Bytes of stations' requests that are in hand."""

import asyncio
from typing import Any

from bridge.gateway.websocket.connection import GatewayCounts
from bridge.gateway.websocket.in_hand import BUSY, BoundedLink, BytesInHand
from bridge.gateway.websocket.notices import Notices
from bridge.ocpp import OcppVersion
from bridge.request.outcome import Kind, Reply


class Link:
    def __init__(self) -> None:
        self.goes_on = asyncio.Event()

    async def forward(self, *arguments: Any, **options: Any) -> Reply:
        await self.goes_on.wait()
        return Reply(b"{}")


def test_one_address_gets_half() -> None:
    in_hand = BytesInHand(100)
    assert in_hand.take("a", 50)
    assert not in_hand.take("a", 1)
    assert in_hand.take("b", 30)
    assert in_hand.take("c", 20)
    assert not in_hand.take("d", 1)
    in_hand.give_back("a", 50)
    assert in_hand.take("d", 50)
    for _ in range(2):
        assert in_hand.take("e", 0)
    for _ in range(2):
        in_hand.give_back("e", 0)


async def test_a_station_has_no_more_in_hand_than_its_largest_message() -> None:
    link, counts = Link(), GatewayCounts()
    notices = Notices(counts)
    bounded = BoundedLink(link, BytesInHand(1000), "a", 100, notices)

    def forward(size: int) -> asyncio.Task[Reply]:
        return asyncio.create_task(
            bounded.forward("CP001", OcppVersion.V1_6, b"x" * size, message_id="1")
        )

    first = forward(100)
    await asyncio.sleep(0)
    reply = await forward(1)
    assert reply.kind is Kind.CALL_ERROR
    assert b"GenericError" in reply.body
    assert counts.causes == {BUSY: 1}
    cancelled = first
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    link.goes_on.set()
    assert (await forward(100)).body == b"{}"
    notices.close()
