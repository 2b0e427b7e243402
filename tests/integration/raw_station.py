"""A charging station that does what the test says, frame by frame, without a library for OCPP."""

import asyncio
import base64
import contextlib
import json
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

PATIENCE = 60.0
"""Seconds after which a test stops waiting for what should happen at once."""


class RawStation:
    """One station's WebSocket connection."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self._numbers = 0

    async def say(self, message: Any) -> None:
        """Send text, bytes, or a frame that is written as JSON."""
        await self.connection.send(
            message if isinstance(message, str | bytes) else json.dumps(message)
        )

    async def hear(self) -> list[Any]:
        """Await the next frame."""
        async with asyncio.timeout(PATIENCE):
            frame = json.loads(await self.connection.recv())
        assert isinstance(frame, list)
        return frame

    async def call(self, action: str, payload: Any = None) -> list[Any]:
        """Send a CALL and return the next frame, which answers it."""
        self._numbers += 1
        message_id = f"own-{self._numbers}"
        await self.say([2, message_id, action, payload or {}])
        frame = await self.hear()
        assert frame[1] == message_id, frame
        return frame

    async def closed(self) -> tuple[int, str]:
        """Wait until the gateway closes. Returns code and reason; frames before are dropped."""
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await self.connection.recv()
        return self.connection.close_code or 0, self.connection.close_reason or ""


@contextlib.asynccontextmanager
async def raw_station(
    url: str,
    *,
    versions: Sequence[str] = ("ocpp2.0.1",),
    password: bytes | None = None,
    headers: dict[str, str] | None = None,
    **options: Any,
) -> AsyncIterator[RawStation]:
    """Connect to `url`, whose last part is the station's id and the user name for `password`."""
    headers = dict(headers or {})
    if password is not None:
        user = url.rpartition("/")[2].encode()
        headers["Authorization"] = "Basic " + base64.b64encode(user + b":" + password).decode()
    subprotocols = [Subprotocol(version) for version in versions] or None
    connection = await connect(
        url, subprotocols=subprotocols, additional_headers=headers, proxy=None, **options
    )
    try:
        yield RawStation(connection)
    finally:
        # CPython's transport raises it when it was closed while it was still writing.
        with contextlib.suppress(AttributeError):
            await connection.close()


def make_certificate(cert: Path, key: Path) -> None:
    """Write a self-signed certificate for 127.0.0.1."""
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ),
            *("-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )


# ---- peers that are not stations: bytes on a TCP connection ----

OPENING = (
    "GET /{station} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: ocpp2.0.1\r\n\r\n"
)


class Peer:
    """A TCP connection, open or closed."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def open_websocket(self, station: str = "hostile") -> None:
        self.writer.write(OPENING.format(station=station).encode())
        head = await self.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101"), head

    async def until_closed(self) -> bytes:
        """Read until the gateway ends the connection; all that came."""
        received = b""
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                while data := await self.reader.read(65536):
                    received += data
        return received

    async def until_cut_off(self, data: bytes) -> int:
        """Write `data` again and again, without reading, until the gateway ends the connection.

        Returns the number of bytes that were written.
        """
        written = 0
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                while not self.reader.at_eof() and not self.writer.is_closing():
                    self.writer.write(data)
                    written += len(data)
                    await self.writer.drain()
        return written


@contextlib.asynccontextmanager
async def peer(port: int) -> AsyncIterator[Peer]:
    client = socket.socket()
    # Small, so that the gateway soon notices that the peer does not read.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=client, limit=1024)
    try:
        yield Peer(reader, writer)
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def websocket_frame(
    opcode: int, payload: bytes, *, fin: bool = True, length: int | None = None
) -> bytes:
    """A frame as a client writes it, masked (RFC 6455 §5.2). `length`: a false one, to announce."""
    size = len(payload) if length is None else length
    head = bytes([opcode | (0x80 if fin else 0)])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65536:
        head += bytes([0x80 | 126]) + size.to_bytes(2)
    else:
        head += bytes([0x80 | 127]) + size.to_bytes(8)
    mask = os.urandom(4)
    key = int.from_bytes(mask * (len(payload) // 4 + 1))
    width = 4 * (len(payload) // 4 + 1)
    masked = (int.from_bytes(payload.ljust(width, b"\0")) ^ key).to_bytes(width)[: len(payload)]
    return head + mask + masked


TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9
