"""The TLS handshake of a connection: it has a place from its first byte on."""

import asyncio
import ssl
from typing import Any, cast

from bridge.gateway.websocket.opening import HANDSHAKE_BYTES, NOT_AWAITED
from bridge.gateway.websocket.station_socket import StationSocket
from bridge.request.outcome import describe_error


class Doorway(asyncio.Protocol):
    """A TCP connection that is to become a station's over TLS: it has a place from its start."""

    def __init__(self, connection: StationSocket, tls: ssl.SSLContext, timeout: float) -> None:
        """`timeout`: seconds for the TLS handshake."""
        self._connection = connection
        self._tls = tls
        self._timeout = timeout
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
            self._connection.cut_off(NOT_AWAITED)

    async def _shake_hands(self, tcp: asyncio.Transport) -> None:
        connection = self._connection
        if tcp.is_closing():  # there was no place
            connection.leave()
            return
        loop = asyncio.get_running_loop()
        # Twice: after start_tls has begun, which has its protocol start in the next turn.
        loop.call_soon(loop.call_soon, self._pass_on)
        # It is a protocol by its methods, not by its class.
        protocol = cast("asyncio.Protocol", connection)
        try:
            transport = await loop.start_tls(
                tcp, protocol, self._tls, server_side=True, ssl_handshake_timeout=self._timeout
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
