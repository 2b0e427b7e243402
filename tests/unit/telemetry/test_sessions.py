"""What a transport tells of its states becomes numbers: sessions, their ends, blocked seconds."""

import pytest

from bridge.telemetry.sessions import CAUSES, OTHER, STATES, Sessions, cause_of
from bridge.transport import State


class Story:
    """Sessions whose clocks are set by the test."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sessions = Sessions(lambda: 1_800_000_000.0 + self.now, lambda: self.now)

    def enter(self, state: State, reason: str = "", *, after: float = 0.0) -> None:
        self.now += after
        self.sessions.enter(state.value, reason)


@pytest.fixture
def story() -> Story:
    return Story()


def test_the_states_are_those_of_the_seam() -> None:
    assert tuple(state.value for state in State) == STATES


def test_a_start_is_one_session_and_no_loss(story: Story) -> None:
    story.enter(State.CONNECTING, "to amqp://localhost")
    story.enter(State.CONNECTING, "binding 1,000 keys")
    story.enter(State.CONSUMING, after=5.0)
    assert story.sessions.opened == 1
    assert story.sessions.began_at == 1_800_000_105.0
    assert not any(story.sessions.lost.values())


def test_each_loss_is_counted_once_by_its_cause(story: Story) -> None:
    story.enter(State.CONSUMING)
    story.enter(State.CONNECTING, "dtbridge@h:1 consume: the connection was lost: reset")
    story.enter(State.CONNECTING, "to amqp://localhost")
    story.enter(State.CONSUMING)
    story.enter(State.BLOCKED)
    story.enter(State.CONNECTING, "dtbridge@h:1 publish: no sign of life from the broker for 20 s")
    lost = {cause: number for cause, number in story.sessions.lost.items() if number}
    assert lost == {"connection_lost": 1, "silent": 1}
    assert story.sessions.opened == 2


def test_an_alarm_that_ends_is_no_new_session(story: Story) -> None:
    story.enter(State.CONSUMING)
    began_at = story.sessions.began_at
    story.enter(State.BLOCKED, after=1.0)
    story.enter(State.CONSUMING, after=7.0)
    assert (story.sessions.opened, story.sessions.began_at) == (1, began_at)


def test_blocked_seconds_go_on_while_it_is_blocked_and_stop_when_it_is_not(story: Story) -> None:
    story.enter(State.CONSUMING)
    assert story.sessions.blocked_seconds == 0.0
    story.enter(State.BLOCKED)
    story.now += 3.0
    assert story.sessions.blocked_seconds == 3.0
    story.enter(State.CONSUMING, after=1.0)
    story.now += 10.0
    assert story.sessions.blocked_seconds == 4.0
    story.enter(State.BLOCKED)
    story.enter(State.CONNECTING, "closed", after=2.0)
    assert story.sessions.blocked_seconds == 6.0


def test_a_drain_is_no_loss(story: Story) -> None:
    story.enter(State.CONSUMING)
    story.enter(State.DRAINING)
    story.enter(State.STOPPED, "closed")
    assert not any(story.sessions.lost.values())


REASONS = {
    "dtbridge@h:1 consume: no sign of life from the broker for 20 s": "silent",
    "dtbridge@h:1 publish: the broker has confirmed nothing for 20 s": "unconfirmed",
    "not consuming: the broker says nothing of queue 'q'": "not_consuming",
    "not consuming: queue 'q' has 0 consumers and 3 messages waiting": "not_consuming",
    "the broker cancelled the consumer of 'q': it was deleted or moved": "consumer_cancelled",
    "the broker closed the consuming channel: 406 PRECONDITION_FAILED": "channel_closed",
    "the broker closed the publishing channel: 404 NOT_FOUND": "channel_closed",
    "the broker closed the binding channel: 403 ACCESS_REFUSED": "channel_closed",
    "dtbridge@h:1 consume: the broker closed the connection: 320 CONNECTION_FORCED": (
        "closed_by_broker"
    ),
    "dtbridge@h:1 consume: the broker sent a broken frame: of 7 bytes": "protocol_error",
    "dtbridge@h:1 consume: a delivery could not be taken: KeyError": "internal_error",
    "publishing failed: KeyError": "internal_error",
    "dtbridge@h:1 consume: the connection was lost: [Errno 104]": "connection_lost",
    "dtbridge@h:1 consume: the connection was closed": "connection_lost",
    "closed by the test": OTHER,
    "": OTHER,
}


@pytest.mark.parametrize(("reason", "cause"), REASONS.items())
def test_a_reason_has_its_cause(reason: str, cause: str) -> None:
    assert cause_of(reason) == cause


def test_every_cause_has_a_reason_here() -> None:
    assert set(REASONS.values()) == {*CAUSES.values(), OTHER}


def test_what_a_broker_says_does_not_change_the_cause() -> None:
    reason = "the broker closed the connection: 541 the connection was lost, not consuming:"
    assert cause_of(f"dtbridge@h:1 consume: {reason}") == "closed_by_broker"
