"""Exactly-once effects on at-least-once delivery: the stored reply again, not the handler.

A broker delivers a request again when a worker died, or its connection, before the acknowledgement arrived; a requester sends it
again when it lost its reply queue. :class:`Guard` stands before a dispatcher: the first delivery of a request runs the handler, one that
comes meanwhile waits for its outcome, and one that comes later is given the stored reply.

A request is the same if station, OCPP message id and payload are. The payload counts because OCPP makes message ids unique for a
connection only (OCPP-J 1.6 §4.1.4): a station that counts from 1 uses them again after each restart.

What is stored are replies alone. A request that failed, or that will be tried again, is forgotten, so that it can be.
"""

import asyncio
import enum
import importlib.util
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol
from zlib import crc32

import structlog

from bridge.dispatch import Dispatcher, Settle, start
from bridge.outcome import Failure, Kind, Late, Outcome, Reply, RetryLater
from bridge.request import Request

log = structlog.get_logger("bridge.idempotency")

Key = tuple[str, str, int]
"""Station, OCPP message id, CRC-32 of the payload."""

TTL: Final = 600.0
"""Seconds a reply is kept at least. Longer than any station waits, and than a broker takes to deliver again."""
ENTRIES: Final = 20_000
"""Replies kept in memory at most: twice what a worker has in hand. About 500 bytes each."""
BYTES: Final = 32 * 1024 * 1024
"""Bytes of replies kept in memory at most."""

BUSY_RETRY: Final = 1.0
"""Seconds until a request comes back that another worker is handling just now."""


class Running(enum.Enum):
    """Answer of :meth:`Store.begin`: the request is being handled."""

    HERE = "here"
    """By this worker; its outcome comes to the same :class:`Once`."""
    ELSEWHERE = "elsewhere"
    """By another one."""


Begun = Reply | Running | None


class Store(Protocol):
    """Where replies are kept. Its methods are plain functions or, behind a network, coroutine functions: all or none.

    They may raise what they like: the request is handled anyway, and the failure counted.
    """

    def begin(self, key: Key) -> Begun | Awaitable[Begun]:
        """The stored reply; or who is handling the request; or None: nobody, so the caller does from now on."""

    def finish(self, key: Key, reply: Reply) -> Awaitable[None] | None:
        """Keep the reply."""

    def forget(self, key: Key) -> Awaitable[None] | None:
        """It has no reply and may be handled again."""


class MemoryStore:
    """Replies in this process, in two generations.

    When the young one is full or old enough, it takes the place of the old one, which is dropped. So the cost of a reply is
    one dictionary entry, whatever the bounds.
    """

    def __init__(self, ttl: float = TTL, entries: int = ENTRIES, max_bytes: int = BYTES) -> None:
        """`ttl` in seconds. A reply is kept at least so long, and at most twice as long, unless a bound is reached."""
        self._ttl = ttl
        self._entries = max(1, entries // 2)
        self._max_bytes = max_bytes // 2
        self._running: set[Key] = set()
        self._young: dict[Key, Reply] = {}
        self._old: dict[Key, Reply] = {}
        self._bytes = 0
        self._grown_up_at = time.monotonic() + ttl

    def begin(self, key: Key) -> Begun:
        if key in self._running:
            return Running.HERE
        reply = self._young.get(key) or self._old.get(key)
        if reply is None:
            self._running.add(key)
        return reply

    def finish(self, key: Key, reply: Reply) -> None:
        self._running.discard(key)
        self._young[key] = reply
        self._bytes += len(reply.body)
        if len(self._young) >= self._entries or self._bytes >= self._max_bytes or time.monotonic() >= self._grown_up_at:
            self._old, self._young = self._young, {}
            self._bytes = 0
            self._grown_up_at = time.monotonic() + self._ttl

    def forget(self, key: Key) -> None:
        self._running.discard(key)

    def __len__(self) -> int:
        return len(self._young) + len(self._old)


class Once:
    """What the guards of a worker share: the store, and the deliveries that wait for another one of the same request."""

    def __init__(self, store: Store, *, on_absorbed: Callable[[], None], on_store_error: Callable[[], None]) -> None:
        """`on_absorbed`: called for each delivery that is answered without its handler."""
        self.store = store
        self.is_plain = not inspect.iscoroutinefunction(store.begin)
        self.followers: dict[Key, list[tuple[Settle, Request]]] = {}
        self.on_absorbed = on_absorbed
        self._on_store_error = on_store_error
        self._tasks: set[asyncio.Task[None]] = set()

    def tell_followers(self, key: Key, outcome: Outcome) -> None:
        """They get the outcome too, each at its own reply queue; but one dead letter is enough."""
        if isinstance(outcome, Failure):
            outcome = Late() if outcome.body is None else Reply(outcome.body, Kind.CALL_ERROR)
        for settle, request in self.followers.pop(key, ()):
            self.on_absorbed()
            settle(request, outcome)

    def failed(self, error: Exception) -> None:
        """The store raised."""
        self._on_store_error()
        log.warning("idempotency store failed; handled all the same", error=f"{type(error).__name__}: {error}")

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run what waits for a store behind a network."""
        task = start(coroutine, asyncio.get_running_loop())
        if not task.done():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()


class Guard:
    """A dispatcher that handles each request once."""

    def __init__(self, once: Once, make_dispatcher: Callable[[Settle], Dispatcher], settle: Settle) -> None:
        self._once = once
        self._store = once.store
        self._dispatcher = make_dispatcher(self._settled)
        self._handle = self._dispatcher.dispatch
        self._settle = settle

    def dispatch(self, request: Request) -> None:
        """As :meth:`~bridge.dispatch.Dispatcher.dispatch`."""
        message_id = request.ocpp_message_id
        if not message_id or request.fault is not None:
            self._handle(request)
            return
        key = (request.station_id, message_id, crc32(request.body))
        if self._once.is_plain:
            self._begun(request, key, self._store.begin(key))  # type: ignore[arg-type]  # plain
        else:
            self._once.start(self._begin(request, key))

    async def _begin(self, request: Request, key: Key) -> None:
        try:
            begun = await self._store.begin(key)  # type: ignore[misc]  # not plain
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the store, the request is handled
            self._once.failed(error)
            self._handle(request)
        else:
            self._begun(request, key, begun)

    def _begun(self, request: Request, key: Key, begun: Begun) -> None:
        if begun is None:
            request.key = key
            self._handle(request)
        elif begun is Running.HERE:
            self._once.followers.setdefault(key, []).append((self._settle, request))
        elif begun is Running.ELSEWHERE:
            self._settle(request, RetryLater(BUSY_RETRY, "another worker is handling it", counts=False))
        else:
            self._once.on_absorbed()
            self._settle(request, begun)

    def _settled(self, request: Request, outcome: Outcome) -> None:
        """What the dispatcher says of a request."""
        key: Key | None = request.key
        if key is None:
            self._settle(request, outcome)
            return
        kept = self._store.finish(key, outcome) if type(outcome) is Reply else self._store.forget(key)
        if kept is not None:
            self._once.start(self._keep(kept, request, outcome, key))
            return
        self._settle(request, outcome)
        if self._once.followers:
            self._once.tell_followers(key, outcome)

    async def _keep(self, kept: Awaitable[None], request: Request, outcome: Outcome, key: Key) -> None:
        """The reply is stored before it is published: else a crash in between would run the handler twice."""
        try:
            await kept
        except Exception as error:  # noqa: BLE001 - as in _begin
            self._once.failed(error)
        self._settle(request, outcome)
        self._once.tell_followers(key, outcome)

    def close(self) -> None:
        """As :meth:`~bridge.dispatch.Dispatcher.close`."""
        self._dispatcher.close()


def check_store(location: str) -> None:
    """Raises ValueError with a sentence for a location that :func:`open_store` could not open."""
    if location in {"memory", "none"}:
        return
    if not location.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError(f"--idempotency is memory, none or redis://HOST:PORT/DB, not {location!r}")
    if importlib.util.find_spec("redis") is None:
        raise ValueError("--idempotency with Redis needs the extra: pip install 'datatransfer-bridge[redis]'")


@asynccontextmanager
async def open_store(location: str) -> AsyncIterator[Store | None]:
    """The store that ``memory``, ``none`` or a Redis URL names, for as long as the block lasts."""
    check_store(location)
    if location == "none":
        yield None
    elif location == "memory":
        yield MemoryStore()
    else:
        from bridge.redis_store import RedisStore  # noqa: PLC0415 - an extra

        async with RedisStore(location) as store:
            yield store
