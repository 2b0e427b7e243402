"""A station's WebSocket connection on a transport and a clock that the tests control."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from websockets.frames import Frame, Opcode

from bridge.gateway.websocket import station_socket
from bridge.gateway.websocket.connection import GatewayCounts, StationConnection
from bridge.gateway.websocket.conversation import Conversation
from bridge.gateway.websocket.notices import Notices
from bridge.gateway.websocket.places import Places
from bridge.gateway.websocket.settings import GatewaySettings
from bridge.gateway.websocket.station_socket import FRAMES_A_TURN, StationSocket
from bridge.ocpp import OcppVersion
from bridge.request.wheel import Wheel
from tests.unit.gateway.websocket.test_connection import FakeLink


class Transport:
    """Notes what is done to it."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.reads: list[bool] = []
        """Whether it was told to read, or not to."""
        self.ended: str = ""
        self.waiting = 0

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else None

    def set_write_buffer_limits(self, high: int) -> None: ...

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def pause_reading(self) -> None:
        self.reads.append(False)

    def resume_reading(self) -> None:
        self.reads.append(True)

    @property
    def reading(self) -> bool:
        return self.reads[-1]

    def is_closing(self) -> bool:
        return self.ended in {"closed", "aborted"}

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = "eof"

    def close(self) -> None:
        self.ended = "closed"

    def abort(self) -> None:
        self.ended = "aborted"


class Clock:
    """An event loop whose time the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._loop = asyncio.get_running_loop()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Any) -> asyncio.TimerHandle:
        return asyncio.TimerHandle(when, callback, (), self._loop)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


class Here:
    """A gateway with one connection, which is open."""

    def __init__(self, **settings: Any) -> None:
        self.settings = GatewaySettings(**settings)
        self.counts = GatewayCounts()
        self.notices = Notices(self.counts)
        self.places = Places(10, 10)
        self.clock = Clock()
        loop = cast("asyncio.AbstractEventLoop", self.clock)
        self.wheel = Wheel(loop)
        self.leaving: list[StationSocket] = []
        self.gone: list[StationSocket] = []
        self.transport = Transport()
        self.socket = StationSocket(self, loop)
        self.socket.connection_made(cast("asyncio.Transport", self.transport))
        self.socket.station_id = "CP001"
        self.socket.open(None)
        self.link = FakeLink()
        self.station = StationConnection(
            "CP001",
            self.socket,
            self.link,
            Conversation(OcppVersion.V2_0_1, heartbeat=300, max_payload=1000),
            counts=self.counts,
            max_rate=self.settings.max_rate,
        )

    def handshake(self, connection: StationSocket) -> Any:
        return Handshake()

    def left(self, connection: StationSocket) -> None:
        self.leaving.append(connection)

    def ended(self, connection: StationSocket) -> None:
        self.gone.append(connection)

    def hear(self, opcode: int, payload: bytes = b"") -> None:
        self.socket.data_received(masked(opcode, payload))

    @property
    def opcodes(self) -> list[int]:
        """Of what was written."""
        return [frame[0] & 0x0F for frame in self.transport.written]

    def pass_time(self, seconds: float) -> None:
        """In steps, and tell the wheel of each."""
        for _ in range(round(seconds * 10)):
            self.clock.now += 0.1
            self.wheel._turn()


class Handshake:
    def begin(self) -> None: ...

    def receive(self, data: bytes) -> None: ...

    def out_of_time(self) -> None: ...

    def leave(self) -> None: ...


def masked(opcode: int, payload: bytes = b"") -> bytes:
    return Frame(Opcode(opcode), payload).serialize(mask=True)


HEARTBEAT = masked(1, b'[2,"1","Heartbeat",{}]')


@pytest.fixture
async def here() -> AsyncIterator[Here]:
    yield (here := Here())
    here.notices.close()


# ---- reading ----


async def test_a_station_that_sends_much_at_once_takes_turns_with_the_others(here: Here) -> None:
    here.socket.serve(here.station)
    here.socket.data_received(HEARTBEAT * (2 * FRAMES_A_TURN + 1))
    seen = [here.counts.answered]
    for _ in range(2):
        assert not here.transport.reading
        await asyncio.sleep(0)
        seen.append(here.counts.answered)
    assert here.transport.reading
    assert seen == [FRAMES_A_TURN, 2 * FRAMES_A_TURN, 2 * FRAMES_A_TURN + 1]


async def test_a_station_that_does_not_read_is_not_read(here: Here) -> None:
    here.socket.serve(here.station)
    here.socket.pause_writing()
    here.socket.data_received(HEARTBEAT)
    assert here.counts.answered == 0
    here.socket.resume_writing()
    assert here.counts.answered == 1
    assert here.transport.reads == [True, False, True]


async def test_a_station_that_has_not_read_for_long_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(station_socket, "READ_TIMEOUT", 0.0)
    here = Here()
    here.socket.serve(here.station)
    here.socket.pause_writing()
    while not here.transport.ended:
        await asyncio.sleep(0)
    assert here.transport.ended == "aborted"
    assert here.counts.causes == {"it has not read for 0 s": 1}
    here.notices.close()


async def test_pongs_that_are_not_read_are_bounded(here: Here) -> None:
    here.socket.serve(here.station)
    here.transport.waiting = 8 * here.settings.max_message
    here.hear(9, b"x")
    assert here.transport.ended == ""
    here.transport.waiting += 1
    here.hear(9, b"x")
    assert here.transport.ended == "aborted"
    assert here.counts.causes == {"it does not read what it is sent": 1}


async def test_a_station_that_sends_more_than_it_may_is_read_later() -> None:
    here = Here(max_rate=100.0)
    here.socket.serve(here.station)
    here.socket.data_received(HEARTBEAT * 40)
    while here.counts.answered < 40:
        await asyncio.sleep(0.001)
    assert here.counts.slowed > 20
    here.notices.close()


# ---- the end ----


async def test_the_peers_closing_frame_is_answered_and_the_connection_closed(here: Here) -> None:
    here.socket.serve(here.station)
    here.hear(8, b"\x03\xe8bye")
    assert (here.socket.close_code, here.socket.close_reason) == (1000, "bye")
    assert here.transport.written[-1] == b"\x88\x02\x03\xe8"
    assert here.transport.ended == "closed"
    assert not here.socket.send(b"late")
    here.socket.connection_lost(None)
    assert here.gone == [here.socket]
    assert len(here.places) == len(here.wheel) == 0


async def test_our_closing_frame_waits_for_the_peers(here: Here) -> None:
    here.socket.serve(here.station)
    here.socket.close(1001, "restart")
    here.socket.close(1001, "restart")
    assert here.transport.written == [b"\x88\x09\x03\xe9restart"]
    assert not here.socket.send(b"late")
    here.socket.data_received(HEARTBEAT)
    assert here.counts.answered == 0
    here.hear(9)
    assert len(here.transport.written) == 1
    here.hear(8, b"\x03\xe9")
    assert here.transport.ended == "closed"
    assert len(here.transport.written) == 1
    assert here.socket.close_code == 1001


async def test_a_peer_that_does_not_close_is_cut_off(here: Here) -> None:
    here.socket.close(1001, "restart")
    here.pass_time(4.9)
    assert here.transport.ended == ""
    here.pass_time(0.3)
    assert here.transport.ended == "aborted"


async def test_a_peer_that_breaks_the_protocol_is_told_and_dropped(here: Here) -> None:
    here.socket.serve(here.station)
    here.socket.data_received(b"\x83\x80" + HEARTBEAT)
    assert here.opcodes == [8]
    told = here.socket.close_code, here.socket.close_reason
    assert told == (1002, "invalid opcode: 0x03"), "what the log says of its end"
    assert here.transport.ended == "eof"
    assert here.transport.reading
    for _ in range(5):
        assert here.transport.ended == "eof"
        here.socket.data_received(b"x" * 1024 * 1024)
    assert here.transport.ended == "aborted"


async def test_one_that_closes_while_it_waits_for_its_station_is_heard(here: Here) -> None:
    here.socket.close(1002, "no OCPP version in common")
    assert here.transport.reading
    here.hear(8, b"\x03\xea")
    assert here.transport.ended == "closed"


async def test_a_station_that_has_gone_has_left_at_once_and_is_ended_soon(here: Here) -> None:
    """What was written to it may never be read, and the loop waits for that."""
    here.socket.serve(here.station)
    here.socket.eof_received()
    assert (here.leaving, here.gone) == ([here.socket], [])
    assert not here.socket.send(b"[]")
    here.pass_time(4.9)
    assert here.transport.ended == ""
    here.pass_time(0.3)
    assert here.transport.ended == "aborted"


@pytest.mark.parametrize(
    "end",
    [
        lambda here: here.socket.close(1001, "restart"),
        lambda here: here.socket.fail(1002, "nonsense"),
        lambda here: here.hear(8, b"\x03\xe8"),
    ],
    ids=["closed", "failed", "closed by it"],
)
async def test_a_station_has_left_when_its_connection_begins_to_end(here: Here, end: Any) -> None:
    here.socket.serve(here.station)
    end(here)
    assert here.leaving == [here.socket]
    assert here.gone == []


# ---- a station whose turn has not come ----


async def test_what_comes_before_its_turn_is_kept_until_then(here: Here) -> None:
    here.socket.data_received(HEARTBEAT)
    assert (here.transport.written, here.transport.reads) == ([], [])
    here.socket.serve(here.station)
    assert here.opcodes == [1]


async def test_no_more_is_read_before_its_turn_than_a_message(here: Here) -> None:
    for _ in range(here.settings.max_message // len(HEARTBEAT) + 1):
        assert here.transport.reads == []
        here.socket.data_received(HEARTBEAT)
    assert not here.transport.reading
    here.socket.resume_writing()
    assert not here.transport.reading
    here.socket.serve(here.station)
    assert here.opcodes == [1] * FRAMES_A_TURN


async def test_that_it_has_gone_is_seen_before_its_turn(here: Here) -> None:
    here.socket.eof_received()
    waiting = asyncio.create_task(here.socket.wait_closed())
    await asyncio.sleep(0)
    here.socket.connection_lost(None)
    await waiting
    assert here.gone == [here.socket]


# ---- pings ----


async def test_it_is_pinged_and_ended_when_nothing_at_all_comes(here: Here) -> None:
    here.socket.serve(here.station)
    here.pass_time(29.9)
    assert here.opcodes == []
    here.pass_time(0.2)
    assert here.opcodes == [9]
    here.pass_time(29.5)
    assert here.transport.ended == ""
    here.pass_time(1.0)
    assert here.opcodes[-1] == 8
    assert here.transport.written[-1][2:4] == (1011).to_bytes(2)


async def test_whatever_comes_proves_life(here: Here) -> None:
    here.socket.serve(here.station)
    for _ in range(10):
        here.pass_time(20.0)
        here.socket.data_received(HEARTBEAT)
    assert here.transport.ended == ""
    assert here.opcodes.count(9) >= 5


async def test_half_a_message_proves_life_too(here: Here) -> None:
    here.socket.serve(here.station)
    here.pass_time(31.0)
    here.socket.data_received(HEARTBEAT[:3])
    here.pass_time(29.5)
    assert here.transport.ended == ""
