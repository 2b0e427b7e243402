"""Exactly-once effects on at-least-once delivery: the stored reply again, not the handler.

A broker delivers a request again when a worker died, or its connection, before the acknowledgement arrived; a requester sends it
again when it lost its reply queue. :class:`Guard` stands before a dispatcher: the first delivery of a request runs the handler, one that
comes meanwhile waits for its outcome, and one that comes later is given the stored reply.

Replies are kept in a :class:`~bridge.idempotency.store.Store`. A request is the same if OCPP version, station, OCPP message id and payload are. The payload counts because OCPP makes message ids unique for a
connection only (OCPP-J 1.6 §4.1.4): a station that counts from 1 uses them again after each restart.

What is stored are replies alone. A request that failed, or that will be tried again, is forgotten, so that it can be.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Protocol
from zlib import crc32

from bridge.compiled import fields
from bridge.idempotency.store import Begun, Key, Running, Store
from bridge.request.incoming import Request
from bridge.request.outcome import Failure, Kind, Late, Offline, Outcome, Reply, RetryLater, Settle
from bridge.request.retry import DELAYS
from bridge.request.running import start
from bridge.telemetry.logs import get_logger

log = get_logger("bridge.idempotency")

fields.check((Reply, Request))

DOWN: Final = 1.0
"""Seconds that a store behind a network is left alone after it has failed."""
BUSY_RETRY: Final = 1.0
"""Seconds until a request comes back that another worker is handling just now."""


class Once:
    """What the guards of a worker share: the store, and the deliveries that wait for another one of the same request."""

    def __init__(
        self, store: Store, *, on_absorbed: Callable[[], None], on_store_error: Callable[[], None]
    ) -> None:
        """`on_absorbed`: called for each delivery that is answered without its handler."""
        self.store = store
        self.followers: dict[Key, list[tuple[Settle, Request]]] = {}
        self.on_absorbed = on_absorbed
        self.on_store_error = on_store_error
        self._down_until = 0.0
        """By the monotonic clock; 0: it works."""
        self._tasks: set[asyncio.Task[None]] = set()

    def tell_followers(self, key: Key, outcome: Outcome) -> None:
        """They get the outcome too, each at its own reply queue; but one dead letter is enough."""
        for settle, request in self.followers.pop(key, ()):
            followed = _followed(request, outcome)
            if not isinstance(followed, RetryLater):
                self.on_absorbed()
            settle(request, followed)

    def failed(self, error: Exception) -> None:
        """The store raised."""
        self.on_store_error()
        if not self._down_until:
            log.warning(
                "idempotency store failed; requests are handled all the same",
                error=f"{type(error).__name__}: {error}",
            )
        self._down_until = time.monotonic() + DOWN

    @property
    def is_down(self) -> bool:
        """The store has just failed: it is left alone for a while, so that one that hangs does not hold up every request."""
        return self._down_until > time.monotonic()

    def worked(self) -> None:
        """The store answered."""
        if self._down_until:
            self._down_until = 0.0
            log.info("idempotency store answers again")

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run what waits for a store behind a network."""
        task = start(coroutine, asyncio.get_running_loop())
        if not task.done():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()


def _followed(request: Request, outcome: Outcome) -> Outcome:
    """What a delivery gets that waited for another one of the same request."""
    match outcome:
        case Reply():
            return _unless_late(request, outcome)
        case Failure(bytes(body)):
            return _unless_late(request, Reply(body, Kind.CALL_ERROR))
        case RetryLater() | Offline():
            return outcome
        case _:  # the other one has no answer, for its deadline has passed; this one's may be open
            return _unless_late(
                request,
                RetryLater(DELAYS[0], "the one it waited for had no time left", counts=False),
            )


def _unless_late(request: Request, outcome: Outcome) -> Outcome:
    """Handled already; so after its deadline there is nothing left to do."""
    return Late() if request.deadline is not None and request.deadline <= time.time() else outcome


class Dispatches(Protocol):
    """A :class:`~bridge.worker.dispatch.Dispatcher`, or what does the same with requests of another kind."""

    def dispatch(self, request: Request) -> None: ...

    def close(self) -> None: ...


class Guard:
    """A dispatcher that handles each request once."""

    def __init__(
        self, once: Once, make_dispatcher: Callable[[Settle], Dispatches], settle: Settle
    ) -> None:
        self._once = once
        self._store = once.store
        self._is_plain = not inspect.iscoroutinefunction(once.store.begin)
        self._dispatcher = make_dispatcher(self._settled)
        self._handle = self._dispatcher.dispatch
        self._settle = settle

    def dispatch(self, request: Request) -> None:
        """As :meth:`~bridge.worker.dispatch.Dispatcher.dispatch`."""
        message_id = request.ocpp_message_id
        if not message_id or request.fault is not None:
            self._handle(request)
            return
        if not self._is_plain:
            # The length keeps a message id with colons in it apart from a station with them.
            version = request.version.value
            shared = f"{version}:{crc32(request.body):08x}:{len(message_id)}:{message_id}:{request.station_id}"
            if self._once.is_down:
                self._once.on_store_error()
                self._handle(request)
            else:
                self._once.start(self._begin(request, shared))
            return
        key = hash((request.version, request.station_id, message_id, request.body))
        try:
            begun: Begun = self._store.begin(key)  # type: ignore[assignment]  # plain
        except Exception as error:  # noqa: BLE001 - as in _begin
            self._once.failed(error)
            self._handle(request)
            return
        if begun is None:
            request.key = key
            self._handle(request)
        else:
            self._absorb(request, key, begun)

    async def _begin(self, request: Request, key: Key) -> None:
        try:
            begun = await self._store.begin(key)  # type: ignore[misc]  # not plain
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the store, the request is handled
            self._once.failed(error)
            self._handle(request)
            return
        self._once.worked()
        if begun is None:
            request.key = key
            self._handle(request)
        else:
            self._absorb(request, key, begun)

    def _absorb(self, request: Request, key: Key, begun: Reply | Running) -> None:
        """It is handled already, or just now."""
        if begun is Running.HERE:
            self._once.followers.setdefault(key, []).append((self._settle, request))
        elif isinstance(begun, Running):
            self._settle(
                request, RetryLater(BUSY_RETRY, "another worker is handling it", counts=False)
            )
        else:
            self._once.on_absorbed()
            self._settle(request, _unless_late(request, begun))

    def _settled(self, request: Request, outcome: Outcome) -> None:
        """What the dispatcher says of a request."""
        key: Key | None = request.key
        if key is None:
            self._settle(request, outcome)
            return
        kept = None
        try:
            kept = (
                self._store.finish(key, outcome)
                if isinstance(outcome, Reply)
                else self._store.forget(key)
            )
        except Exception as error:  # noqa: BLE001 - as in _begin
            self._once.failed(error)
        if kept is not None:
            self._once.start(self._keep(kept, request, outcome, key))
            return
        self._settle(request, outcome)
        if self._once.followers:
            self._once.tell_followers(key, outcome)

    async def _keep(
        self, kept: Awaitable[None], request: Request, outcome: Outcome, key: Key
    ) -> None:
        """The reply is stored before it is published: else a crash in between would run the handler twice."""
        try:
            await kept
        except Exception as error:  # noqa: BLE001 - as in _begin
            self._once.failed(error)
        self._settle(request, outcome)
        self._once.tell_followers(key, outcome)

    def close(self) -> None:
        """As :meth:`~bridge.worker.dispatch.Dispatcher.close`."""
        self._dispatcher.close()
