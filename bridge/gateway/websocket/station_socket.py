"""A station's WebSocket connection with bounded memory, on top of the `websockets` library."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Final, Protocol

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.protocol import State

from bridge.gateway.websocket.connection import GatewayCounts, Gone
from bridge.gateway.websocket.conversation import CALLS_AT_ONCE
from bridge.gateway.websocket.settings import GatewaySettings
from bridge.ocpp import OcppVersion
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


class SocketOwner(Protocol):
    """What a connection needs of the gateway that it belongs to."""

    settings: GatewaySettings
    counts: GatewayCounts
    connections: int
    """TCP connections, including those whose handshake is not finished."""


class StationSocket(ServerConnection):
    """A WebSocket connection that cuts off, without a word, a peer that exceeds its limits."""

    gateway: SocketOwner
    """Set on the subclass that :func:`owned_by` makes for each gateway."""
    station_id = ""
    """Empty until the handshake has told it."""
    version: OcppVersion | None = None
    """None until the handshake has told it, and if the two sides have no version in common."""
    _unread: asyncio.TimerHandle | None = None
    _heard = 0.0
    """When the peer was last heard, by the clock of the event loop."""

    @property
    def address(self) -> str:
        """The peer's host and port."""
        peer = self.remote_address
        return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else str(peer)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.gateway.connections += 1
        if self.gateway.connections > self.gateway.settings.max_connections:
            self._cut_off("too many connections")

    def connection_lost(self, exc: Exception | None) -> None:
        self.gateway.connections -= 1
        if self._unread is not None:
            self._unread.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.request is not None and self.state is State.CONNECTING:
            # A client must await the server's half of the handshake (RFC 6455 §4.1).
            self._cut_off("it does not await the end of the handshake")
            return
        self._heard = self.loop.time()
        super().data_received(data)
        # Pongs are written whether or not the peer reads: a peer that sends nothing but pings
        # would fill the memory.
        unread = self.transport.get_write_buffer_size()
        if unread > UNREAD_MESSAGES * self.gateway.settings.max_message:
            self._cut_off("it does not read what it is sent")

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
        self._unread = self.loop.call_later(READ_TIMEOUT, self._cut_off, reason)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _cut_off(self, reason: str) -> None:
        self.gateway.counts.cut_off += 1
        log.warning(
            "connection cut off", station=self.station_id, address=self.address, reason=reason
        )
        self.transport.abort()


def owned_by(gateway: SocketOwner) -> type[StationSocket]:
    """The class of the connections that belong to `gateway`; `websockets` makes them itself."""
    return type("StationSocket", (StationSocket,), {"gateway": gateway})


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
