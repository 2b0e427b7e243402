"""Which CALLs of a connection have the same name."""

import pytest

from bridge.gateway.connection_id import JUST_ANSWERED, ConnectionId


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def connection(clock: Clock) -> ConnectionId:
    return ConnectionId(clock)


def answered(connection: ConnectionId, message_id: str | None) -> str:
    name = connection.begin(message_id)
    connection.end(name)
    return name


def test_a_call_that_comes_again_has_its_name_in_hand_and_just_answered(
    connection: ConnectionId, clock: Clock
) -> None:
    first = connection.begin("1")
    clock.now += 10 * JUST_ANSWERED  # in hand, however long
    assert connection.begin("1") == first
    connection.end(first)
    connection.end(first)
    clock.now += JUST_ANSWERED
    assert answered(connection, "1") == first


def test_an_id_that_is_used_again_later_is_another_call(
    connection: ConnectionId, clock: Clock
) -> None:
    first = answered(connection, "serial")
    clock.now += JUST_ANSWERED + 0.1
    second = answered(connection, "serial")
    assert second != first
    assert answered(connection, "serial") == second


def test_an_id_that_comes_again_after_another_is_another_call(connection: ConnectionId) -> None:
    names = [answered(connection, message_id) for message_id in ("1", "2", "1")]
    assert len(set(names)) == 3


def test_calls_without_an_id_have_nothing_in_common(connection: ConnectionId) -> None:
    assert answered(connection, None) != answered(connection, None)


def test_another_connection_has_other_names(clock: Clock) -> None:
    assert answered(ConnectionId(clock), "1") != answered(ConnectionId(clock), "1")


def test_the_end_of_an_earlier_call_says_nothing_about_this_one(
    connection: ConnectionId, clock: Clock
) -> None:
    first = connection.begin("1")
    second = connection.begin("2")
    connection.end(first)
    clock.now += JUST_ANSWERED + 0.1
    assert connection.begin("2") == second
