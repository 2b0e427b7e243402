"""The worker: start, consume, drain, stop. Knows transports and dispatch, not AMQP."""

import asyncio
import os
import socket
from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec

from bridge.dialects.dialect import Dialect
from bridge.dialects.native import Native
from bridge.idempotency.guard import Guard, Once
from bridge.idempotency.store import Store
from bridge.request.outcome import Settle
from bridge.request.retry import DELAYS, RetryPolicy
from bridge.routing.router import Router, Routes, fold
from bridge.telemetry.counts import WorkerCounts
from bridge.telemetry.logs import get_logger
from bridge.transport import State, Subscription, Transport
from bridge.worker.delay_queue import WaitingRoom
from bridge.worker.dispatch import MAX_BODY, THREADS, Dispatcher, Expired
from bridge.worker.intake import Intake
from bridge.worker.shared_queue import SHARED_PREFETCH, Part, Sorter

log = get_logger("bridge.worker")

_Intake = TypeVar("_Intake", bound=Intake)

PREFETCH: Final = 200
"""Deliveries of one vendor in hand at most. Throughput stops growing between 100 and 300."""
MAX_IN_FLIGHT: Final = 10_000
"""Deliveries of all vendors in hand at most; shared out among them, so that 1,000 vendors do not mean 200,000 messages
in memory. At 16 kB each, 160 MB."""
DRAIN_TIMEOUT: Final = 25.0
"""Seconds. Kubernetes kills after 30 s unless told otherwise."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker works."""

    prefetch: int = PREFETCH
    """Deliveries of one vendor in hand at most, waiting ones included."""
    concurrency: int = PREFETCH
    """Handlers of one vendor running at a time."""
    max_in_flight: int = MAX_IN_FLIGHT
    """Deliveries of all vendors in hand at most."""
    drain_timeout: float = DRAIN_TIMEOUT
    """Seconds to finish what is in hand when asked to stop."""
    strict: bool = False
    """Refuse payloads with what the schema of their OCPP version does not allow."""
    expired: Expired = Expired.DEAD_LETTER
    """What to do with a request whose deadline passed before it was handled."""
    max_body: int = MAX_BODY
    """Bytes of a payload at most; a bigger one is answered with a CALLERROR. Of an answer, too."""
    retry: RetryPolicy = RetryPolicy()
    """When a request is tried again whose router and handler have no policy of their own."""


class Worker:
    """Answers the requests of the vendors whose routers it is given."""

    def __init__(
        self,
        routers: Sequence[Router],
        transport: Transport,
        *,
        dialect: Dialect | None = None,
        settings: Settings | None = None,
        store: Store | None = None,
        name: str = "dtbridge",
    ) -> None:
        """`store`: where replies are kept for requests that come again; None: nowhere, each delivery is handled.

        `name`: who we are, in dead letters. Raises :class:`~bridge.routing.errors.HandlerError` if two routers are for one vendor.
        """
        self.settings = settings or Settings()
        self.dialect: Dialect = dialect or Native()
        self.counts = WorkerCounts()
        self._transport = transport
        self._routes = Routes(routers)
        self._name = f"{name}@{socket.gethostname()}:{os.getpid()}"
        self._once: Once | None = None
        if store is not None:
            self._once = Once(
                store, on_absorbed=self._count_absorbed, on_store_error=self._count_store_error
            )
        self.intakes: list[Intake] = []
        self._rooms = [WaitingRoom(delay, self.dialect.names) for delay in DELAYS]
        self._subscriptions = (
            self._subscribe_vendors() if not self.dialect.queues else self._subscribe_shared()
        )
        self._subscriptions += [room.subscription for room in self._rooms]
        self._stop = asyncio.Event()
        self._was_connected = False

    def _subscribe_vendors(self) -> list[Subscription]:
        """A queue for each vendor, and one for the requests of vendors that nobody has."""
        names = self.dialect.names
        for router in self._routes.routers:
            self._intake(
                Intake, names.vendor_queue(router.vendor_id), router, self.settings.max_in_flight
            )
        self._intake(Intake, names.unknown_vendor, None, self.settings.max_in_flight)
        return [
            Subscription(intake.queue, intake.prefetch, intake.on_delivery)
            for intake in self.intakes
        ]

    def _subscribe_shared(self) -> list[Subscription]:
        """Queues that all vendors share, whose requests are sorted by vendor here."""
        queues = self.dialect.queues
        prefetch = max(1, min(SHARED_PREFETCH, self.settings.max_in_flight // len(queues)))
        parts = {
            fold(router.vendor_id): self._intake(
                Part, f"{self.dialect.name}: {router.vendor_id}", router, prefetch
            )
            for router in self._routes.routers
        }
        rest = self._intake(Part, f"{self.dialect.name}: other vendors", None, prefetch)
        sorter = Sorter(self.dialect, parts, rest, self.counts)
        return [Subscription(queue.name, prefetch, sorter.on_delivery) for queue in queues]

    def _intake(
        self, kind: type[_Intake], queue: str, router: Router | None, in_flight: int
    ) -> _Intake:
        """One more, for a router or for all that none is for. `in_flight`: deliveries to be shared out among all of them."""
        settings = self.settings
        prefetch = router.prefetch if router and router.prefetch else settings.prefetch
        concurrency = router.concurrency if router and router.concurrency else settings.concurrency

        def dispatcher(settle: Settle) -> Dispatcher:
            return Dispatcher(
                self._routes,
                settle,
                strict=settings.strict,
                expired=settings.expired,
                max_body=settings.max_body,
                policy=settings.retry,
                threads=router.threads if router else THREADS,
            )

        def guard(settle: Settle) -> Dispatcher | Guard:
            return (
                dispatcher(settle) if self._once is None else Guard(self._once, dispatcher, settle)
            )

        intake = kind(
            queue,
            guard,
            dialect=self.dialect,
            counts=self.counts,
            prefetch=min(prefetch, max(1, in_flight // (len(self._routes.routers) + 1))),
            concurrency=concurrency,
            lacks=self._transport.lacks,
            worker=self._name,
        )
        self.intakes.append(intake)
        return intake

    @property
    def _holders(self) -> list[Intake | WaitingRoom]:
        """All that have deliveries in hand."""
        return [*self.intakes, *self._rooms]

    @property
    def state(self) -> State:
        """Where it stands; it is ready when CONSUMING."""
        return self._transport.state

    async def run(self) -> int:
        """Work until :meth:`stop` is called, then drain. Returns how many requests went back to their queues unsettled.

        Raises :class:`~bridge.transport.TransportError` if there is no broker to work with.
        """
        left = 0
        try:
            if await self._started():
                await self._stop.wait()
                for holder in self._holders:
                    holder.give_back()
                left = await self._transport.drain(self.settings.drain_timeout)
        finally:
            for intake in self.intakes:
                intake.close()
            for room in self._rooms:
                room.void()
            if self._once is not None:
                self._once.close()
            await self._transport.close()
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
        """False: asked to stop while the broker was still looked for."""
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
        """Finish what is in hand and end :meth:`run`."""
        self._stop.set()

    def _on_state(self, state: State, reason: str) -> None:
        lost = state is State.CONNECTING and self._was_connected
        (log.warning if lost or state is State.BLOCKED else log.info)(state.value, reason=reason)
        self._was_connected = state is not State.CONNECTING
        if lost:
            for holder in self._holders:
                holder.void()
