"""A connection to the broker as aio-pika makes it, with the bridge's lanes in it; and the ways in which it can be lost."""

import asyncio
import contextlib
import math
from typing import Final, Protocol

import aio_pika
import aiormq
from yarl import URL

from bridge.rabbitmq.losses import LOST, losses_as_errors
from bridge.rabbitmq.outbox import Outbox
from bridge.rabbitmq.socket import LaneProtocol, LaneTransportFactory
from bridge.rabbitmq.urls import HEARTBEAT

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for TCP, TLS and login to one host."""
CLOSE_TIMEOUT: Final = 5.0
"""Seconds for the farewells of an orderly close; a broker that hangs does not answer them."""

NO_LIMIT: Final = 131_072
"""Bytes of a frame when the broker names no limit (0): RabbitMQ's default."""


class LinkOwner(Protocol):
    """Who has a link, and is told of its fate."""

    def on_blocked(self, reason: str | None) -> None:
        """The broker blocks publishing (its reason), or does no longer (None)."""

    def end(self, reason: str) -> None:
        """The connection is gone."""

    def before_turn(self) -> None:
        """Bytes arrived and are about to be read."""

    def after_turn(self) -> None:
        """They have been read."""


class Link:
    """One of the two connections of a session."""

    def __init__(self, owner: LinkOwner, name: str) -> None:
        self._owner = owner
        self.name = name
        self.factory = LaneTransportFactory(self)
        self.connection: aio_pika.Connection | None = None

    async def open(self, url: URL, timeout: float) -> None:  # noqa: ASYNC109 - the library's own, which names what it waited for
        heartbeat = url.query.get("heartbeat", str(HEARTBEAT))
        self.connection = connection = aio_pika.Connection(
            url.update_query(heartbeat=heartbeat, name=self.name)
        )
        connection.kwargs["transport_factory"] = self.factory
        try:
            await connection.connect(timeout=timeout)
        except aiormq.exceptions.InvalidFrameError as error:
            # The broker's words on the virtual host: the library reads Connection.Close in place of OpenOk as a broken frame.
            reason = self.factory.protocol and self.factory.protocol._reason  # noqa: SLF001 - its other half
            raise aiormq.exceptions.ConnectionClosed(reason or error) from error
        self.protocol.heartbeat = float(heartbeat) or math.inf
        self.protocol.limit_frames(self.frame_max)

    @property
    def protocol(self) -> LaneProtocol:
        assert self.factory.protocol is not None  # noqa: S101 - set when the connection opened
        return self.factory.protocol

    @property
    def outbox(self) -> Outbox:
        assert self.protocol.outbox is not None  # noqa: S101 - as above
        return self.protocol.outbox

    @property
    def frame_max(self) -> int:
        assert self.connection is not None  # noqa: S101 - as above
        assert self.connection.transport is not None  # noqa: S101 - as above
        return self.connection.transport.connection.connection_tune.frame_max or NO_LIMIT

    async def channel(self, *, confirms: bool) -> aiormq.abc.AbstractChannel:
        assert self.connection is not None  # noqa: S101 - as above
        channel = self.connection.channel(publisher_confirms=confirms)
        await channel.initialize()
        return await channel.get_underlay_channel()

    async def close(self) -> None:
        if self.connection is not None:
            with contextlib.suppress(*LOST), losses_as_errors():
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await self.connection.close()
        self.abort()

    def abort(self) -> None:
        """Drop the socket, without farewells."""
        if self.factory.protocol is not None:
            self.factory.protocol.abort()

    @property
    def silent_for(self) -> float:
        """Heartbeat intervals since the last byte from the broker."""
        return (
            asyncio.get_running_loop().time() - self.protocol.received_at
        ) / self.protocol.heartbeat

    # What the protocol tells:

    def on_blocked(self, reason: str | None) -> None:
        self._owner.on_blocked(reason)

    def on_ended(self, reason: str) -> None:
        self._owner.end(f"{self.name}: {reason}")

    def before_turn(self) -> None:
        self._owner.before_turn()

    def after_turn(self) -> None:
        self._owner.after_turn()
