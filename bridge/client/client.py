"""The requester's side, typed: ask as a station would, or ask a station as the CSMS."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from bridge.client.asking import asked
from bridge.client.errors import NoAnswer, NotAccepted, StationOffline
from bridge.client.limits import check_station_id
from bridge.client.requester import TIMEOUT, Requester, read_response
from bridge.dialects.dialect import Dialect
from bridge.dialects.native import Native
from bridge.dialects.replies import read_offline, read_version
from bridge.ocpp import (
    DEFAULT_VERSION,
    DataTransferRequest,
    DataTransferResponse,
    OcppVersion,
    encode_request,
    parse_version,
)
from bridge.rabbitmq.hosts import Hosts
from bridge.rabbitmq.transport import RabbitTransport
from bridge.telemetry.logs import get_logger
from bridge.telemetry.sessions import Sessions
from bridge.telemetry.tracing import Tracing
from bridge.transport import State, Transport

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

__all__ = ["Client", "NoAnswer", "NotAccepted", "StationOffline"]

log = get_logger("bridge.client")


class Client:
    """Sends requests and matches their answers, any number at a time.

    >>> async with Client("amqp://localhost") as client:
    ...     request = DataTransferRequest("com.acme", "GetTariff")
    ...     response = await client.data_transfer("CP001", request)
    ...     request = DataTransferRequest("com.acme", "ShowText", "Hello")
    ...     response = await client.send_to_station("CP001", request)

    To enter it raises :class:`~bridge.transport.BrokerUnreachable` if no broker can be reached, and
    in a dialect other than the native one :class:`~bridge.transport.TopologyError` if the gateway's
    exchange is not there. Lost connections are opened again; requests without an answer are then
    published again, if the dialect allows it.
    """

    def __init__(
        self,
        urls: str | Sequence[str] = (),
        *,
        timeout: float = TIMEOUT,
        dialect: Dialect | None = None,
        transport: Transport | None = None,
        tracer_provider: "TracerProvider | None" = None,
    ) -> None:
        """`urls`: the URL of a broker, or one for each of its hosts; ``@FILE`` stands for those
        that a file holds, which is read again when it changes.

        `timeout`: seconds to wait for an answer, for requests that do not say.
        `dialect`: how the gateway writes; None: :class:`~bridge.dialects.native.Native`. In any
        other dialect a client reaches stations, and nobody else.
        `transport`: used in place of `urls`, for tests.
        `tracer_provider`: makes a span for each request (OpenTelemetry); None: there are none.

        Raises ValueError for an invalid URL.
        """
        if transport is None:
            urls = [urls] if isinstance(urls, str) else urls
            transport = RabbitTransport(Hosts(urls), name="dtbridge client")
        self._transport = transport
        self._dialect: Dialect = dialect or Native()
        self._timeout = timeout
        self._to_csms, self._to_station = self.tallies = asked("to_csms"), asked("to_station")
        """What became of its requests, and how long they took, for each direction."""
        self.sessions = Sessions()
        """What has become of its connections."""
        transport.time_confirms(self.sessions.confirms.observe)
        tracing = None if tracer_provider is None else Tracing(tracer_provider)
        self._requester = Requester(transport, self._dialect, tracing=tracing)

    @property
    def state(self) -> State:
        """Where the connection stands."""
        return self._transport.state

    @property
    def returned(self) -> int:
        """Requests that no queue took, each as often as it was published."""
        return self._transport.returned

    @property
    def refused(self) -> int:
        """Times that the broker refused requests."""
        return self._transport.refused

    @property
    def outstanding(self) -> int:
        """Requests without an answer."""
        return len(self._requester)

    @property
    def late(self) -> int:
        """Replies to requests that had timed out, and second replies to one request."""
        return self._requester.late

    async def __aenter__(self) -> Self:
        await self._transport.start([self._requester.subscription], self._on_state)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._transport.close()
        self._requester.close()

    async def data_transfer(
        self,
        station_id: str,
        request: DataTransferRequest,
        *,
        ocpp_version: OcppVersion | str = DEFAULT_VERSION,
        timeout: float | None = None,
        message_id: str | None = None,
        connection_id: str | None = None,
    ) -> DataTransferResponse:
        """Send `request` as the station `station_id` would, and await the answer.

        `ocpp_version`: the version in which the request is written.
        `timeout`: seconds; None: the client's.
        `message_id`: the OCPP message id of the CALL, at most 36 characters; None: a new one.
        `connection_id`: names the station's connection; a request that comes again with the same
        one, the same message id and the same content is given the stored answer. None: each call is
        a new request.

        Raises :class:`~bridge.ocpp.CallError` if the answer is a CALLERROR, or if `ocpp_version`
        does not allow the request; :class:`NoAnswer` after the time-out; :class:`NotAccepted` if
        the broker refuses the request; ValueError for an unknown version, for a station id of more
        than 255 characters or a message id of more than 36, and in any dialect but the native one.
        """
        check_station_id(station_id)
        version = parse_version(ocpp_version)
        body = encode_request(request, version)
        seconds = self._timeout if timeout is None else timeout
        question = self._dialect.question_to_csms(
            station_id=station_id,
            version=version,
            vendor_id=request.vendor_id,
            body=body,
            deadline=time.time() + seconds,
            message_id=message_id,
            connection_id=connection_id,
        )
        reply = await self._requester.ask(question, seconds, tally=self._to_csms)
        return read_response(reply, version)

    async def send_to_station(
        self,
        station_id: str,
        request: DataTransferRequest,
        *,
        ocpp_version: OcppVersion | str | None = None,
        timeout: float | None = None,
        message_id: str | None = None,
    ) -> DataTransferResponse:
        """Send `request` to a station through its gateway, and await the station's answer.

        `timeout`: seconds, the wait for the station's other requests included; None: the client's.
        `message_id`: the OCPP message id of the CALL, at most 36 characters; None: a new one. A
        request that comes again with the same one is not sent to the station twice.

        The gateway writes the request in the station's OCPP version: in 1.6, structured data goes
        as JSON text, and what newer versions added (customData) is left out. The answer comes as
        the station gave it, so the data of a 1.6 station is text.

        In a dialect other than the native one, the gateway writes what it is given. There, and only
        there, `ocpp_version` names the station's version; None: 2.0.1. Such a request is published
        once, because nobody would absorb its repetition. ``docs/dialects.md`` says when a station
        counts as offline.

        Raises :class:`StationOffline` at once if no gateway holds the station, or if it was lost
        before it answered; :class:`~bridge.ocpp.CallError` if the answer is a CALLERROR or not what
        OCPP asks for, or if OCPP does not allow the request; :class:`NoAnswer` after the time-out;
        :class:`NotAccepted` if the broker refuses the request; ValueError for an unknown version,
        or for a station id or message id that the dialect cannot carry.
        """
        check_station_id(station_id)
        given = None if ocpp_version is None else parse_version(ocpp_version)
        version = self._dialect.station_version(given)
        body = encode_request(request, version)
        seconds = self._timeout if timeout is None else timeout
        question = self._dialect.question_to_station(
            station_id=station_id,
            version=version,
            body=body,
            deadline=time.time() + seconds,
            message_id=message_id,
        )
        reply = await self._requester.ask(
            question,
            seconds,
            nobody=lambda: StationOffline(station_id),
            tally=self._to_station,
        )
        sent = read_offline(reply)
        if sent is not None:
            raise StationOffline(station_id, sent=sent)
        return read_response(reply, read_version(reply))

    def _on_state(self, state: State, reason: str) -> None:
        self.sessions.enter(state.value, reason)
        log.debug(state.value, reason=reason)
        self._requester.on_state()
