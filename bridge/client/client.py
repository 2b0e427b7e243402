"""The requester's side, typed: ask as a station would, or ask a station as the CSMS."""

import time
from collections.abc import Callable, Sequence
from types import TracebackType, UnionType
from typing import TYPE_CHECKING, Any, Self, overload

from bridge.client.asking import asked, count_error
from bridge.client.errors import (
    NoAnswer,
    NotAccepted,
    StationOffline,
    UnexpectedAnswer,
    no_queue,
)
from bridge.client.limits import check_seconds, check_station_id
from bridge.client.opening import Opening
from bridge.client.requester import TIMEOUT, Requester, read_response
from bridge.client.typed import Data, TypedResponse, reader_of
from bridge.dialects.dialect import Dialect, Question
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
from bridge.rabbitmq.transport import START_TIMEOUT, RabbitTransport
from bridge.telemetry.logs import get_logger
from bridge.telemetry.measures import Tally
from bridge.telemetry.sessions import Sessions
from bridge.telemetry.tracing import Tracing
from bridge.transport import Delivery, State, Transport

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

__all__ = ["Client", "NoAnswer", "NotAccepted", "StationOffline", "UnexpectedAnswer"]

log = get_logger("bridge.client")


class Client:
    """Sends requests and matches their answers, any number at a time.

    >>> async with Client("amqp://localhost") as client:
    ...     request = DataTransferRequest("com.acme", "GetTariff")
    ...     response = await client.data_transfer("CP001", request, answer=Tariff)
    ...     request = DataTransferRequest("com.acme", "ShowText", "Hello")
    ...     response = await client.send_to_station("CP001", request)

    It asks inside its ``async with`` block, and nowhere else. Entering the block does not connect:
    the first request does, or :meth:`connect`. Lost connections are opened again; requests without
    an answer are then published again, if the dialect allows it. When the block ends, requests that
    still wait get :class:`NoAnswer`.
    """

    def __init__(
        self,
        urls: str | Sequence[str] = (),
        *,
        timeout: float = TIMEOUT,
        connect_timeout: float = START_TIMEOUT,
        dialect: Dialect | None = None,
        transport: Transport | None = None,
        tracer_provider: "TracerProvider | None" = None,
    ) -> None:
        """`urls`: the URL of a broker, or one for each of its hosts; ``@FILE`` stands for those
        that a file holds, which is read again when it changes.

        `timeout`: seconds to wait for an answer, for requests that do not say.
        `connect_timeout`: seconds to find a broker, for the first connection. Each host is tried,
        for a second at least. A lost connection is opened again however long it takes.
        `dialect`: how the gateway writes; None: :class:`~bridge.dialects.native.Native`. In any
        other dialect a client reaches stations, and nobody else.
        `transport`: used in place of `urls` and `connect_timeout`, for tests.
        `tracer_provider`: makes a span for each request (OpenTelemetry); None: there are none.

        Raises ValueError for an invalid URL or time-out.
        """
        check_seconds("timeout", timeout)
        check_seconds("connect_timeout", connect_timeout)
        if transport is None:
            urls = [urls] if isinstance(urls, str) else urls
            transport = RabbitTransport(
                Hosts(urls), name="dtbridge client", start_timeout=connect_timeout
            )
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
        self._opening = Opening(
            lambda: transport.start([self._requester.subscription], self._on_state)
        )

    @property
    def state(self) -> State:
        """Where the connection stands. CONNECTING before the first request, too."""
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
        self._opening.enter()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._opening.close()
        await self._transport.close()
        self._requester.close()

    async def connect(self) -> None:
        """Connect now, not with the first request, so that a start without a broker fails.

        Raises :class:`~bridge.transport.BrokerUnreachable` if no broker can be reached within
        `connect_timeout`; :class:`~bridge.transport.TopologyError` if the user may have no queue of
        its own for answers and, in a dialect other than the native one, if the gateway's exchange
        is not there; and RuntimeError outside the block.
        """
        await self._opening.wait()

    @overload
    async def data_transfer(
        self,
        station_id: str,
        request: DataTransferRequest,
        *,
        answer: None = None,
        ocpp_version: OcppVersion | str = DEFAULT_VERSION,
        timeout: float | None = None,
        message_id: str | None = None,
        connection_id: str | None = None,
    ) -> DataTransferResponse: ...

    @overload
    async def data_transfer(
        self,
        station_id: str,
        request: DataTransferRequest,
        *,
        answer: type[Data],
        ocpp_version: OcppVersion | str = DEFAULT_VERSION,
        timeout: float | None = None,
        message_id: str | None = None,
        connection_id: str | None = None,
    ) -> TypedResponse[Data]: ...

    @overload
    async def data_transfer(
        self,
        station_id: str,
        request: DataTransferRequest,
        *,
        answer: UnionType,
        ocpp_version: OcppVersion | str = DEFAULT_VERSION,
        timeout: float | None = None,
        message_id: str | None = None,
        connection_id: str | None = None,
    ) -> TypedResponse[Any]: ...

    async def data_transfer(
        self,
        station_id: str,
        request: DataTransferRequest,
        *,
        answer: Any = None,
        ocpp_version: OcppVersion | str = DEFAULT_VERSION,
        timeout: float | None = None,
        message_id: str | None = None,
        connection_id: str | None = None,
    ) -> Any:
        """Send `request` as the station `station_id` would, and await the answer.

        `answer`: the type of the answer's data, read as a handler's data is; None: plain JSON
        values, in a :class:`~bridge.ocpp.DataTransferResponse`.
        `ocpp_version`: the version in which the request is written.
        `timeout`: seconds; None: the client's.
        `message_id`: the OCPP message id of the CALL, at most 36 characters; None: a new one.
        `connection_id`: names the station's connection; a request that comes again with the same
        one, the same message id and the same content is given the stored answer. None: each call is
        a new request.

        Raises :class:`~bridge.ocpp.CallError` if the answer is a CALLERROR, or if `ocpp_version`
        does not allow the request; :class:`UnexpectedAnswer` if the answer accepts, with data that
        is not of the type `answer`; :class:`NoAnswer` after the time-out, or if the client is
        closed before; :class:`NotAccepted` if the broker refuses the request; what
        :meth:`connect` raises, if this is the first; ValueError for an unknown version, a station
        id of more than 255 characters, a message id of more than 36 or a time-out that is none, and
        in any dialect but the native one; TypeError for an `answer` that msgspec cannot decode;
        RuntimeError outside the client's ``async with`` block.
        """
        self._opening.check()
        check_station_id(station_id)
        version = parse_version(ocpp_version)
        body = encode_request(request, version)
        read = None if answer is None else reader_of(answer)
        seconds = self._seconds(timeout)
        question = self._dialect.question_to_csms(
            station_id=station_id,
            version=version,
            vendor_id=request.vendor_id,
            body=body,
            deadline=time.time() + seconds,
            message_id=message_id,
            connection_id=connection_id,
        )
        reply = await self._ask(question, seconds, self._to_csms)
        response = read_response(reply, version)
        return response if read is None else read(response, reply.body)

    @overload
    async def send_to_station(
        self,
        station_id: str,
        request: DataTransferRequest,
        *,
        answer: None = None,
        ocpp_version: OcppVersion | str | None = None,
        timeout: float | None = None,
        message_id: str | None = None,
    ) -> DataTransferResponse: ...

    @overload
    async def send_to_station(
        self,
        station_id: str,
        request: DataTransferRequest,
        *,
        answer: type[Data],
        ocpp_version: OcppVersion | str | None = None,
        timeout: float | None = None,
        message_id: str | None = None,
    ) -> TypedResponse[Data]: ...

    @overload
    async def send_to_station(
        self,
        station_id: str,
        request: DataTransferRequest,
        *,
        answer: UnionType,
        ocpp_version: OcppVersion | str | None = None,
        timeout: float | None = None,
        message_id: str | None = None,
    ) -> TypedResponse[Any]: ...

    async def send_to_station(
        self,
        station_id: str,
        request: DataTransferRequest,
        *,
        answer: Any = None,
        ocpp_version: OcppVersion | str | None = None,
        timeout: float | None = None,
        message_id: str | None = None,
    ) -> Any:
        """Send `request` to a station through its gateway, and await the station's answer.

        `answer`: the type of the answer's data, as in :meth:`data_transfer`; JSON text of a 1.6
        station is read as well.
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
        OCPP asks for, or if OCPP does not allow the request; ValueError for an unknown version,
        or for a station id or message id that the dialect cannot carry; all else as
        :meth:`data_transfer` does.
        """
        self._opening.check()
        check_station_id(station_id)
        given = None if ocpp_version is None else parse_version(ocpp_version)
        version = self._dialect.station_version(given)
        body = encode_request(request, version)
        read = None if answer is None else reader_of(answer)
        seconds = self._seconds(timeout)
        question = self._dialect.question_to_station(
            station_id=station_id,
            version=version,
            body=body,
            deadline=time.time() + seconds,
            message_id=message_id,
        )
        reply = await self._ask(
            question, seconds, self._to_station, nobody=lambda: StationOffline(station_id)
        )
        sent = read_offline(reply)
        if sent is not None:
            raise StationOffline(station_id, sent=sent)
        response = read_response(reply, read_version(reply))
        return response if read is None else read(response, reply.body)

    def _seconds(self, timeout: float | None) -> float:
        if timeout is None:
            return self._timeout
        check_seconds("timeout", timeout)
        return timeout

    async def _ask(
        self,
        question: Question,
        seconds: float,
        tally: Tally,
        *,
        nobody: Callable[[], Exception] = no_queue,
    ) -> Delivery:
        """Ask, and connect before if nobody has. Both together take so many seconds at most."""
        if not self._opening.done:
            end = time.monotonic() + seconds
            try:
                await self._opening.wait(seconds)
            except BaseException as error:
                count_error(tally, error)
                raise
            seconds = max(0.0, end - time.monotonic())
        return await self._requester.ask(question, seconds, nobody=nobody, tally=tally)

    def _on_state(self, state: State, reason: str) -> None:
        self.sessions.enter(state.value, reason)
        log.debug(state.value, reason=reason)
        self._requester.on_state()
