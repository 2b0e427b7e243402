"""A whole bridge in a test: a worker on a broker in memory, and those who ask it."""

import asyncio
import itertools
import time
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec
from msgspec import UNSET

from bridge.client.errors import NoAnswer
from bridge.client.requester import TIMEOUT, Requester, read_response
from bridge.dead_letters.letter import DeadLetter, read
from bridge.dialects.dialect import Question
from bridge.dialects.headers import ATTEMPT, DEADLINE, FIRST_TRY
from bridge.dialects.native import Native
from bridge.dialects.topology import worker_topology
from bridge.idempotency.memory import MemoryStore
from bridge.idempotency.store import Store
from bridge.ocpp import (
    DEFAULT_VERSION,
    CallError,
    DataTransferRequest,
    DataTransferResponse,
    OcppVersion,
    decode_call_error,
    encode_request,
    parse_version,
)
from bridge.request.incoming import Request
from bridge.request.outcome import Dropped, Failure, Late, Outcome, Reason, Reply, Settle
from bridge.routing.router import Router
from bridge.testing.asserting import Wanted, dead_letter, no_dead_letters, retried
from bridge.testing.clock import Clock
from bridge.testing.memory_broker import MemoryBroker
from bridge.testing.memory_transport import MemoryTransport
from bridge.testing.stations import TestStation
from bridge.testing.tries import Try, story, try_of
from bridge.transport import Delivery, Publishing, State
from bridge.worker.worker import Settings, Worker

if TYPE_CHECKING:
    from bridge.client.client import Client
    from bridge.gateway.link import GatewayLink
    from bridge.gateway.station_handler import StationHandler

DRAIN: Final = 1.0
"""Seconds that a handler may still run when its test has ended, unless the settings say less."""
LEAST: Final = 1.0
"""Seconds that an answer is awaited at least, of a request whose deadline has passed already."""


class TestBridge:
    """Runs your routers in a real worker, on a broker in memory, with a clock that the test moves.

    >>> async with TestBridge(router) as bridge:
    ...     response = await bridge.data_transfer("CP001", "com.acme", "GetTariff", {"id": 1})
    ...     assert response.data == {"price": 0.3}
    ...     bridge.assert_no_dead_letters()

    Requests go the whole way: published, delivered, handled, answered, acknowledged; what is tried
    again waits in a delay queue, and what is given up is kept as a dead letter.
    """

    __test__ = False  # to pytest, its name looks like that of a test

    def __init__(
        self,
        routers: Router | Iterable[Router],
        *,
        settings: Settings | None = None,
        store: Store | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        """`routers`: yours. `settings`: of the worker; None: the defaults.

        `store`: where replies are kept for requests that come again; None: in memory, as by
        default. `timeout`: seconds until the deadline of requests that have none of their own.
        Raises :class:`~bridge.HandlerError` if two routers are for one vendor.
        """
        self.broker = MemoryBroker()
        """The broker and its queues, for whatever has no method here."""
        self.clock = Clock(self._is_busy)
        """Moves the time: :meth:`~bridge.testing.Clock.advance`."""
        self.tries: list[Try] = []
        """What the worker gave each request, each time that it had it, in order."""
        routers = [routers] if isinstance(routers, Router) else list(routers)
        settings = settings or Settings()
        self.worker = Worker(
            routers,
            self.transport(),
            settings=msgspec.structs.replace(
                settings,
                blocked_after=0.0,  # a clock that is moved looks like a loop that is blocked
                drain_timeout=min(DRAIN, settings.drain_timeout),
            ),
            store=MemoryStore(clock=self.clock.monotonic) if store is None else store,
            name="dtbridge test",
        )
        """The worker."""
        self._vendor_ids = [router.vendor_id for router in routers]
        self._timeout = timeout
        self._dialect = Native()
        self._transport = self.transport()
        self._requester = Requester(self._transport)
        self._numbers = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[Try]] = {}
        """By correlation id: who is told what a request was given in the end."""
        self._stack = AsyncExitStack()
        self._client: Client | None = None
        self._link: GatewayLink | None = None

    # ---- its life ----

    async def __aenter__(self) -> Self:
        """Start the worker. Raises what keeps it from starting."""
        self.broker.declare(
            worker_topology(
                self._dialect, self._vendor_ids, events=True, partitions=self.worker.partitions
            )
        )
        for _, dispatcher in self.worker.chains:
            dispatcher.settle = partial(self._settled, dispatcher.settle)
        self._stack.callback(self.clock.close)
        async with AsyncExitStack() as stack:
            stack.push_async_exit(self._stack)
            await self._start()
            stack.pop_all()
        return self

    async def _start(self) -> None:
        running = asyncio.create_task(self.worker.run())
        self._stack.push_async_callback(self._stop, running)
        while self.worker.state is not State.CONSUMING and not running.done():
            await asyncio.wait((running,), timeout=0.001)
        if running.done():
            running.result()  # raises why it has ended
            return
        self.worker.clock.stop()  # it would tell of each move
        await self._transport.start([self._requester.subscription], self._on_state)
        self._stack.push_async_callback(self._transport.close)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the worker. A handler that still runs has a second to end."""
        await self._stack.aclose()

    async def _stop(self, running: "asyncio.Task[int]") -> None:
        self.worker.stop()
        await running

    def _on_state(self, _: State, __: str) -> None:
        self._requester.on_state()

    def _is_busy(self) -> bool:
        return any(intake.in_hand for intake in self.worker.intakes)

    def _settled(self, settle: Settle, request: Request, outcome: Outcome) -> None:
        """Note what a request is given, and pass it on."""
        tried = try_of(request, outcome)
        self.tries.append(tried)
        settle(request, outcome)
        waiting = self._waiting.get(tried.correlation_id or "")
        if waiting is not None and not waiting.done():
            waiting.set_result(tried)

    # ---- requests of stations ----

    async def data_transfer(
        self,
        station_id: str,
        vendor_id: str,
        message_id: str | None = None,
        data: Any = UNSET,
        *,
        version: OcppVersion | str = DEFAULT_VERSION,
        attempt: int = 1,
        deadline: float | None = None,
        timeout: float | None = None,
        ocpp_message_id: str | None = None,
        connection_id: str | None = None,
        headers: Mapping[str, Any] | None = None,
    ) -> DataTransferResponse:
        """Send a request as the station `station_id` would, and await the answer.

        `data`: any JSON value. ``msgspec.Raw`` is sent verbatim. In OCPP 1.6, structured data
        travels as JSON text in a string.
        `attempt`: which try it is; above 1, as if it had been tried before.
        `deadline`: when the station stops waiting, in seconds of Unix time; it may have passed.
        `timeout`: seconds until then, in place of `deadline`; None: those of the bridge.
        `ocpp_message_id`: the OCPP message id of the CALL; None: a new one. `connection_id`: names
        the station's connection: a request that comes again with both is given the stored answer.
        `headers`: further AMQP headers.

        Raises :class:`~bridge.CallError` if the answer is a CALLERROR. Raises
        :class:`~bridge.NoAnswer` if there is none: at once if the worker has given the request up
        without one, or else at the deadline. If a handler failed, what it raised is the cause of
        either, with its traceback, and notes tell of each try. Raises ValueError for an unknown
        `version`, for an `attempt` below 1, and if both `deadline` and `timeout` are given.
        """
        version = parse_version(version)
        question, seconds = self._question(
            DataTransferRequest(vendor_id, message_id, data),
            station_id=station_id,
            version=version,
            attempt=attempt,
            deadline=self._deadline(deadline, timeout),
            message_id=ocpp_message_id,
            connection_id=connection_id,
            headers=headers,
        )
        correlation_id = question.correlation_id or ""
        try:
            reply = await self._answer(question, correlation_id, seconds)
            await self.clock.rest()  # until it is acknowledged, too
            return read_response(reply, version)
        except (CallError, NoAnswer) as error:
            await self.clock.rest()
            raise self._explained(error, correlation_id)  # noqa: B904 - it has its own cause

    async def _answer(self, question: Question, correlation_id: str, seconds: float) -> Delivery:
        """Raises NoAnswer as soon as it is sure that there will be none."""
        answer = asyncio.ensure_future(self._requester.ask(question, seconds))
        try:
            while not answer.done():
                tried = self._next_try(correlation_id)
                await asyncio.wait((answer, tried), return_when=asyncio.FIRST_COMPLETED)
                if not answer.done() and _is_silent(tried.result().outcome):
                    raise NoAnswer("the worker is done with the request, and has not answered it")
            return await answer
        finally:
            answer.cancel()
            await asyncio.wait((answer,))
            self._waiting.pop(correlation_id, None)

    def _next_try(self, correlation_id: str) -> "asyncio.Future[Try]":
        """Is done when the worker has given a request something."""
        tried: asyncio.Future[Try] = asyncio.get_running_loop().create_future()
        self._waiting[correlation_id] = tried
        return tried

    async def notify(
        self,
        station_id: str,
        vendor_id: str,
        message_id: str | None = None,
        data: Any = UNSET,
        *,
        version: OcppVersion | str = DEFAULT_VERSION,
        attempt: int = 1,
        headers: Mapping[str, Any] | None = None,
    ) -> Try:
        """Send a request whose answer nobody waits for, and return what its first try came to.

        Parameters as of :meth:`data_transfer`. If the handler failed, a CallError is raised as by
        :meth:`data_transfer`, though no station is told.
        """
        question, _ = self._question(
            DataTransferRequest(vendor_id, message_id, data),
            station_id=station_id,
            version=parse_version(version),
            attempt=attempt,
            deadline=self._deadline(None, None),
            message_id=None,
            connection_id=None,
            headers=headers,
        )
        correlation_id = question.correlation_id or ""
        publishing = question.publishing(correlation_id, "")
        kept = {**(publishing.properties.headers or {})}
        kept.pop(DEADLINE, None)
        properties = msgspec.structs.replace(
            publishing.properties, headers=kept, reply_to=None, expiration=None
        )
        self.broker.publish(msgspec.structs.replace(publishing, properties=properties))
        tried = await self._next_try(correlation_id)
        del self._waiting[correlation_id]
        await self.clock.rest()
        if isinstance(tried.outcome, Failure) and tried.outcome.body is not None:
            raise self._explained(decode_call_error(tried.outcome.body), correlation_id)
        return tried

    def _deadline(self, deadline: float | None, timeout: float | None) -> float:
        if deadline is None:
            return time.time() + (self._timeout if timeout is None else timeout)
        if timeout is not None:
            raise ValueError("give deadline= or timeout=, not both: one says when the other ends")
        return deadline

    def _question(
        self,
        request: DataTransferRequest,
        *,
        station_id: str,
        version: OcppVersion,
        attempt: int,
        deadline: float,
        message_id: str | None,
        connection_id: str | None,
        headers: Mapping[str, Any] | None,
    ) -> tuple[Question, float]:
        """How a request is published, and the seconds that its answer is awaited."""
        if attempt < 1:
            raise ValueError(f"attempt counts from 1, and {attempt} is below")
        question = self._dialect.question_to_csms(
            station_id=station_id,
            version=version,
            vendor_id=request.vendor_id,
            body=encode_request(request, version),
            deadline=deadline,
            message_id=message_id,
            connection_id=connection_id,
        )
        more = dict(headers or {})
        if attempt > 1:
            more |= {ATTEMPT: attempt, FIRST_TRY: round(time.time() * 1000)}
        question = msgspec.structs.replace(
            question,
            publishing=partial(_with_headers, question, more),
            correlation_id=f"test-{next(self._numbers)}",
        )
        return question, max(LEAST, deadline - time.time())

    def _tries_of(self, correlation_id: str) -> list[Try]:
        return [each for each in self.tries if each.correlation_id == correlation_id]

    def _explained(self, error: Exception, correlation_id: str) -> Exception:
        """The same error, with what a handler raised as its cause, and a note on each try."""
        tries = self._tries_of(correlation_id)
        for each in tries:
            error.add_note(str(each))
        if not any(isinstance(each.outcome, Reply) for each in tries[-1:]):
            error.__cause__ = next((each.error for each in reversed(tries) if each.error), None)
        return error

    # ---- the other direction ----

    def station(
        self,
        station_id: str,
        handler: "StationHandler | None" = None,
        *,
        version: OcppVersion | str = DEFAULT_VERSION,
    ) -> TestStation:
        """A station that the CSMS can reach while it is entered, by ``async with``.

        `handler`: a function ``(request) -> response``, or an object, as
        :meth:`GatewayLink.connect_station <bridge.gateway.GatewayLink.connect_station>` takes it;
        None: the station accepts everything, and keeps it in ``received``. `version`: the
        station's. Raises ValueError for an unknown one.
        """
        return TestStation(
            station_id, parse_version(version), handler, link=self.link, ask=self.data_transfer
        )

    async def send_to_station(
        self,
        station_id: str,
        vendor_id: str,
        message_id: str | None = None,
        data: Any = UNSET,
        *,
        timeout: float | None = None,
    ) -> DataTransferResponse:
        """Send a request of the CSMS to a station, and await its answer.

        `timeout`: seconds; None: those of the bridge. Raises as
        :meth:`Client.send_to_station <bridge.Client.send_to_station>`: StationOffline if it is not
        connected, CallError if the answer is a CALLERROR, NoAnswer after the time-out.
        """
        client = await self.client()
        request = DataTransferRequest(vendor_id, message_id, data)
        return await client.send_to_station(station_id, request, timeout=timeout)

    async def client(self) -> "Client":
        """A client of this broker, for code under test that asks by one; always the same."""
        if self._client is None:
            from bridge.client.client import Client

            client = Client(transport=self.transport(), timeout=self._timeout)
            self._client = await self._stack.enter_async_context(client)
        return self._client

    async def link(self) -> "GatewayLink":
        """The gateway of the stations, for code under test that has one; always the same."""
        if self._link is None:
            from bridge.gateway.link import GatewayLink

            link = GatewayLink(transport=self.transport(), timeout=self._timeout)
            self._link = await self._stack.enter_async_context(link)
        return self._link

    def transport(self) -> MemoryTransport:
        """A new transport to this broker, for a client, a gateway or a worker of your own."""
        return MemoryTransport(self.broker)

    async def cut(self) -> None:
        """End all connections: what is not settled is delivered again, and says so.

        Returns when everybody is connected again, and has what was delivered.
        """
        self.broker.cut("cut by the test")
        await self.clock.rest()

    # ---- what became of it ----

    @property
    def dead_letters(self) -> list[DeadLetter]:
        """The dead letters, oldest first."""
        messages = self.broker.queues[self._dialect.names.dead].ready
        return [
            read(Delivery(each.exchange, each.routing_key, False, each.properties, each.body))
            for each in messages
        ]

    def story(self) -> str:
        """All that happened so far, for people. An assertion that fails has it in its message."""
        return story(self.tries, self.dead_letters)

    def assert_retried(
        self,
        vendor_id: str | None = None,
        message_id: str | None = None,
        *,
        station_id: str | None = None,
        times: int | None = None,
        after: float | None = None,
    ) -> list[Try]:
        """Assert that requests were to be tried again, and return the tries that asked for it.

        `vendor_id`, `message_id`, `station_id`: of such requests only. `times`: how often; None: at
        least once. `after`: each time after so many seconds. Raises AssertionError otherwise.
        """
        __tracebackhide__ = True
        wanted = Wanted(vendor=vendor_id, message=message_id, station=station_id)
        return retried(self.tries, self.dead_letters, wanted, times=times, after=after)

    def assert_dead_letter(
        self,
        vendor_id: str | None = None,
        message_id: str | None = None,
        *,
        station_id: str | None = None,
        reason: Reason | str | None = None,
        error: str = "",
        attempts: int | None = None,
    ) -> DeadLetter:
        """Assert that exactly one dead letter is such, and return it.

        `vendor_id`, `message_id`, `station_id`: of the request. `reason`: why, such as
        ``"failed"``. `error`: a part of what it says went wrong. `attempts`: which try was the
        last. Raises AssertionError otherwise; it says of each dead letter what does not fit.
        """
        __tracebackhide__ = True
        return dead_letter(
            self.tries,
            self.dead_letters,
            Wanted(vendor=vendor_id, message=message_id, station=station_id),
            reason=None if reason is None else str(reason),
            error=error,
            attempts=attempts,
        )

    def assert_no_dead_letters(self) -> None:
        """Assert that nothing was given up. Raises AssertionError otherwise."""
        __tracebackhide__ = True
        no_dead_letters(self.tries, self.dead_letters)


def _is_silent(outcome: Outcome) -> bool:
    """Whether a request is done without an answer."""
    if isinstance(outcome, Failure):
        return outcome.body is None
    return isinstance(outcome, Late | Dropped)


def _with_headers(
    question: Question, more: Mapping[str, Any], correlation_id: str, reply_to: str
) -> Publishing:
    publishing = question.publishing(correlation_id, reply_to)
    headers = {**(publishing.properties.headers or {}), **more}
    properties = msgspec.structs.replace(publishing.properties, headers=headers)
    return msgspec.structs.replace(publishing, properties=properties)
