"""A gateway's end of the bridge: all that it needs of RabbitMQ, for all its stations.

Station → CSMS: :meth:`GatewayLink.data_transfer`, or :meth:`GatewayLink.forward` for bytes,
publishes the request of a station and returns the answer.

CSMS → station: while a station is connected, its key is bound to a private queue of the link. What
comes there is given to the station's handler, and the handler's answer is published.

    delivery → StationIntake → Guard → Stations → handler, and back the same steps → publishing
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from bridge.client.asking import asked
from bridge.client.requester import TIMEOUT, Requester, response_of
from bridge.client.tracing import Asking
from bridge.dialects.names import read_vendor_id, station_key
from bridge.dialects.native import Native
from bridge.dialects.topology import Mode, gateway_topology
from bridge.gateway.counts import LinkCounts
from bridge.gateway.forwarding import Forwarding, Forwards, OnReply
from bridge.gateway.intake import StationIntake, to_stations
from bridge.gateway.station_handler import StationHandler
from bridge.gateway.stations import Station, Stations
from bridge.gateway.tracing import TracedForwarding
from bridge.idempotency.guard import Guard, Once
from bridge.idempotency.memory import MemoryStore
from bridge.ocpp import (
    DataTransferRequest,
    DataTransferResponse,
    OcppVersion,
    encode_request,
    parse_version,
)
from bridge.rabbitmq.hosts import Hosts
from bridge.rabbitmq.transport import RabbitTransport
from bridge.request.chain import chain
from bridge.request.outcome import Reply
from bridge.request.tracing import Traced
from bridge.telemetry.logs import get_logger
from bridge.telemetry.sessions import Sessions
from bridge.telemetry.tracing import Tracing
from bridge.transport import State, Subscription, Transport, TransportError

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

log = get_logger("bridge.gateway")

QUEUES: Final = 64
"""Private queues that share the stations of a gateway. A queue that dies takes its bindings with it
in one step of the broker, during which nobody can bind: with 10,000 stations and one queue, 5,000
that came to another gateway waited 7 s for it, with 64 queues 1 s. More queues make it no better
(measured up to 1,000)."""

PREFETCH: Final = 200
"""Requests in hand from one of these queues: 12,800 in all, at 1 kB each, and with what Python adds
some 50 MB. Further ones wait in the queue, which drops them when their time is over. A request is
in hand until it is answered or its time is over. So 200 requests to stations that do not answer
hold up the other stations of the same queue; one station alone can have a tenth of them."""


class GatewayLink:
    """Connects the stations of one gateway with the CSMS, over RabbitMQ.

    All methods belong on the event loop that the link was entered on. Any number of stations and
    requests at a time; a station has one request in hand in each direction (OCPP-J 1.6 §4.1.1).

    >>> async with GatewayLink("amqp://localhost") as link:
    ...     await link.connect_station("CP001", "ocpp1.6", handler)  # now the CSMS can reach it
    ...     request = DataTransferRequest("com.acme", "GetTariff")
    ...     response = await link.data_transfer("CP001", "ocpp1.6", request)
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
        topology: Mode | str = Mode.DECLARE,
        tracer_provider: "TracerProvider | None" = None,
    ) -> None:
        """`urls`: the broker's URL, or one for each of its hosts; ``@FILE`` stands for those that
        a file holds, which is read again when it changes.

        `timeout`: seconds, for requests that have none of their own, in both directions. `dialect`:
        the names of exchanges and queues; None: those of the wire contract. `transport`: in place
        of the URLs. `name`: shown in the broker's list of connections. `topology`: ``declare``,
        or ``verify`` or ``none`` for a user without the right to declare. `tracer_provider`: makes
        spans for the requests of both directions (OpenTelemetry); None: there are none.
        Raises ValueError for an invalid URL.
        """
        self._dialect = dialect or Native()
        if transport is None:
            urls = [urls] if isinstance(urls, str) else urls
            needed = gateway_topology(self._dialect.names, Mode(topology))
            transport = RabbitTransport(Hosts(urls), name=name, topology=needed)
        self._transport = transport
        self._timeout = timeout
        self.counts = LinkCounts()
        """What it has done so far."""
        to_csms, to_station = self.tallies = asked("to_csms"), to_stations()
        """What became of requests, and how long they took, for each direction."""
        self.sessions = Sessions()
        """What has become of its connections to the broker."""
        transport.time_confirms(self.sessions.confirms.observe)
        self.reason = "not started"
        """Why :attr:`state` is what it is: a clause for people."""
        tracing = None if tracer_provider is None else Tracing(tracer_provider)
        self._requester = Requester(transport)
        self._bindings: set[asyncio.Future[None]] = set()
        """Changes to bindings that somebody waits for."""
        self._draining = False
        self._was_connected = False

        self._intake = StationIntake(self._dialect, transport, self.counts, to_station)
        self._once = Once(MemoryStore(), on_absorbed=self._count_absorbed, on_store_error=_nothing)
        self._stations = Stations(timeout)
        make: Callable[..., Forwarding] = Forwarding
        if tracing is not None:
            asking = Asking(tracing, lambda: transport.address)
            make = partial(TracedForwarding, tracing=tracing, asking=asking)
        self._up = Forwards(self._requester, self._dialect, self._stations, to_csms, timeout, make)
        steps: list[Any] = [Guard(self._once)]
        if tracing is not None:
            steps.insert(
                0,
                Traced(
                    tracing,
                    queue="",
                    target=self._dialect.names.stations,
                    address=lambda: transport.address,
                ),
            )
        chain(self._intake, *steps, self._stations)

    # ---- its life ----

    async def __aenter__(self) -> Self:
        """Connect. Raises :class:`~bridge.transport.BrokerUnreachable` if there is no broker.

        Raises :class:`~bridge.transport.TopologyError` if an exchange is missing or not as it must
        be.
        """
        requests = Subscription(
            "",
            PREFETCH,
            self._intake.on_delivery,
            exchange=self._dialect.names.stations,
            queues=QUEUES,
        )
        await self._transport.start([self._requester.subscription, requests], self._on_state)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disconnect. Requests still in hand end as StationOffline, so :meth:`drain` first."""
        self._draining = True
        self._stations.close()
        self._intake.close()
        for binding in tuple(self._bindings):
            _finish(binding)
        await self._transport.close()
        self._up.close()

    @property
    def transport(self) -> Transport:
        """The broker."""
        return self._transport

    @property
    def state(self) -> State:
        """Where the link stands with its broker. CONSUMING: every connected station can be reached.

        Requests of stations go out, and their answers come, as soon as a connection is open, which
        is earlier.
        """
        return self._transport.state

    @property
    def returned(self) -> int:
        """Publishings that no queue took."""
        return self._transport.returned

    @property
    def refused(self) -> int:
        """Times that the broker refused publishings."""
        return self._transport.refused

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

    async def drain(self, timeout: float) -> int:
        """Take no more requests of the CSMS, and await the answers to those in hand both ways.

        Waits at most `timeout` seconds, and returns how many requests have no answer. From now on
        the CSMS is told that the stations are offline here, and no station can be connected; those
        that are can still send.
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
        """Give the requests of the CSMS to this station to `handler`.

        `station_id`: 1 to 255 characters. `version`: the one that the station speaks, for example
        ``"ocpp1.6"``. Returns when the station can be reached; while the broker is away, that is
        when it is back. If it is cancelled, the station is not connected. A station that is
        connected already is connected anew: what is under way on its old connection counts as lost.
        Raises ValueError for an invalid station id or version, TypeError for an invalid handler,
        and :class:`~bridge.transport.TransportError` once the link is draining.
        """
        bound = asyncio.get_running_loop().create_future()
        station = self._enter(station_id, version, handler, lambda: _finish(bound))
        try:
            await self._done(bound)
            self._refuse_if_draining()
        except BaseException:
            if self._stations.get(station_id) is station:
                unbind = self.lose_station(station_id)
                if unbind is not None:
                    unbind(_nothing)
            raise

    def add_station(
        self,
        station_id: str,
        version: OcppVersion | str,
        handler: StationHandler,
        on_reachable: Callable[[], None],
    ) -> None:
        """As :meth:`connect_station`, without a task or a future: for very many that come at once.

        `on_reachable` is called once, on the event loop, when the station can be reached, or when
        the link drains before that. It must not raise.
        """
        self._enter(station_id, version, handler, on_reachable)

    def _enter(
        self,
        station_id: str,
        version: OcppVersion | str,
        handler: StationHandler,
        on_bound: Callable[[], None],
    ) -> Station:
        self._refuse_if_draining()
        station = Station(station_id, parse_version(version), handler)
        self._stations.connect(station)
        self._transport.bind(station_key(station_id), on_bound)
        return station

    def _refuse_if_draining(self) -> None:
        if self._draining:
            raise TransportError("the link is draining: it takes no more stations")

    async def disconnect_station(
        self, station_id: str, handler: StationHandler | None = None
    ) -> None:
        """The station is gone: from now on requests to it are answered with StationOffline.

        Returns when the broker sends no more of them here. `handler`: disconnect the station only
        if this is still its handler. A gateway that notices late that a connection has died names
        the handler, so as not to disconnect the station's next connection.
        """
        left = asyncio.get_running_loop().create_future()
        unbind = self.lose_station(station_id, handler)
        if unbind is not None:
            unbind(lambda: _finish(left))
            await self._done(left)

    def lose_station(
        self, station_id: str, handler: StationHandler | None = None
    ) -> Callable[[Callable[[], None]], None] | None:
        """As :meth:`disconnect_station`, without a task or a future, and in two halves.

        From now on the station's handler is not called. What is returned has the station unbound:
        call it soon, once, on the event loop, with what is to be called when that is done. None:
        the station was not connected, or has another handler.

        The CSMS is told that the station is offline when it is unbound, and no sooner: whoever is
        told so retries at once, and would be routed here again.
        """
        station = self._stations.get(station_id)
        if station is None or (handler is not None and station.handler is not handler):
            return None
        self._intake.hold_offline(station_id)
        self._stations.disconnect(station)
        return partial(self._unbind, station_id)

    def _unbind(self, station_id: str, on_left: Callable[[], None]) -> None:
        def left() -> None:
            self._intake.tell_offline(station_id)
            on_left()

        if self._stations.get(station_id) is None:
            self._transport.unbind(station_key(station_id), left)
        else:  # it has come back meanwhile
            left()

    async def _done(self, change: "asyncio.Future[None]") -> None:
        """Wait until the broker has made a change to the bindings, or the link is closed."""
        self._bindings.add(change)
        change.add_done_callback(self._bindings.discard)
        await change

    # ---- station → CSMS ----

    async def data_transfer(
        self,
        station_id: str,
        version: OcppVersion | str,
        request: DataTransferRequest,
        *,
        timeout: float | None = None,
        message_id: str | None = None,
        connection_id: str | None = None,
    ) -> DataTransferResponse:
        """Send the request of a station to the CSMS, and await the answer.

        `timeout`: seconds, the wait for the station's earlier requests included; None: the link's.
        `message_id`: the OCPP message id of the CALL, at most 36 characters; None: a new one.

        `connection_id`: names the station's connection, at most 255 characters: a CALL that comes
        again with the same one, the same message id and the same payload is given the stored
        answer. None: the link's own, from :meth:`connect_station` on new for each connection.

        Raises CallError if the answer is a CALLERROR, or `version` does not allow the request;
        :class:`~bridge.client.errors.NoAnswer` after the time-out, also if its turn did not come;
        :class:`~bridge.client.errors.NotAccepted` if no queue took it in all that time, or the
        queue is full.
        """
        version = parse_version(version)
        body = encode_request(request, version)
        reply = await self._ask(
            station_id, version, request.vendor_id, body, message_id, timeout, connection_id
        )
        return response_of(reply, version)

    async def forward(
        self,
        station_id: str,
        version: OcppVersion | str,
        payload: bytes,
        *,
        message_id: str,
        timeout: float | None = None,
        connection_id: str | None = None,
    ) -> Reply:
        """Send the payload of a station's CALL, whatever it is, and await the answer, as bytes.

        A payload that is not a DataTransferRequest gets the CALLERROR that it deserves, from the
        bridge. The reply is of kind RESPONSE, its body the payload of the CALLRESULT; or of kind
        CALL_ERROR, its body ``{"errorCode":…,"errorDescription":…,"errorDetails":{}}``. Raises
        NoAnswer and NotAccepted as :meth:`data_transfer` does, whose `connection_id` is the same.
        Cancel it when the station's connection ends: until then it has the station's turn.
        """
        return await self._ask(
            station_id,
            parse_version(version),
            read_vendor_id(payload),
            payload,
            message_id or None,  # an empty one names nothing, and the station is answered
            timeout,
            connection_id,
        )

    async def _ask(
        self,
        station_id: str,
        version: OcppVersion,
        vendor_id: str,
        body: bytes,
        message_id: str | None,
        timeout: float | None,
        connection_id: str | None,
    ) -> Reply:
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        forwarding = self._up.start(
            station_id,
            version,
            vendor_id,
            body,
            message_id,
            timeout,
            connection_id,
            partial(_tell, answer),
        )
        try:
            return await answer
        finally:
            forwarding.abandon()  # if it is cancelled
            del answer  # which may hold an error, whose traceback holds this frame

    def start_forward(
        self,
        station_id: str,
        version: OcppVersion,
        payload: bytes,
        message_id: str,
        timeout: float,
        on_reply: OnReply,
    ) -> Forwarding:
        """As :meth:`forward`, without a task or a future: for very many requests at a time.

        `on_reply` is called once, on the event loop, and must not raise. It may be called before
        this returns. It is given the reply, or the exception that :meth:`forward` raises. When the
        station's connection ends, :meth:`~bridge.gateway.forwarding.Forwarding.abandon` gives up
        its turn; then `on_reply` is not called any more.
        """
        return self._up.start(
            station_id,
            version,
            read_vendor_id(payload),
            payload,
            message_id or None,
            timeout,
            None,
            on_reply,
        )

    def _on_state(self, state: State, reason: str) -> None:
        self.sessions.enter(state.value, reason)
        self.reason = reason
        lost = state is State.CONNECTING and self._was_connected
        (log.warning if lost or state is State.BLOCKED else log.info)(state.value, reason=reason)
        self._was_connected = state is not State.CONNECTING
        self._requester.on_state()
        if self._transport.reply_queue is not None:
            self._intake.send_unsent()

    def _count_absorbed(self) -> None:
        self.counts.absorbed += 1


def _tell(answer: "asyncio.Future[Reply]", result: Reply | Exception) -> None:
    if answer.done():
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)


def _finish(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _nothing() -> None: ...
