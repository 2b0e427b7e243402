"""aio-pika's socket with the lanes' frames taken out, over loopback, on both event loops."""

import asyncio
import contextlib
import functools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast
from unittest.mock import Mock

import pytest
import uvloop
from yarl import URL

from bridge.rabbitmq.outbox import Outbox
from bridge.rabbitmq.socket import LaneProtocol, LaneTransportFactory
from tests.unit.rabbitmq.wire import (
    HEARTBEAT,
    Channel,
    Event,
    ack,
    body,
    deliver,
    delivered,
    frame,
    header,
    message,
    method,
    short,
)

LANE = 1
FOREIGN = frame(1, 7, method(50, 11, short(b"queue"), bytes(8)))
BLOCKED = frame(1, 0, method(10, 60, short(b"low on memory")))
UNBLOCKED = frame(1, 0, method(10, 61))
CLOSE = frame(1, 0, method(10, 50, b"\x01\x40", short(b"CONNECTION_FORCED"), bytes(4)))
BROKEN = frame(3, LANE, b"body without a header")


def on_both_loops(test: Callable[[], Awaitable[None]]) -> Callable[..., None]:
    """Run it on asyncio's loop and on uvloop's, ten seconds at most on each."""

    @pytest.mark.parametrize(
        "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
    )
    def run(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        async def within_time() -> None:
            async with asyncio.timeout(10):
                await test()

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(within_time())

    functools.update_wrapper(run, test)
    del run.__wrapped__  # type: ignore[attr-defined]  # pytest would look for its arguments
    return run


class Listener:
    """Writes down what the protocol tells of its connection."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.paused: asyncio.Queue[None] = asyncio.Queue()

    def on_blocked(self, reason: str | None) -> None:
        self.events.append(("blocked", reason))

    def on_paused(self) -> None:
        self.paused.put_nowait(None)

    def on_ended(self, reason: str) -> None:
        self.ended.set_result(reason)  # raises if it is told twice

    def before_turn(self) -> None:
        self.events.append(("before turn",))

    def after_turn(self) -> None:
        self.events.append(("after turn",))

    @property
    def news(self) -> list[Event]:
        return [event for event in self.events if not event[0].endswith("turn")]


class Broker:
    """The server's end of one connection, and ours."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.listener = Listener()
        self.protocol: LaneProtocol
        self.library: asyncio.StreamReader
        """What aio-pika reads from."""
        self.library_writer: asyncio.StreamWriter

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    @property
    def outbox(self) -> Outbox:
        return self.protocol.outbox

    @property
    def news(self) -> list[Event]:
        return self.listener.news


@asynccontextmanager
async def connected(*, lanes: tuple[int, ...] = (LANE,)) -> AsyncIterator[Broker]:
    arrived: asyncio.Future[Broker] = asyncio.get_running_loop().create_future()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set_result(Broker(reader, writer))

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        listener = Listener()
        factory = LaneTransportFactory("here", listener)
        library, library_writer = await factory.create(
            URL(f"amqp://127.0.0.1:{port}"), ssl_context_provider=None
        )
        broker = await arrived
        broker.protocol, broker.listener = factory.protocol, listener
        broker.library, broker.library_writer = library, library_writer
        for channel in lanes:
            broker.protocol.register(channel, Channel(channel, listener.events))
        try:
            yield broker
        finally:
            broker.protocol.abort()
            await listener.ended
            broker.writer.close()


# ---- who gets which frame ----


@on_both_loops
async def test_frames_of_lanes_are_diverted_and_all_others_reach_the_library_byte_for_byte() -> (
    None
):
    async with connected() as broker:
        await broker.say(FOREIGN + message(LANE, 1, b"one") + HEARTBEAT + ack(LANE, 4) + FOREIGN)
        assert (
            await broker.library.readexactly(len(FOREIGN + HEARTBEAT + FOREIGN))
            == FOREIGN + HEARTBEAT + FOREIGN
        )
        assert broker.news == [delivered(LANE, 1, b"one"), ("confirm", LANE, 4, False, True)]


@on_both_loops
async def test_frames_between_those_of_a_message_reach_the_library_whole_in_any_pieces() -> None:
    content = (
        deliver(LANE, 1)
        + FOREIGN
        + header(LANE, 6)
        + body(LANE, b"one")
        + HEARTBEAT
        + body(LANE, b"two")
    )
    stream = content * 20 + FOREIGN
    expected = (FOREIGN + HEARTBEAT) * 20 + FOREIGN
    pieces = random.Random(7)
    async with connected() as broker:
        at = 0
        while at < len(stream):
            size = pieces.randint(1, 40)
            await broker.say(stream[at : at + size])
            at += size
            await asyncio.sleep(0)
        assert await broker.library.readexactly(len(expected)) == expected
        assert broker.news == [delivered(LANE, 1, b"onetwo")] * 20


@on_both_loops
async def test_a_message_of_5_mib_arrives_between_two_frames_of_the_librarys() -> None:
    data = bytes(range(250)) * (5 * 1024 * 1024 // 250)
    async with connected() as broker:
        await broker.say(FOREIGN + message(LANE, 1, data) + FOREIGN)
        assert await broker.library.readexactly(2 * len(FOREIGN)) == FOREIGN * 2
        assert broker.news == [delivered(LANE, 1, data)]


@on_both_loops
async def test_without_lanes_the_library_sees_it_all() -> None:
    stream = message(LANE, 1, b"one") + HEARTBEAT
    async with connected(lanes=()) as broker:
        await broker.say(stream)
        assert await broker.library.readexactly(len(stream)) == stream


@on_both_loops
async def test_what_the_library_writes_and_what_the_outbox_writes_arrive_whole() -> None:
    async with connected() as broker:
        broker.outbox.add(b"lane ")
        broker.library_writer.write(b"library ")
        broker.outbox.add(b"lane")
        assert await broker.reader.readexactly(17) == b"library lane lane"


@on_both_loops
async def test_a_broker_of_another_version_is_the_librarys_to_explain() -> None:
    async with connected() as broker:
        await broker.say(b"AMQP\x00\x00\x09\x01")
        assert await broker.library.readexactly(8) == b"AMQP\x00\x00\x09\x01"
        assert not broker.listener.ended.done()


# ---- the connection's fate ----


@on_both_loops
async def test_a_broken_frame_ends_the_connection_with_a_reason_and_nothing_after_it_is_told() -> (
    None
):
    async with connected() as broker:
        await broker.say(
            message(LANE, 1, b"sound") + FOREIGN + BROKEN + message(LANE, 2, b"late") + FOREIGN
        )
        reason = await broker.listener.ended
        assert reason == (
            "here: the broker sent a broken frame: a body frame without its content header"
        )
        assert broker.news == [delivered(LANE, 1, b"sound")]
        assert await broker.library.read() == FOREIGN
        with contextlib.suppress(ConnectionResetError):
            assert await broker.reader.read() == b""  # the broker finds the socket closed


@on_both_loops
async def test_a_frame_above_the_agreed_size_ends_the_connection() -> None:
    async with connected() as broker:
        broker.protocol.limit_frames(8192)
        await broker.say(frame(3, 7, bytes(8184)))
        await broker.library.readexactly(8192)
        await broker.say(frame(3, 7, bytes(8185))[:8])
        assert "a frame of 8185 bytes, and 8184 are agreed" in await broker.listener.ended


@on_both_loops
async def test_the_brokers_own_reason_for_closing_is_the_one_told() -> None:
    async with connected() as broker:
        await broker.say(CLOSE)
        assert await broker.library.readexactly(len(CLOSE)) == CLOSE
        broker.library_writer.close()
        assert await broker.listener.ended == (
            "here: the broker closed the connection: 320 CONNECTION_FORCED"
        )


@on_both_loops
async def test_an_aborted_connection_says_why_once() -> None:
    async with connected() as broker:
        broker.protocol.abort("no answer")
        broker.protocol.abort("never mind")
        assert await broker.listener.ended == "here: no answer"


@on_both_loops
async def test_a_broker_that_goes_away_within_a_message_is_an_end_without_that_message() -> None:
    async with connected() as broker:
        await broker.say(message(LANE, 1, b"whole") + message(LANE, 2, b"cut")[:-3])
        broker.writer.close()
        assert await broker.library.read() == b""
        broker.library_writer.close()
        assert await broker.listener.ended == "here: the connection was closed"
        assert broker.news == [delivered(LANE, 1, b"whole")]


@on_both_loops
async def test_a_connection_the_broker_blocks_is_reported_and_the_library_knows_too() -> None:
    async with connected() as broker:
        await broker.say(BLOCKED + UNBLOCKED)
        assert await broker.library.readexactly(len(BLOCKED + UNBLOCKED)) == BLOCKED + UNBLOCKED
        assert broker.news == [("blocked", "low on memory"), ("blocked", None)]


# ---- turns and back-pressure ----


@on_both_loops
async def test_what_bytes_lead_to_lies_between_the_marks_of_their_turn() -> None:
    async with connected() as broker:
        await broker.say(ack(LANE, 1) + ack(LANE, 2) + FOREIGN)
        await broker.library.readexactly(len(FOREIGN))
        assert broker.listener.events == [
            ("before turn",),
            ("confirm", LANE, 1, False, True),
            ("confirm", LANE, 2, False, True),
            ("after turn",),
        ]
        await broker.say(BROKEN)
        await broker.listener.ended
        assert broker.listener.events[4:] == [("before turn",), ("after turn",)]


@on_both_loops
async def test_a_broker_that_does_not_read_pauses_the_outbox_until_it_reads_again() -> None:
    async with connected() as broker:
        outbox = broker.outbox
        paused = broker.listener.paused
        part = random.Random(1).randbytes(256 * 1024)
        sent = 0
        while not outbox.paused:
            assert sent < 1_000, "256 MiB are on their way, and nobody minds"
            outbox.add(part)
            outbox.flush()
            sent += 1
            await asyncio.sleep(0)
        assert paused.qsize() == 1
        outbox.add(b"the end")  # what is due while paused is not lost
        assert await broker.reader.readexactly(sent * len(part) + 7) == part * sent + b"the end"
        while broker.outbox.paused:
            await asyncio.sleep(0)
        assert paused.qsize() == 2


async def test_a_connection_can_be_paused_by_less_than_others() -> None:
    loop = asyncio.get_running_loop()
    protocol = LaneProtocol("here", asyncio.StreamReader(loop=loop), loop, Listener())
    protocol.limit_waiting(1_024)  # before there is a socket, it does nothing
    socket = Mock(asyncio.WriteTransport)
    protocol.connection_made(socket)
    protocol.limit_waiting(1_024)
    socket.set_write_buffer_limits.assert_called_with(high=1_024, low=256)


# ---- heartbeats for the library ----


class Clock:
    """The running loop with a time of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.now = 1_000.0

    def time(self) -> float:
        return self.now

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


class Fed:
    """A protocol without a socket: what it is given, and what it feeds to the library."""

    def __init__(self) -> None:
        self.clock = Clock()
        loop = cast(asyncio.AbstractEventLoop, self.clock)
        self.library = asyncio.StreamReader(loop=loop)
        self.protocol = LaneProtocol("here", self.library, loop, Listener())
        self.protocol.connection_made(Mock(asyncio.WriteTransport))
        self.protocol.heartbeat = 10.0

    def add_lane(self) -> None:
        self.protocol.register(LANE, Channel(LANE, []))

    async def after(self, seconds: float, data: bytes) -> bytes:
        """What the library is fed when `data` comes that much later."""
        self.clock.now += seconds
        self.protocol.data_received(data)
        # A mark shows where it ends, even if there is nothing.
        self.library.feed_data(b"|")
        return (await self.library.readuntil(b"|"))[:-1]


async def test_the_library_is_fed_a_heartbeat_when_lanes_alone_have_had_frames_for_half_of_it() -> (
    None
):
    fed = Fed()
    fed.add_lane()
    assert await fed.after(4.9, ack(LANE, 1)) == b""
    assert await fed.after(0.2, ack(LANE, 2)) == HEARTBEAT
    assert await fed.after(4.9, ack(LANE, 3)) == b""
    assert await fed.after(0.2, ack(LANE, 4)) == HEARTBEAT
    assert await fed.after(100, ack(LANE, 5)) == HEARTBEAT


async def test_a_frame_of_the_librarys_own_is_as_good_as_a_heartbeat() -> None:
    fed = Fed()
    fed.add_lane()
    assert await fed.after(4.9, FOREIGN) == FOREIGN
    assert await fed.after(4.9, ack(LANE, 1)) == b""
    assert await fed.after(9.9, FOREIGN) == FOREIGN
    assert await fed.after(5.1, ack(LANE, 1)) == HEARTBEAT


async def test_without_lanes_no_heartbeat_is_made_up() -> None:
    fed = Fed()
    assert await fed.after(60, FOREIGN[:9]) == b""
    assert await fed.after(60, FOREIGN[9:]) == FOREIGN


async def test_a_heartbeat_never_comes_within_a_frame() -> None:
    fed = Fed()
    fed.add_lane()
    assert await fed.after(6, ack(LANE, 1) + FOREIGN[:5]) == HEARTBEAT
    assert await fed.after(6, FOREIGN[5:9]) == HEARTBEAT
    assert await fed.after(6, FOREIGN[9:] + ack(LANE, 2)) == FOREIGN


# ---- faults of our own ----


@on_both_loops
async def test_a_delivery_that_cannot_be_taken_ends_the_connection_with_a_reason() -> None:
    """What came in the same bytes is lost: without an end, its sender would wait for ever."""

    class Faulty(Channel):
        def on_deliver(self, *_: object) -> None:
            raise KeyError("a fault of ours")

    async with connected(lanes=()) as broker:
        broker.protocol.register(LANE, Faulty(LANE, broker.listener.events))
        await broker.say(message(LANE, 1, b"one") + message(LANE, 2, b"two"))
        assert await broker.listener.ended == "here: a delivery could not be taken: KeyError"
        assert broker.news == []


@on_both_loops
async def test_only_the_first_bytes_of_a_connection_can_be_another_protocol_version() -> None:
    async with connected() as broker:
        await broker.say(message(LANE, 1, b"sound"))
        await broker.say(b"AMQP\x00\x00\x09\x01")
        assert "broken frame" in await broker.listener.ended
        assert broker.news == [delivered(LANE, 1, b"sound")]


@on_both_loops
async def test_a_body_that_is_cut_before_amqp_is_a_body() -> None:
    async with connected() as broker:
        whole = message(LANE, 1, b"the AMQP of old")
        at = whole.index(b"AMQP")
        for piece in (whole[:at], whole[at:]):
            turns = len(broker.listener.events)
            await broker.say(piece)
            while len(broker.listener.events) == turns:
                await asyncio.sleep(0)
        assert broker.news == [delivered(LANE, 1, b"the AMQP of old")]
