"""How much waits in queues, over AMQP: for where the management API cannot be asked.

A passive declaration tells what is ready and how many consumers there are (AMQP 0-9-1 §1.7.2.1); it
does not tell what workers have in hand.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from typing import Final, Self

import aiormq
import msgspec
from yarl import URL

from bridge.rabbitmq.connection import Connection, open_connection
from bridge.rabbitmq.losses import LOST, explain, losses_as_errors
from bridge.transport import BrokerUnreachable, TransportError

AT_MOST: Final = 500
"""Queues that are asked for at a time."""


class Depth(msgspec.Struct, frozen=True):
    """What AMQP tells of a queue."""

    ready: int
    consumers: int


class _Listener:
    def on_blocked(self, reason: str | None) -> None: ...

    def on_paused(self) -> None: ...

    def on_ended(self, reason: str) -> None: ...

    def before_turn(self) -> None: ...

    def after_turn(self) -> None: ...


class Depths:
    """Asks for queues on a connection of its own, which is opened again when it was lost."""

    def __init__(self, urls: Sequence[URL], name: str, timeout: float) -> None:
        """`name`: of the connection. `timeout`: seconds for a connection, and for all answers."""
        self._urls = urls
        self._name = name
        self._timeout = timeout
        self._connection: Connection | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def of(self, queues: Iterable[str]) -> dict[str, Depth]:
        """The first :data:`AT_MOST` of these queues, without those that are not there.

        Raises :class:`~bridge.transport.TransportError`.
        """
        try:
            with losses_as_errors():
                async with asyncio.timeout(self._timeout):
                    connection = self._connection or await self._connect()
                    self._connection = connection
                    return await _ask(connection, list(queues)[:AT_MOST])
        except LOST as error:
            if self._connection is not None:
                self._connection.abort()
                self._connection = None
            raise TransportError(explain(error)) from error

    async def _connect(self) -> Connection:
        failure: BaseException | None = None
        for url in self._urls:
            try:
                return await open_connection(url, self._name, _Listener(), self._timeout)
            except LOST as error:
                failure = error
        if failure is None:
            raise BrokerUnreachable("no broker URL is given")
        raise failure


async def _ask(connection: Connection, queues: Sequence[str]) -> dict[str, Depth]:
    found: dict[str, Depth] = {}
    channel: aiormq.abc.AbstractChannel | None = None
    for queue in queues:
        channel = channel or await connection.channel(confirms=False)
        try:
            told = await channel.queue_declare(queue, passive=True)
        except (aiormq.exceptions.ChannelNotFoundEntity, aiormq.exceptions.ChannelAccessRefused):
            channel = None  # the broker has closed it
        except aiormq.exceptions.ChannelLockedResource:
            channel = None
        else:
            found[queue] = Depth(told.message_count or 0, told.consumer_count or 0)
    if channel is not None:
        with contextlib.suppress(*LOST):
            await channel.close()
    return found
