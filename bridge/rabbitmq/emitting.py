"""Publishings that nobody waits for, on a connection of their own.

They are not confirmed, and whatever becomes of them must cost nobody anything. A channel of a
worker's publishing connection would not do: where the queue behind an exchange is slow, RabbitMQ
stops reading from the whole connection that feeds it (https://www.rabbitmq.com/docs/flow-control),
and replies would wait for events. So there is a third connection, whose end is nobody's loss. When
it is gone, or the broker has closed the channel (the exchange was deleted), it is opened again
after a pause, and meanwhile everything is dropped. It is dropped, too, while the broker blocks
publishing, and while more than :data:`WAITING` bytes wait for the socket.

A write of its own for each turn of the event loop would cost more than all else here. So what is
sent gathers for :data:`LINGER`.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from typing import Final

from yarl import URL

from bridge.backoff import back_off
from bridge.dialects.topology import Exchange, Mode, Topology
from bridge.rabbitmq.connection import CONNECT_TIMEOUT, Connection, open_connection
from bridge.rabbitmq.declaring import ensure
from bridge.rabbitmq.frames.ids import ProtocolError
from bridge.rabbitmq.losses import LOST, explain, losses_as_errors
from bridge.rabbitmq.renewal import renew
from bridge.telemetry.logs import get_logger
from bridge.transport import Publishing, TopologyError, TransportError

log = get_logger("bridge.rabbitmq")

WAITING: Final = 256 * 1024
"""Bytes that wait for the socket, above which there is no room for more."""
LINGER: Final = 0.01
"""Seconds for which publishings gather, to be written together."""
TOGETHER: Final = 64 * 1024
"""Bytes that are written without waiting for more."""
LONGEST_PAUSE: Final = 30.0
"""Seconds between two attempts to open what cannot be opened, at most."""
FAREWELL: Final = 1.0
"""Seconds for the broker to read what was sent last."""
EPISODE: Final = 60.0
"""Seconds without a drop after which the next one is told again."""


class _Listener:
    """Passes on what one connection tells, and nothing any more once there is another one."""

    def __init__(self, emitter: "Emitter") -> None:
        self._emitter = emitter
        self.ended = False

    def on_blocked(self, reason: str | None) -> None:
        self._emitter.on_blocked(self, blocked=reason is not None)

    def on_paused(self) -> None:
        self._emitter.on_paused(self)

    def on_ended(self, reason: str) -> None:
        self.ended = True
        self._emitter.on_ended(self, reason)

    def before_turn(self) -> None:
        """Nothing that arrives leads to an event."""

    def after_turn(self) -> None:
        """Likewise."""


class Emitter:
    """Opens the connection, keeps it open, and sends.

    It is the sink of its channel's frames (:class:`~bridge.rabbitmq.frames.reading.ContentSink`).
    """

    def __init__(self, name: str, exchange: Exchange, mode: Mode, url: Callable[[], URL]) -> None:
        """`name`: begins that of the connection. `exchange`: the only one that is published to.

        `mode`: in mode declare it is declared, and declared again when somebody has deleted it; in
        the others it is looked for. `url`: the host to connect to, asked at each attempt.
        """
        self._name = f"{name}@{socket.gethostname()}:{os.getpid()} events"
        self._exchange = exchange
        self._mode = Mode.VERIFY if mode is Mode.NONE else mode
        self._url = url
        self._task: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._connected_to: URL | None = None
        self._listener = _Listener(self)
        """The connection's own."""
        self._channel = 0
        self._ended = asyncio.Event()
        """The channel, or the connection with it, is gone."""
        self._wake = asyncio.Event()
        self._decided = asyncio.Event()
        """An attempt to open it has ended, one way or the other."""
        self._open = False
        self._blocked = False
        self._takes = False
        """It is open, and neither blocked nor paused."""
        self._gathered = 0
        """Bytes that wait to be written."""
        self._writing: asyncio.TimerHandle | None = None
        """When they are; None: none wait."""
        self._why = "there is no connection for them yet"
        self._told = ""
        """Why there are none at all, as far as the log has it."""
        self._quiet_until = 0.0
        """No drop is told before, by the loop's clock."""

    def start(self) -> None:
        """Begin to open it. Call it once, on the event loop."""
        self._task = asyncio.create_task(self._keep_open(), name="dtbridge-events")

    async def ready(self, seconds: float) -> None:
        """Try again now, if it is not open, and wait until that has ended one way or the other.

        At most so many seconds. Never raises.
        """
        if self._open:
            return
        self._decided.clear()
        self._wake.set()
        with contextlib.suppress(asyncio.TimeoutError):
            async with asyncio.timeout(seconds):
                await self._decided.wait()

    async def renew(self, urls: Sequence[URL]) -> None:
        """As of :class:`~bridge.rabbitmq.session.Session`."""
        connection, url = self._connection, self._connected_to
        if connection is not None and url is not None:
            self._connected_to = await renew([connection], url, urls)

    def emit(self, publishing: Publishing) -> bool:
        """As :meth:`~bridge.transport.Transport.emit`."""
        connection = self._connection
        if not self._takes or connection is None:
            self._drop(self._why)
            return False
        if publishing.exchange != self._exchange.name:
            self._drop(f"they are published to {self._exchange.name!r} alone")
            return False
        try:
            frames = connection.encoder.publish(self._channel, publishing)
        except ValueError as error:
            self._drop(str(error))
            return False
        outbox = connection.outbox
        outbox.parts.append(frames)
        self._gathered += len(frames)
        if self._gathered >= TOGETHER:
            self._write()
        elif self._writing is None:
            self._writing = outbox.loop.call_later(LINGER, self._write)
        return True

    async def close(self) -> None:
        """Let the broker read what was sent, if it does, and end the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        connection, takes = self._connection, self._takes
        if connection is None:
            self._stop("closed")
            return
        if takes:
            self._write()
        self._stop("closed")
        if takes:
            with contextlib.suppress(asyncio.TimeoutError):
                async with asyncio.timeout(FAREWELL):
                    await connection.close()
        connection.abort()

    # ---- open ----

    async def _keep_open(self) -> None:
        failures = 0
        while True:
            try:
                with losses_as_errors():
                    await self._try_to_open()
            except TopologyError as error:
                self._refused(str(error))
            except (*LOST, TransportError) as error:
                self._failed(f"no connection for them: {explain(error)}")
            except Exception as error:
                self._failed(f"no connection for them: {type(error).__name__}")
                log.exception("no connection for events")
            else:
                opened_at = asyncio.get_running_loop().time()
                await self._ended.wait()
                if asyncio.get_running_loop().time() - opened_at > LONGEST_PAUSE:
                    failures = 0
            self._decided.set()
            failures += 1
            self._wake.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                async with asyncio.timeout(back_off(failures, longest=LONGEST_PAUSE)):
                    await self._wake.wait()

    async def _try_to_open(self) -> None:
        connection = self._connection
        if connection is None or self._listener.ended:
            self._connection, self._blocked = None, False
            if connection is not None:
                await connection.close()
            self._listener = listener = _Listener(self)
            self._connected_to = url = self._url()
            connection = await open_connection(url, self._name, listener, CONNECT_TIMEOUT)
            connection.protocol.limit_waiting(WAITING)
            self._connection = connection
        elif self._channel:
            connection.protocol.unregister(self._channel)
        self._channel = 0
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await ensure(connection.connection, Topology((self._exchange,), self._mode))
            channel = await connection.channel(confirms=False)
        connection.protocol.register(channel.number, self)
        self._channel = channel.number
        self._ended.clear()
        if self._listener.ended:  # just now
            raise ConnectionError("the connection was lost")
        self._open = True
        self._look()
        self._decided.set()
        if self._told:
            self._told = ""
            log.info("events are on", exchange=self._exchange.name)

    def _refused(self, reason: str) -> None:
        """The exchange is not there, or not what it must be."""
        self._why = reason
        if reason != self._told:
            self._told = reason
            log.warning(
                "events are off",
                reason=reason,
                hint="`dtbridge topology apply`, if told of events, makes the exchange; it is "
                "looked for again from time to time",
            )

    def _failed(self, reason: str) -> None:
        self._why = reason
        if self._connection is not None:
            self._connection.abort()
            self._listener.ended = True

    def _stop(self, reason: str) -> None:
        self._open = self._takes = False
        self._gathered = 0
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        if self._connection is not None:
            # It is for a channel that the broker does not know any more.
            self._connection.outbox.parts.clear()
        self._why = reason
        self._ended.set()

    def _look(self) -> None:
        paused = self._connection is not None and self._connection.outbox.paused
        self._takes = self._open and not self._blocked and not paused
        if self._open and not self._takes:
            blocked = "the broker blocks publishing"
            self._why = blocked if self._blocked else "the broker takes them too slowly"

    def _write(self) -> None:
        """Write what has gathered."""
        self._gathered = 0
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        if self._connection is not None:
            self._connection.outbox.flush()

    def _drop(self, reason: str) -> None:
        now = asyncio.get_running_loop().time()
        is_news = now >= self._quiet_until and reason != self._told
        self._quiet_until = now + EPISODE
        if is_news:
            log.warning("events are dropped", reason=reason, exchange=self._exchange.name)

    # ---- what a connection tells ----

    def on_blocked(self, listener: _Listener, *, blocked: bool) -> None:
        """The broker takes no publishings, or does again."""
        if listener is self._listener:
            self._blocked = blocked
            self._look()

    def on_paused(self, listener: _Listener) -> None:
        """The socket takes no more, or does again."""
        if listener is self._listener:
            self._look()

    def on_ended(self, listener: _Listener, reason: str) -> None:
        """The connection is gone."""
        if listener is self._listener:
            self._stop(reason)

    # ---- as the sink of its channel's frames ----

    def on_channel_close(self, reply_code: int, reply_text: str) -> None:
        self._stop(f"the broker closed their channel: {reply_code} {reply_text}")

    def on_deliver(self, *_: object) -> None:
        raise ProtocolError("a delivery on a channel that only publishes")

    def on_confirm(self, *_: object) -> None:
        raise ProtocolError("a confirm on a channel that asks for none")

    def on_return(self, *_: object) -> None:
        """Nobody asks for one, and nobody waits for it."""

    def on_cancel(self, consumer_tag: bytes) -> None:
        raise ProtocolError("Basic.Cancel on a channel that only publishes")

    def on_other(self, method: int, arguments: bytes) -> bool:
        return False
