"""The opening handshake of a connection, on a transport of the tests'."""

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from bridge.gateway.websocket.opening import HANDSHAKE_BYTES
from bridge.gateway.websocket.server import Gateway
from bridge.gateway.websocket.settings import GatewaySettings
from bridge.gateway.websocket.station_socket import StationSocket
from tests.integration.gateway_server import StandIn
from tests.integration.raw_station import OPENING
from tests.unit.gateway.websocket.test_station_socket import HEARTBEAT, Transport, masked

REQUEST = OPENING.format(station="CP001").encode()


class Here:
    """A gateway that listens to nobody, and is given connections."""

    def __init__(self, **settings: Any) -> None:
        self.link = StandIn()
        self.gateway = Gateway(self.link, GatewaySettings(**settings))

    def connect(self) -> tuple[StationSocket, Transport]:
        socket = cast("StationSocket", self.gateway._make_protocol())
        transport = Transport()
        socket.connection_made(cast("asyncio.Transport", transport))
        return socket, transport

    def close(self) -> None:
        self.gateway.notices.close()


@pytest.fixture
async def here() -> AsyncIterator[Here]:
    yield (here := Here())
    here.close()


async def test_a_request_may_come_in_pieces(here: Here) -> None:
    socket, transport = here.connect()
    for byte in REQUEST:
        assert not transport.written
        socket.data_received(bytes([byte]))
    assert transport.written[0].startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in transport.written[0]
    assert b"Sec-WebSocket-Protocol: ocpp2.0.1" in transport.written[0]
    assert list(here.gateway.stations) == ["CP001"]
    socket.data_received(HEARTBEAT)
    assert here.gateway.counts.answered == 1


async def test_a_request_without_end_is_refused(here: Here) -> None:
    socket, transport = here.connect()
    socket.data_received(b"GET /CP001 HTTP/1.1\r\nX-A: ")
    socket.data_received(b"x" * HANDSHAKE_BYTES)
    assert transport.written[0].startswith(b"HTTP/1.1 431 ")
    assert transport.ended == "closed"
    socket.data_received(b"x" * HANDSHAKE_BYTES)
    assert here.gateway.counts.causes == {"the request is too large": 1}


async def test_what_is_refused_is_not_listened_to(here: Here) -> None:
    socket, transport = here.connect()
    socket.data_received(OPENING.format(station="").encode())
    assert transport.written[0].startswith(b"HTTP/1.1 404 ")
    assert transport.ended == "closed"
    socket.data_received(REQUEST)
    assert len(transport.written) == 1
    assert here.gateway.counts.causes == {"no station in the path": 1}


async def test_a_handshake_has_a_time(here: Here) -> None:
    here.gateway.settings = GatewaySettings(handshake_timeout=0.0)
    _, transport = here.connect()
    while not transport.ended:
        await asyncio.sleep(0.001)
    assert transport.ended == "aborted"
    assert here.gateway.counts.causes == {"the handshake was not finished": 1}


async def test_compression_is_agreed_on_with_whoever_offers_it(here: Here) -> None:
    socket, transport = here.connect()
    offer = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
    socket.data_received(REQUEST[:-2] + offer)
    assert b"permessage-deflate" in transport.written[0]
    socket.data_received(HEARTBEAT)
    assert transport.written[1][0] == 0xC1, "a compressed text frame"


async def test_connections_leave_no_garbage(here: Here) -> None:
    """The collector would look at all that the other stations have, again and again."""
    number = 50

    async def visit() -> None:
        socket, transport = here.connect()
        socket.data_received(REQUEST)
        while not transport.written:  # others may have used up the time for handshakes
            await asyncio.sleep(0)
        socket.data_received(HEARTBEAT)
        socket.data_received(masked(8, b"\x03\xe8"))
        socket.connection_lost(None)

    async def binds() -> None:
        while here.gateway._tasks:
            await asyncio.gather(*here.gateway._tasks)

    await visit()
    await binds()
    gc.collect()
    gc.disable()
    try:
        for _ in range(number):
            await visit()
        await binds()
        assert gc.collect() < number, "none for each"
    finally:
        gc.enable()
    assert here.gateway.counts.connected == number + 1
    assert len(here.gateway.places) == len(here.gateway.wheel) == len(here.gateway.stations) == 0
