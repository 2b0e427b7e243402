"""A station's WebSocket connection with bounded memory, on top of the `websockets` library."""

import asyncio
import contextlib
import http
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any, Final, Protocol, cast

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, InvalidMessage
from websockets.frames import CloseCode
from websockets.protocol import State

from bridge.gateway.websocket.certificates import Certificates
from bridge.gateway.websocket.connection import Gone
from bridge.gateway.websocket.conversation import CALLS_AT_ONCE
from bridge.gateway.websocket.notices import Notices
from bridge.gateway.websocket.places import Places, address_of
from bridge.gateway.websocket.settings import GatewaySettings
from bridge.ocpp import OcppVersion
from bridge.request.outcome import describe_error
from bridge.telemetry.logs import get_logger

log = get_logger("bridge.gateway")

UNREAD_MESSAGES: Final = CALLS_AT_ONCE + 3
"""Messages of the greatest length that may wait to be written: replies, one answer given without
the bridge, and one CALL. Anything beyond that is pongs."""

READ_TIMEOUT: Final = 20.0
"""Seconds that a station may leave its messages unread. A slow mobile link carries some 100 kB in
that time."""

RECEIVE_BUFFER: Final = 32 * 1024
"""Bytes of a connection's receive buffer, which Linux doubles. All of it is read at once, and no
other station is served meanwhile. With a round trip of 0.1 s it still allows 600 kB/s."""


HANDSHAKE_BYTES: Final = 16 * 1024
"""Bytes of the opening HTTP request. Stations send 500; certificates go in TLS."""

SLICE: Final = 1024
"""Bytes that are decoded at a time: a thousand times as many may come of them by decompression, and
reading pauses after each as long as messages wait."""

CAUSES: Final = {
    http.HTTPStatus.BAD_REQUEST: "not a WebSocket handshake",
    http.HTTPStatus.FORBIDDEN: "its origin is not allowed",
    http.HTTPStatus.METHOD_NOT_ALLOWED: "the method is not GET",
    http.HTTPStatus.UPGRADE_REQUIRED: "it asks for no WebSocket",
    http.HTTPStatus.HTTP_VERSION_NOT_SUPPORTED: "not HTTP/1.1",
}
"""Why the library refuses a request, by the status of its response."""


class SocketOwner(Protocol):
    """What a connection needs of the gateway that it belongs to."""

    settings: GatewaySettings
    places: Places
    notices: Notices


class StationSocket(ServerConnection):
    """A WebSocket connection that cuts off a peer that exceeds its limits."""

    gateway: SocketOwner
    """Set on the subclass that :func:`owned_by` makes for each gateway."""
    station_id = ""
    """Empty until the handshake has told it."""
    version: OcppVersion | None = None
    """None until the handshake has told it, and if the two sides have no version in common."""
    entry: object = None
    """What its password fitted; None where none is asked for."""
    told = False
    """Whether it has been said why this connection is not let in, or not kept."""
    address = ""
    """The peer's host and port."""
    host = ""
    """What counts as the peer's address: see :func:`~bridge.gateway.websocket.places.address_of`"""
    tcp: asyncio.Transport | None = None
    """The TCP connection; under TLS it is not the connection's own transport."""
    _made = False
    _opened_at = 0.0
    _opening_bytes = 0
    _asked = False
    _held = False
    _backlog = b""
    _unread: asyncio.TimerHandle | None = None
    _heard = 0.0
    """When the peer was last heard, by the clock of the event loop."""

    def enter(self, tcp: asyncio.Transport) -> None:
        """The TCP connection has been made: take a place."""
        self.tcp = tcp
        self._opened_at = self.loop.time()
        peer = tcp.get_extra_info("peername")
        named = isinstance(peer, tuple)
        self.address = f"{peer[0]}:{peer[1]}" if named else str(peer or "")
        self.host = address_of(peer[0]) if named else ""
        self.gateway.places.enter(self, self.host)

    def leave(self) -> None:
        """The TCP connection has ended, or is being ended: give the place back."""
        self.gateway.places.leave(self)
        if self._asked or self.told:
            return
        waited = self.loop.time() - self._opened_at
        if self._opening_bytes or waited >= self.gateway.settings.handshake_timeout:
            self.refuse("the handshake was not finished", seconds=round(waited, 3))
        else:  # a load balancer that looks whether somebody listens
            log.debug("connection without a request", address=self.address)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # Reading pauses while messages wait: what has been read and not decoded waits as it came.
        self.recv_messages.pause = self._hold
        self.recv_messages.resume = self._release
        self._made = True
        if self.tcp is None:
            self.enter(self.transport)
        if self._backlog:  # it came together with the end of the TLS handshake
            self.loop.call_soon(self._catch_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self.leave()
        self._backlog = b""
        if self._unread is not None:
            self._unread.cancel()
        if self._made:
            super().connection_lost(exc)

    def eof_received(self) -> None:
        if self._made:
            super().eof_received()

    def data_received(self, data: bytes) -> None:
        self._heard = self.loop.time()
        if self.request is None:
            self._opening_bytes += len(data)
            if self._opening_bytes > HANDSHAKE_BYTES:
                self._refuse_headers()
                return
        if self._held or self._backlog or not self._made:
            self._backlog += data
        else:
            self._take(data)

    def _take(self, data: bytes) -> None:
        """Decode `data`, as far as messages have room."""
        for start in range(0, len(data), SLICE):
            if self._held:
                self._backlog = data[start:]
                return
            if self.transport.is_closing():
                return
            self._decode(data[start : start + SLICE])

    def _decode(self, data: bytes) -> None:
        if self.request is not None and self.state is State.CONNECTING:
            # A client must await the server's half of the handshake (RFC 6455 §4.1).
            self.cut_off("it does not await the end of the handshake")
            return
        super().data_received(data)
        if not self._asked:
            self._look_at_request(data)
        # Pongs are written whether or not the peer reads: a peer that sends nothing but pings
        # would fill the memory.
        unread = self.transport.get_write_buffer_size()
        if unread > UNREAD_MESSAGES * self.gateway.settings.max_message:
            self.cut_off("it does not read what it is sent")

    def _hold(self) -> None:
        self._held = True
        self.transport.pause_reading()

    def _release(self) -> None:
        self._held = False
        # Not now: the library is taking a message out.
        self.loop.call_soon(self._catch_up)

    def _catch_up(self) -> None:
        if self._has_room():
            data, self._backlog = self._backlog, b""
            self._take(data)
            if self._has_room():
                self.transport.resume_reading()

    def _has_room(self) -> bool:
        return not self._held and not self.transport.is_closing()

    async def keepalive(self) -> None:
        """Ping at regular intervals; end the connection if nothing at all comes after a ping.

        The library asks for the pong. But whatever is received proves that the peer is alive, and
        some stations that talk send no pongs. Pings whose pongs are not awaited are not kept.
        """
        interval, timeout = self.ping_interval, self.ping_timeout
        assert interval is not None and timeout is not None  # noqa: S101, PT018 - both are set
        next_ping = self.loop.time() + interval
        unheard: float | None = None  # when the first ping was sent after which nothing has come
        with contextlib.suppress(ConnectionClosed):
            while True:
                wake = next_ping if unheard is None else min(next_ping, unheard + timeout)
                await asyncio.sleep(wake - self.loop.time())
                now = self.loop.time()
                if unheard is not None and self._heard >= unheard:
                    unheard = None
                elif unheard is not None and now >= unheard + timeout:
                    async with self.send_context():
                        self.protocol.fail(CloseCode.INTERNAL_ERROR, "keepalive ping timeout")
                    return
                if now >= next_ping:
                    next_ping = now + interval
                    unheard = now if unheard is None else unheard
                    async with self.send_context():
                        self.protocol.send_ping(b"")

    def pause_writing(self) -> None:
        super().pause_writing()
        reason = f"it has not read for {READ_TIMEOUT:g} s"
        self._unread = self.loop.call_later(READ_TIMEOUT, self.cut_off, reason)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    # ---- the opening handshake ----

    def _look_at_request(self, data: bytes) -> None:
        """Whether the request has come to its end, or is none that the library can read."""
        error = self.protocol.handshake_exc
        if self.request is not None:
            self._asked = True
            self.gateway.places.has_asked(self)
        elif error is not None and not self.told:
            if isinstance(error, InvalidMessage):
                detail = describe_error(error.__cause__ or error)[:200]
                if data.startswith(b"\x16\x03"):
                    detail = "it speaks TLS, and the gateway has no certificate"
                self.refuse("unreadable request", detail=detail)
            else:
                self.refuse("the request is too large", detail=str(error)[:200])
            self.transport.close()  # what the library has answered is written

    def _refuse_headers(self) -> None:
        if self.told:
            return
        self.refuse("the request is too large", detail=f"more than {HANDSHAKE_BYTES} bytes")
        if not self._made:
            self._abort()
            return
        status = http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        self.protocol.send_response(self.protocol.reject(status, "The request is too large.\n"))
        self.send_data()
        self.transport.close()

    def forget_request(self) -> None:
        """Let go of the request, which the library keeps as long as the connection."""
        for message in (self.request, self.response):
            if message is not None:
                message.headers.clear()
        if self.request is not None:
            self.request.path = ""

    def refuse(self, cause: str, **facts: Any) -> None:
        """Say why the peer is not let in. `cause`: one of a few fixed texts."""
        self.told = True
        if self.station_id:
            facts["station"] = self.station_id
        self.gateway.notices.refused(cause, address=self.address, **facts)

    def cut_off(self, reason: str) -> None:
        """End the connection without a word to the peer."""
        if not self.told:
            self.told = True
            self.gateway.notices.cut_off(reason, station=self.station_id, address=self.address)
        self._abort()

    def _abort(self) -> None:
        if self.tcp is not None:
            self.tcp.abort()


class Doorway(asyncio.Protocol):
    """A TCP connection that is to become a station's over TLS: it has a place from its start."""

    def __init__(self, connection: StationSocket, tls: ssl.SSLContext) -> None:
        self._connection = connection
        self._tls = tls
        self._task: asyncio.Task[None] | None = None
        self._tcp: asyncio.Transport | None = None
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._tcp = tcp = cast("asyncio.Transport", transport)
        self._connection.enter(tcp)
        self._task = asyncio.get_running_loop().create_task(self._shake_hands(tcp))

    def data_received(self, data: bytes) -> None:
        """Some event loops read before anything can be said about it, even that they pause."""
        self._early += data
        if len(self._early) > HANDSHAKE_BYTES:
            self._connection.cut_off("it does not await the end of the handshake")

    async def _shake_hands(self, tcp: asyncio.Transport) -> None:
        connection = self._connection
        timeout = connection.gateway.settings.handshake_timeout
        if tcp.is_closing():  # there was no place
            connection.leave()
            return
        loop = asyncio.get_running_loop()
        # Twice: after start_tls has begun, which has its protocol start in the next turn.
        loop.call_soon(loop.call_soon, self._pass_on)
        try:
            transport = await loop.start_tls(
                tcp, connection, self._tls, server_side=True, ssl_handshake_timeout=timeout
            )
        except (OSError, RuntimeError, EOFError) as error:
            if not connection.told and not isinstance(error, ConnectionError):
                connection.refuse("TLS failed", detail=describe_error(error)[:200])
            tcp.abort()
            connection.leave()
            return
        # None if the connection was lost at that moment.
        made: asyncio.Transport | None = transport
        if made is None or made.is_closing():
            connection.leave()
            return
        connection.connection_made(made)

    def _pass_on(self) -> None:
        """Give what came early to the protocol that does TLS now."""
        # Any loop's takes buffers (asyncio.BufferedProtocol); uvloop's is of no common class.
        tls: Any = None if self._tcp is None else self._tcp.get_protocol()
        data, self._early = self._early, b""
        while data and tls is not self and hasattr(tls, "buffer_updated"):
            room = memoryview(tls.get_buffer(len(data)))
            size = min(len(room), len(data))
            room[:size] = data[:size]
            tls.buffer_updated(size)
            data = data[size:]


def owned_by(gateway: SocketOwner) -> type[StationSocket]:
    """What makes the connections that belong to `gateway`; `websockets` calls it for each."""
    connections = type("StationSocket", (StationSocket,), {"gateway": gateway})
    tls = gateway.settings.tls
    if tls is None:
        return connections

    def over_tls(*arguments: Any, **options: Any) -> Doorway:
        context = tls.context() if isinstance(tls, Certificates) else tls
        return Doorway(connections(*arguments, **options), context)

    # The library gives to the event loop what it gets; that it is a protocol is enough.
    return cast("type[StationSocket]", over_tls)


class OpenSocket:
    """A connection after its handshake: a `Socket`, as `connection.py` asks for it."""

    def __init__(self, connection: StationSocket) -> None:
        self._connection = connection

    async def messages(self) -> AsyncIterator[str | bytes]:
        with contextlib.suppress(ConnectionClosed):
            while True:
                yield await self._connection.recv()

    async def send(self, frame: str) -> None:
        try:
            await self._connection.send(frame)
        except ConnectionClosed:
            raise Gone from None

    async def close(self, code: int, reason: str) -> None:
        await self._connection.close(code, reason)


def limit_receive_buffer(listening: socket.socket) -> None:
    """Set RECEIVE_BUFFER on a listening socket: the connections that it accepts inherit it."""
    with socket.fromfd(listening.fileno(), listening.family, listening.type) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
