"""What was refused is counted by cause, and causes have a bound."""

import pytest

from bridge.gateway.websocket.connection import GatewayCounts
from bridge.gateway.websocket.notices import CAUSES_MAX, OTHER, Notices


@pytest.fixture
async def notices() -> Notices:
    return Notices(GatewayCounts())


async def test_each_kind_of_refusal_is_counted_by_its_cause(notices: Notices) -> None:
    notices.refused("wrong password", station="CP1")
    notices.cut_off("it floods")
    notices.held_back("too much")
    notices.held_back("too much")
    notices.close()
    assert notices.refusals == {"wrong password": 1}
    assert notices.cuts == {"it floods": 1}
    assert notices.holds == {"too much": 2}


async def test_there_are_no_more_causes_than_the_bound(notices: Notices) -> None:
    for number in range(1_000):
        notices.refused(f"cause {number}")
    notices.refused("cause 1")
    notices.close()
    assert len(notices.refusals) == CAUSES_MAX + 1
    assert notices.refusals[OTHER] == 1_000 - CAUSES_MAX
    assert notices.refusals["cause 1"] == 2
