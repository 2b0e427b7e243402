"""Finds out about a broker over AMQP, and changes nothing: for ``dtbridge doctor``.

AMQP 0-9-1 has no way to ask what one may do, or what a queue's arguments are. But a broker checks
rights before anything else, so a request that it must refuse for another reason tells whether it
would have allowed it:

* a publishing whose ``expiration`` is no number, and whose ``user_id`` is somebody else's, is never
  routed. It is refused with 403 where writing to the exchange is not allowed, and with 406
  otherwise;
* a consumer whose ``x-priority`` is no number is never made: 403 where reading from the queue is
  not allowed, and 406 otherwise;
* to declare what is there already changes nothing: 403 where configuring is not allowed, 406 where
  it is not what would have been declared.

The broker tells its time in the ``x-death`` of a message that expires, in a queue which nobody else
sees and which goes with the connection.
"""

import asyncio
import contextlib
import enum
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, cast

import aiormq
import msgspec
from yarl import URL

from bridge.dialects.topology import Exchange, Purpose, Queue, Topology, of_other_type
from bridge.rabbitmq.connection import Connection, open_connection
from bridge.rabbitmq.losses import LOST, explain, losses_as_errors, telling
from bridge.rabbitmq.switching import are_paused
from bridge.rabbitmq.urls import printable
from bridge.transport import TopologyError, TransportError

ANSWER_WITHIN: Final = 5.0
"""Seconds for one answer of the broker. One that has an alarm does not read publishings."""
RIGHTS_OF: Final = 50
"""Queues, and exchanges, whose rights are tried. A worker may have a thousand vendors."""

_REFUSED: Final = (aiormq.exceptions.ChannelAccessRefused,)
_OTHERWISE: Final = (
    aiormq.exceptions.ChannelPreconditionFailed,
    aiormq.exceptions.ChannelNotFoundEntity,
    aiormq.exceptions.ChannelLockedResource,
)


class Right(enum.Enum):
    """Whether a user may do something."""

    GRANTED = "granted"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    """It could not be tried."""


class HostSeen(msgspec.Struct, frozen=True):
    """One of the broker's hosts."""

    url: str
    """Without the password."""
    error: str = ""
    """Why it cannot be used; empty if it can."""
    telling: int = 0
    """How much the error tells (:func:`~bridge.rabbitmq.losses.telling`): 4 is a refusal."""
    version: str = ""
    cluster: str = ""
    channel_max: int = 0
    """0: no limit."""
    frame_max: int = 0
    seconds: float = 0.0
    """From the name to the login."""


class PartSeen(msgspec.Struct, frozen=True, kw_only=True):
    """An exchange or a queue, as far as AMQP shows it."""

    name: str
    is_queue: bool
    there: Right
    """GRANTED: it is there; REFUSED: it is not; UNKNOWN: one may not ask."""
    why: str = ""
    """The broker's words, if it is not there."""
    differs: str = ""
    """The broker's words, if it is not what would be declared."""
    other_type: bool = False
    """Whether it is a queue that would be declared so if the options asked for the other type."""
    configure: Right = Right.UNKNOWN
    write: Right = Right.UNKNOWN
    read: Right = Right.UNKNOWN
    messages: int = 0
    """Ready to be taken; what workers have in hand is not among them."""
    consumers: int = 0


class ClockSeen(msgspec.Struct, frozen=True):
    """The broker's clock, beside that of this machine."""

    ahead: float | None = None
    """Seconds that the broker's clock is ahead of ours, at least; negative: behind. The broker
    tells whole seconds, so 0.0 means less than one or so. None: it could not be known."""
    why: str = ""


class BrokerSeen(msgspec.Struct, frozen=True):
    """What AMQP shows of a broker, through the first host that could be used."""

    hosts: tuple[HostSeen, ...]
    parts: tuple[PartSeen, ...] = ()
    default_exchange: Right = Right.UNKNOWN
    """Whether one may write to it: replies go there."""
    blocked: str = ""
    """Why the broker takes no publishings; empty if it does."""
    clock: ClockSeen = ClockSeen()
    paused: frozenset[str] = frozenset()
    """Of the keys that were asked for, those that are paused."""

    @property
    def host(self) -> HostSeen | None:
        """The one that all else is known from."""
        return next((host for host in self.hosts if not host.error), None)

    def part(self, name: str, *, is_queue: bool) -> PartSeen | None:
        """An exchange or queue of that name."""
        return next((p for p in self.parts if p.name == name and p.is_queue is is_queue), None)


class _Listener:
    """Of a connection whose end shows in whatever is awaited next."""

    def __init__(self) -> None:
        self.blocked = ""

    def on_blocked(self, reason: str | None) -> None:
        self.blocked = reason or ""

    def on_paused(self) -> None: ...

    def on_ended(self, reason: str) -> None: ...

    def before_turn(self) -> None: ...

    def after_turn(self) -> None: ...


async def look(
    urls: Sequence[URL],
    topology: Topology,
    name: str,
    connect_timeout: float,
    pause_keys: Sequence[str] = (),
) -> BrokerSeen:
    """Look at every host, and through the first that can be used at the parts of a topology.

    `name`: begins the names of the connections. `connect_timeout`: seconds for each host.
    `pause_keys`: of vendors that may be paused. Raises
    :class:`~bridge.transport.TransportError` when a connection is lost meanwhile.
    """
    hosts: list[HostSeen] = []
    usable: URL | None = None
    for url in urls:
        hosts.append(await _visit(url, name, connect_timeout))
        if usable is None and not hosts[-1].error:
            usable = url
    if usable is None:
        return BrokerSeen(tuple(hosts))
    try:
        with losses_as_errors():
            return await _look_at(usable, hosts, topology, name, connect_timeout, pause_keys)
    except LOST as error:
        raise TransportError(f"the connection was lost: {explain(error)}") from error


async def _visit(url: URL, name: str, connect_timeout: float) -> HostSeen:
    shown = printable(url)
    began = time.monotonic()
    try:
        with losses_as_errors():
            async with _connected(url, f"{name} visit", _Listener(), connect_timeout) as connection:
                transport = connection.connection.transport
                if transport is None:
                    raise ConnectionError("the connection was lost")
                library = transport.connection
                properties = cast("dict[str, Any]", library.server_properties)
                tune = library.connection_tune
                return HostSeen(
                    shown,
                    version=str(properties.get("version", ""))[:40],
                    cluster=str(properties.get("cluster_name", ""))[:255],
                    channel_max=tune.channel_max or 0,
                    frame_max=tune.frame_max or 0,
                    seconds=time.monotonic() - began,
                )
    except LOST as error:
        return HostSeen(shown, explain(error), telling(error))


@contextlib.asynccontextmanager
async def _connected(
    url: URL, name: str, listener: _Listener, connect_timeout: float
) -> AsyncIterator[Connection]:
    connection = await open_connection(url, name, listener, connect_timeout)
    try:
        yield connection
    finally:
        if listener.blocked:
            connection.abort()  # it does not read a farewell
        await connection.close()


async def _look_at(
    url: URL,
    hosts: Sequence[HostSeen],
    topology: Topology,
    name: str,
    connect_timeout: float,
    pause_keys: Sequence[str],
) -> BrokerSeen:
    publishing = _Listener()
    async with (
        _connected(url, f"{name} look", _Listener(), connect_timeout) as looking,
        _connected(url, f"{name} publish", publishing, connect_timeout) as writing,
    ):
        parts = [await _see(looking, part) for part in topology.exchanges]
        parts += [await _see(looking, part) for part in topology.queues]
        for number, part in enumerate(parts):
            if part.there is not Right.GRANTED or not _few(parts, number, is_queue=part.is_queue):
                continue
            if part.is_queue:
                parts[number] = msgspec.structs.replace(part, read=await _reads(looking, part.name))
            elif not publishing.blocked:
                parts[number] = msgspec.structs.replace(
                    part, write=await _writes(writing, part.name)
                )
        default = Right.UNKNOWN if publishing.blocked else await _writes(writing, "")
        dead = next((e.name for e in topology.exchanges if e.purpose is Purpose.DEAD), "dtbridge")
        clock = (
            ClockSeen(why="the broker takes no publishings")
            if publishing.blocked
            else await _clock(writing, dead)
        )
        paused: set[str] = set()
        if topology.control and not publishing.blocked:
            with contextlib.suppress(TopologyError, TimeoutError):
                async with asyncio.timeout(ANSWER_WITHIN):
                    paused = await are_paused(writing, topology.control[0].name, pause_keys)
        return BrokerSeen(
            tuple(hosts), tuple(parts), default, publishing.blocked, clock, frozenset(paused)
        )


def _few(parts: Sequence[PartSeen], number: int, *, is_queue: bool) -> bool:
    return sum(part.is_queue is is_queue for part in parts[:number]) < RIGHTS_OF


async def _see(connection: Connection, part: Exchange | Queue) -> PartSeen:
    is_queue = isinstance(part, Queue)
    messages = consumers = 0
    try:
        declared = await _declare(connection, part, passive=True)
    except _REFUSED as error:
        return PartSeen(name=part.name, is_queue=is_queue, there=Right.UNKNOWN, why=_words(error))
    except _OTHERWISE as error:
        there = (
            Right.GRANTED
            if isinstance(error, aiormq.exceptions.ChannelLockedResource)
            else Right.REFUSED
        )
        return PartSeen(name=part.name, is_queue=is_queue, there=there, why=_words(error))
    if isinstance(part, Queue):
        messages, consumers = declared.message_count or 0, declared.consumer_count or 0
    differs = ""
    other_type = False
    configure = Right.UNKNOWN
    if isinstance(part, Queue) or not part.predeclared:
        try:
            await _declare(connection, part, passive=False)
            configure = Right.GRANTED
        except _REFUSED:
            configure = Right.REFUSED
        except _OTHERWISE as error:
            configure = Right.GRANTED
            differs = _words(error)
            if isinstance(part, Queue):
                with contextlib.suppress(*_REFUSED, *_OTHERWISE):
                    await _declare(connection, of_other_type(part), passive=False)
                    other_type = True
    return PartSeen(
        name=part.name,
        is_queue=is_queue,
        there=Right.GRANTED,
        differs=differs,
        other_type=other_type,
        configure=configure,
        messages=messages,
        consumers=consumers,
    )


async def _declare(connection: Connection, part: Exchange | Queue, *, passive: bool) -> Any:
    async with _channel(connection) as channel:
        if isinstance(part, Queue):
            return await channel.queue_declare(
                part.name, durable=True, passive=passive, arguments=part.arguments
            )
        return await channel.exchange_declare(
            part.name,
            exchange_type=part.kind,
            durable=part.durable,
            passive=passive,
            arguments=part.arguments,
        )


@contextlib.asynccontextmanager
async def _channel(
    connection: Connection, *, confirms: bool = False
) -> AsyncIterator[aiormq.abc.AbstractChannel]:
    """A channel for one request. If the broker refuses it, it closes the channel."""
    async with asyncio.timeout(ANSWER_WITHIN):
        channel = await connection.channel(confirms=confirms)
        yield channel
        await channel.close()


async def _reads(connection: Connection, queue: str) -> Right:
    try:
        async with _channel(connection) as channel:
            await channel.basic_consume(
                queue, _nothing, arguments={"x-priority": "no"}, consumer_tag="dtbridge-doctor"
            )
    except _REFUSED:
        return Right.REFUSED
    except _OTHERWISE:
        return Right.GRANTED
    return Right.UNKNOWN


async def _nothing(_: aiormq.abc.DeliveredMessage) -> None:
    """Called for a message: there is no consumer that could be given one."""


async def _writes(connection: Connection, exchange: str) -> Right:
    properties = aiormq.spec.Basic.Properties(
        expiration="no", user_id=f"nobody-{secrets.token_hex(8)}"
    )
    try:
        async with _channel(connection, confirms=True) as channel:
            await channel.basic_publish(
                b"", exchange=exchange, routing_key="dtbridge-doctor", properties=properties
            )
    except _REFUSED:
        return Right.REFUSED
    except _OTHERWISE:
        return Right.GRANTED
    except TimeoutError:
        return Right.UNKNOWN
    return Right.UNKNOWN


async def _clock(connection: Connection, prefix: str) -> ClockSeen:
    """Let a message expire from one queue into another, and see when the broker says that was."""
    first, second = [f"{prefix}.doctor.{secrets.token_hex(8)}" for _ in range(2)]
    arguments: dict[str, Any] = {
        "x-message-ttl": 0,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": second,
    }
    arrived: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def take(message: aiormq.abc.DeliveredMessage) -> None:
        if not arrived.done():
            arrived.set_result(message.header.properties.headers)

    try:
        async with _channel(connection, confirms=True) as channel:
            await channel.queue_declare(second, exclusive=True)
            await channel.queue_declare(first, exclusive=True, arguments=arguments)
            await channel.basic_consume(second, take, no_ack=True)
            began = time.time()
            await channel.basic_publish(b"", routing_key=first)
            headers = await arrived
            ended = time.time()
            await channel.queue_delete(first)
            await channel.queue_delete(second)
    except _REFUSED:
        return ClockSeen(
            why="this user may not declare, write and read the queues of its own that tell it, "
            f"{prefix}.doctor.…"
        )
    except _OTHERWISE as error:
        return ClockSeen(why=_words(error))
    except TimeoutError:
        return ClockSeen(why="a message that expired did not come back in time")
    told = _time_of_death(headers)
    if told is None:
        return ClockSeen(why="the broker did not say when a message expired")
    return ClockSeen(ahead_of(told.timestamp(), began, ended))


def ahead_of(told: float, began: float, ended: float) -> float:
    """Seconds that a clock is ahead which said `told`, cut to a whole second, between two moments
    of ours; negative: behind. The least that explains it.
    """
    if told > ended:
        return told - ended
    if told + 1 < began:
        return told + 1 - began
    return 0.0


def _time_of_death(headers: Any) -> datetime | None:
    try:
        told = headers["x-death"][0]["time"]
    except (KeyError, IndexError, TypeError):
        return None
    if not isinstance(told, datetime):
        return None
    return told if told.tzinfo else told.replace(tzinfo=UTC)


def _words(error: BaseException) -> str:
    return str(error.args[0] if error.args else error).strip()[:500]
