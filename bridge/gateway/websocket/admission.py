"""Who is let in: what the opening request must say, and the password that it must bring.

Raises :class:`~bridge.gateway.websocket.opening.Refused` with the HTTP response, and says why
through the connection (OCPP-J 1.6 §3.2, RFC 7617).
"""

import asyncio
import http
from typing import Final, NoReturn

from websockets.http11 import Request

from bridge.gateway.websocket import handshake
from bridge.gateway.websocket.logins import Logins, TooBusy, TooManyGuesses
from bridge.gateway.websocket.opening import Refused
from bridge.gateway.websocket.settings import GatewaySettings
from bridge.gateway.websocket.station_socket import StationSocket
from bridge.gateway.websocket.traffic import Traffic
from bridge.request.outcome import describe_error
from bridge.telemetry.logs import get_logger

log = get_logger("bridge.gateway")

BUSY_SECONDS: Final = 5
"""Seconds after which a station that could not be checked may come back."""


class Admission:
    """Decides about the opening requests of one gateway."""

    def __init__(self, settings: GatewaySettings, logins: Logins | None, traffic: Traffic) -> None:
        """`logins`: None lets every station in without a password."""
        self._settings = settings
        self._logins = logins
        self._traffic = traffic
        self.closed = False
        """Nobody is let in any more: the gateway is going away."""

    def admit(self, connection: StationSocket, request: Request) -> "asyncio.Task[None] | None":
        """Let it in, or raise Refused: now, or when the task is done, which checks the password.

        Sets the station of the connection.
        """
        headers = request.headers
        if not handshake.segments(request.path) and "Upgrade" not in headers:
            connection.told = True  # nothing is refused
            raise Refused(http.HTTPStatus.OK, "The gateway is up.\n")
        if self.closed:
            _refuse(
                connection,
                http.HTTPStatus.SERVICE_UNAVAILABLE,
                "The gateway is going away.\n",
                "the gateway is going away",
            )
        if not handshake.origin_allowed(
            headers.get_all("Origin"),
            headers.get_all("Host"),
            self._settings.allowed_origins,
            any_name=self._logins is not None,
        ):
            _refuse(
                connection,
                http.HTTPStatus.FORBIDDEN,
                "A web page may not connect as a station.\n",
                "its origin is not allowed",
                origin=", ".join(headers.get_all("Origin"))[:255],
            )
        station_id = self._station_id(connection, request.path)
        connection.station_id = station_id
        if self._settings.verifies:
            self._check_certificate(connection)
        if self._logins is None:
            return None
        return asyncio.get_running_loop().create_task(
            self._check(connection, request, self._logins)
        )

    def _station_id(self, connection: StationSocket, path: str) -> str:
        try:
            station_id = handshake.station_id(path, self._settings.path)
        except handshake.BadTarget as error:
            status = http.HTTPStatus.BAD_REQUEST
            _refuse(connection, status, f"The path has {error}.\n", str(error), path=path[:255])
        if station_id is None:
            _refuse(
                connection,
                http.HTTPStatus.NOT_FOUND,
                "The path ends with the id of a charging station.\n",
                "no station in the path",
                path=path[:255],
            )
        return station_id

    def _check_certificate(self, connection: StationSocket) -> None:
        transport = connection.transport
        told = None if transport is None else transport.get_extra_info("peercert")
        names = handshake.certificate_names(told)
        if connection.station_id not in names:
            _refuse(
                connection,
                http.HTTPStatus.FORBIDDEN,
                "The certificate names the station's id.\n",
                "its certificate is another station's",
                names=sorted(names)[:3],
            )

    async def _check(self, connection: StationSocket, request: Request, logins: Logins) -> None:
        try:
            await self._check_password(connection, request, logins)
        except Refused:
            raise
        except Exception as error:
            log.exception(
                "password not checked",
                station=connection.station_id,
                error=describe_error(error),
            )
            _refuse(
                connection,
                http.HTTPStatus.INTERNAL_SERVER_ERROR,
                "The password could not be checked.\n",
                "the password could not be checked",
            )

    async def _check_password(
        self, connection: StationSocket, request: Request, logins: Logins
    ) -> None:
        station_id = connection.station_id
        headers = request.headers.get_all("Authorization")
        given = handshake.credentials(headers[0], station_id) if len(headers) == 1 else None
        try:
            if given is not None:
                connection.entry = await logins.check(station_id, connection.host, *given)
        except TooManyGuesses as error:
            connection.refuse("too many wrong passwords", seconds=error.seconds)
            raise Refused(
                http.HTTPStatus.TOO_MANY_REQUESTS,
                "Too many wrong passwords.\n",
                {"Retry-After": str(error.seconds)},
            ) from error
        except TooBusy as error:
            connection.refuse("too many passwords to check")
            raise Refused(
                http.HTTPStatus.SERVICE_UNAVAILABLE,
                "Try again.\n",
                {"Retry-After": str(BUSY_SECONDS)},
            ) from error
        if connection.entry is None:
            connection.refuse("wrong password, or none")
            raise Refused(
                http.HTTPStatus.UNAUTHORIZED,
                "User: the station's id.\n",
                {"WWW-Authenticate": 'Basic realm="ocpp"'},
            )
        self._traffic.logins += 1

    def choose_version(self, connection: StationSocket, request: Request) -> str | None:
        """Choose the connection's version of OCPP, which its sub-protocol names.

        Returns the sub-protocol. None: none is named, because a sub-protocol that was not offered
        may not be (RFC 6455 §4.2.2).
        """
        offered = handshake.offered_versions(request.headers.get_all("Sec-WebSocket-Protocol"))
        if not offered:
            connection.version = self._settings.default_version
            return None
        connection.version = handshake.choose_version(offered, self._settings.versions)
        return None if connection.version is None else connection.version.value


def _refuse(
    connection: StationSocket, status: http.HTTPStatus, text: str, cause: str, **facts: object
) -> NoReturn:
    """Say why, and answer. `text`: for the peer. `cause`: one of a few fixed texts."""
    connection.refuse(cause, **facts)
    raise Refused(status, text)
