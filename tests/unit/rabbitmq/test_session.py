"""A session's watch over its broker, without one."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.rabbitmq.session import Session


class Watched(Session):
    """A session with a publishing lane and a clock of the test's own."""

    def __init__(self) -> None:
        super().__init__("watched", lambda _: None, lambda: None)
        self.lane = SimpleNamespace(confirmed=0, unconfirmed=0)
        lane: Any = self.lane
        self._publish_channels.append((lane, lane))
        self.now = 100.0

    def look(self) -> float:
        """Five seconds after the last look."""
        self.now += 5
        return self._without_confirm()


@pytest.fixture
async def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    session = Watched()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: session.now, raising=False)
    session.look()
    return session


async def test_publishings_that_wait_while_nothing_is_confirmed_are_counted_in_seconds(
    watched: Watched,
) -> None:
    watched.lane.unconfirmed = 3
    assert [watched.look(), watched.look()] == [5, 10]
    watched.lane.unconfirmed = 7  # more of them is no sign of life
    assert watched.look() == 15


async def test_a_single_confirm_is_a_sign_of_life(watched: Watched) -> None:
    watched.lane.unconfirmed = 3
    watched.look()
    watched.lane.confirmed = 1
    assert [watched.look(), watched.look()] == [0, 5]


async def test_where_nothing_waits_nothing_is_missed(watched: Watched) -> None:
    assert [watched.look(), watched.look()] == [0, 0]
    watched.lane.unconfirmed = 1
    assert watched.look() == 5


async def test_a_broker_that_blocks_publishing_confirms_nothing_and_is_not_left(
    watched: Watched,
) -> None:
    watched.lane.unconfirmed = 3
    watched.blocked = True
    assert [watched.look(), watched.look()] == [0, 0]
    watched.blocked = False
    assert watched.look() == 5
