"""Queue.Bind and Queue.Unbind, many at a time: what is sent, and what a lost connection does."""

import asyncio
import itertools
from collections.abc import Callable

import pamqp.commands
import pamqp.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.rabbitmq.binding import (
    IN_FLIGHT,
    Bindings,
    BindLane,
    Change,
    encode_bind,
    encode_unbind,
)
from bridge.rabbitmq.frames.ids import ProtocolError
from bridge.rabbitmq.frames.reading import FrameStream
from bridge.rabbitmq.frames.writing import short_string
from tests.unit.rabbitmq.lanes import Connection, Loop
from tests.unit.rabbitmq.wire import (
    Recorder,
    ack,
    deliver,
    frame,
    header,
    method,
    return_payload,
    short,
)

CHANNEL = 3
BIND_OK = frame(1, CHANNEL, method(50, 21))
UNBIND_OK = frame(1, CHANNEL, method(50, 51))
CLOSE = frame(1, CHANNEL, method(20, 40, b"\x01\x94", short(b"NOT_FOUND - no exchange"), bytes(4)))

names = st.text("abcXYZ019.-_é", min_size=1, max_size=60)


@given(queue=names, exchange=names, key=names, channel=st.integers(1, 2047))
def test_the_frames_are_those_of_a_general_library(
    queue: str, exchange: str, key: str, channel: int
) -> None:
    parts = [short_string(text) for text in (queue, exchange, key)]
    size, number, bound = pamqp.frame.unmarshal(encode_bind(channel, *parts))
    assert isinstance(bound, pamqp.commands.Queue.Bind)
    assert (number, bound.ticket, bound.nowait, bound.arguments) == (channel, 0, False, {})
    assert (bound.queue, bound.exchange, bound.routing_key) == (queue, exchange, key)
    encoded = encode_unbind(channel, *parts)
    size, number, unbound = pamqp.frame.unmarshal(encoded)
    assert isinstance(unbound, pamqp.commands.Queue.Unbind)
    assert (size, number, unbound.ticket, unbound.arguments) == (len(encoded), channel, 0, {})
    assert (unbound.queue, unbound.exchange, unbound.routing_key) == (queue, exchange, key)


@pytest.mark.parametrize("text", ["x" * 256, "é" * 128])
def test_a_text_above_255_bytes_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="256 bytes"):
        short_string(text)
    assert short_string("x" * 255)[0] == 255


class Wire:
    """A lane's outbox, and the broker's side of its channel."""

    def __init__(self, queues: int = 1) -> None:
        self.ends: list[str] = []
        """The reasons that the lane has told."""
        self.library = Recorder()
        """What it has left to the library."""
        connection = Connection(Loop())
        self._socket, self._outbox = connection.socket, connection.outbox
        self.lane = BindLane(
            CHANNEL,
            self._outbox,
            "stations",
            [f"q{number}" for number in range(queues)],
            on_end=self.ends.append,
        )
        self._stream = FrameStream(self.library)
        self._stream.register(CHANNEL, self.lane)

    @property
    def sent(self) -> list[tuple[str, str, str]]:
        """Each Bind or Unbind so far, with its queue and key."""
        self._outbox.flush()
        frames = b"".join(self._socket.writes)
        sent = []
        while frames:
            size, _, command = pamqp.frame.unmarshal(frames)
            assert isinstance(command, pamqp.commands.Queue.Bind | pamqp.commands.Queue.Unbind)
            sent.append((command.name.removeprefix("Queue."), command.queue, command.routing_key))
            frames = frames[size:]
        return sent

    def say(self, data: bytes) -> None:
        self._stream.feed(data)


def changes(
    *keys: str, bound: bool = True, on_done: Callable[[], object] = lambda: None
) -> list[Change]:
    def done() -> None:
        on_done()

    return [Change(bound, short_string(key), done) for key in keys]


def test_so_many_are_on_their_way_and_the_rest_follows_as_the_broker_answers() -> None:
    wire, done = Wire(), itertools.count()
    wire.lane.ask(
        changes(*(f"k{number}" for number in range(IN_FLIGHT + 3)), on_done=lambda: next(done))
    )
    assert len(wire.sent) == IN_FLIGHT
    for number in range(3):
        wire.say(BIND_OK)
        assert len(wire.sent) == IN_FLIGHT + number + 1
    for _ in range(IN_FLIGHT):
        wire.say(BIND_OK)
    assert next(done) == IN_FLIGHT + 3
    assert [key for _, _, key in wire.sent] == [f"k{number}" for number in range(IN_FLIGHT + 3)]
    with pytest.raises(ProtocolError, match="nobody asked for"):
        wire.say(BIND_OK)


def test_what_is_no_answer_to_a_binding_is_left_to_the_library() -> None:
    wire = Wire()
    wire.lane.ask(changes("a"))
    for data in (frame(1, CHANNEL, method(40, 11)), frame(1, CHANNEL, method(50, 21, b"\0"))):
        wire.say(data)
        assert wire.library.events.pop() == ("frame", data)
    wire.say(BIND_OK)
    assert wire.library.events == []


def test_a_key_has_the_same_queue_each_time_and_all_queues_have_keys() -> None:
    wire = Wire(queues=4)
    keys = [f"CP{number:03}" for number in range(100)]
    for bound in (True, False):
        wire.lane.ask(changes(*keys, bound=bound))
    assert [word for word, _, _ in wire.sent] == ["Bind"] * 100 + ["Unbind"] * 100
    binds, unbinds = wire.sent[:100], wire.sent[100:]
    assert [sent[1:] for sent in binds] == [sent[1:] for sent in unbinds]
    assert {queue for _, queue, _ in binds} == {"q0", "q1", "q2", "q3"}


def test_the_channels_end_is_told_and_left_to_the_library() -> None:
    wire = Wire()
    wire.say(CLOSE)
    assert wire.library.events == [("frame", CLOSE)]
    assert wire.ends == ["the broker closed the binding channel: 404 NOT_FOUND - no exchange"]


@pytest.mark.parametrize(
    "data",
    [
        ack(CHANNEL, 1),
        deliver(CHANNEL, 1),
        frame(1, CHANNEL, return_payload()),
        frame(1, CHANNEL, method(60, 30, short(b"tag"), b"\0")),
    ],
)
def test_content_and_confirms_have_no_place_on_it(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="on a channel that only binds"):
        Wire().say(data + header(CHANNEL, 0))


# ---- from one connection to the next ----


class Told:
    def __init__(self) -> None:
        self.events: list[str] = []

    def __call__(self, event: str) -> "Told.Callback":
        return Told.Callback(self.events, event)

    class Callback:
        def __init__(self, events: list[str], event: str) -> None:
            self._events, self._event = events, event

        def __call__(self) -> None:
            self._events.append(self._event)


def test_the_next_connection_binds_what_is_wanted_and_then_tells() -> None:
    bindings, told = Bindings(), Told()
    bindings.bind("a", told("a"))
    bindings.bind("b", told("b"))
    bindings.unbind("b", told("not b"))
    assert told.events == ["b", "not b"]
    first = Wire()
    bindings.restore(first.lane, told("restored"))
    bindings.bind("c", told("c"))
    assert [key for _, _, key in first.sent] == ["a", "c"]
    first.say(BIND_OK)
    assert told.events == ["b", "not b", "a", "restored"]
    bindings.unbind("a", told("not a"))
    bindings.lost()
    assert told.events[4:] == ["not a"]
    second = Wire()
    bindings.restore(second.lane, told("restored again"))
    second.say(BIND_OK)
    assert [key for _, _, key in second.sent] == ["c"]
    assert told.events[5:] == ["c", "restored again"]
    assert len(bindings) == 1


def test_a_connection_that_dies_while_it_binds_leaves_it_to_the_next() -> None:
    bindings, told = Bindings(), Told()
    for key in ("a", "b"):
        bindings.bind(key, told(key))
    bindings.restore(Wire().lane, told("first"))
    bindings.lost()
    bindings.lost()
    assert told.events == []
    wire = Wire()
    bindings.restore(wire.lane, told("second"))
    wire.say(BIND_OK)
    assert told.events == []
    wire.say(BIND_OK)
    assert told.events == ["a", "b", "second"]


def test_stations_that_come_and_go_while_there_is_no_connection_leave_nothing() -> None:
    bindings, told = Bindings(), Told()
    for number in range(3):
        bindings.bind("a", told(f"a{number}"))
        bindings.bind("a", told(f"again{number}"))
        assert told.events == [f"a{number}"], "it is asked anew"
        bindings.unbind("a", told("gone"))
        assert told.events == [f"a{number}", f"again{number}", "gone"]
        told.events.clear()
    wire = Wire()
    bindings.restore(wire.lane, told("restored"))
    assert (told.events, wire.sent, len(bindings)) == (["restored"], [], 0)


def test_a_thousand_connections_that_die_while_they_bind_leave_it_to_the_next() -> None:
    bindings, told = Bindings(), Told()
    bindings.bind("a", told("a"))
    for _ in range(2000):
        bindings.restore(Wire().lane, told("lost"))
        bindings.lost()
    wire = Wire()
    bindings.restore(wire.lane, told("restored"))
    wire.say(BIND_OK)
    assert told.events == ["a", "restored"]


def test_who_is_not_bound_yet_and_goes_is_told_once() -> None:
    bindings, told, wire = Bindings(), Told(), Wire()
    bindings.restore(wire.lane, told("restored"))
    bindings.bind("a", told("a"))
    bindings.unbind("a", told("gone"))
    assert told.events == ["restored", "a"]
    wire.say(BIND_OK)
    wire.say(UNBIND_OK)
    assert told.events == ["restored", "a", "gone"]


def test_with_nothing_to_bind_all_is_restored_at_once() -> None:
    bindings, told = Bindings(), Told()
    bindings.restore(Wire().lane, told("restored"))
    assert told.events == ["restored"]


async def test_stopping_waits_for_what_is_on_its_way_and_sends_no_more() -> None:
    bindings, told, wire = Bindings(), Told(), Wire()
    bindings.restore(wire.lane, told("restored"))
    for number in range(IN_FLIGHT + 1):
        bindings.bind(f"k{number}", told("bound"))
    stopping = asyncio.create_task(bindings.stop())
    await asyncio.sleep(0)
    assert told.events == ["restored", "bound"]  # the one that was not sent
    for _ in range(IN_FLIGHT):
        assert not stopping.done()
        wire.say(BIND_OK)
    await stopping
    bindings.bind("late", told("late"))
    bindings.unbind("k0", told("later"))
    assert told.events[-2:] == ["late", "later"]
    assert len(wire.sent) == IN_FLIGHT


async def test_stopping_does_not_wait_for_a_connection_that_is_gone() -> None:
    bindings, told, wire = Bindings(), Told(), Wire()
    bindings.restore(wire.lane, told("restored"))
    bindings.bind("a", told("a"))
    stopping = asyncio.create_task(bindings.stop())
    await asyncio.sleep(0)
    bindings.lost()
    await asyncio.wait_for(stopping, 5)
