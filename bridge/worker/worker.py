"""The worker: start, consume, drain, stop. Knows transports and dispatch, not AMQP."""

import asyncio
import os
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from bridge.dialects.dialect import Dialect
from bridge.dialects.names import vendor_key
from bridge.dialects.native import Native
from bridge.dialects.partitions import ONE_QUEUE, partitions_of, why_not_in
from bridge.idempotency.guard import Guard, Once
from bridge.idempotency.store import Store
from bridge.request.chain import chain
from bridge.request.incoming import Request
from bridge.request.outcome import Outcome
from bridge.request.retry import DELAYS, RetryPolicy
from bridge.request.tracing import Traced
from bridge.routing.errors import HandlerError
from bridge.routing.router import THREADS, Router, Routes, fold
from bridge.telemetry.blocked import BLOCKED_AFTER, LoopWatch
from bridge.telemetry.clock import ClockWatch
from bridge.telemetry.counts import WorkerCounts
from bridge.telemetry.events import EventMode
from bridge.telemetry.logs import get_logger
from bridge.telemetry.sessions import Sessions
from bridge.telemetry.tracing import Tracing
from bridge.telemetry.trackers import tell_sentry
from bridge.transport import State, Subscription, Transport
from bridge.worker import ledger
from bridge.worker.access_log import AccessLog
from bridge.worker.at_work import AtWork
from bridge.worker.delay_queue import DelayQueue
from bridge.worker.dispatch import MAX_BODY, Dispatcher, Expired
from bridge.worker.events import EventRecorder
from bridge.worker.in_order import InOrderIntake
from bridge.worker.intake import Intake, Told
from bridge.worker.ledger import OTHER, Ledger
from bridge.worker.lifespan import END_WITHIN, Lifespans
from bridge.worker.pace import Rate, in_hand
from bridge.worker.pausing import Pausing
from bridge.worker.room import BYTES, Room
from bridge.worker.shared_queue import SHARED_PREFETCH, Part, Sorter
from bridge.worker.subscribing import subscriptions

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

log = get_logger("bridge.worker")

_Intake = TypeVar("_Intake", bound=Intake)

PREFETCH: Final = 200
"""Deliveries of one vendor in hand at most. Throughput stops growing between 100 and 300."""
MAX_IN_FLIGHT: Final = 10_000
"""Deliveries of all vendors in hand at most, shared out among them: 1,000 vendors must not mean
200,000 messages in memory. At 16 kB each, 160 MB."""
DRAIN_TIMEOUT: Final = 25.0
"""Seconds. Kubernetes kills after 30 s unless told otherwise."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a :class:`Worker` works. All settings have defaults."""

    prefetch: int = PREFETCH
    """Deliveries of one vendor in hand at most, waiting ones included; at least 1. A router can
    have its own."""
    concurrency: int = PREFETCH
    """Handlers of one vendor that run at a time; at least 1. A router can have its own."""
    max_in_flight: int = MAX_IN_FLIGHT
    """Deliveries of all vendors in hand at most. Each vendor gets an equal share, of at least 1,
    and no more than its prefetch."""
    max_bytes: int = BYTES
    """Bytes of payloads in hand at most. Payloads up to 16 kB do not count: their number is their
    bound. What there is no room for waits in its queue."""
    drain_timeout: float = DRAIN_TIMEOUT
    """Seconds to finish what is in hand when the worker is asked to stop."""
    strict: bool = False
    """Refuse a payload with what the schema of its OCPP version does not allow: it is answered with
    a CALLERROR. Otherwise unknown fields are ignored."""
    expired: Expired = Expired.DEAD_LETTER
    """What happens to a request whose deadline passed before it was handled."""
    max_body: int = MAX_BODY
    """Bytes of a payload at most; a larger one is answered with a CALLERROR. Also the bytes of an
    answer; a larger one is a failure of its handler."""
    retry: RetryPolicy = RetryPolicy()
    """When a request is tried again, unless its handler or router has a policy of its own."""
    events: EventMode = EventMode.NONE
    """Of which requests an event is published; the topology of the transport must have the exchange
    for them."""
    event_bodies: bool = False
    """Whether events have the payloads of requests and answers, up to 64 KiB each."""
    blocked_after: float = BLOCKED_AFTER
    """Seconds for which a handler may hold the event loop; one that holds it longer is logged while
    it does. 0: none is."""
    consumer_priority: int = 0
    """Of its consumers of requests. Workers with a lower one are given requests only when those
    with a higher one have as many in hand as they may."""
    access_log: bool = False
    """Log a line for each request."""
    log_payloads: list[str] = []
    """Vendors of whose requests a line is logged with the payloads, the request's and the answer's.
    They may be anything; so they are bounded, and escaped where a terminal is written to."""


class Worker:
    """Answers the requests of the vendors whose routers it is given.

    >>> worker = Worker([router], transport)
    >>> asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    >>> await worker.run()  # until SIGTERM
    """

    def __init__(
        self,
        routers: Sequence[Router],
        transport: Transport,
        *,
        dialect: Dialect | None = None,
        settings: Settings | None = None,
        store: Store | None = None,
        name: str = "dtbridge",
        tracer_provider: "TracerProvider | None" = None,
    ) -> None:
        """`transport`: the broker; the worker starts and closes it.

        `dialect`: how the gateways write; None: as the wire contract says. `settings`: None: the
        defaults. `store`: where replies are kept for requests that come again; None: nowhere, so
        that each delivery is handled. `name`: who we are, in dead letters; the host and the process
        id are added. `tracer_provider`: who makes spans (OpenTelemetry); None: nobody.
        Raises :class:`~bridge.routing.errors.HandlerError` if two routers are for one vendor, if
        one has partitions in a dialect whose queues all vendors share, and if a handler or a
        lifespan would lack the state that it needs.
        """
        self.settings = settings or Settings()
        self.dialect: Dialect = dialect or Native()
        self.counts = WorkerCounts()
        """What it has done so far."""
        self.store = store
        self.reason = "not started"
        """Why :attr:`state` is what it is: a clause for people."""
        self._transport = transport
        self._routes = Routes(routers)
        self._lifespans = Lifespans(self._routes.binding.lifespans)
        self._name = f"{name}@{socket.gethostname()}:{os.getpid()}"
        self._once: Once | None = None
        if store is not None:
            self._once = Once(
                store, on_absorbed=self._count_absorbed, on_store_error=self._count_store_error
            )
        self.partitions = partitions_of(self._routes.routers)
        """By vendorId, of the vendors that have more than one queue."""
        self.intakes: list[Intake] = []
        self._vendors: dict[str, tuple[str, Intake]] = {}
        """By the key that pauses it: a vendor, and its intake."""
        self._dispatchers: list[Dispatcher] = []
        self.room = Room(self.settings.max_bytes)
        """For large payloads."""
        self._loop_watch = LoopWatch(self.settings.blocked_after, AtWork(self._routes))
        self.clock = ClockWatch(told_since=self._loop_watch.noticed_since)
        self.sessions = Sessions()
        """What has become of its connections to the broker."""
        transport.time_confirms(self.sessions.confirms.observe)
        self._is_counted = ledger.wanted()
        self.tallies = (
            ledger.tallies(routers, self._routes.binding.bound) if self._is_counted else {}
        )
        """What was counted of the requests that a handler was called for, by handler."""
        self._told = self._listeners(transport)
        self._tracing = None if tracer_provider is None else Tracing(tracer_provider)
        self._delay_queues = [DelayQueue(delay, self.dialect.names) for delay in DELAYS]
        self._subscriptions = (
            self._subscribe_vendors() if not self.dialect.queues else self._subscribe_shared()
        )
        self._subscriptions += [queue.subscription for queue in self._delay_queues]
        pausing = Pausing(self._vendors, shared=bool(self.dialect.queues))
        transport.watch_pauses(pausing.keys, pausing.on_pause)
        self._stop = asyncio.Event()
        self._was_connected = False

    def _listeners(self, transport: Transport) -> Told | None:
        """Who is told what became of each request; None: nobody."""
        settings = self.settings
        told: list[Told] = []
        if settings.access_log or settings.log_payloads:
            access_log = AccessLog(every=settings.access_log, payloads_of=settings.log_payloads)
            told.append(access_log.settled)
        if settings.events is not EventMode.NONE:
            recorder = EventRecorder(
                settings.events,
                bodies=settings.event_bodies,
                exchange=self.dialect.names.events,
                vendor_ids=[router.vendor_id for router in self._routes.routers],
                emit=transport.emit,
                counts=self.counts,
                worker=self._name,
            )
            told.append(recorder.settled)
        if len(told) < 2:
            return told[0] if told else None

        def tell(request: Request, outcome: Outcome, counted: int) -> None:
            for each in told:
                each(request, outcome, counted)

        return tell

    def _subscribe_vendors(self) -> list[Subscription]:
        """A queue for each vendor, and one for the requests of all vendors without a router."""
        names = self.dialect.names
        priority, in_flight = self.settings.consumer_priority, self.settings.max_in_flight
        found: list[Subscription] = []
        for router in self._routes.routers:
            queue = names.vendor_queue(router.vendor_id)
            kind = InOrderIntake if router.ordered else Intake
            spread = self.partitions.get(router.vendor_id, ONE_QUEUE)
            intake = self._intake(kind, queue, router, in_flight)
            found += subscriptions(intake, spread, priority, vendor_key(router.vendor_id))
        unknown = self._intake(Intake, names.unknown_vendor, None, in_flight)
        return found + subscriptions(unknown, ONE_QUEUE, priority)

    def _subscribe_shared(self) -> list[Subscription]:
        """Queues that all vendors share; their requests are sorted by vendor here."""
        queues = self.dialect.queues
        if self.partitions:
            raise HandlerError(why_not_in(self.dialect.name, self.partitions))
        prefetch = max(1, min(SHARED_PREFETCH, self.settings.max_in_flight // len(queues)))
        parts = {
            fold(router.vendor_id): self._intake(
                Part, f"{self.dialect.name}: {router.vendor_id}", router, prefetch
            )
            for router in self._routes.routers
        }
        rest = self._intake(Part, f"{self.dialect.name}: other vendors", None, prefetch)
        sorter = Sorter(self.dialect, parts, rest, self.counts)
        return [
            Subscription(
                queue.name,
                prefetch,
                sorter.on_delivery,
                sorter.on_impossible,
                priority=self.settings.consumer_priority,
            )
            for queue in queues
        ]

    def _intake(
        self, kind: type[_Intake], queue: str, router: Router | None, in_flight: int
    ) -> _Intake:
        """One vendor's chain, from its queue to its handlers; the first step of it.

        `router`: None: for the requests of all vendors without one. `in_flight`: deliveries that
        are shared out among all intakes.
        """
        settings = self.settings
        rate = Rate(router.rate) if router and router.rate else None
        prefetch = settings.prefetch if rate is None else min(settings.prefetch, in_hand(rate))
        prefetch = router.prefetch if router and router.prefetch else prefetch
        concurrency = router.concurrency if router and router.concurrency else settings.concurrency
        intake = kind(
            queue,
            dialect=self.dialect,
            counts=self.counts,
            prefetch=min(prefetch, max(1, in_flight // (len(self._routes.routers) + 1))),
            concurrency=concurrency,
            lacks=self._transport.lacks,
            worker=self._name,
            room=self.room,
            ledger=Ledger(router.vendor_id if router else OTHER, counts=self._is_counted),
            told=self._told,
            rate=rate,
        )
        if router is not None:
            self._vendors[vendor_key(router.vendor_id)] = router.vendor_id, intake
        dispatcher = Dispatcher(
            self._routes,
            strict=settings.strict,
            expired=settings.expired,
            max_body=settings.max_body,
            policy=settings.retry,
            threads=router.threads if router else THREADS,
            counts=self.counts,
            tallies=self.tallies,
        )
        chain(intake, *self._steps_after(intake.queue), dispatcher)
        self.intakes.append(intake)
        self._dispatchers.append(dispatcher)
        return intake

    def _steps_after(self, queue: str) -> list[Any]:
        """What stands between the intake of a queue and the dispatcher."""
        steps: list[Any] = []
        if self._tracing is not None:
            named = "" if self.dialect.queues else queue
            steps.append(Traced(self._tracing, queue=named, target=queue, address=self._address))
        if self._once is not None:
            steps.append(Guard(self._once))
        return steps

    def _address(self) -> tuple[str, int] | None:
        return self._transport.address

    @property
    def _holders(self) -> list[Room | Intake | DelayQueue]:
        """All that have deliveries in hand."""
        return [self.room, *self.intakes, *self._delay_queues]

    @property
    def transport(self) -> Transport:
        """The broker, as it was given."""
        return self._transport

    @property
    def state(self) -> State:
        """Where the worker stands with its broker. It is ready when CONSUMING."""
        return self._transport.state

    @property
    def loop_blocked(self) -> dict[tuple[str, str], int]:
        """Times that the event loop was found blocked, by vendor and message of the handler."""
        return self._loop_watch.blamed

    @property
    def chains(self) -> list[tuple[Intake, Dispatcher]]:
        """First and last step of each vendor's chain."""
        return list(zip(self.intakes, self._dispatchers, strict=True))

    @property
    def retries_held(self) -> int:
        """Requests held here between two tries."""
        return sum(queue.waiting for queue in self._delay_queues)

    @property
    def returned(self) -> int:
        """Publishings that no queue took, since the start."""
        return self._transport.returned

    @property
    def refused(self) -> int:
        """Publishings that the broker refused, since the start."""
        return self._transport.refused

    async def run(self) -> int:
        """Work until :meth:`stop` is called, then drain. Call it once.

        Returns how many requests were not settled within the drain timeout and so went back to
        their queues. Raises :class:`~bridge.transport.BrokerUnreachable` if no broker can be
        reached at the start, :class:`~bridge.transport.TopologyError` if an exchange or queue is
        missing or not as it must be, and :class:`~bridge.routing.errors.LifespanError` if a
        router's lifespan fails at its start or ends by itself.
        """
        left = 0
        loop = asyncio.get_running_loop()
        until = 0.0
        tell_sentry()
        self._loop_watch.start()
        self.clock.start()
        try:
            if await self._lifespans.start(self._stop) and await self._started():
                await self._stop.wait()
                until = loop.time() + self.settings.drain_timeout
                for holder in self._holders:
                    holder.give_back()
                left = await self._transport.drain(self.settings.drain_timeout)
        finally:
            self.clock.stop()
            self._loop_watch.stop()
            for dispatcher in self._dispatchers:
                dispatcher.close()
            for holder in self._holders:
                holder.void()
            if self._once is not None:
                self._once.close()
            try:
                await self._transport.close()
            finally:
                await self._lifespans.stop(max(END_WITHIN, until - loop.time()))
        if self._lifespans.failure is not None:
            raise self._lifespans.failure
        log.info(
            "drained",
            returned_to_queue=left,
            unroutable_replies=self._transport.returned,
            **msgspec.to_builtins(self.counts),
        )
        return left

    def _count_absorbed(self) -> None:
        self.counts.absorbed += 1

    def _count_store_error(self) -> None:
        self.counts.store_errors += 1

    async def _started(self) -> bool:
        """Start the transport. False: the worker was asked to stop before a broker was found."""
        starting = asyncio.create_task(self._transport.start(self._subscriptions, self._on_state))
        stopped = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                return True
            return False
        finally:
            starting.cancel()
            stopped.cancel()
            await asyncio.wait((starting, stopped))

    def stop(self) -> None:
        """Have :meth:`run` finish what is in hand, and end. Call it on the event loop."""
        self._stop.set()

    def _on_state(self, state: State, reason: str) -> None:
        self.sessions.enter(state.value, reason)
        self.reason = reason
        lost = state is State.CONNECTING and self._was_connected
        (log.warning if lost or state is State.BLOCKED else log.info)(state.value, reason=reason)
        self._was_connected = state is not State.CONNECTING
        if lost:
            for holder in self._holders:
                holder.void()
