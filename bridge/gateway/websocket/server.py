"""The WebSocket server: who is let in, which stations are connected, and how it ends. Needs the extra ``gateway``."""

import asyncio
import concurrent.futures
import contextlib
import http
import logging
import socket
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, Protocol

import msgspec
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.protocol import State

from bridge.gateway.station_handler import StationHandler
from bridge.gateway.websocket import handshake
from bridge.gateway.websocket.connection import (
    CALL_TIMEOUT,
    GatewayCounts,
    Gone,
    Link,
    StationConnection,
)
from bridge.gateway.websocket.conversation import CALLS_AT_ONCE, Conversation
from bridge.gateway.websocket.passwords import Passwords
from bridge.ocpp import OcppVersion
from bridge.request.outcome import describe_error
from bridge.telemetry.logs import get_logger
from bridge.transport import TransportError

log = get_logger("bridge.gateway")

MAX_MESSAGE: Final = 1024 * 1024
"""Bytes of a message, decompressed, both ways. OCPP messages are a few kB; certificate chains and reports some 10."""
MAX_CONNECTIONS: Final = 10_000
"""Connections at a time, those that are still shaking hands included: 20 kB each, three times that with compression, and a file
descriptor."""
HANDSHAKE_TIMEOUT: Final = 10.0
"""Seconds for TLS, and again for the HTTP request. A mobile link needs two or three; a peer that dawdles holds its place no longer."""
PING_INTERVAL: Final = 30.0
"""Seconds between pings: mobile networks forget a silent connection after 30 to 60."""
PING_TIMEOUT: Final = 30.0
"""Seconds for the pong. A dead connection is found within a minute; a slow mobile link is not taken for one."""
HEARTBEAT_INTERVAL: Final = 300
"""Seconds between Heartbeats, as stations are told. They only set the station's clock: pings watch the connection."""
DRAIN_TIMEOUT: Final = 20.0
"""Seconds. As long as a handler may take; and Kubernetes kills after 30 s unless told otherwise, of which the farewells to stations
and broker may take 5 each."""
CLOSE_TIMEOUT: Final = 5.0
"""Seconds for a station's half of the closing handshake."""
WRITE_LIMIT: Final = 32 * 1024
"""Bytes waiting to be written to a station above which nothing more is written until it reads."""
UNREAD_MESSAGES: Final = CALLS_AT_ONCE + 3
"""Of the greatest length, that may wait to be written: replies, one answer without the bridge, one CALL. What is more is pongs."""
READ_TIMEOUT: Final = 20.0
"""Seconds in which a station has to read down to that limit: a slow mobile link carries some 100 kB in that time."""
MESSAGES_AHEAD: Final = 2
"""Messages read from a station ahead of the one in hand; then its socket is read no more."""
RECEIVE_BUFFER: Final = 32 * 1024
"""Bytes of a connection's receive buffer, which Linux doubles: so much is read at once, and no other station is served meanwhile. At
0.1 s there and back it still takes 600 kB/s."""
PASSWORD_THREADS: Final = 2
"""Passwords checked at a time: each takes a core and some memory."""


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a gateway works."""

    host: str | None = "127.0.0.1"
    """None: every interface."""
    port: int = 9000
    """0: a free one."""
    path: str = ""
    """What stands before the station's id in the path: "" or "/ocpp"."""
    versions: Sequence[OcppVersion] = handshake.PREFERRED
    """Sub-protocols that are spoken, the preferred one first."""
    tls: ssl.SSLContext | None = None
    call_timeout: float = CALL_TIMEOUT
    """Seconds that the bridge may take to answer a station's DataTransfer."""
    heartbeat_interval: int = HEARTBEAT_INTERVAL
    """Seconds."""
    max_message: int = MAX_MESSAGE
    """Bytes of a message. A longer one from a station ends its connection (close code 1009); a longer payload is not sent to one."""
    max_connections: int = MAX_CONNECTIONS
    """One more is closed as it is opened."""
    handshake_timeout: float = HANDSHAKE_TIMEOUT
    """Seconds."""
    ping_interval: float = PING_INTERVAL
    """Seconds."""
    ping_timeout: float = PING_TIMEOUT
    """Seconds."""
    drain_timeout: float = DRAIN_TIMEOUT
    """Seconds to finish what is outstanding when asked to stop."""


class StationLink(Link, Protocol):
    """The bridge, as the gateway sees it; :class:`~bridge.gateway.link.GatewayLink` is one."""

    @property
    def counts(self) -> msgspec.Struct:
        """What became of the requests of the CSMS."""

    async def connect_station(
        self, station_id: str, version: OcppVersion | str, handler: StationHandler
    ) -> None:
        """From when this returns, requests of the CSMS for the station come to `handler`, and no longer to one it had."""

    async def disconnect_station(
        self, station_id: str, handler: StationHandler | None = None
    ) -> None:
        """No request for the station comes to `handler` any more."""

    async def drain(self, timeout: float) -> int:  # noqa: ASYNC109 - a bound, not a failure
        """Take no more requests of the CSMS, and await the answers to those in hand, in both directions."""


class _WebSocket(ServerConnection):
    """A WebSocket connection whose place and buffers are bounded: a peer that breaks a limit is cut off without a word."""

    gateway: "Gateway"
    """Set on the subclass that each gateway makes for itself."""
    station_id = ""
    version: OcppVersion | None = None
    """Both once the handshake has told them; no version: none in common."""
    _unread: asyncio.TimerHandle | None = None

    @property
    def address(self) -> str:
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
            self._cut_off("it does not await the end of the handshake")  # as RFC 6455 §4.1 demands
            return
        super().data_received(data)
        # A pong is written whether the peer reads or not: one that sends nothing but pings would fill the memory.
        if (
            self.transport.get_write_buffer_size()
            > UNREAD_MESSAGES * self.gateway.settings.max_message
        ):
            self._cut_off("it does not read what it is sent")

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(
            READ_TIMEOUT, self._cut_off, f"it has not read for {READ_TIMEOUT:g} s"
        )

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


class _Socket:
    """A connection of websockets as :class:`~bridge.gateway.websocket.connection.Socket`."""

    def __init__(self, connection: _WebSocket) -> None:
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


def _limit_receive_buffer(listening: socket.socket) -> None:
    """Of the connections that are accepted, which have it from the socket that listens."""
    with socket.fromfd(listening.fileno(), listening.family, listening.type) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)


class Gateway:
    """Holds the connections of stations between :meth:`run` and :meth:`stop`."""

    def __init__(
        self,
        link: StationLink,
        settings: GatewaySettings | None = None,
        passwords: Passwords | None = None,
    ) -> None:
        """`passwords`: None lets every station in."""
        self.settings = settings or GatewaySettings()
        self.counts = GatewayCounts()
        self.connections = 0
        """TCP connections, those that are still shaking hands included."""
        self.stations: dict[str, StationConnection] = {}
        """Those that are connected, by id."""
        self._link = link
        self._passwords = passwords
        self._checkers = concurrent.futures.ThreadPoolExecutor(PASSWORD_THREADS, "password")
        self._stop = asyncio.Event()
        self._listening: asyncio.Future[list[tuple[str, int]]] = (
            asyncio.get_running_loop().create_future()
        )
        self._closing: set[asyncio.Task[None]] = set()

    async def listening(self) -> list[tuple[str, int]]:
        """Hosts and ports, once stations can connect."""
        return await asyncio.shield(self._listening)

    def stop(self) -> None:
        """Finish what is outstanding and end :meth:`run`."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until :meth:`stop` is called, then drain. Raises OSError if it cannot listen."""
        settings = self.settings
        connection = type("_WebSocket", (_WebSocket,), {"gateway": self})
        tls: dict[str, Any] = {}
        if settings.tls is not None:
            tls = {"ssl": settings.tls, "ssl_handshake_timeout": settings.handshake_timeout}
        try:
            async with serve(
                self._serve,
                settings.host,
                settings.port,
                **tls,
                process_request=self._let_in,
                process_response=self._choose_version,
                server_header=None,
                open_timeout=settings.handshake_timeout,
                ping_interval=settings.ping_interval,
                ping_timeout=settings.ping_timeout,
                close_timeout=CLOSE_TIMEOUT,
                max_size=settings.max_message,
                max_queue=MESSAGES_AHEAD,
                write_limit=WRITE_LIMIT,
                logger=logging.getLogger("websockets.server"),
                create_connection=connection,
            ) as server:
                for listening in server.sockets:
                    _limit_receive_buffer(listening)
                addresses = [listening.getsockname()[:2] for listening in server.sockets]
                self._listening.set_result(addresses)
                log.info("listening", addresses=[f"{host}:{port}" for host, port in addresses])
                await self._stop.wait()
                server.close(close_connections=False)
                await self._drain()
        finally:
            self._listening.cancel()
            self._checkers.shutdown(wait=False, cancel_futures=True)
        log.info(
            "drained",
            **msgspec.to_builtins(self.counts),
            to_stations=msgspec.to_builtins(self._link.counts),
        )

    async def _drain(self) -> None:
        """Stations go elsewhere, each as soon as nothing is outstanding: the close code says that we go away. The CSMS's next
        requests find them there, or nowhere.
        """
        timeout = self.settings.drain_timeout
        connections = tuple(self.stations.values())
        log.info("going away", stations=len(connections))
        deadline = asyncio.get_running_loop().time() + timeout
        goodbyes = (
            connection.close_when_idle(CloseCode.GOING_AWAY, "restart", deadline)
            for connection in connections
        )
        await asyncio.gather(self._link.drain(timeout), *goodbyes, *self._closing)

    # ---- the opening handshake ----

    async def _let_in(self, connection: ServerConnection, request: Request) -> Response | None:
        """None: let it in. Else the HTTP response that says why not (OCPP-J 1.6 §3.2, RFC 7617)."""
        assert isinstance(connection, _WebSocket)  # noqa: S101 - as create_connection says
        station_id = handshake.station_id(request.path, self.settings.path)
        if station_id is None:
            self._refuse(connection, "no station in the path", path=request.path[:255])
            return connection.respond(
                http.HTTPStatus.NOT_FOUND, "The path ends with the id of a charging station.\n"
            )
        connection.station_id = station_id
        if self._passwords is not None and not await self._authenticated(
            request, station_id, self._passwords
        ):
            self._refuse(connection, "wrong password, or none")
            response = connection.respond(http.HTTPStatus.UNAUTHORIZED, "User: the station's id.\n")
            response.headers["WWW-Authenticate"] = 'Basic realm="ocpp"'
            return response
        return None

    async def _authenticated(self, request: Request, station_id: str, passwords: Passwords) -> bool:
        headers = request.headers.get_all("Authorization")
        password = handshake.password(headers[0], station_id) if len(headers) == 1 else None
        if password is None:
            return False
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._checkers, passwords.check, station_id, password)

    def _choose_version(
        self, connection: ServerConnection, request: Request, response: Response
    ) -> None:
        """Say which sub-protocol is spoken. The library could choose, but what it is given for that keeps connections in memory
        long after their end.
        """
        assert isinstance(connection, _WebSocket)  # noqa: S101 - as create_connection says
        offered = handshake.offered_versions(request.headers.get_all("Sec-WebSocket-Protocol"))
        connection.version = handshake.choose_version(offered, self.settings.versions)
        if (
            connection.version is not None
            and response.status_code == http.HTTPStatus.SWITCHING_PROTOCOLS
        ):
            response.headers["Sec-WebSocket-Protocol"] = connection.version.value

    def _refuse(self, connection: _WebSocket, reason: str, **more: str) -> None:
        self.counts.refused += 1
        log.info(
            "connection refused",
            station=connection.station_id,
            address=connection.address,
            reason=reason,
            **more,
        )

    # ---- a station's connection ----

    async def _serve(self, connection: ServerConnection) -> None:
        assert isinstance(connection, _WebSocket)  # noqa: S101 - as create_connection says
        try:
            await self._serve_station(connection)
        except Exception as error:
            log.exception(
                "connection failed", station=connection.station_id, error=describe_error(error)
            )

    async def _serve_station(self, connection: _WebSocket) -> None:
        if self._stop.is_set():  # its handshake ended in the very moment that draining began
            await connection.close(CloseCode.GOING_AWAY, "restart")
            return
        if connection.version is None:
            # The handshake is completed without a sub-protocol, and the connection closed (OCPP-J 1.6 §3.2, 2.0.1 §3.2).
            self._refuse(connection, "no version in common")
            await connection.close(CloseCode.PROTOCOL_ERROR, "no OCPP version in common")
            return
        station = StationConnection(
            connection.station_id,
            _Socket(connection),
            self._link,
            Conversation(
                connection.version,
                heartbeat=self.settings.heartbeat_interval,
                max_payload=self.settings.max_message,
            ),
            counts=self.counts,
            call_timeout=self.settings.call_timeout,
        )
        started = time.monotonic()
        self.counts.connected += 1
        log.info(
            "station connected",
            station=station.station_id,
            version=station.version.value,
            address=connection.address,
        )
        self._take_over(station)
        binding = asyncio.create_task(self._bind(station))
        try:
            await station.run()
        finally:
            log.info(
                "station disconnected",
                station=station.station_id,
                code=connection.close_code,
                reason=connection.close_reason,
                seconds=round(time.monotonic() - started, 3),
            )
            binding.cancel()
            await asyncio.gather(binding, return_exceptions=True)
            if self.stations.get(station.station_id) is station:
                del self.stations[station.station_id]
            await self._link.disconnect_station(station.station_id, station)

    def _take_over(self, station: StationConnection) -> None:
        """The newer connection of a station wins: the older one is often dead, and only the station knows it yet."""
        older = self.stations.get(station.station_id)
        self.stations[station.station_id] = station
        if older is None:
            return
        self.counts.replaced += 1
        log.info("station replaced", station=station.station_id)
        older.abandon()
        task = asyncio.create_task(older.close(CloseCode.POLICY_VIOLATION, "a newer connection"))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _bind(self, station: StationConnection) -> None:
        """Have the CSMS's requests for the station sent here. It is served meanwhile: the broker may be away."""
        try:
            await self._link.connect_station(station.station_id, station.version, station)
        except TransportError as error:  # draining has begun
            log.info("station not bound", station=station.station_id, reason=str(error))
        except Exception as error:
            log.exception(
                "station not bound", station=station.station_id, error=describe_error(error)
            )
        else:
            log.debug("station bound", station=station.station_id)
