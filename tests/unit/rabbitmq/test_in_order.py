"""A channel that goes back to the broker whole."""

import pytest

from bridge.rabbitmq import in_order
from bridge.rabbitmq.in_order import InOrderLane
from bridge.transport import Subscription, TopologyError, Verdict
from tests.unit.rabbitmq.lanes import CONSUME, Lanes
from tests.unit.rabbitmq.wire import ack, message

OTHER = CONSUME + 2


class InOrder(Lanes):
    """With a lane of this kind."""

    def __init__(self) -> None:
        super().__init__()
        lane = self.add_consume_lane(OTHER, InOrderLane)
        assert isinstance(lane, InOrderLane)
        self.lane = lane
        self.lane.subscribe("ctag", Subscription("q", 200, self.take))

    def come(self, *tags: int) -> None:
        for tag in tags:
            self.consuming.receive(message(OTHER, tag, b"%d" % tag))


@pytest.fixture
def lanes() -> InOrder:
    return InOrder()


def test_what_is_left_waits_for_nothing_and_is_not_told_to_the_broker(lanes: InOrder) -> None:
    lanes.come(1, 2, 3)
    first, second, third = lanes.deliveries
    second.settle(Verdict.LEAVE)
    third.settle(Verdict.LEAVE)
    assert lanes.lane.unsettled == 1
    first.settle(Verdict.ACK)
    assert lanes.lane.unsettled == 0
    lanes.loop.turn()
    assert lanes.consuming.socket.writes == [ack(OTHER, 1, multiple=True)]


def test_a_lane_that_lets_go_hands_on_nothing_more(lanes: InOrder) -> None:
    lanes.come(1)
    lanes.lane.let_go()
    assert not lanes.lane.idle.is_set()
    lanes.come(2, 3)
    lanes.lane.release()  # replies can be sent again
    assert [delivery.body for delivery in lanes.deliveries] == [b"1"]
    lanes.deliveries[0].settle(Verdict.ACK)
    assert lanes.lane.idle.is_set()


def test_a_lane_at_which_nothing_is_at_work_is_idle_at_once(lanes: InOrder) -> None:
    lanes.lane.let_go()
    assert lanes.lane.idle.is_set()


def test_a_lane_that_stays_hands_on_what_it_has_kept(lanes: InOrder) -> None:
    lanes.come(1)
    lanes.lane.let_go()
    lanes.come(2, 3)
    lanes.lane.stay()
    lanes.come(4)
    assert [delivery.body for delivery in lanes.deliveries] == [b"1", b"2", b"3", b"4"]
    assert lanes.lane.unsettled == 4


async def test_a_queue_that_cannot_be_consumed_again_ends_the_session_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[str] = []
    shares = in_order.InOrder([], ended.append)

    async def refused() -> None:
        raise TopologyError("queue 'q' cannot be consumed: NOT_FOUND")

    monkeypatch.setattr(shares, "_keep_shares", refused)
    await shares._share()
    assert ended == ["queue 'q' cannot be consumed: NOT_FOUND"]
