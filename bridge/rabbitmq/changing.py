"""Changes of what is declared, one at a time: bind, unbind, delete, look.

AMQP 0-9-1 closes the channel that asked for what cannot be (§1.2.2), so each refusal costs a
channel, and the next step has a new one.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import aiormq
import msgspec
from yarl import URL

from bridge.dialects.topology import Queue
from bridge.rabbitmq.connection import CONNECT_TIMEOUT, Connection, open_connection
from bridge.rabbitmq.losses import LOST, explain, losses_as_errors, telling
from bridge.rabbitmq.urls import printable
from bridge.transport import Binding, BrokerUnreachable, TopologyError, TransportError

STEP_TIMEOUT: Final = 30.0
"""Seconds for one step. A broker waits as long for what a quorum queue does not answer."""

T = TypeVar("T")

Step = Callable[[aiormq.abc.AbstractChannel], Awaitable[T]]


class Seen(msgspec.Struct, frozen=True):
    """What AMQP tells of a queue."""

    ready: int
    """Messages that nobody has in hand."""
    consumers: int


class _Listener:
    """Of a connection on which nothing is published by a lane."""

    def on_blocked(self, reason: str | None) -> None:
        """Nothing is published here."""

    def on_paused(self) -> None:
        """Nor does the socket fill."""

    def on_ended(self, reason: str) -> None:
        """Whoever waits for an answer is told."""

    def before_turn(self) -> None:
        """There is no lane."""

    def after_turn(self) -> None:
        """There is no lane."""


class Changes:
    """A connection that changes what is declared. Made by :func:`open_changes`.

    Its methods raise :class:`~bridge.transport.TopologyError` for what the broker refuses.
    """

    def __init__(self, connection: Connection, url: URL) -> None:
        self.connection = connection
        self.url = url
        """The host that it is connected to."""
        self._channel: aiormq.abc.AbstractChannel | None = None
        self._turn = asyncio.Lock()
        self._locked: str | None = None

    async def _do(self, what: str, step: Step[T]) -> T:
        async with self._turn:
            if self._channel is None:
                self._channel = await self.connection.channel(confirms=False)
            channel, self._channel = self._channel, None  # a refusal ends it
            try:
                async with asyncio.timeout(STEP_TIMEOUT):
                    result = await step(channel)
            except aiormq.exceptions.AMQPChannelError as error:
                raise TopologyError(f"{what}: {_reason(error)}") from error
            self._channel = channel
            return result

    async def look(self, queue: str) -> Seen | None:
        """How full a queue is, or None if there is none."""
        try:
            declared = await self._do(
                f"queue {queue!r}", lambda channel: channel.queue_declare(queue, passive=True)
            )
        except TopologyError as error:
            if isinstance(error.__cause__, aiormq.exceptions.ChannelNotFoundEntity):
                return None
            raise
        return Seen(declared.message_count or 0, declared.consumer_count or 0)

    async def has_exchange(self, name: str) -> bool:
        """Whether there is an exchange of that name."""
        try:
            await self._do(
                f"exchange {name!r}", lambda channel: channel.exchange_declare(name, passive=True)
            )
        except TopologyError as error:
            if isinstance(error.__cause__, aiormq.exceptions.ChannelNotFoundEntity):
                return False
            raise
        return True

    async def lock(self, name: str) -> None:
        """Have a name until :meth:`unlock`, or the end of this connection: an exclusive queue.

        Raises :class:`~bridge.transport.TopologyError` if another migration has it.
        """
        try:
            await self.declare_exclusive(name)
        except TopologyError as error:
            if isinstance(error.__cause__, aiormq.exceptions.ChannelLockedResource):
                raise TopologyError("another migration of these queues is at work") from error
            raise
        self._locked = name

    async def unlock(self) -> None:
        """Give that name back, if there is one.

        A broker may show the queues of a connection for a moment after its end (RabbitMQ 4.3 does),
        and whoever looks what differs would see one that is about to go.
        """
        name, self._locked = self._locked, None
        if name is not None:
            await self.delete(name, only_if_empty=False)

    async def declare_exclusive(self, name: str, arguments: dict[str, Any] | None = None) -> None:
        """Declare a queue that only this connection can use, and that ends with it."""
        await self._do(
            f"queue {name!r}",
            lambda channel: channel.queue_declare(name, exclusive=True, arguments=arguments),
        )

    async def declare(self, queue: Queue) -> None:
        """Declare a queue."""
        await self._do(
            f"queue {queue.name!r}",
            lambda channel: channel.queue_declare(
                queue.name, durable=True, arguments=queue.arguments
            ),
        )

    async def declare_fanout(self, name: str, arguments: dict[str, Any] | None = None) -> None:
        """Declare a durable fanout exchange."""
        await self._do(
            f"exchange {name!r}",
            lambda channel: channel.exchange_declare(
                name, exchange_type="fanout", durable=True, arguments=arguments
            ),
        )

    async def bind(self, queue: str, binding: Binding) -> None:
        """Bind a queue."""
        await self._do(
            f"queue {queue!r} and exchange {binding.exchange!r}",
            lambda channel: channel.queue_bind(
                queue, binding.exchange, binding.routing_key, arguments=binding.arguments
            ),
        )

    async def unbind(self, queue: str, binding: Binding) -> None:
        """Take back a binding; it may be gone already."""
        await self._unless_gone(
            f"queue {queue!r} and exchange {binding.exchange!r}",
            lambda channel: channel.queue_unbind(
                queue, binding.exchange, binding.routing_key, binding.arguments or {}
            ),
        )

    async def bind_exchange(self, exchange: str, binding: Binding) -> None:
        """Have an exchange get what is published to another one."""
        await self._do(
            f"exchanges {exchange!r} and {binding.exchange!r}",
            lambda channel: channel.exchange_bind(
                exchange, binding.exchange, binding.routing_key, arguments=binding.arguments
            ),
        )

    async def unbind_exchange(self, exchange: str, binding: Binding) -> None:
        """Take that back; it may be gone already."""
        await self._unless_gone(
            f"exchanges {exchange!r} and {binding.exchange!r}",
            lambda channel: channel.exchange_unbind(
                exchange, binding.exchange, binding.routing_key, arguments=binding.arguments or {}
            ),
        )

    async def delete(self, queue: str, *, only_if_empty: bool) -> int:
        """Delete a queue; it may be gone already. Returns how many messages were in it.

        `only_if_empty`: refuse if any are. Only a classic queue can do that: asked of a quorum
        queue it ends the connection (540 NOT_IMPLEMENTED).
        """
        deleted = await self._unless_gone(
            f"queue {queue!r}",
            lambda channel: channel.queue_delete(queue, if_empty=only_if_empty),
        )
        return 0 if deleted is None else deleted.message_count or 0

    async def delete_exchange(self, name: str) -> None:
        """Delete an exchange; it may be gone already."""
        await self._unless_gone(f"exchange {name!r}", lambda channel: channel.exchange_delete(name))

    async def _unless_gone(self, what: str, step: Step[T]) -> T | None:
        try:
            return await self._do(what, step)
        except TopologyError as error:
            if isinstance(error.__cause__, aiormq.exceptions.ChannelNotFoundEntity):
                return None
            raise


@contextlib.asynccontextmanager
async def open_changes(
    urls: Sequence[URL], name: str, connect_timeout: float = CONNECT_TIMEOUT
) -> AsyncIterator[Changes]:
    """A connection for as long as the block lasts.

    `urls`: the broker's hosts, each tried once, for `connect_timeout` seconds. Raises
    :class:`~bridge.transport.BrokerUnreachable`, and later
    :class:`~bridge.transport.TransportError` when the connection ends.
    """
    changes = await _open(urls, name, connect_timeout)
    try:
        with losses_as_errors():
            yield changes
            await changes.unlock()
    except LOST as error:
        raise TransportError(f"the connection ended ({explain(error)})") from error
    finally:
        await changes.connection.close()


async def _open(urls: Sequence[URL], name: str, connect_timeout: float) -> Changes:
    worst: tuple[int, URL, BaseException] | None = None
    for url in urls:
        try:
            with losses_as_errors():
                connection = await open_connection(url, name, _Listener(), connect_timeout)
        except LOST as error:
            if worst is None or telling(error) >= worst[0]:
                worst = telling(error), url, error
        else:
            return Changes(connection, url)
    if worst is None:
        raise BrokerUnreachable("no broker URL is given")
    _, url, reason = worst
    raise BrokerUnreachable(f"no broker at {printable(url)}: {explain(reason)}") from reason


def _reason(error: BaseException) -> str:
    return str(error.args[0] if error.args else error).strip()
