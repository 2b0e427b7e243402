"""A station's WebSocket connection, from its TCP connection to its end, with bounded memory.

It goes through the states below, and in each of them one time-out in the wheel of the gateway ends
what lasts too long. What the bytes mean is told by a :class:`FrameReader`; what the messages mean,
by the station's :class:`~bridge.gateway.websocket.connection.StationConnection`.

    opening    the opening handshake, of which an Opening takes care
    open       messages are read and written
    closing    a closing frame was sent: only the peer's is awaited
    failed     the peer broke the protocol and was told so: what it sends is dropped
    ended      there is no connection any more
"""

import asyncio
from typing import Any, Final, Protocol, cast

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import CloseCode

from bridge.gateway.websocket.connection import StationConnection
from bridge.gateway.websocket.conversation import CALLS_AT_ONCE
from bridge.gateway.websocket.frames import FrameReader, close_frame, control_frame, text_frame
from bridge.gateway.websocket.notices import Notices
from bridge.gateway.websocket.opcodes import (
    BINARY,
    CLOSE,
    NO_CLOSE,
    NOTHING,
    PING,
    PONG,
    TEXT,
    BrokenFrame,
)
from bridge.gateway.websocket.places import Places, address_of
from bridge.gateway.websocket.settings import GatewaySettings
from bridge.ocpp import OcppVersion
from bridge.request.outcome import describe_error
from bridge.request.wheel import Timed, Wheel
from bridge.telemetry.logs import get_logger

log = get_logger("bridge.gateway")

UNREAD_MESSAGES: Final = CALLS_AT_ONCE + 3
"""Messages of the greatest length that may wait to be written: replies, one answer given without
the bridge, and one CALL. Anything beyond that is pongs."""

READ_TIMEOUT: Final = 20.0
"""Seconds that a station may leave its messages unread. A slow mobile link carries some 100 kB in
that time."""

CLOSE_TIMEOUT: Final = 5.0
"""Seconds to wait for a station's half of the closing handshake."""

WRITE_LIMIT: Final = 32 * 1024
"""Bytes that may wait to be written to a station; above it, the station is not read until it
reads."""

FRAMES_A_TURN: Final = 8
"""Messages and control frames of one station that are taken in one turn of the event loop. A
station that sends a thousand at once must not starve the others."""

DROPPED_MAX: Final = 4 * 1024 * 1024
"""Bytes that are dropped of a peer that was told to go and goes on sending. One that is in the
middle of a message should live to read why."""

_OPENING, _OPEN, _CLOSING, _FAILED, _ENDED = range(5)
"""The states."""

_NO_STATION, _UNREAD, _SLOWED, _TURN = 1, 2, 4, 8
"""Why a connection is not read for the moment, as bits."""


class Handshake(Protocol):
    """The opening handshake of a connection. :class:`Opening` implements it."""

    def begin(self) -> None:
        """The connection can be written to from now on."""

    def receive(self, data: bytes) -> None:
        """Take what has come. That may be before :meth:`begin`."""

    def out_of_time(self) -> None:
        """It has lasted too long: say so."""

    def leave(self) -> None:
        """The connection ends before it is open: say so."""


class SocketOwner(Protocol):
    """What a connection needs of the gateway that it belongs to."""

    settings: GatewaySettings
    places: Places
    notices: Notices
    wheel: Wheel

    def handshake(self, connection: "StationSocket") -> Handshake:
        """Begin the opening handshake of a connection."""

    def left(self, connection: "StationSocket") -> None:
        """No message goes to a connection's station any more. May be called again."""

    def ended(self, connection: "StationSocket") -> None:
        """A connection has ended. It may not have `left` before."""


class StationSocket(Timed):
    """A WebSocket connection that cuts off a peer that exceeds its limits."""

    __slots__ = (
        "_deflate",
        "_dropped",
        "_gateway",
        "_handshake",
        "_heard",
        "_holds",
        "_loop",
        "_next_ping",
        "_reader",
        "_state",
        "_unheard",
        "_unread",
        "_waiters",
        "address",
        "close_code",
        "close_reason",
        "entry",
        "host",
        "opened_at",
        "served",
        "station",
        "station_id",
        "tcp",
        "told",
        "transport",
        "version",
    )

    def __init__(self, gateway: SocketOwner, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._gateway = gateway
        self._loop = loop
        self._state = _OPENING
        self._handshake: Handshake | None = None
        self._reader: FrameReader | None = None
        self._deflate: PerMessageDeflate | None = None
        self._dropped = 0
        """Bytes."""
        self._holds = 0
        self._heard = 0.0
        """When the peer was last heard, by the clock of the event loop."""
        self._unheard = 0.0
        """When the first ping was sent after which nothing has come; 0: there is none."""
        self._next_ping = 0.0
        self._unread: asyncio.TimerHandle | None = None
        self._waiters: list[asyncio.Future[None]] | None = None
        self.station: StationConnection | None = None
        """None: it is not served yet, or no longer."""
        self.served = False
        """Whether it has been."""
        self.station_id = ""
        """Empty until the handshake has told it."""
        self.version: OcppVersion | None = None
        """None until the handshake has told it, and if the sides have no version in common."""
        self.entry: object = None
        """What its password fitted; None where none is asked for."""
        self.told = False
        """Whether it has been said why this connection is not let in, or not kept."""
        self.address = ""
        """The peer's host and port."""
        self.host = ""
        """The peer's, as :func:`~bridge.gateway.websocket.places.address_of` counts addresses."""
        self.opened_at = 0.0
        """By the clock of the event loop."""
        self.close_code = NO_CLOSE
        """Of the peer's closing frame, or of ours to a peer that cannot be understood."""
        self.close_reason = ""
        self.tcp: asyncio.Transport | None = None
        """The TCP connection; under TLS it is not the connection's own transport."""
        self.transport: asyncio.Transport | None = None

    # ---- the TCP connection ----

    @property
    def is_open(self) -> bool:
        """Whether messages are read and written."""
        return self._state == _OPEN

    def enter(self, tcp: asyncio.Transport) -> None:
        """The TCP connection has been made: take a place."""
        self.tcp = tcp
        self.opened_at = self._loop.time()
        peer = tcp.get_extra_info("peername")
        named = isinstance(peer, tuple)
        self.address = f"{peer[0]}:{peer[1]}" if named else str(peer or "")
        self.host = address_of(peer[0]) if named else ""
        self._handshake = self._gateway.handshake(self)
        self._gateway.places.enter(self, self.host)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport is one by its methods, not by its class.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=WRITE_LIMIT)
        if self.tcp is None:
            self.enter(self.transport)
        if self._handshake is not None:
            self._gateway.wheel.add(self, self._gateway.settings.handshake_timeout)
            self._handshake.begin()

    def leave(self) -> None:
        """The TCP connection has ended, or is being ended: give the place back."""
        if self._state == _ENDED:
            return
        self._state = _ENDED
        self._gateway.wheel.remove(self)
        self._gateway.places.leave(self)
        handshake, self._handshake = self._handshake, None
        if handshake is not None:
            handshake.leave()
        self._gateway.ended(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_unread()
        self.leave()
        self._reader = None
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    def eof_received(self) -> None:
        """The peer has closed its half: so do we, as soon as it has what was written."""
        if self._state == _OPEN:
            self._enter(_FAILED)

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        state = self._state
        if state in (_OPEN, _CLOSING):
            reader = self._reader
            assert reader is not None  # noqa: S101 - it is open
            reader.feed(data)
            if state == _OPEN and self.station is None:
                if reader.unread > self._gateway.settings.max_message:
                    self._hold(_NO_STATION)
            elif not self._holds:
                self._read()
        elif self._handshake is not None:
            self._handshake.receive(data)
        elif state == _FAILED:
            self._dropped += len(data)
            if self._dropped > DROPPED_MAX:
                self.abort()

    def cut_off(self, reason: str) -> None:
        """End the connection without a word to the peer."""
        if not self.told:
            self.told = True
            self._gateway.notices.cut_off(reason, station=self.station_id, address=self.address)
        self.abort()

    def refuse(self, cause: str, **facts: Any) -> None:
        """Say why the peer is not let in. `cause`: one of a few fixed texts."""
        self.told = True
        if self.station_id:
            facts["station"] = self.station_id
        self._gateway.notices.refused(cause, address=self.address, **facts)

    def abort(self) -> None:
        """End the TCP connection now."""
        if self.tcp is not None:
            self.tcp.abort()

    def wait_for_turn(self) -> None:
        """Its request has been read, and is looked at later: that is not the peer's time."""
        self._gateway.wheel.remove(self)

    def go_on(self) -> bool:
        """It is its turn: the handshake has its time again. False: the connection has ended."""
        transport = self.transport
        if self._state != _OPENING or transport is None or transport.is_closing():
            return False
        self._gateway.wheel.add(self, self._gateway.settings.handshake_timeout)
        return True

    # ---- an open WebSocket ----

    def open(self, deflate: PerMessageDeflate | None) -> None:
        """The handshake is done: what comes from now on are frames.

        They are read as soon as :meth:`serve` is called.
        """
        settings = self._gateway.settings
        self._handshake = None
        self._deflate = deflate
        self._reader = FrameReader(settings.max_message, deflate)
        self._state = _OPEN
        now = self._loop.time()
        self._heard = now
        self._next_ping = now + settings.ping_interval
        self._gateway.wheel.remove(self)
        self._gateway.wheel.add(self, settings.ping_interval)

    def serve(self, station: StationConnection) -> None:
        """Give the messages to `station`."""
        self.station = station
        self.served = True
        self._release(_NO_STATION)

    def _read(self) -> None:
        """Read what has come, as far as it may be read now."""
        frames = 0
        reader = self._reader
        assert reader is not None  # noqa: S101 - it has been open
        try:
            while not self._holds:
                opcode = reader.read()
                if opcode == NOTHING:
                    break
                if opcode in (TEXT, BINARY):
                    self._on_message(reader.message)
                elif opcode == PING:
                    self._on_ping(reader.payload)
                elif opcode == CLOSE:
                    self._on_close(reader.code, reader.payload.decode())
                frames += 1
                if frames == FRAMES_A_TURN:
                    self._read_next_turn(reader)
                state = self._state
                if state in (_FAILED, _ENDED):
                    break
        except BrokenFrame as error:
            self.fail(error.code, error.reason)

    def _read_next_turn(self, reader: FrameReader) -> None:
        """Let the others be read before the rest of this."""
        if reader.unread and not self._holds:
            self._hold(_TURN)
            self._loop.call_soon(self._release, _TURN)

    def _on_message(self, message: str | bytes) -> None:
        station = self.station
        if station is None:
            return
        try:
            seconds = station.on_message(message)
        except Exception as error:
            log.exception("connection failed", station=self.station_id, error=describe_error(error))
            self.fail(CloseCode.INTERNAL_ERROR, "")
            return
        if seconds > 0.0:
            self._hold(_SLOWED)
            self._loop.call_later(seconds, self._read_again)

    def _read_again(self) -> None:
        if self.station is not None:
            self.station.read_again()
        self._release(_SLOWED)

    def _on_ping(self, payload: bytes) -> None:
        transport = self.transport
        if self._state != _OPEN or transport is None:
            return
        transport.write(control_frame(PONG, payload))
        # Whatever the loop's transport tells of its buffer, and when: it stays bounded.
        unread = transport.get_write_buffer_size()
        if unread > UNREAD_MESSAGES * self._gateway.settings.max_message:
            self.cut_off("it does not read what it is sent")

    def _on_close(self, code: int, reason: str) -> None:
        """The peer closes the connection, or answers our closing frame."""
        transport = self.transport
        if transport is None:
            return
        self.close_code, self.close_reason = code, reason
        if self._state == _OPEN:
            transport.write(close_frame(code))
        self._enter(_FAILED)
        transport.close()

    def _hold(self, reason: int) -> None:
        """Do not read for the moment."""
        if not self._holds and self.transport is not None:
            self.transport.pause_reading()
        self._holds |= reason

    def _release(self, reason: int) -> None:
        """This is no reason not to read, or no longer."""
        self._holds = holds = self._holds & ~reason
        state = self._state
        if holds or state == _ENDED:
            return
        if state == _CLOSING or self.station is not None:
            self._read()
        transport = self.transport
        if not self._holds and transport is not None and not transport.is_closing():
            transport.resume_reading()

    def send(self, frame: bytes) -> bool:
        """As :meth:`~bridge.gateway.websocket.connection.Socket.send`."""
        transport = self.transport
        if self._state != _OPEN or transport is None or transport.is_closing():
            return False
        transport.write(text_frame(frame, self._deflate))
        return True

    def pause_writing(self) -> None:
        """The station does not read: it is not read either."""
        if self._state == _OPENING:
            return
        self._hold(_UNREAD)
        if self._unread is None:
            reason = f"it has not read for {READ_TIMEOUT:g} s"
            self._unread = self._loop.call_later(READ_TIMEOUT, self.cut_off, reason)

    def resume_writing(self) -> None:
        self._end_unread()
        self._release(_UNREAD)

    def _end_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    # ---- the end ----

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake. Never raises."""
        if self._state != _OPEN or self.transport is None:
            return
        self._enter(_CLOSING)
        assert self._reader is not None  # noqa: S101 - it is open
        self._reader.dropping = True
        self.transport.write(close_frame(code, reason))
        self._release(_NO_STATION | _SLOWED)

    def fail(self, code: int, reason: str) -> None:
        """Close the connection of a peer whose bytes cannot be understood any more.

        What it still sends is dropped, or the system would throw away what was written to it.
        """
        transport = self.transport
        if transport is None or self._state not in {_OPEN, _CLOSING}:
            return
        if self._state == _OPEN:
            self.close_code, self.close_reason = int(code), reason
            transport.write(close_frame(code, reason))
        self._enter(_FAILED)
        self._holds = 0
        if transport.can_write_eof():
            transport.write_eof()
        transport.resume_reading()

    def _enter(self, state: int) -> None:
        """A state that ends by itself, or after CLOSE_TIMEOUT."""
        self._state = state
        self._gateway.left(self)
        self._gateway.wheel.remove(self)
        self._gateway.wheel.add(self, CLOSE_TIMEOUT)

    async def wait_closed(self) -> None:
        """Wait until the connection has ended. Never raises."""
        if self._state == _ENDED:
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters = [*(self._waiters or ()), waiter]
        await waiter

    # ---- time ----

    def out_of_time(self) -> None:
        """What the state may take is over."""
        state = self._state
        if state == _OPEN:
            self._keep_alive()
        elif state == _OPENING and self._handshake is not None:
            self._handshake.out_of_time()
        else:
            self.abort()

    def _keep_alive(self) -> None:
        """Ping at regular intervals; end the connection if nothing at all comes after a ping.

        Whatever is received proves that the peer is alive: some stations that talk send no pongs.
        """
        settings = self._gateway.settings
        now = self._loop.time()
        if self._unheard and self._heard >= self._unheard:
            self._unheard = 0.0
        elif self._unheard and now >= self._unheard + settings.ping_timeout:
            self.fail(CloseCode.INTERNAL_ERROR, "keepalive ping timeout")
            return
        if now >= self._next_ping and self.transport is not None:
            self._next_ping = now + settings.ping_interval
            self._unheard = self._unheard or now
            self.transport.write(control_frame(PING))
        wake = self._next_ping
        if self._unheard:
            wake = min(wake, self._unheard + settings.ping_timeout)
        self._gateway.wheel.add(self, wake - now)
