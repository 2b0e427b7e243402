"""Bytes in: aio-pika's socket, with the frames of the lanes taken out."""

import asyncio
from typing import Any, Final, Protocol, cast

import aiormq
from yarl import URL

from bridge.rabbitmq.addresses import connect_to
from bridge.rabbitmq.frames.ids import HEARTBEAT_FRAME, ProtocolError
from bridge.rabbitmq.frames.reading import ContentSink, FrameStream
from bridge.rabbitmq.outbox import Outbox
from bridge.telemetry.logs import get_logger

log = get_logger("bridge.rabbitmq")

WRITE_BUFFER: Final = 1024 * 1024
"""Bytes waiting for the socket, above which handlers are held back. A turn's worth of replies must
not exceed it."""


class ConnectionListener(Protocol):
    """Told what becomes of a connection."""

    def on_blocked(self, reason: str | None) -> None:
        """The broker blocks publishing (its reason), or no longer does (None)."""

    def on_paused(self) -> None:
        """:attr:`Outbox.paused` has changed."""

    def on_ended(self, reason: str) -> None:
        """The connection is gone. The reason begins with its name. Called once."""

    def before_turn(self) -> None:
        """Bytes arrived and are about to be read."""

    def after_turn(self) -> None:
        """They have been read: flush what they led to."""


class LaneProtocol(asyncio.StreamReaderProtocol):
    """aio-pika's socket, with the frames of the lanes taken out."""

    outbox: Outbox
    """Made with the socket."""

    def __init__(
        self,
        name: str,
        reader: asyncio.StreamReader,
        loop: asyncio.AbstractEventLoop,
        listener: ConnectionListener,
    ) -> None:
        """`name`: the connection's. `reader`: what aio-pika reads from."""
        super().__init__(reader, loop=loop)
        self._name = name
        self._lane_loop = loop
        self._listener = listener
        self._stream = FrameStream(self)
        self._greeted = False
        self._fed_at = loop.time()
        """When the library last got a frame, by the loop's clock."""
        self._socket: asyncio.WriteTransport | None = None
        self.received_at = self._fed_at
        """When the broker last sent anything, by the loop's clock."""
        self.reason = ""
        """Why the connection ends, as soon as that is known."""
        self.heartbeat = 10.0
        """Seconds. aiormq takes a connection for stuck if it sees no frame for three of them."""

    def register(self, channel: int, sink: ContentSink) -> None:
        """As :meth:`~bridge.rabbitmq.frames.reading.FrameStream.register`."""
        self._stream.register(channel, sink)

    def unregister(self, channel: int) -> None:
        """As :meth:`~bridge.rabbitmq.frames.reading.FrameStream.unregister`."""
        self._stream.unregister(channel)

    def limit_frames(self, frame_max: int) -> None:
        """Take over the frame size that was negotiated, in bytes."""
        self._stream.limit(frame_max)

    def limit_waiting(self, size: int) -> None:
        """Count as paused as soon as more than `size` bytes wait for the socket."""
        if self._socket is not None:
            self._socket.set_write_buffer_limits(high=size, low=size // 4)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # uvloop's transport is one by its methods, not by its class.
        socket = cast(asyncio.WriteTransport, transport)
        self._socket = socket
        self.outbox = Outbox(socket, self._lane_loop)
        socket.set_write_buffer_limits(high=WRITE_BUFFER, low=WRITE_BUFFER // 4)

    def data_received(self, data: bytes) -> None:
        if not self._greeted:
            self._greeted = True
            if data.startswith(b"AMQP"):  # another protocol version: the library has the words
                super().data_received(data)
                return
        self._listener.before_turn()
        try:
            self._stream.feed(data)
        except ProtocolError as error:
            self.abort(f"the broker sent a broken frame: {error}")
        except Exception as error:
            # A fault of ours. The rest of these bytes is lost, so what follows cannot be trusted.
            log.exception("a delivery could not be taken")
            self.abort(f"a delivery could not be taken: {type(error).__name__}")
        finally:
            self._listener.after_turn()
        self.received_at = now = self._lane_loop.time()
        # A busy broker sends no heartbeats. A reader that sees no frame takes it for stuck.
        if now - self._fed_at > self.heartbeat / 2 and self._stream.has_channels:
            self.on_frame(HEARTBEAT_FRAME)

    def abort(self, reason: str = "") -> None:
        """Drop the connection without a word to the broker. The first reason counts."""
        self.reason = self.reason or reason
        if self._socket is not None:
            self._socket.abort()

    def on_frame(self, frame: bytes) -> None:
        self._fed_at = self._lane_loop.time()
        super().data_received(frame)

    def on_connection_close(self, reply_code: int, reply_text: str) -> None:
        self.reason = f"the broker closed the connection: {reply_code} {reply_text}"

    def on_blocked(self, reason: str | None) -> None:
        self._listener.on_blocked(reason)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.outbox.paused = True
        self._listener.on_paused()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.outbox.paused = False
        self._listener.on_paused()

    def eof_received(self) -> bool:
        """The broker has closed its half: so do we, at once."""
        super().eof_received()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        ended = f"the connection was lost: {exc}" if exc else "the connection was closed"
        self._listener.on_ended(f"{self._name}: {self.reason or ended}")


class LaneTransportFactory(aiormq.connection.TransportFactory):
    """Gives aiormq a socket that ends in a :class:`LaneProtocol`. For one connection."""

    def __init__(self, name: str, listener: ConnectionListener) -> None:
        """`name`: the connection's. Needs a running event loop."""
        self._loop = asyncio.get_running_loop()
        self._reader = asyncio.StreamReader(loop=self._loop)
        self.protocol = LaneProtocol(name, self._reader, self._loop, listener)

    async def create(
        self, url: URL, **kwargs: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """`kwargs`: aiormq's ``ssl_context_provider``.

        It has the TLS context that the URL's options ask for.
        """
        host = str(url.host)
        tls = await kwargs["ssl_context_provider"].get_context() if url.scheme == "amqps" else None
        connected = await connect_to(host, int(url.port or 0))
        transport, _ = await self._loop.create_connection(
            lambda: self.protocol, sock=connected, ssl=tls, server_hostname=host if tls else None
        )
        writer = asyncio.StreamWriter(transport, self.protocol, self._reader, self._loop)
        return self._reader, writer
