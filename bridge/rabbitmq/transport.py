"""RabbitMQ behind the seam of :mod:`bridge.transport`: one session after the other."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Final

from yarl import URL

from bridge.backoff import back_off
from bridge.dialects.topology import Topology
from bridge.rabbitmq.binding import Bindings
from bridge.rabbitmq.connection import CONNECT_TIMEOUT
from bridge.rabbitmq.emitting import Emitter
from bridge.rabbitmq.losses import LOST, explain, losses_as_errors, plugin_missing, telling
from bridge.rabbitmq.session import Session
from bridge.rabbitmq.urls import HostOrder, in_order, printable
from bridge.telemetry.logs import get_logger
from bridge.transport import (
    BrokerUnreachable,
    Confirm,
    Publishing,
    State,
    StateListener,
    Subscription,
    TopologyError,
    TransportError,
)

log = get_logger("bridge.rabbitmq")

START_TIMEOUT: Final = 15.0
"""Seconds that a process tries to reach a broker when it starts, before it gives up."""


EVENTS_WITHIN: Final = 1.0
"""Seconds that a start waits for the connection of events at most, once all else is there."""

STEADY: Final = 30.0
"""Seconds that a session must live before those that were lost before it are forgotten. A request
that ends each session it comes to would otherwise be tried as fast as the broker lets us in, and
wear out the delivery limit of all others in hand."""

LOST_PAUSE: Final = 2.0
"""Seconds from the loss of a session to the next attempt, at most: the broker is there, and a
worker that was lost again and again must still consume within 5 s of the last time."""


class RabbitTransport:
    """RabbitMQ as a :class:`~bridge.transport.Transport`: one session after the other."""

    def __init__(
        self,
        urls: Sequence[URL],
        *,
        name: str = "dtbridge",
        topology: Topology | None = None,
        start_timeout: float = START_TIMEOUT,
        host_order: HostOrder = HostOrder.RANDOM,
    ) -> None:
        """`urls`: the broker's hosts, tried in turn. `name`: for its list of connections.

        `topology`: what is declared or looked for at each connection; None: nothing. If it has an
        exchange for events, :meth:`emit` publishes there.
        `start_timeout`: seconds that :meth:`start` tries to reach a broker.
        `host_order`: which of the hosts is the first.
        """
        self._urls = in_order(urls, host_order)
        self._name = name
        self._topology = topology
        self._emitter: Emitter | None = None
        self._told_no_events = False
        if topology is not None and (events := topology.events) is not None:
            self._topology = topology.needed
            self._emitter = Emitter(name, events, topology.mode, self._present_url)
        self._start_timeout = start_timeout
        # Every host gets its turn before a start is given up, even if one of them never answers.
        self._connect_timeout = min(CONNECT_TIMEOUT, max(1.0, start_timeout / len(self._urls)))
        self._next_url = 0
        self._subscriptions: Sequence[Subscription] = ()
        self._session: Session | None = None
        self._opening: Session | None = None
        """The one that is being opened."""
        self._bindings = Bindings()
        self._supervisor: asyncio.Task[None] | None = None
        self._on_state: StateListener = lambda *_: None
        self._state = State.CONNECTING
        self._farewells: set[asyncio.Task[None]] = set()
        self.sessions = 0
        """Sessions opened so far."""
        self.returned = 0
        """As :attr:`~bridge.transport.Transport.returned`."""
        self.refused = 0
        """As :attr:`~bridge.transport.Transport.refused`."""
        self._observe: Callable[[float], None] | None = None

    @property
    def state(self) -> State:
        return self._state

    @property
    def address(self) -> tuple[str, int] | None:
        if self._session is None or (url := self._session.url).host is None:
            return None
        return url.host, url.port or (5671 if url.scheme == "amqps" else 5672)

    @property
    def reply_queue(self) -> str | None:
        return None if self._session is None else self._session.reply_queue

    async def ping(self, timeout: float) -> None:
        """As :meth:`~bridge.telemetry.reachability.Pingable.ping`."""
        if self._session is None:
            raise ConnectionError("there is no session")
        await self._session.ping(timeout)

    def lacks(self, exchange: str) -> bool:
        return self._session is not None and exchange in self._session.missing

    def _enter(self, state: State, reason: str) -> None:
        self._state = state
        self._on_state(state, reason)

    async def start(self, subscriptions: Sequence[Subscription], on_state: StateListener) -> None:
        self._subscriptions = subscriptions
        self._on_state = on_state
        if self._emitter is not None:
            self._emitter.start()
        session = await self._first_session()
        self._supervisor = asyncio.create_task(self._supervise(session), name="dtbridge-supervisor")

    async def _first_session(self) -> Session:
        """Be patient with a broker that is still starting, but tell whoever mistyped its URL.

        A refusal is not final either: another host may take us, and limits pass.
        """
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._start_timeout
        failures = 0
        worst: tuple[int, URL, BaseException] | None = None
        while True:
            url = self._urls[self._next_url]
            try:
                return await self._open(url)
            except LOST as error:
                failures += 1
                if worst is None or telling(error) >= worst[0]:
                    worst = telling(error), url, error
                left = give_up_at - loop.time()
                if left <= 0 and failures >= len(self._urls):
                    _, url, reason = worst
                    raise BrokerUnreachable(self._no_broker(url, reason)) from reason
                self._warn(url, error, failures)
            await asyncio.sleep(max(0.0, min(left, back_off(failures))))

    def _no_broker(self, url: URL, error: BaseException) -> str:
        others = len(self._urls) - 1
        also = f" (and none at {others} other{'s' if others > 1 else ''})" if others else ""
        return f"no broker at {printable(url)}: {explain(error)}{also}"

    def _warn(self, url: URL, error: BaseException, failures: int) -> None:
        log.warning(
            "broker unreachable", url=printable(url), error=explain(error), failures=failures
        )

    async def _open(self, url: URL) -> Session:
        self._next_url = (self._next_url + 1) % len(self._urls)
        self._enter(State.CONNECTING, f"to {printable(url)}")
        self._opening = session = Session(
            self._name, self._blocked, self._count_returned, self._count_refused, self._observe
        )
        session.lenient = self.sessions > 0  # somebody has migrated them under us
        try:
            with losses_as_errors():
                await session.open(url, self._topology, self._subscriptions, self._connect_timeout)
        except BaseException as error:
            self._abandon(session)
            if missing := plugin_missing(error):
                raise TopologyError(missing) from error
            raise
        self._next_url = self._urls.index(url)  # stay with a host that works
        self._session = session
        self.sessions += 1
        session.opened.set()
        try:
            await self._restore_bindings(session, url)
        except BaseException:
            self._lose(session)
            raise
        if self._emitter is not None:
            await self._emitter.ready(EVENTS_WITHIN if self._supervisor is None else 0)
        if self._state is not State.DRAINING:
            requests = sum(not each.waits for each in self._subscriptions)
            self._enter(State.CONSUMING, f"from {requests} queues at {printable(url)}")
            if session.blocked:  # since before
                self._blocked("an alarm")
        return session

    async def _restore_bindings(self, session: Session, url: URL) -> None:
        """Wait until every key is bound. Raises ConnectionError if the session ends meanwhile."""
        if session.bind_lane is None or self._state is State.DRAINING:
            return
        restored = asyncio.Event()
        self._bindings.restore(session.bind_lane, restored.set)
        if restored.is_set():
            return
        self._enter(State.CONNECTING, f"binding {len(self._bindings):,} keys at {printable(url)}")
        await session.until(restored)
        if session.ended.done():
            raise ConnectionError(session.ended.result())

    def _lose(self, session: Session) -> None:
        self._session = None
        self._bindings.lost()
        self._abandon(session)

    async def _supervise(self, session: Session) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            opened_at = loop.time()
            reason = await session.ended
            if self._state is State.DRAINING:
                return
            self._lose(session)
            self._enter(State.CONNECTING, reason)
            self._next_url = (self._next_url + 1) % len(self._urls)
            if loop.time() - opened_at >= STEADY:
                failures = 0
            session, failures = await self._next_session(failures)
            failures += 1

    async def _next_session(self, failures: int) -> tuple[Session, int]:
        """The next session, and the failures before it.

        `failures`: sessions that were lost, or could not be opened, since one was steady.
        """
        pause = back_off(failures, longest=LOST_PAUSE)
        while True:
            await asyncio.sleep(pause)
            url = self._urls[self._next_url]
            try:
                return await self._open(url), failures
            except (*LOST, TransportError) as error:
                failures += 1
                pause = back_off(failures)
                self._warn(url, error, failures)
            except Exception:
                failures += 1
                pause = back_off(failures)
                log.exception("no session", url=printable(url), failures=failures)

    def _abandon(self, session: Session) -> None:
        """Make its deliveries void now, and let the libraries tidy up in their own time."""
        session.void()
        farewell = asyncio.create_task(session.abandon())
        self._farewells.add(farewell)
        farewell.add_done_callback(self._farewells.discard)

    def _count_returned(self) -> None:
        self.returned += 1

    def _count_refused(self) -> None:
        self.refused += 1

    def time_confirms(self, observe: Callable[[float], None]) -> None:
        self._observe = observe

    def _blocked(self, reason: str | None) -> None:
        if self._state is State.CONSUMING and reason is not None:
            self._enter(State.BLOCKED, f"the broker blocks publishing: {reason}")
        elif self._state is State.BLOCKED and reason is None:
            self._enter(State.CONSUMING, "the broker takes publishings again")

    def publish(self, publishing: Publishing, on_confirm: Callable[[Confirm], None]) -> None:
        if self._session is None:
            on_confirm(Confirm.LOST)
        else:
            self._session.publish(publishing, on_confirm)

    def emit(self, publishing: Publishing) -> bool:
        if self._emitter is not None:
            return self._emitter.emit(publishing)
        if not self._told_no_events:
            self._told_no_events = True
            log.warning(
                "events are off", reason="the transport's topology has no exchange for them"
            )
        return False

    def _present_url(self) -> URL:
        """The host of the session, or that which is tried next."""
        return self._urls[self._next_url]

    def bind(self, routing_key: str, on_done: Callable[[], None]) -> None:
        self._bindings.bind(routing_key, on_done)

    def unbind(self, routing_key: str, on_done: Callable[[], None]) -> None:
        self._bindings.unbind(routing_key, on_done)

    async def drain(self, timeout: float) -> int:
        self._enter(State.DRAINING, f"at most {timeout:g} s")
        session = self._session or self._opening
        if session is None or not session.consumes:
            await self._bindings.stop()
            return 0
        with contextlib.suppress(*LOST), losses_as_errors():  # asyncio.TimeoutError is one of them
            async with asyncio.timeout(timeout):
                await self._bindings.stop()
                await session.until(session.opened)
                await session.cancel_consumers()
                await session.settled()
        return 0 if session.ended.done() else session.unsettled

    async def close(self) -> None:
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait((self._supervisor,))
        if self._session is not None:
            await self._session.close()
            self._session = None
        if self._emitter is not None:
            await self._emitter.close()
        self._bindings.lost()
        await self._bindings.stop()
        if self._farewells:
            await asyncio.wait(self._farewells)
        self._enter(State.STOPPED, "closed")
