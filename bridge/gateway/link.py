"""A gateway's end of the bridge: everything that it needs of RabbitMQ, for all its stations, in one object.

Station → CSMS: :meth:`GatewayLink.data_transfer`, or :meth:`GatewayLink.forward` for bytes, publishes the request of a station and
returns the answer. CSMS → station: while a station is connected, its key is bound to a private queue of the link; what comes there is
given to the station's handler, and the handler's answer published.

    delivery → Native.request → Guard → Stations.dispatch → handler → Outcome → GatewayLink._settle → publish

The queue dies with its connection, so no request is ever delivered again, and acknowledgements only say when there is room
for more. An answer is therefore published on whichever connection is open when it is there.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self

import msgspec

from bridge.backoff import back_off
from bridge.client.errors import NoAnswer
from bridge.client.requester import REFUSALS, TIMEOUT, Requester, read_response
from bridge.dialects.names import read_vendor_id, station_key
from bridge.dialects.native import Native
from bridge.dialects.replies import read_reply
from bridge.dialects.topology import gateway_topology
from bridge.gateway.station_handler import StationHandler
from bridge.gateway.stations import LARGEST, Station, Stations
from bridge.gateway.turns import Turns
from bridge.idempotency.guard import Guard, Once
from bridge.idempotency.memory import MemoryStore
from bridge.ocpp import (
    CallError,
    DataTransferRequest,
    DataTransferResponse,
    ErrorCode,
    OcppVersion,
    encode_request,
    parse_version,
)
from bridge.ocpp.errors import encodable
from bridge.rabbitmq.transport import RabbitTransport
from bridge.rabbitmq.urls import parse_urls
from bridge.request.incoming import Request
from bridge.request.outcome import Failure, Kind, Offline, Outcome, Reply, call_error
from bridge.telemetry.logs import get_logger
from bridge.transport import (
    Confirm,
    Delivery,
    Publishing,
    State,
    Subscription,
    Transport,
    TransportError,
    Verdict,
)

log = get_logger("bridge.gateway")

QUEUES: Final = 64
"""Private queues that share the stations of a gateway. A queue that dies takes its bindings with it in one step of the broker, in which
nobody can bind: with 10,000 stations and one queue, 5,000 that came to another gateway waited 7 s for it, with 64 queues 1 s. More
queues make it no better (measured up to 1,000)."""

PREFETCH: Final = 200
"""Requests in hand from one of these queues: 12,800 in all, at 1 kB each and what Python needs beside it some 50 MB. Beyond it they wait
in the queue, which drops them when their time is over. A request is in hand until it is answered or its time is over, so 200 requests to
stations that do not answer hold up the other stations of the same queue; one station alone can have a tenth of them."""


class LinkCounts(msgspec.Struct):
    """What a link has done since it was made, CSMS → station."""

    received: int = 0
    """Requests of the CSMS."""
    answered: int = 0
    """Answers given: responses and CALLERRORs, the gateway's own among them."""
    failed: int = 0
    """Requests whose handler failed, or that found too many others before them; answered with a CALLERROR."""
    offline: int = 0
    """Requests for a station that was not there, or was lost meanwhile."""
    late: int = 0
    """Requests whose time was over: before they came, before their turn, or before their station answered."""
    absorbed: int = 0
    """Requests that came again, and were given the answer of the first time."""
    forbidden: int = 0
    """Answers not sent, because ``reply_to`` named a queue that is not allowed."""
    unroutable: int = 0
    """Answers whose queue was gone, or went on refusing them."""


class GatewayLink:
    """Connects the stations of one gateway with the CSMS.

    >>> async with GatewayLink("amqp://localhost") as link:
    ...     await link.connect_station("CP001", "ocpp1.6", handler)  # and now the CSMS can reach it
    ...     response = await link.data_transfer("CP001", "ocpp1.6", DataTransferRequest("com.acme", "GetTariff"))
    ...     await link.disconnect_station("CP001")
    """

    def __init__(
        self,
        urls: str | Sequence[str] = (),
        *,
        timeout: float = TIMEOUT,
        dialect: Native | None = None,
        transport: Transport | None = None,
        name: str = "dtbridge gateway",
    ) -> None:
        """`urls`: one broker, or its hosts. `timeout`: seconds, for requests that give none of their own, in both directions.

        `transport`: in place of the URLs. `name`: shown in the broker's list of connections. Raises ValueError for a URL that is none.
        """
        self._dialect = dialect or Native()
        if transport is None:
            urls = [urls] if isinstance(urls, str) else urls
            topology = gateway_topology(self._dialect.names)
            transport = RabbitTransport(parse_urls(urls), name=name, topology=topology)
        self._transport = transport
        self._timeout = timeout
        self.counts = LinkCounts()
        self._requester = Requester(transport)
        self._up = Turns()
        self._stations: Stations
        once = Once(MemoryStore(), on_absorbed=self._count_absorbed, on_store_error=_nothing)
        self._guard = Guard(once, self._make_stations, self._settle)
        self._unsent: list[_Answer] = []
        """Answers that were there while no connection was."""
        self._pauses: set[asyncio.TimerHandle] = set()
        self._bindings: set[asyncio.Future[None]] = set()
        """Those that somebody waits for."""
        self._leaving: dict[str, list[_Answer]] = {}
        """Stations whose key the broker is just unbinding, with what the CSMS is to be told when it has."""
        self._draining = False
        self._was_connected = False

    def _make_stations(self, settle: Callable[[Request, Outcome], None]) -> Stations:
        self._stations = Stations(settle, self._timeout)
        return self._stations

    # ---- its life ----

    async def __aenter__(self) -> Self:
        """Raises :class:`~bridge.transport.BrokerUnreachable` or :class:`~bridge.transport.TopologyError`."""
        exchange = self._dialect.names.stations
        requests = Subscription("", PREFETCH, self._on_delivery, exchange=exchange, queues=QUEUES)
        await self._transport.start([self._requester.subscription, requests], self._on_state)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """What is still in hand is StationOffline. :meth:`drain` first, so that it has its answer."""
        self._draining = True
        self._guard.close()
        for pause in self._pauses:
            pause.cancel()
        for binding in tuple(self._bindings):
            _finish(binding)
        await self._transport.close()
        self._requester.close()

    @property
    def state(self) -> State:
        """Where it stands. CONSUMING: every station connected can be reached. Requests of stations go out, and their answers
        come, as soon as a connection is open, which is earlier.
        """
        return self._transport.state

    @property
    def stations(self) -> int:
        """Stations connected."""
        return len(self._stations)

    @property
    def outstanding(self) -> int:
        """Requests of stations without an answer."""
        return len(self._requester)

    @property
    def in_hand(self) -> int:
        """Requests of the CSMS without an answer."""
        return self._stations.in_hand

    @property
    def late(self) -> int:
        """Replies to requests of stations that nobody waited for any more."""
        return self._requester.late

    async def drain(self, timeout: float) -> int:  # noqa: ASYNC109 - a bound, not a failure
        """Take no more requests of the CSMS, which is told so, and await the answers to those in hand, in both directions.

        Waits at most `timeout` seconds. Returns how many have none. Stations can still send; none can be connected any more.
        """
        self._draining = True
        end = asyncio.get_running_loop().time() + timeout
        await self._transport.drain(timeout)
        try:
            async with asyncio.timeout_at(end):
                await self._requester.idle()
        except TimeoutError:
            pass
        return self.in_hand + self.outstanding

    # ---- stations come and go ----

    async def connect_station(
        self, station_id: str, version: OcppVersion | str, handler: StationHandler
    ) -> None:
        """Have the requests of the CSMS to this station given to `handler`. Returns when the station can be reached.

        While the broker is away it waits for it; cancelled, it leaves the station disconnected. A station that is
        connected already is connected anew: what is under way on its old connection counts as lost. Raises ValueError for a
        station id or version that is none, TypeError for a handler that is none, TransportError once the link is draining.
        """
        self._refuse_if_draining()
        station = Station(station_id, parse_version(version), handler)
        self._stations.connect(station)
        bound = self._future()
        self._transport.bind(station_key(station_id), lambda: _finish(bound))
        try:
            await bound
            self._refuse_if_draining()
        except BaseException:
            if self._stations.get(station_id) is station:
                self._leave(station, _nothing)
            raise

    def _refuse_if_draining(self) -> None:
        if self._draining:
            raise TransportError("the link is draining: it takes no more stations")

    async def disconnect_station(
        self, station_id: str, handler: StationHandler | None = None
    ) -> None:
        """The station is gone. Requests to it are answered so from now on; returns when the broker knows.

        `handler`: only if it is still this one. A gateway that notices late that a connection has died names it, lest it
        disconnects the station's next one.
        """
        station = self._stations.get(station_id)
        if station is None or (handler is not None and station.handler is not handler):
            return
        left = self._future()
        self._leave(station, lambda: _finish(left))
        await left

    def _leave(self, station: Station, on_left: Callable[[], None]) -> None:
        """First the broker is to send no more requests to the station here, then the CSMS is told that it is gone: who
        is told so looks for it at another gateway, and would else find this one again.
        """
        station_id = station.station_id
        self._leaving.setdefault(station_id, [])
        self._stations.disconnect(station)

        def left() -> None:
            for answer in self._leaving.pop(station_id, ()):
                self._send_if_in_time(answer)
            on_left()

        self._transport.unbind(station_key(station_id), left)

    def _future(self) -> "asyncio.Future[None]":
        """That the broker has made a change to the bindings; or that the link is closed."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._bindings.add(future)
        future.add_done_callback(self._bindings.discard)
        return future

    # ---- station → CSMS ----

    async def data_transfer(
        self,
        station_id: str,
        version: OcppVersion | str,
        request: DataTransferRequest,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - it travels with the request, as its deadline
        message_id: str | None = None,
    ) -> DataTransferResponse:
        """Send `request` of a station to the CSMS and await the answer.

        `timeout`: seconds, waiting for the station's earlier requests included. `message_id`: the OCPP message id of the CALL; None:
        a new one. Raises CallError if the answer is a CALLERROR, or the request is none that `version` allows; NoAnswer
        after the time-out, also if its turn did not come; NotAccepted if no queue took it in all that time, or one is full.
        """
        version = parse_version(version)
        body = encode_request(request, version)
        reply = await self._ask(station_id, version, request.vendor_id, body, message_id, timeout)
        return read_response(reply, version)

    async def forward(
        self,
        station_id: str,
        version: OcppVersion | str,
        payload: bytes,
        *,
        message_id: str,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
    ) -> Reply:
        """Send the payload of a station's CALL, whatever it is, and await the answer, as bytes.

        A payload that is no DataTransferRequest gets the CALLERROR that it deserves, from the bridge. The reply is of kind
        RESPONSE, its body the payload of the CALLRESULT; or CALL_ERROR, its body ``{"errorCode":…,"errorDescription":…,
        "errorDetails":{}}``. Raises NoAnswer and NotAccepted as :meth:`data_transfer`. Cancel it when the station's connection
        ends: until then it has the station's turn.
        """
        version = parse_version(version)
        try:
            reply = await self._ask(
                station_id, version, read_vendor_id(payload), payload, message_id, timeout
            )
        except CallError as error:
            return call_error(error, version)
        return read_reply(reply)

    async def _ask(
        self,
        station_id: str,
        version: OcppVersion,
        vendor_id: str,
        body: bytes,
        message_id: str | None,
        timeout: float | None,  # noqa: ASYNC109 - as above
    ) -> Delivery:
        """In the station's turn. Raises CallError for a payload that is too large for a broker, beside what is told above."""
        if len(body) > LARGEST:
            text = f"payload: {len(body)} bytes, and at most {LARGEST} are taken"
            raise CallError(ErrorCode.PROPERTY_CONSTRAINT_VIOLATION, text)
        loop = asyncio.get_running_loop()
        seconds = self._timeout if timeout is None else timeout
        end = loop.time() + seconds
        question = self._dialect.question_to_csms(
            station_id=station_id,
            version=version,
            vendor_id=vendor_id,
            body=body,
            deadline=time.time() + seconds,
            message_id=message_id,
        )
        if not await self._up.take(station_id, seconds):
            raise NoAnswer(
                f"not sent: an earlier request of the station had no answer within {seconds:g} s"
            )
        try:
            return await self._requester.ask(question, end - loop.time(), patient=True)
        finally:
            self._up.give(station_id)

    # ---- CSMS → station ----

    def _on_delivery(self, delivery: Delivery) -> None:
        self.counts.received += 1
        self._guard.dispatch(self._dialect.request(delivery))

    def _settle(self, request: Request, outcome: Outcome) -> None:
        """Answer, and make room for the next request."""
        counts = self.counts
        match outcome:
            case Reply(body, kind):
                counts.answered += 1
                self._answer(request, lambda: self._dialect.station_reply(request, body, kind))
            case Failure(bytes(body)):
                counts.failed += 1
                counts.answered += 1
                self._log_failure(request, outcome)
                self._answer(
                    request, lambda: self._dialect.station_reply(request, body, Kind.CALL_ERROR)
                )
            case Offline(sent):
                counts.offline += 1
                leaving = self._leaving.get(request.station_id)
                self._answer(
                    request, lambda: self._dialect.offline_reply(request, sent=sent), leaving
                )
            case _:
                counts.late += 1
        request.source.settle(Verdict.ACK)

    def _answer(
        self,
        request: Request,
        publishing: Callable[[], Publishing | None],
        later: "list[_Answer] | None" = None,
    ) -> None:
        """Publish it, or put it with those that are published `later`."""
        if not request.reply_wanted:
            return
        answer = _Answer(request, publishing)
        if later is None:
            self._send(answer)
        else:
            later.append(answer)

    def _send(self, answer: "_Answer") -> None:
        publishing = answer.publishing()
        if publishing is None:
            self.counts.forbidden += 1
            return

        def on_confirm(confirm: Confirm) -> None:
            if confirm is Confirm.LOST:
                self._unsent.append(answer)
            elif confirm is Confirm.REFUSED and answer.refusals < REFUSALS:
                answer.refusals += 1
                self._send_in(back_off(answer.refusals), answer)
            elif confirm is not Confirm.CONFIRMED:
                self.counts.unroutable += 1

        self._transport.publish(publishing, on_confirm)

    def _send_in(self, seconds: float, answer: "_Answer") -> None:
        """A queue whose leader has just gone refuses until it has another."""

        def send() -> None:
            self._pauses.discard(timer)
            self._send_if_in_time(answer)

        timer = asyncio.get_running_loop().call_later(seconds, send)
        self._pauses.add(timer)

    def _send_if_in_time(self, answer: "_Answer") -> None:
        deadline = answer.request.deadline
        if (
            deadline is None or deadline > time.time()
        ):  # else nobody waits for it any more; it has been counted
            self._send(answer)

    def _on_state(self, state: State, reason: str) -> None:
        lost = state is State.CONNECTING and self._was_connected
        (log.warning if lost or state is State.BLOCKED else log.info)(state.value, reason=reason)
        self._was_connected = state is not State.CONNECTING
        self._requester.on_state()
        if self._transport.reply_queue is not None:
            unsent, self._unsent = self._unsent, []
            for answer in unsent:
                self._send_if_in_time(answer)

    def _count_absorbed(self) -> None:
        self.counts.absorbed += 1

    def _log_failure(self, request: Request, failure: Failure) -> None:
        log.warning(
            "request to a station failed",
            reason=failure.reason.value,
            error=failure.error,
            station=encodable(request.station_id),
            ocpp_message_id=encodable(request.ocpp_message_id or ""),
        )


class _Answer:
    """One on its way to the CSMS."""

    __slots__ = ("publishing", "refusals", "request")

    def __init__(self, request: Request, publishing: Callable[[], Publishing | None]) -> None:
        self.request = request
        self.publishing = publishing
        """Made anew each time, with what is left of its time."""
        self.refusals = 0


def _finish(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _nothing() -> None: ...
