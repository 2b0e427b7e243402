"""aio-pika's socket, with the frames of the lanes taken out."""

import asyncio
from typing import Any, Final, Protocol, cast

import aiormq
from yarl import URL

from bridge.rabbitmq.frames.ids import HEARTBEAT_FRAME, FrameError
from bridge.rabbitmq.frames.reading import ContentReader, FrameStream
from bridge.rabbitmq.outbox import Outbox
from bridge.telemetry.logs import get_logger

log = get_logger("bridge.rabbitmq")

WRITE_BUFFER: Final = 1024 * 1024
"""Bytes that wait for the socket before handlers are held back. A turn's worth of replies must not flicker over it."""


class ConnectionListener(Protocol):
    """Who a protocol tells of its connection's fate."""

    def on_blocked(self, reason: str | None) -> None:
        """The broker blocks publishing (its reason), or does no longer (None)."""

    def on_ended(self, reason: str) -> None:
        """The connection is gone. Called once."""

    def before_turn(self) -> None:
        """Bytes arrived and are about to be read."""

    def after_turn(self) -> None:
        """They have been read: flush what they led to."""


class LaneProtocol(asyncio.StreamReaderProtocol):
    """aio-pika's socket, with the frames of the lanes taken out."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        loop: asyncio.AbstractEventLoop,
        listener: ConnectionListener,
    ) -> None:
        super().__init__(reader, loop=loop)
        self._lane_loop = loop
        self._listener = listener
        self._stream = FrameStream(self)
        self._greeted = False
        self._fed_at = self.received_at = loop.time()
        self._reason = ""
        self._socket: asyncio.WriteTransport | None = None
        self.outbox: Outbox | None = None
        self.heartbeat = 10.0
        """Seconds. aiormq takes a connection for stuck if its reader sees no frame for three of them."""

    @property
    def readers(self) -> dict[int, ContentReader]:
        return self._stream.readers

    def limit_frames(self, frame_max: int) -> None:
        """Take over the frame size that was negotiated, in bytes."""
        self._stream.limit(frame_max)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        socket = cast(
            asyncio.WriteTransport, transport
        )  # uvloop's is one by its methods, not by its class
        socket.set_write_buffer_limits(high=WRITE_BUFFER, low=WRITE_BUFFER // 4)
        self._socket = socket
        self.outbox = Outbox(socket, self._lane_loop)

    def data_received(self, data: bytes) -> None:
        if not self._greeted:
            self._greeted = True
            if data.startswith(
                b"AMQP"
            ):  # a broker of another protocol version: the library has the words for it
                super().data_received(data)
                return
        self._listener.before_turn()
        try:
            self._stream.feed(data)
        except FrameError as error:
            self.abort(f"the broker sent a broken frame: {error}")
        except Exception as error:  # a fault of ours: what follows in these bytes is lost, so nothing after it can be trusted
            log.exception("a delivery could not be taken")
            self.abort(f"a delivery could not be taken: {type(error).__name__}")
        finally:
            self._listener.after_turn()
        self.received_at = now = self._lane_loop.time()
        # A busy broker sends no heartbeats, and a reader that sees no frame believes the connection is stuck.
        if now - self._fed_at > self.heartbeat / 2 and self._stream.readers:
            self.on_frame(HEARTBEAT_FRAME)

    def abort(self, reason: str = "") -> None:
        """Drop the connection without a word to the broker."""
        self._reason = self._reason or reason
        if self._socket is not None:
            self._socket.abort()

    def on_frame(self, frame: bytes) -> None:
        self._fed_at = self._lane_loop.time()
        super().data_received(frame)

    def on_connection_close(self, reply_code: int, reply_text: str) -> None:
        self._reason = f"the broker closed the connection: {reply_code} {reply_text}"

    def on_blocked(self, reason: str | None) -> None:
        self._listener.on_blocked(reason)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.outbox is not None:
            self.outbox.paused = True
            self.outbox.on_paused()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.outbox is not None:
            self.outbox.paused = False
            self.outbox.on_paused()

    def eof_received(self) -> bool:
        """The broker has closed its half: so do we, at once."""
        super().eof_received()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._listener.on_ended(
            self._reason
            or (f"the connection was lost: {exc}" if exc else "the connection was closed")
        )


class LaneTransportFactory(aiormq.connection.TransportFactory):
    """Gives aiormq a socket that ends in a :class:`LaneProtocol`."""

    def __init__(self, listener: ConnectionListener) -> None:
        self._listener = listener
        self.protocol: LaneProtocol | None = None

    async def create(
        self, url: URL, **kwargs: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """`kwargs`: aiormq's ``ssl_context_provider``, which makes the TLS context that the URL's options ask for."""
        loop = asyncio.get_running_loop()
        tls = await kwargs["ssl_context_provider"].get_context() if url.scheme == "amqps" else None
        reader = asyncio.StreamReader(loop=loop)
        protocol = LaneProtocol(reader, loop, self._listener)
        transport, _ = await loop.create_connection(
            lambda: protocol, str(url.host), int(url.port or 0), ssl=tls
        )
        self.protocol = protocol
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
