"""An open connection to the broker: aio-pika makes it, and the bridge's lanes are in it."""

import asyncio
import contextlib
import logging
import math
import ssl
from typing import Final

import aio_pika
import aiormq
from yarl import URL

from bridge.rabbitmq.frames.ids import FRAME_MAX
from bridge.rabbitmq.frames.writing import Encoder
from bridge.rabbitmq.losses import LOST, losses_as_errors, retrieve
from bridge.rabbitmq.socket import ConnectionListener, LaneProtocol, LaneTransportFactory
from bridge.rabbitmq.tls import tls_context
from bridge.rabbitmq.urls import HEARTBEAT
from bridge.transport import TransportError

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for name, TCP, TLS and login to one host."""
CLOSE_TIMEOUT: Final = 5.0
"""Seconds for the farewells of an orderly close. A broker that hangs does not answer them."""


UPDATE_TIMEOUT: Final = 10.0
"""Seconds for the broker to confirm a new password or token. While an alarm is on, it does not read
from connections that publish, and takes it later."""

CHANNEL_MAX: Final = 65_535
"""Channels of a connection where no fewer are agreed (AMQP 0-9-1 §1.4.2.6)."""


class Connection:
    """An open connection. Made by :func:`open_connection`."""

    def __init__(
        self, name: str, connection: aio_pika.Connection, protocol: LaneProtocol, frame_max: int
    ) -> None:
        self.name = name
        """As the broker's list of connections shows it."""
        self.connection = connection
        """aio-pika's own."""
        self.protocol = protocol
        self.outbox = protocol.outbox
        self.encoder = Encoder(frame_max)

    async def channel(self, *, confirms: bool) -> aiormq.abc.AbstractChannel:
        """Open a channel; in confirm mode, if `confirms`.

        Raises TransportError if the broker allows no more of them: it would close the connection.
        """
        number = self._free_number()
        if number is None:
            raise TransportError(
                "the broker allows too few channels: raise channel_max, at best to its default"
            )
        channel = self.connection.channel(number, publisher_confirms=confirms)
        await channel.initialize()
        return await channel.get_underlay_channel()

    @property
    def has_room(self) -> bool:
        """Whether the broker allows one more channel."""
        return self._free_number() is not None

    def _free_number(self) -> int | None:
        """The lowest that is free. The library takes the next above all, whatever is agreed."""
        if self.connection.transport is None:
            raise ConnectionError("the connection was lost")
        connection = self.connection.transport.connection
        most = connection.connection_tune.channel_max or CHANNEL_MAX
        taken = connection.channels
        return next((number for number in range(1, most + 1) if number not in taken), None)

    @property
    def silent_for(self) -> float:
        """Heartbeat intervals since the last byte from the broker."""
        silence = asyncio.get_running_loop().time() - self.protocol.received_at
        return silence / self.protocol.heartbeat

    async def update_secret(self, secret: str) -> None:
        """Give the broker a new password or token, for the connection to live on.

        It is RabbitMQ's own method, Connection.UpdateSecret. A broker that refuses the token closes
        the connection. Raises what the libraries raise, and TimeoutError if it says nothing.
        """
        if self.connection.transport is None:
            raise ConnectionError("the connection was lost")
        _keep_secrets_out_of_the_log()
        with losses_as_errors():
            await self.connection.transport.connection.update_secret(
                secret, reason="renewed", timeout=UPDATE_TIMEOUT
            )

    async def close(self) -> None:
        """In order, so that the broker has read every frame sent before."""
        with contextlib.suppress(*LOST), losses_as_errors():
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self.connection.close()
        self.abort()

    def abort(self) -> None:
        """Drop the socket, without farewells."""
        self.protocol.abort()


async def open_connection(
    url: URL, name: str, listener: ConnectionListener, connect_timeout: float
) -> Connection:
    """Connect to a host and log in.

    `name`: for the broker's list of connections and for the reason of its end. `connect_timeout`:
    seconds. Raises what the libraries raise. Whatever it raises, the socket is closed; a
    cancellation closes it at once, and does not wait for what aiormq makes of it.
    """
    heartbeat = url.query.get("heartbeat", str(HEARTBEAT))
    connection = aio_pika.Connection(url.update_query(heartbeat=heartbeat, name=name))
    factory = LaneTransportFactory(name, listener)
    protocol = factory.protocol
    connection.kwargs["transport_factory"] = factory
    if url.scheme == "amqps":
        connection.kwargs["context"] = await _tls(url)
    connecting = asyncio.create_task(connection.connect(timeout=connect_timeout))
    connecting.add_done_callback(retrieve)
    try:
        await asyncio.wait((connecting,))
        connecting.result()
        frame_max = _frame_max(connection)
        _check_capabilities(connection)
    except BaseException as error:
        connecting.cancel()
        protocol.abort()
        with contextlib.suppress(*LOST):
            await connection.close()
        if isinstance(error, aiormq.exceptions.InvalidFrameError):
            # The broker's words about the virtual host: in place of Connection.OpenOk it sends
            # Connection.Close, which the library takes for a broken frame.
            raise aiormq.exceptions.ConnectionClosed(protocol.reason or error) from error
        raise
    protocol.heartbeat = float(heartbeat) or math.inf
    protocol.limit_frames(frame_max)
    return Connection(name, connection, protocol, frame_max)


async def _tls(url: URL) -> ssl.SSLContext | None:
    """In a thread, because it reads files. A file that has become unusable is a lost connection."""
    try:
        return await asyncio.to_thread(tls_context, url)
    except ValueError as error:
        raise ConnectionError(str(error)) from error


_UPDATE_SECRET: Final = b"\x00\x0a\x00\x46"
"""Class and method of Connection.UpdateSecret: where they stand in a frame, its channel and size
come before."""


def _keep_secrets_out_of_the_log() -> None:
    """The library writes each frame that it sends to its log, at the level debug."""
    logging.getLogger("aiormq.connection").addFilter(holds_no_secret)  # one filter, however often


def holds_no_secret(record: logging.LogRecord) -> bool:
    """A filter of log records."""
    values = record.args if isinstance(record.args, tuple) else ()
    payloads = (getattr(value, "payload", b"") for value in values)
    return not any(_UPDATE_SECRET in payload[:11] for payload in payloads)


def _check_capabilities(connection: aio_pika.Connection) -> None:
    """The library takes for granted that the broker says what it can (AMQP 0-9-1 has no such
    table: it is RabbitMQ's), and needs it for every channel.
    """
    if connection.transport is None:
        raise ConnectionError("the connection was lost")
    properties = connection.transport.connection.server_properties
    capabilities = properties.get("capabilities")
    if not isinstance(capabilities, dict):
        properties["capabilities"] = capabilities = {}
    if not capabilities.get("publisher_confirms"):
        raise aiormq.exceptions.IncompatibleProtocolError(
            "it does not confirm publishings (the capability publisher_confirms), "
            "and without that nothing is safe"
        )


def _frame_max(connection: aio_pika.Connection) -> int:
    """Bytes of the largest frame, as negotiated."""
    if connection.transport is None:
        raise ConnectionError("the connection was lost")
    return connection.transport.connection.connection_tune.frame_max or FRAME_MAX


async def never_called(_: object) -> None:
    """aiormq's callback for deliveries. It is never called: a lane takes every one of them."""
