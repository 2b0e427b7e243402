"""The WebSocket server: which stations are connected, and how it stops.

Needs the extra ``gateway``.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, Protocol, cast

import msgspec
from websockets.frames import CloseCode
from websockets.http11 import Request

from bridge.gateway.station_handler import StationHandler
from bridge.gateway.websocket.admission import Admission
from bridge.gateway.websocket.arrivals import Arrivals
from bridge.gateway.websocket.certificates import Certificates
from bridge.gateway.websocket.connection import GatewayCounts, Link, StationConnection
from bridge.gateway.websocket.conversation import Conversation
from bridge.gateway.websocket.doorway import Doorway
from bridge.gateway.websocket.in_hand import IN_HAND, BoundedLink, BytesInHand
from bridge.gateway.websocket.logins import Logins
from bridge.gateway.websocket.notices import Notices
from bridge.gateway.websocket.opening import Opening
from bridge.gateway.websocket.passwords import Passwords
from bridge.gateway.websocket.places import Places
from bridge.gateway.websocket.rivals import Rivals
from bridge.gateway.websocket.settings import GatewaySettings
from bridge.gateway.websocket.station_socket import StationSocket
from bridge.gateway.websocket.traffic import Traffic
from bridge.ocpp import OcppVersion
from bridge.request.outcome import describe_error
from bridge.request.wheel import Wheel
from bridge.telemetry.clock import ClockWatch
from bridge.telemetry.logs import get_logger
from bridge.transport import TransportError

log = get_logger("bridge.gateway")

BACKLOG: Final = 1024
"""Connections that the system may hold until they are accepted: a burst of stations that come
back."""

RECEIVE_BUFFER: Final = 32 * 1024
"""Bytes of a connection's receive buffer, which Linux doubles. All of it is read at once, and no
other station is served meanwhile. With a round trip of 0.1 s it still allows 600 kB/s."""

PASSWORDS_AGE: Final = 5.0
"""Seconds between looks at the passwords: after that, whoever's password was removed is gone."""

CERTIFICATES_AGE: Final = 5.0
"""Seconds between looks at the certificates while nobody connects."""

REMOVED: Final = "its password was removed or changed"
"""Why a station that was let in is so no more."""


class StationLink(Link, Protocol):
    """The bridge as a gateway sees it. `bridge.gateway.GatewayLink` implements it."""

    @property
    def counts(self) -> msgspec.Struct:
        """What became of the CSMS's requests."""

    def add_station(
        self,
        station_id: str,
        version: OcppVersion | str,
        handler: StationHandler,
        on_reachable: Callable[[], None],
    ) -> None:
        """Route the CSMS's requests for the station to `handler`.

        From when `on_reachable` is called, they go to `handler` and no longer to an earlier one of
        the station.
        """

    def lose_station(
        self, station_id: str, handler: StationHandler
    ) -> Callable[[Callable[[], None]], None] | None:
        """Give `handler` no more requests. What is returned has the broker send none here.

        It takes what is to be called then. None: a later handler has the station's requests.
        """

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
        self.wheel = Wheel()
        """The time-outs of connections."""
        self.arrivals = Arrivals()
        """Who waits for its opening request to be looked at."""
        self._admission = Admission(self.settings, self._logins, self.traffic)
        self._entries: dict[StationConnection, object] = {}
        self._stop = asyncio.Event()
        self._listening: asyncio.Future[list[tuple[str, int]]] = (
            asyncio.get_running_loop().create_future()
        )
        self._tasks: set[asyncio.Task[None]] = set()
        """Stations that wait for their turn."""
        self._empty = asyncio.Event()
        """There is no connection any more."""
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
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(
                self._make_protocol,
                settings.host,
                settings.port,
                backlog=BACKLOG,
                # False is no option of Windows.
                reuse_port=settings.reuse_port or None,
            )
            for listening in server.sockets:
                limit_receive_buffer(listening)
            addresses = [listening.getsockname()[:2] for listening in server.sockets]
            self._listening.set_result(addresses)
            log.info("listening", addresses=[f"{host}:{port}" for host, port in addresses])
            try:
                await self._stop.wait()
            finally:
                server.close()
                await self._drain()
        finally:
            self._listening.cancel()
            self.clock.stop()
            self.wheel.close()
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

    def _make_protocol(self) -> asyncio.Protocol:
        """What the event loop gives a connection to."""
        connection = StationSocket(self, asyncio.get_running_loop())
        tls = self.settings.tls
        if tls is None:
            # It is a protocol by its methods, not by its class.
            return cast("asyncio.Protocol", connection)
        context = tls if isinstance(tls, ssl.SSLContext) else tls.context()
        return Doorway(connection, context, self.settings.handshake_timeout)

    async def _drain(self) -> None:
        """Close each connection as soon as nothing is outstanding on it.

        The close code says that the gateway is going away, so stations connect elsewhere. The
        CSMS's next requests find them there, or find nobody.
        """
        self._admission.closed = True
        self._rivals.close()
        timeout = self.settings.drain_timeout
        connections = tuple(self.stations.values())
        log.info("going away", stations=len(connections))
        deadline = asyncio.get_running_loop().time() + timeout
        goodbyes = (
            connection.close_when_idle(CloseCode.GOING_AWAY, "restart", deadline)
            for connection in connections
        )
        await asyncio.gather(self._link.drain(timeout), *goodbyes)
        for peer in self.places.silent():  # a load balancer, or nobody
            cast("StationSocket", peer).abort()
        # Those that are in their handshake, or are being closed: each of that takes some seconds.
        for peer in self.places.peers():
            connection = cast("StationSocket", peer)
            if connection.is_open:
                connection.close(CloseCode.GOING_AWAY, "restart")
        while len(self.places):
            self._empty.clear()
            await self._empty.wait()
        self.arrivals.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ---- connections come and go ----

    def handshake(self, connection: StationSocket) -> Opening:
        """As :meth:`~bridge.gateway.websocket.station_socket.SocketOwner.handshake`."""
        return Opening(connection, self)

    def admit(self, connection: StationSocket, request: Request) -> "asyncio.Task[None] | None":
        """As :meth:`~bridge.gateway.websocket.opening.Door.admit`."""
        return self._admission.admit(connection, request)

    def choose_version(self, connection: StationSocket, request: Request) -> str | None:
        """As :meth:`~bridge.gateway.websocket.opening.Door.choose_version`."""
        return self._admission.choose_version(connection, request)

    def opened(self, connection: StationSocket) -> None:
        """As :meth:`~bridge.gateway.websocket.opening.Door.opened`."""
        if connection.version is None:
            # OCPP-J asks to complete the handshake without a sub-protocol and then to close
            # (OCPP-J 1.6 §3.2, OCPP-J 2.0.1 §3.2).
            connection.refuse("no version in common")
            connection.close(CloseCode.PROTOCOL_ERROR, "no OCPP version in common")
        elif self._admission.closed:  # draining began while its password was checked
            connection.close(CloseCode.GOING_AWAY, "restart")
        elif self._rivals.pause(connection.station_id) <= 0:
            self._serve(connection, connection.version)
        else:
            self._start(self._serve_in_turn(connection, connection.version))

    async def _serve_in_turn(self, connection: StationSocket, version: OcppVersion) -> None:
        """Serve a station whose connections replace each other too fast."""
        if not await self._rivals.turn(connection.station_id, connection.wait_closed):
            connection.refuse("others connect as this station")
            connection.close(CloseCode.TRY_AGAIN_LATER, "others connect as this station")
        elif self._stop.is_set():  # meanwhile
            connection.close(CloseCode.GOING_AWAY, "restart")
        elif self._logins is not None and not self._logins.holds(
            connection.station_id, connection.entry
        ):
            connection.refuse(REMOVED)
            connection.close(CloseCode.POLICY_VIOLATION, REMOVED)
        elif connection.is_open:
            self._serve(connection, version)

    def _serve(self, connection: StationSocket, version: OcppVersion) -> None:
        settings = self.settings
        station = StationConnection(
            connection.station_id,
            connection,
            BoundedLink(
                self._link, self.in_hand, connection.host, settings.max_message, self.notices
            ),
            Conversation(
                version,
                heartbeat=settings.heartbeat_interval,
                max_payload=settings.max_message,
                station_id=connection.station_id,
                on_boot=settings.on_boot,
            ),
            counts=self.counts,
            traffic=self.traffic,
            call_timeout=settings.call_timeout,
            max_rate=settings.max_rate,
            on_slowed=self._slowed,
        )
        self.counts.connected += 1
        log.info(
            "station connected",
            station=station.station_id,
            version=version.value,
            address=connection.address,
        )
        self._take_over(station, connection.address)
        if connection.entry is not None:
            self._entries[station] = connection.entry
        connection.serve(station)

    def _slowed(self, station_id: str) -> None:
        self.notices.slowed("it sends more than it may", station=station_id)

    def left(self, connection: StationSocket) -> None:
        """As :meth:`~bridge.gateway.websocket.station_socket.SocketOwner.left`."""
        station, connection.station = connection.station, None
        if station is None:
            return
        station.lose()
        unbind = self._lose(station)
        station.abandon()
        self._entries.pop(station, None)
        if self.stations.get(station.station_id) is station:
            del self.stations[station.station_id]
            self._rivals.left(station.station_id)
        if unbind is not None:
            self.arrivals.enter(_Departure(unbind))

    def ended(self, connection: StationSocket) -> None:
        """As :meth:`~bridge.gateway.websocket.station_socket.SocketOwner.ended`."""
        if not len(self.places):
            self._empty.set()
        self.left(connection)
        if not connection.served:
            return
        seconds = asyncio.get_running_loop().time() - connection.opened_at
        self.arrivals.enter(_Ended(connection, seconds))

    def _take_over(self, station: StationConnection, address: str) -> None:
        """Replace the station's older connection: it is often dead, and only the station knows.

        The broker routes the CSMS's requests here all the while.
        """
        older = self.stations.get(station.station_id)
        self.stations[station.station_id] = station
        if older is not None:
            older.lose()
        self._bind(station)
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

    @staticmethod
    def _give_up(station: StationConnection, reason: str) -> None:
        station.abandon()
        station.close(CloseCode.POLICY_VIOLATION, reason)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _bind(self, station: StationConnection) -> None:
        """Have the CSMS's requests for the station routed here.

        The station is served meanwhile, because the broker may be away.
        """
        try:
            self._link.add_station(
                station.station_id, station.version, station, partial(_bound, station.station_id)
            )
        except TransportError as error:  # draining has begun
            log.info("station not bound", station=station.station_id, reason=str(error))
        except Exception as error:
            log.exception(
                "station not bound", station=station.station_id, error=describe_error(error)
            )

    def _lose(self, station: StationConnection) -> Callable[[Callable[[], None]], None] | None:
        """Give a station that has gone no more requests of the CSMS."""
        try:
            return self._link.lose_station(station.station_id, station)
        except Exception as error:
            log.exception(
                "station not unbound", station=station.station_id, error=describe_error(error)
            )
            return None

    # ---- what is looked at again and again ----

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


class _Departure:
    """A station that has gone, which the broker is to unbind.

    After an outage of a network thousands go at once: in their turn.
    """

    __slots__ = ("_unbind",)

    def __init__(self, unbind: Callable[[Callable[[], None]], None]) -> None:
        self._unbind = unbind

    def proceed(self) -> None:
        """As :meth:`~bridge.gateway.websocket.arrivals.Arrival.proceed`."""
        self._unbind(_nothing)


class _Ended:
    """A station's connection that has ended, which the log is to say."""

    __slots__ = ("_connection", "_seconds")

    def __init__(self, connection: StationSocket, seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds

    def proceed(self) -> None:
        """As :meth:`~bridge.gateway.websocket.arrivals.Arrival.proceed`."""
        connection = self._connection
        log.info(
            "station disconnected",
            station=connection.station_id,
            code=connection.close_code,
            reason=connection.close_reason,
            seconds=round(self._seconds, 3),
        )


def _bound(station_id: str) -> None:
    log.debug("station bound", station=station_id)


def _nothing() -> None:
    pass


def limit_receive_buffer(listening: socket.socket) -> None:
    """Set RECEIVE_BUFFER on a listening socket: the connections that it accepts inherit it."""
    with socket.fromfd(listening.fileno(), listening.family, listening.type) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
