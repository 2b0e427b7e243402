"""The opening handshake of one connection: its HTTP request in, and the response out.

The request is read and judged by `websockets`, without its connections. What lasts no longer than
the handshake lives here, so that an open connection does not keep it.
"""

import asyncio
import http
import logging
from typing import Final, Protocol

from websockets.exceptions import InvalidMessage
from websockets.extensions.permessage_deflate import (
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from bridge.gateway.websocket.arrivals import Arrivals
from bridge.gateway.websocket.places import Places
from bridge.gateway.websocket.settings import GatewaySettings
from bridge.gateway.websocket.station_socket import StationSocket
from bridge.request.outcome import describe_error
from bridge.telemetry.logs import get_logger

log = get_logger("bridge.gateway")

HANDSHAKE_BYTES: Final = 16 * 1024
"""Bytes of the opening HTTP request. Stations send 500; certificates go in TLS."""

CAUSES: Final = {
    http.HTTPStatus.BAD_REQUEST: "not a WebSocket handshake",
    http.HTTPStatus.METHOD_NOT_ALLOWED: "the method is not GET",
    http.HTTPStatus.UPGRADE_REQUIRED: "it asks for no WebSocket",
    http.HTTPStatus.HTTP_VERSION_NOT_SUPPORTED: "not HTTP/1.1",
}
"""Why the library refuses a request, by the status of its response."""

NOT_AWAITED: Final = "it does not await the end of the handshake"
"""A client must await the server's half of the handshake (RFC 6455 §4.1)."""

_DEFLATE: Final = (
    ServerPerMessageDeflateFactory(
        server_max_window_bits=12, client_max_window_bits=12, compress_settings={"memLevel": 5}
    ),
)
"""Windows of 4 kB, which cost little memory and are enough for messages of that size."""

_LOGGER: Final = logging.getLogger("websockets.server")


class Refused(Exception):
    """The peer is not let in, and this is its answer. Why is told already."""

    def __init__(
        self, status: http.HTTPStatus, text: str, headers: dict[str, str] | None = None
    ) -> None:
        """`text`: the body of the response."""
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers or {}


class Door(Protocol):
    """Who decides about a request. The gateway implements it."""

    settings: GatewaySettings
    places: Places
    arrivals: Arrivals

    def admit(self, connection: StationSocket, request: Request) -> "asyncio.Task[None] | None":
        """Let it in, or raise Refused: now, or when the task is done."""

    def choose_version(self, connection: StationSocket, request: Request) -> str | None:
        """Choose the connection's version. Returns the sub-protocol; None: none is named."""

    def opened(self, connection: StationSocket) -> None:
        """The handshake is done."""


class Opening:
    """Takes a connection from its first byte to its first frame."""

    __slots__ = ("_bytes", "_checking", "_connection", "_door", "_early", "_protocol", "_request")

    def __init__(self, connection: StationSocket, door: Door) -> None:
        self._connection = connection
        self._door = door
        self._protocol = ServerProtocol(extensions=_DEFLATE, logger=_LOGGER)
        self._bytes = 0
        self._early = b""
        self._request: Request | None = None
        self._checking: asyncio.Task[None] | None = None
        """Checks the password."""

    def receive(self, data: bytes) -> None:
        """Take what has come."""
        if self._connection.told:
            return
        self._bytes += len(data)
        if self._bytes > HANDSHAKE_BYTES:
            self._refuse_headers()
            return
        if self._connection.transport is None:  # it came together with the end of TLS's handshake
            self._early += data
            return
        if self._request is not None:
            self._connection.cut_off(NOT_AWAITED)
            return
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._request = event
                self._door.places.has_asked(self._connection)
                self._connection.wait_for_turn()
                self._door.arrivals.enter(self)
                return
        if self._protocol.handshake_exc is not None:
            self._refuse_unreadable(self._protocol.handshake_exc, data)

    def begin(self) -> None:
        """The connection can be written to from now on."""
        early, self._early = self._early, b""
        if early:
            self._bytes -= len(early)
            self.receive(early)

    def proceed(self) -> None:
        """As :meth:`~bridge.gateway.websocket.arrivals.Arrival.proceed`."""
        connection, request = self._connection, self._request
        if request is None or not connection.go_on():
            return  # it has ended meanwhile
        try:
            checking = self._door.admit(connection, request)
        except Refused as refused:
            self._respond(self._refusal(refused))
            return
        if checking is None:
            self._accept(request)
            return
        self._checking = checking
        checking.add_done_callback(self._checked)

    def _checked(self, checking: "asyncio.Task[None]") -> None:
        """The password has been checked."""
        self._checking = None
        if checking.cancelled() or self._request is None:
            return
        error = checking.exception()
        if isinstance(error, Refused):
            self._respond(self._refusal(error))
        elif error is None:
            self._accept(self._request)
        else:
            self._connection.abort()

    def _refusal(self, refused: Refused) -> Response:
        response = self._protocol.reject(refused.status, refused.text)
        for name, value in refused.headers.items():
            response.headers[name] = value
        return response

    def _accept(self, request: Request) -> None:
        connection = self._connection
        if connection.transport is None or connection.transport.is_closing():
            return  # it has ended while its password was checked
        response = self._protocol.accept(request)
        if response.status_code != http.HTTPStatus.SWITCHING_PROTOCOLS:
            cause = CAUSES.get(http.HTTPStatus(response.status_code), "not a WebSocket handshake")
            connection.refuse(cause, detail=str(self._protocol.handshake_exc)[:200])
            self._respond(response)
            return
        subprotocol = self._door.choose_version(connection, request)
        if subprotocol is not None:
            response.headers["Sec-WebSocket-Protocol"] = subprotocol
        self._respond(response)
        deflate = next(iter(self._protocol.extensions), None)
        self._protocol.parser.close()  # it refers to the protocol, which refers to it
        connection.open(deflate if isinstance(deflate, PerMessageDeflate) else None)
        self._door.opened(connection)

    def _respond(self, response: Response) -> None:
        transport = self._connection.transport
        if transport is None or transport.is_closing():
            return
        self._protocol.send_response(response)
        transport.write(b"".join(self._protocol.data_to_send()))
        if response.status_code != http.HTTPStatus.SWITCHING_PROTOCOLS:
            self._connection.told = True
            transport.close()

    def _refuse_unreadable(self, error: Exception, data: bytes) -> None:
        connection = self._connection
        if isinstance(error, InvalidMessage):
            detail = describe_error(error.__cause__ or error)[:200]
            if data.startswith(b"\x16\x03"):
                detail = "it speaks TLS, and the gateway has no certificate"
            connection.refuse("unreadable request", detail=detail)
        else:
            connection.refuse("the request is too large", detail=str(error)[:200])
        if connection.transport is not None:
            connection.transport.write(b"".join(self._protocol.data_to_send()))
            connection.transport.close()

    def _refuse_headers(self) -> None:
        connection = self._connection
        connection.refuse("the request is too large", detail=f"more than {HANDSHAKE_BYTES} bytes")
        if connection.transport is None:
            connection.abort()
            return
        status = http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        self._respond(self._protocol.reject(status, "The request is too large.\n"))

    def out_of_time(self) -> None:
        """It has lasted too long."""
        self._say_unfinished()
        self._connection.abort()

    def leave(self) -> None:
        """The connection has ended, or is being ended."""
        if self._checking is not None:
            self._checking.cancel()
        self._say_unfinished()

    def _say_unfinished(self) -> None:
        connection = self._connection
        if self._request is not None or connection.told:
            return
        waited = asyncio.get_running_loop().time() - connection.opened_at
        if self._bytes or waited >= self._door.settings.handshake_timeout:
            connection.refuse("the handshake was not finished", seconds=round(waited, 3))
        else:  # a load balancer that looks whether somebody listens
            log.debug("connection without a request", address=connection.address)
