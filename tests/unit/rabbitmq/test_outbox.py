"""What a turn of the event loop adds is one write at its end."""

from functools import partial

from bridge.rabbitmq.outbox import LARGE
from tests.unit.rabbitmq.lanes import Connection, Loop


def test_what_a_turn_adds_is_one_write_at_its_end() -> None:
    loop = Loop()
    connection = Connection(loop)
    for part in (b"a", b"b", b"c"):
        connection.outbox.add(part)
    assert connection.socket.writes == []
    loop.turn()
    connection.outbox.add(b"d")
    loop.turn()
    loop.turn()
    assert connection.socket.writes == [b"abc", b"d"]
    assert loop.asked == 2


def test_a_flush_without_anything_to_send_writes_nothing() -> None:
    connection = Connection(Loop())
    connection.outbox.flush()
    assert connection.socket.writes == []


def test_what_is_added_before_a_flush_goes_with_it_and_asks_for_no_other() -> None:
    loop = Loop()
    connection = Connection(loop)
    for word in (b"and ", b"last"):
        connection.outbox.add_source(partial(connection.outbox.add, word))
    connection.outbox.add(b"first ")
    loop.turn()
    loop.turn()
    assert connection.socket.writes == [b"first and last"]
    assert loop.asked == 1


def test_a_source_that_was_removed_adds_nothing() -> None:
    connection = Connection(Loop())
    first, second = (partial(connection.outbox.add, word) for word in (b"first", b"second"))
    for add_more in (first, second):
        connection.outbox.add_source(add_more)
    connection.outbox.remove_source(first)
    connection.outbox.flush()
    assert connection.socket.writes == [b"second"]


def test_nothing_is_written_to_a_socket_that_closes() -> None:
    loop = Loop()
    connection = Connection(loop)
    connection.outbox.add(b"late")
    connection.socket.closing = True
    loop.turn()
    assert connection.socket.writes == []


def test_a_large_part_stands_alone_and_what_is_small_between_is_joined() -> None:
    loop = Loop()
    connection = Connection(loop)
    first, second, third = (bytes((n,)) * LARGE for n in range(3))
    connection.outbox.add(b"a")
    connection.outbox.add_large([b"b", first, second, b"c"])
    connection.outbox.add(b"d")
    connection.outbox.add_large([third])
    loop.turn()
    connection.outbox.add(b"e")
    connection.outbox.add(b"f")
    loop.turn()
    assert connection.socket.writes == [b"ab", first, second, b"cd", third, b"ef"]
    assert loop.asked == 2


def test_nothing_large_is_written_to_a_socket_that_closes() -> None:
    connection = Connection(Loop())
    connection.outbox.add_large([bytes(LARGE)])
    connection.socket.closing = True
    connection.outbox.flush()
    assert connection.socket.writes == []
