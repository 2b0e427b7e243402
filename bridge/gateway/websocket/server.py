"""The WebSocket server: who is let in, which stations are connected, and how it stops.

Needs the extra ``gateway``.
"""

import asyncio
import http
import logging
import time
from functools import partial
from typing import Final, Protocol, cast

import msgspec
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from bridge.gateway.station_handler import StationHandler
from bridge.gateway.websocket import handshake
from bridge.gateway.websocket.certificates import Certificates
from bridge.gateway.websocket.connection import GatewayCounts, Link, StationConnection
from bridge.gateway.websocket.conversation import Conversation
from bridge.gateway.websocket.in_hand import IN_HAND, BoundedLink, BytesInHand
from bridge.gateway.websocket.logins import Logins, TooBusy, TooManyGuesses
from bridge.gateway.websocket.notices import Notices
from bridge.gateway.websocket.passwords import Passwords
from bridge.gateway.websocket.places import Places
from bridge.gateway.websocket.rivals import Rivals
from bridge.gateway.websocket.settings import GatewaySettings
from bridge.gateway.websocket.station_socket import (
    CAUSES,
    OpenSocket,
    StationSocket,
    limit_receive_buffer,
    owned_by,
)
from bridge.gateway.websocket.traffic import Traffic
from bridge.ocpp import OcppVersion
from bridge.request.outcome import describe_error
from bridge.telemetry.clock import ClockWatch
from bridge.telemetry.logs import get_logger
from bridge.transport import TransportError

log = get_logger("bridge.gateway")

CLOSE_TIMEOUT: Final = 5.0
"""Seconds to wait for a station's half of the closing handshake."""

WRITE_LIMIT: Final = 32 * 1024
"""Bytes that may wait to be written to a station; above it, nothing more is written until the
station reads."""

MESSAGES_AHEAD: Final = 2
"""Messages that are read from a station ahead of the one in hand; then reading pauses."""

PASSWORDS_AGE: Final = 5.0
"""Seconds between looks at the passwords: after that, whoever's password was removed is gone."""

CERTIFICATES_AGE: Final = 5.0
"""Seconds between looks at the certificates while nobody connects."""

REMOVED: Final = "its password was removed or changed"
"""Why a station that was let in is so no more."""

BUSY_SECONDS: Final = 5
"""Seconds after which a station that could not be checked may come back."""


class StationLink(Link, Protocol):
    """The bridge as a gateway sees it. `bridge.gateway.GatewayLink` implements it."""

    @property
    def counts(self) -> msgspec.Struct:
        """What became of the CSMS's requests."""

    async def connect_station(
        self, station_id: str, version: OcppVersion | str, handler: StationHandler
    ) -> None:
        """Route the CSMS's requests for the station to `handler`.

        When this returns, they go to `handler` and no longer to an earlier one of the station.
        """

    async def disconnect_station(
        self, station_id: str, handler: StationHandler | None = None
    ) -> None:
        """Stop routing requests to `handler`; a later handler of the station keeps its requests."""

    async def drain(self, timeout: float) -> int:
        """Take no more requests of the CSMS, and await what is in hand in both directions.

        `timeout`: seconds.
        """


class Gateway:
    """Holds the connections of stations between :meth:`run` and :meth:`stop`."""

    def __init__(
        self,
        link: StationLink,
        settings: GatewaySettings | None = None,
        passwords: Passwords | None = None,
    ) -> None:
        """`passwords`: None lets every station in. Raises RuntimeError outside an event loop."""
        self.settings = settings or GatewaySettings()
        self.counts = GatewayCounts()
        self.notices = Notices(self.counts)
        self.places = Places(self.settings.max_connections, self.settings.max_per_address)
        self.stations: dict[str, StationConnection] = {}
        """The stations that are connected, by id."""
        self._link = link
        self._logins = None if passwords is None else Logins(passwords)
        self.in_hand = BytesInHand(max(IN_HAND, 4 * self.settings.max_message))
        """Of requests of stations."""
        self.traffic = Traffic()
        """CALLs in both directions."""
        self.clock = ClockWatch()
        """Looks at the clocks, and at the event loop, while the gateway runs."""
        self._entries: dict[StationConnection, object] = {}
        self._stop = asyncio.Event()
        self._listening: asyncio.Future[list[tuple[str, int]]] = (
            asyncio.get_running_loop().create_future()
        )
        self._closing: set[asyncio.Task[None]] = set()
        self._rivals = Rivals()

    @property
    def connections(self) -> int:
        """TCP connections, including those whose handshake is not finished."""
        return len(self.places)

    @property
    def accepts(self) -> bool:
        """Whether stations can connect: it listens, and has not been asked to stop."""
        return (
            self._listening.done() and not self._listening.cancelled() and not self._stop.is_set()
        )

    async def listening(self) -> list[tuple[str, int]]:
        """Wait until stations can connect. Returns the hosts and ports."""
        return await asyncio.shield(self._listening)

    def stop(self) -> None:
        """Finish what is outstanding and end :meth:`run`."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until :meth:`stop` is called, then drain. Raises OSError if it cannot listen."""
        settings = self.settings
        watches = [
            asyncio.create_task(self._watch_passwords()),
            asyncio.create_task(self._watch_certificates()),
        ]
        self.clock.start()
        try:
            async with serve(
                self._serve,
                settings.host,
                settings.port,
                reuse_port=settings.reuse_port,
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
                create_connection=owned_by(self),
            ) as server:
                for listening in server.sockets:
                    limit_receive_buffer(listening)
                addresses = [listening.getsockname()[:2] for listening in server.sockets]
                self._listening.set_result(addresses)
                log.info("listening", addresses=[f"{host}:{port}" for host, port in addresses])
                await self._stop.wait()
                server.close(close_connections=False)
                await self._drain()
        finally:
            self._listening.cancel()
            self.clock.stop()
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
            if self._logins is not None:
                self._logins.close()
            self.notices.close()
        log.info(
            "drained",
            **msgspec.to_builtins(self.counts),
            to_stations=msgspec.to_builtins(self._link.counts),
        )

    async def _drain(self) -> None:
        """Close each connection as soon as nothing is outstanding on it.

        The close code says that the gateway is going away, so stations connect elsewhere. The
        CSMS's next requests find them there, or find nobody.
        """
        self._rivals.close()
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
        """None to let it in, else the HTTP response that refuses it (OCPP-J 1.6 §3.2, RFC 7617)."""
        connection = cast("StationSocket", connection)  # create_connection makes them
        if not handshake.segments(request.path) and "Upgrade" not in request.headers:
            connection.told = True  # nothing is refused
            return connection.respond(http.HTTPStatus.OK, "The gateway is up.\n")
        headers = request.headers
        if not handshake.origin_allowed(
            headers.get_all("Origin"),
            headers.get_all("Host"),
            self.settings.allowed_origins,
            any_name=self._logins is not None,
        ):
            status = http.HTTPStatus.FORBIDDEN
            connection.refuse(
                CAUSES[status],
                origin=", ".join(headers.get_all("Origin"))[:255],
            )
            return connection.respond(status, "A web page may not connect as a station.\n")
        try:
            station_id = handshake.station_id(request.path, self.settings.path)
        except handshake.BadTarget as error:
            connection.refuse(str(error), path=request.path[:255])
            return connection.respond(http.HTTPStatus.BAD_REQUEST, f"The path has {error}.\n")
        if station_id is None:
            connection.refuse("no station in the path", path=request.path[:255])
            return connection.respond(
                http.HTTPStatus.NOT_FOUND, "The path ends with the id of a charging station.\n"
            )
        connection.station_id = station_id
        if self.settings.verifies:
            names = handshake.certificate_names(connection.transport.get_extra_info("peercert"))
            if station_id not in names:
                connection.refuse("its certificate is another station's", names=sorted(names)[:3])
                return connection.respond(
                    http.HTTPStatus.FORBIDDEN, "The certificate names the station's id.\n"
                )
        if self._logins is None:
            return None
        try:
            return await self._check_password(connection, request, self._logins)
        except Exception as error:
            log.exception("password not checked", station=station_id, error=describe_error(error))
            connection.refuse("the password could not be checked")
            return connection.respond(
                http.HTTPStatus.INTERNAL_SERVER_ERROR, "The password could not be checked.\n"
            )

    async def _check_password(
        self, connection: StationSocket, request: Request, logins: Logins
    ) -> Response | None:
        """None if it fits, else the HTTP response."""
        station_id = connection.station_id
        headers = request.headers.get_all("Authorization")
        given = handshake.credentials(headers[0], station_id) if len(headers) == 1 else None
        try:
            if given is not None:
                connection.entry = await logins.check(station_id, connection.host, *given)
        except TooManyGuesses as error:
            connection.refuse("too many wrong passwords", seconds=error.seconds)
            response = connection.respond(
                http.HTTPStatus.TOO_MANY_REQUESTS, "Too many wrong passwords.\n"
            )
            response.headers["Retry-After"] = str(error.seconds)
            return response
        except TooBusy:
            connection.refuse("too many passwords to check")
            response = connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "Try again.\n")
            response.headers["Retry-After"] = str(BUSY_SECONDS)
            return response
        if connection.entry is not None:
            self.traffic.logins += 1
            return None
        connection.refuse("wrong password, or none")
        response = connection.respond(http.HTTPStatus.UNAUTHORIZED, "User: the station's id.\n")
        response.headers["WWW-Authenticate"] = 'Basic realm="ocpp"'
        return response

    async def _watch_passwords(self) -> None:
        """Close the connections of stations whose password has been removed or changed."""
        logins = self._logins
        if logins is None:
            return
        changes = 0
        while True:
            await asyncio.sleep(PASSWORDS_AGE)
            now = await logins.refresh()
            if now == changes:
                continue
            changes = now
            for station, entry in tuple(self._entries.items()):
                if not logins.holds(station.station_id, entry):
                    log.info("password removed or changed", station=station.station_id)
                    self._give_up(station, REMOVED)

    async def _watch_certificates(self) -> None:
        """Look at them although nobody connects, so that the log and the metrics are true."""
        tls = self.settings.tls
        while isinstance(tls, Certificates):
            await asyncio.sleep(CERTIFICATES_AGE)
            tls.context()

    def _choose_version(
        self, connection: ServerConnection, request: Request, response: Response
    ) -> None:
        """Choose the sub-protocol, which is the version of OCPP.

        The library can choose it too, but the callback for that keeps connections in memory long
        after they have ended.
        """
        connection = cast("StationSocket", connection)  # create_connection makes them
        if response.status_code != http.HTTPStatus.SWITCHING_PROTOCOLS:
            if not connection.told:
                cause = CAUSES.get(
                    http.HTTPStatus(response.status_code), "not a WebSocket handshake"
                )
                error = connection.protocol.handshake_exc
                connection.refuse(cause, detail=str(error)[:200])
            return
        if self._stop.is_set():
            connection.refuse("the gateway is going away")
        offered = handshake.offered_versions(request.headers.get_all("Sec-WebSocket-Protocol"))
        connection.version = handshake.choose_version(offered, self.settings.versions)
        if not offered:
            # A sub-protocol that was not offered may not be named (RFC 6455 §4.2.2).
            connection.version = self.settings.default_version
        elif connection.version is not None:
            response.headers["Sec-WebSocket-Protocol"] = connection.version.value

    # ---- a station's connection ----

    async def _serve(self, connection: ServerConnection) -> None:
        connection = cast("StationSocket", connection)  # create_connection makes them
        try:
            await self._serve_station(connection)
        except Exception as error:
            log.exception(
                "connection failed", station=connection.station_id, error=describe_error(error)
            )

    async def _serve_station(self, connection: StationSocket) -> None:
        connection.forget_request()
        if connection.version is not None and not await self._rivals.turn(
            connection.station_id, connection.wait_closed
        ):
            connection.refuse("others connect as this station")
            await connection.close(CloseCode.TRY_AGAIN_LATER, "others connect as this station")
            return
        if self._stop.is_set():  # draining began during the handshake
            await connection.close(CloseCode.GOING_AWAY, "restart")
            return
        if connection.version is None:
            # OCPP-J asks to complete the handshake without a sub-protocol and then to close
            # (OCPP-J 1.6 §3.2, OCPP-J 2.0.1 §3.2).
            connection.refuse("no version in common")
            await connection.close(CloseCode.PROTOCOL_ERROR, "no OCPP version in common")
            return
        if self._logins is not None and not self._logins.holds(
            connection.station_id, connection.entry
        ):  # while it waited for its turn
            connection.refuse(REMOVED)
            await connection.close(CloseCode.POLICY_VIOLATION, REMOVED)
            return
        station = StationConnection(
            connection.station_id,
            OpenSocket(connection),
            BoundedLink(
                self._link,
                self.in_hand,
                connection.host,
                self.settings.max_message,
                self.notices,
            ),
            Conversation(
                connection.version,
                heartbeat=self.settings.heartbeat_interval,
                max_payload=self.settings.max_message,
                station_id=connection.station_id,
                on_boot=self.settings.on_boot,
            ),
            counts=self.counts,
            traffic=self.traffic,
            call_timeout=self.settings.call_timeout,
            max_rate=self.settings.max_rate,
            on_slowed=partial(
                self.notices.slowed, "it sends more than it may", station=connection.station_id
            ),
        )
        started = time.monotonic()
        self.counts.connected += 1
        log.info(
            "station connected",
            station=station.station_id,
            version=station.version.value,
            address=connection.address,
        )
        self._take_over(station, connection.address)
        if connection.entry is not None:
            self._entries[station] = connection.entry
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
            self._entries.pop(station, None)
            binding.cancel()
            await asyncio.gather(binding, return_exceptions=True)
            if self.stations.get(station.station_id) is station:
                del self.stations[station.station_id]
                self._rivals.left(station.station_id)
            await self._link.disconnect_station(station.station_id, station)

    def _take_over(self, station: StationConnection, address: str) -> None:
        """Replace the station's older connection: it is often dead, and only the station knows."""
        older = self.stations.get(station.station_id)
        self.stations[station.station_id] = station
        if older is None:
            return
        self.counts.replaced += 1
        log.info("station replaced", station=station.station_id)
        if self._rivals.replaced(station.station_id):
            log.warning(
                "station replaced again and again",
                station=station.station_id,
                address=address,
                advice="two peers may have the same id: further ones have to wait",
            )
        self._give_up(older, "a newer connection")

    def _give_up(self, station: StationConnection, reason: str) -> None:
        station.abandon()
        task = asyncio.create_task(station.close(CloseCode.POLICY_VIOLATION, reason))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _bind(self, station: StationConnection) -> None:
        """Have the CSMS's requests for the station routed here.

        The station is served meanwhile, because the broker may be away.
        """
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
