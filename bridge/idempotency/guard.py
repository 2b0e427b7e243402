"""Exactly-once effects on at-least-once delivery: the stored reply again, not the handler.

A broker delivers a request again when a worker died, or its connection, before the acknowledgement
arrived; a requester sends it again when it lost its reply queue. A :class:`Guard` is the step of a
chain (:func:`~bridge.request.chain.chain`) before the one that handles requests. The first delivery
of a request runs the handler; one that comes meanwhile waits for its outcome; one that comes later
is given the stored reply.

Replies are kept in a :class:`~bridge.idempotency.store.Store`. Two requests are the same if they
have the same OCPP version, station, OCPP message id, payload and origin. OCPP makes message ids
unique for a connection only (OCPP-J 1.6 §4.1.4): a station that counts from 1 uses them again after
each restart. So the connection counts, if the gateway names it, or else the message that the
gateway has published. Where neither tells a station's later requests apart, only what the broker or
the bridge has sent again is given a stored reply: to run a handler twice is better than to answer
with what was true before.

Only replies are stored. A request that failed, or that will be tried again, is forgotten, so that
it can be handled again.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final
from zlib import crc32

from bridge.compiled import fields
from bridge.idempotency.store import Begun, Key, Running, Store
from bridge.request.chain import Dispatch
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
    """What the guards of a worker share.

    The store, and the deliveries that wait for the outcome of another delivery of their request.
    """

    def __init__(
        self, store: Store, *, on_absorbed: Callable[[], None], on_store_error: Callable[[], None]
    ) -> None:
        """`on_absorbed`: called for each delivery that is answered without its handler.

        `on_store_error`: called for each request that the store was no help with.
        """
        self.store = store
        self.followers: dict[Key, list[tuple[Settle, Request]]] = {}
        self.on_absorbed = on_absorbed
        self.on_store_error = on_store_error
        self._down_until = 0.0
        """When a failed store is asked again, by the monotonic clock; 0: it works."""
        self._tasks: set[asyncio.Task[None]] = set()

    def tell_followers(self, key: Key, outcome: Outcome) -> None:
        """Give the outcome to those that waited for it, each at its own reply queue.

        One dead letter is enough, so a failure is a mere answer to them.
        """
        for settle, request in self.followers.pop(key, ()):
            followed = _followed(request, outcome)
            if not isinstance(followed, RetryLater):
                request.absorbed = True
                self.on_absorbed()
            settle(request, followed)

    def failed(self, error: Exception) -> None:
        """Note that the store raised."""
        self.on_store_error()
        if not self._down_until:
            log.warning(
                "idempotency store failed; requests are handled all the same",
                error=f"{type(error).__name__}: {error}",
            )
        self._down_until = time.monotonic() + DOWN

    @property
    def is_down(self) -> bool:
        """Whether the store has just failed.

        It is left alone for a while: a store that hangs must not hold up every request.
        """
        return self._down_until > time.monotonic()

    def worked(self) -> None:
        """Note that the store answered."""
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
        """Stop what waits for the store. Its requests are not settled."""
        for task in self._tasks:
            task.cancel()


def _followed(request: Request, outcome: Outcome) -> Outcome:
    """The outcome of a delivery that waited for another one, which got `outcome`."""
    match outcome:
        case Reply():
            return _unless_late(request, outcome)
        case Failure(bytes(body)):
            return _unless_late(request, Reply(body, Kind.CALL_ERROR))
        case RetryLater() | Offline():
            return outcome
        case _:  # the other's deadline has passed, so that it has no answer; this one's may be open
            return _unless_late(
                request,
                RetryLater(DELAYS[0], "the one it waited for had no time left", counts=False),
            )


def _unless_late(request: Request, outcome: Outcome) -> Outcome:
    """It is handled already, so after its deadline there is nothing left to do."""
    return Late() if request.deadline is not None and request.deadline <= time.time() else outcome


def _is_new(request: Request, begun: Reply | Running) -> bool:
    """Whether a stored reply belongs to an earlier request that merely has the same name.

    One that is in hand is joined all the same: its answer will be a fresh one.
    """
    return (
        isinstance(begun, Reply)
        and not request.told_apart
        and not request.redelivered
        and request.first_try is None
    )


class Guard:
    """The step of a chain that lets each request be handled once."""

    def __init__(self, once: Once) -> None:
        """`once`: what it shares with the other guards of its worker."""
        self.next: Dispatch
        """Where requests go to be handled: see :func:`~bridge.request.chain.chain`."""
        self.settle: Settle
        """Whom it tells each outcome."""
        self._once = once
        self._store = once.store
        self._ask: Callable[[Key], Any] = once.store.begin
        self._forget: Callable[[Key], Any] = once.store.forget
        self._is_plain = not inspect.iscoroutinefunction(once.store.begin)
        """Whether the store's methods are plain functions, or return something to await."""

    def dispatch(self, request: Request) -> None:
        """Have a request handled, unless it is already; then give it the outcome it has.

        Never raises.
        """
        message_id = request.ocpp_message_id
        if not message_id or request.fault is not None:
            self.next(request)
            return
        if not self._is_plain:
            # The lengths keep a message id with colons in it apart from a station with them.
            station_id = request.station_id
            body = f"{request.version.value}:{crc32(request.body):08x}"
            names = f"{len(message_id)}:{message_id}:{len(station_id)}:{station_id}"
            shared = f"{body}:{names}:{request.origin!r}"
            if self._once.is_down:
                self._once.on_store_error()
                self.next(request)
            else:
                self._once.start(self._begin(request, shared))
            return
        key = hash((request.version, request.station_id, message_id, request.body, request.origin))
        try:
            begun: Begun = self._ask(key)
            if begun is not None and _is_new(request, begun):
                self._forget(key)
                begun = self._ask(key)
        except Exception as error:  # noqa: BLE001 - as in _begin
            self._once.failed(error)
            self.next(request)
            return
        if begun is None:
            request.key = key
            self.next(request)
        else:
            self._absorb(request, key, begun)

    async def _begin(self, request: Request, key: Key) -> None:
        try:
            begun: Begun = await self._ask(key)
            if begun is not None and _is_new(request, begun):
                await self._forget(key)
                begun = await self._ask(key)
        except Exception as error:  # noqa: BLE001 - whatever the store does, the request is handled
            self._once.failed(error)
            self.next(request)
            return
        self._once.worked()
        if begun is None:
            request.key = key
            self.next(request)
        else:
            self._absorb(request, key, begun)

    def _absorb(self, request: Request, key: Key, begun: Reply | Running) -> None:
        """Deal with a request that has been handled already, or is just being handled."""
        if begun is Running.HERE:
            self._once.followers.setdefault(key, []).append((self.settle, request))
        elif isinstance(begun, Running):
            self.settle(
                request, RetryLater(BUSY_RETRY, "another worker is handling it", counts=False)
            )
        else:
            request.absorbed = True
            self._once.on_absorbed()
            self.settle(request, _unless_late(request, begun))

    def settled(self, request: Request, outcome: Outcome) -> None:
        """Store a reply, and pass the outcome on to all that wait for it."""
        key: Key | None = request.key
        if key is None:
            self.settle(request, outcome)
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
        self.settle(request, outcome)
        if self._once.followers:
            self._once.tell_followers(key, outcome)

    async def _keep(
        self, kept: Awaitable[None], request: Request, outcome: Outcome, key: Key
    ) -> None:
        """Store a reply before it is published: a crash in between would run the handler twice."""
        try:
            await kept
        except Exception as error:  # noqa: BLE001 - as in _begin
            self._once.failed(error)
        self.settle(request, outcome)
        self._once.tell_followers(key, outcome)
