"""Bytes of stations' requests that are in hand."""

from collections.abc import Callable
from typing import Any

import pytest

from bridge.gateway.websocket.connection import GatewayCounts
from bridge.gateway.websocket.in_hand import BUSY, BoundedLink, BytesInHand
from bridge.gateway.websocket.notices import Notices
from bridge.ocpp import OcppVersion
from bridge.request.outcome import Reply


class Forwarding:
    def __init__(self) -> None:
        self.abandoned = 0

    def abandon(self) -> None:
        self.abandoned += 1


class Link:
    """Answers when the test says so, or at once."""

    def __init__(self, at_once: Reply | Exception | None = None) -> None:
        self.at_once = at_once
        self.forwarding = Forwarding()
        self.on_reply: Callable[[Reply | Exception], None]

    def start_forward(
        self,
        station_id: str,
        version: OcppVersion,
        payload: bytes,
        message_id: str,
        timeout: float,
        on_reply: Callable[[Reply | Exception], None],
    ) -> Forwarding:
        self.on_reply = on_reply
        if self.at_once is not None:
            on_reply(self.at_once)
        return self.forwarding


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


class Bounded:
    """A station's link of 100 bytes, what it was told, and what is in hand."""

    def __init__(self, link: Link) -> None:
        self.counts = GatewayCounts()
        self.notices = Notices(self.counts)
        self.in_hand = BytesInHand(1000)
        self.link = BoundedLink(link, self.in_hand, "a", 100, self.notices)
        self.told: list[Reply | Exception] = []

    def start(self, size: int) -> Any:
        return self.link.start_forward(
            "CP001",
            OcppVersion.V1_6,
            b"x" * size,
            message_id="1",
            timeout=1.0,
            on_reply=self.told.append,
        )


async def test_a_station_has_no_more_in_hand_than_its_largest_message_until_it_is_answered() -> (
    None
):
    link = Link()
    bounded = Bounded(link)
    first = bounded.start(100)
    assert bounded.in_hand.used == 100
    bounded.start(1)
    (busy,) = bounded.told
    assert isinstance(busy, Reply)
    assert b"GenericError" in busy.body
    assert bounded.counts.causes == {BUSY: 1}
    assert bounded.in_hand.used == 100
    link.on_reply(Reply(b"{}"))
    assert bounded.told[1:] == [Reply(b"{}")]
    first.abandon()  # it has ended
    assert (bounded.in_hand.used, link.forwarding.abandoned) == (0, 0)
    bounded.notices.close()


async def test_one_that_is_abandoned_gives_its_bytes_back_and_is_told_nothing() -> None:
    link = Link()
    bounded = Bounded(link)
    forwarding = bounded.start(100)
    for _ in range(2):
        forwarding.abandon()
    assert (bounded.in_hand.used, link.forwarding.abandoned, bounded.told) == (0, 1, [])
    link.on_reply(Reply(b"{}"))
    assert (bounded.in_hand.used, bounded.told) == (0, [])
    bounded.notices.close()


@pytest.mark.parametrize("result", [Reply(b"{}"), ValueError("no")], ids=["reply", "error"])
async def test_one_may_end_before_it_has_begun(result: Reply | Exception) -> None:
    bounded = Bounded(Link(result))
    bounded.start(100).abandon()
    assert (bounded.in_hand.used, bounded.told) == (0, [result])
    bounded.notices.close()
