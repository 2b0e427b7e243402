"""A session's watch over its broker, without one."""

import asyncio
import math
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.rabbitmq.watch import Watch

HEARTBEAT = 10.0


def stand_in(**fields: Any) -> Any:
    return SimpleNamespace(**fields)


class Watched:
    """A watch over stand-ins, and a clock of the test's own."""

    def __init__(self) -> None:
        protocol = stand_in(heartbeat=HEARTBEAT)
        self.publishing = stand_in(name="w publish", silent_for=0.0, protocol=protocol)
        self.consuming = stand_in(name="w consume", silent_for=0.0, protocol=protocol)
        self.lane = stand_in(confirmed=0, unconfirmed=0)
        self.blocked = False
        self.ends: list[str] = []
        self.pulse = stand_in(
            start=lambda: None, stop=lambda: None, turning_for=math.inf, last_hold_up=0.0
        )
        self.watch = Watch(
            self.consuming,
            self.publishing,
            consume_lanes=[],
            publish_lanes=[self.lane],
            is_blocked=lambda: self.blocked,
            end=self.ends.append,
            pulse=self.pulse,
        )
        self.now = 100.0
        self.due: list[Any] = []

    def look(self) -> float:
        """Five seconds after the last look."""
        self.now += 5
        return self.watch.without_confirm()

    def pass_interval(self) -> None:
        """Half a heartbeat interval passes, and what is due then happens."""
        self.now += HEARTBEAT / 2
        due, self.due = self.due, []
        for callback in due:
            callback()

    def call_later(self, delay: float, callback: Any) -> Any:
        assert delay == HEARTBEAT / 2
        self.due.append(callback)
        return stand_in(cancel=self.due.clear)


@pytest.fixture
async def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    watched = Watched()
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "time", lambda: watched.now, raising=False)
    watched.look()
    return watched


@pytest.fixture
async def running(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> Watched:
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_later", watched.call_later, raising=False)
    watched.watch.start()
    return watched


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


async def test_a_broker_that_confirms_nothing_for_two_heartbeats_is_left(running: Watched) -> None:
    running.lane.unconfirmed = 1
    for _ in range(4):
        running.pass_interval()
        assert running.ends == []
    running.pass_interval()
    assert running.ends == ["w publish: the broker has confirmed nothing for 20 s"]
    assert running.due == []


async def test_a_connection_that_is_silent_for_two_heartbeats_is_left(running: Watched) -> None:
    running.consuming.silent_for = 2.0
    running.pass_interval()
    assert running.ends == []
    running.consuming.silent_for = 2.1
    running.pass_interval()
    assert running.ends == ["w consume: no sign of life from the broker for 20 s"]
    assert running.due == []


async def test_a_watch_that_is_stopped_looks_no_more(running: Watched) -> None:
    assert running.due
    running.watch.stop()
    assert running.due == []


async def test_a_broker_that_nobody_could_hear_is_not_taken_for_silent(running: Watched) -> None:
    """What has come while the event loop was blocked is read after this look."""
    running.consuming.silent_for = 3.0
    running.lane.unconfirmed = 1
    running.now += 3 * HEARTBEAT
    running.pulse.turning_for = 0.0
    running.pass_interval()
    running.pulse.turning_for = 2 * HEARTBEAT
    running.pass_interval()
    assert running.ends == []
    running.pulse.turning_for = 2 * HEARTBEAT + 1
    running.pass_interval()
    assert running.ends == ["w consume: no sign of life from the broker for 20 s"]


async def test_confirms_that_nobody_could_hear_are_not_missed(running: Watched) -> None:
    running.lane.unconfirmed = 1
    running.now += 3 * HEARTBEAT
    running.pulse.turning_for = 0.0
    running.pass_interval()
    assert running.ends == []
    running.pulse.turning_for = 2 * HEARTBEAT + 1
    running.pass_interval()
    assert running.ends == ["w publish: the broker has confirmed nothing for 20 s"]


@pytest.mark.parametrize(
    ("turning_for", "hold_up", "excused"),
    [(0.5, 25.0, True), (0.0, 25.0, True), (0.5, 9.0, False), (3.0, 25.0, False)],
)
async def test_a_broker_that_got_no_heartbeats_is_excused(
    watched: Watched, turning_for: float, hold_up: float, excused: bool
) -> None:
    watched.pulse.turning_for = turning_for
    watched.pulse.last_hold_up = hold_up
    told = "; the event loop had been blocked for 25.0 s, so that the broker got no heartbeats"
    assert watched.watch.excuse() == (told if excused else "")
