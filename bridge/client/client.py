"""The requester's side, typed: send a DataTransfer as a station's gateway would, or as the CSMS to a station."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import msgspec

from bridge.client.errors import NoAnswer, NotAccepted, StationOffline
from bridge.client.requester import TIMEOUT, Question, Requester, read_response
from bridge.dialects.headers import VERSION
from bridge.dialects.native import Native
from bridge.dialects.replies import read_offline
from bridge.dialects.shared import SharedDialect
from bridge.ocpp import (
    DEFAULT_VERSION,
    DataTransferRequest,
    DataTransferResponse,
    OcppVersion,
    encode_request,
    parse_version,
)
from bridge.ocpp.rpc import MESSAGE_ID_MAX_LENGTH
from bridge.rabbitmq.transport import RabbitTransport
from bridge.rabbitmq.urls import parse_urls
from bridge.telemetry.logs import get_logger
from bridge.transport import Delivery, Publishing, State, Subscription, Transport

__all__ = ["Client", "NoAnswer", "NotAccepted", "StationOffline"]

log = get_logger("bridge.client")

_RICHEST: Final = OcppVersion.V2_1
"""How a request to a station is written: the gateway leaves out what the station's own version has not."""


class Client:
    """Sends requests and matches their answers; any number at a time.

    >>> async with Client("amqp://localhost") as client:
    ...     response = await client.data_transfer("CP001", DataTransferRequest("com.acme", "GetTariff"))
    ...     response = await client.send_to_station("CP001", DataTransferRequest("com.acme", "ShowText", "Hello"))
    """

    def __init__(
        self,
        urls: str | Sequence[str] = (),
        *,
        timeout: float = TIMEOUT,
        contract: Native | None = None,
        dialect: SharedDialect | None = None,
        transport: Transport | None = None,
    ) -> None:
        """`urls`: one broker, or its hosts. `timeout`: seconds, for requests that give none of their own.

        `dialect`: reach stations through a gateway that is not the bridge's, and nobody else. `transport`: in place of the URLs,
        for tests. Raises ValueError for a URL that is none.
        """
        if transport is None:
            transport = RabbitTransport(
                parse_urls([urls] if isinstance(urls, str) else urls), name="dtbridge client"
            )
        self._transport = transport
        self._contract = contract or Native()
        self._dialect = dialect
        self._timeout = timeout
        self._requester = Requester(transport)

    @property
    def state(self) -> State:
        return self._transport.state

    @property
    def outstanding(self) -> int:
        """Requests without an answer."""
        return len(self._requester)

    @property
    def late(self) -> int:
        """Replies whose request had timed out, or that were the second to one."""
        return self._requester.late

    async def __aenter__(self) -> Self:
        """Raises :class:`~bridge.transport.BrokerUnreachable`; of a dialect, also :class:`~bridge.transport.TopologyError` if
        there is no such exchange.
        """
        subscription = self._requester.subscription
        if self._dialect is not None:
            subscription = _in_dialect(subscription, self._dialect, self._requester)
        await self._transport.start([subscription], self._on_state)
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
        timeout: float | None = None,  # noqa: ASYNC109 - it travels with the request, as its deadline
        message_id: str | None = None,
    ) -> DataTransferResponse:
        """Send `request` as `station_id` and await the answer.

        `timeout`: seconds. `message_id`: the OCPP message id of the CALL, at most 36 characters; None: a new one.
        Raises CallError if the answer is a CALLERROR, or the request is none that `ocpp_version` allows;
        :class:`NoAnswer` after the time-out; :class:`NotAccepted` if the broker will not have it; ValueError in a dialect.
        """
        if self._dialect is not None:
            raise ValueError(
                f"requests of stations come from the gateway: {self._dialect.name} is for those to stations"
            )
        version = parse_version(ocpp_version)
        body = encode_request(request, version)
        seconds = self._timeout if timeout is None else timeout
        deadline = time.time() + seconds

        def publishing(correlation_id: str, reply_to: str) -> Publishing:
            return self._contract.request_publishing(
                station_id=station_id,
                version=version,
                vendor_id=request.vendor_id,
                body=body,
                deadline=deadline,
                message_id=correlation_id if message_id is None else message_id,
                correlation_id=correlation_id,
                reply_to=reply_to,
            )

        return read_response(
            await self._requester.ask(Question(station_id, publishing), seconds), version
        )

    async def send_to_station(
        self,
        station_id: str,
        request: DataTransferRequest,
        *,
        ocpp_version: OcppVersion | str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
        message_id: str | None = None,
    ) -> DataTransferResponse:
        """Send `request` to a station, through the gateway that holds it, and await the station's answer.

        The gateway writes it in the station's OCPP version: in 1.6 structured data goes as JSON text, and what newer versions
        added (customData) is left out. The answer comes back as the station gave it, so a 1.6 station's data is text.

        `timeout`: seconds, waiting for the station's other requests included. `message_id`: at most 36 characters; a request
        that comes again with the same one is not sent to the station twice. Raises :class:`StationOffline` at once if no
        gateway holds the station, or if it was lost before it answered; CallError if it answers with a CALLERROR, or not as OCPP
        asks for, or if the request is none that OCPP allows; :class:`NoAnswer` after the time-out; :class:`NotAccepted`
        if the broker will not have it.

        In a dialect the gateway writes what it is given: `ocpp_version` is the station's, 2.0.1 if not given, and for
        dialects alone. Such a request is published once, for nobody there would absorb it the second time; and only
        ``docs/dialects.md`` says when a station counts as offline.
        """
        if self._dialect is not None:
            return await self._send_in_dialect(
                self._dialect, station_id, request, ocpp_version, timeout, message_id
            )
        if ocpp_version is not None:
            raise ValueError(
                "the gateway knows the station's version: give ocpp_version in a dialect only"
            )
        body = encode_request(request, _RICHEST)
        seconds = self._timeout if timeout is None else timeout
        deadline = time.time() + seconds

        def publishing(correlation_id: str, reply_to: str) -> Publishing:
            return self._contract.station_request(
                station_id=station_id,
                body=body,
                deadline=deadline,
                message_id=correlation_id if message_id is None else message_id,
                correlation_id=correlation_id,
                reply_to=reply_to,
            )

        question = Question(station_id, publishing, nobody=lambda: StationOffline(station_id))
        reply = await self._requester.ask(question, seconds)
        sent = read_offline(reply)
        if sent is not None:
            raise StationOffline(station_id, sent=sent)
        return read_response(reply, _version_of(reply))

    async def _send_in_dialect(
        self,
        dialect: SharedDialect,
        station_id: str,
        request: DataTransferRequest,
        ocpp_version: OcppVersion | str | None,
        timeout: float | None,  # noqa: ASYNC109 - as above
        message_id: str | None,
    ) -> DataTransferResponse:
        """Raises ValueError for a station id, or a message id, that the dialect cannot carry."""
        if message_id is not None and not 0 < len(message_id) <= MESSAGE_ID_MAX_LENGTH:
            raise ValueError(
                f"a message id has 1 to {MESSAGE_ID_MAX_LENGTH} characters, not {len(message_id)}"
            )
        version = DEFAULT_VERSION if ocpp_version is None else parse_version(ocpp_version)
        body = encode_request(request, version)
        seconds = self._timeout if timeout is None else timeout
        deadline = time.time() + seconds

        def publishing(correlation_id: str, _: str = "") -> Publishing:
            return dialect.station_request(
                station_id=station_id,
                version=version,
                body=body,
                deadline=deadline,
                message_id=correlation_id,
            )

        publishing(
            message_id or ""
        )  # raises now what would else be raised when a connection is back
        question = Question(
            station_id,
            publishing,
            lambda: StationOffline(station_id),
            once=True,
            correlation_id=message_id,
        )
        reply = await self._requester.ask(question, seconds)
        return read_response(reply, _version_of(reply))

    def _on_state(self, state: State, reason: str) -> None:
        log.debug(state.value, reason=reason)
        self._requester.on_state()


def _in_dialect(
    subscription: Subscription, dialect: SharedDialect, requester: Requester
) -> Subscription:
    """The replies of stations, as the requester reads them. Those that others asked for are there as well: they are not late."""

    def on_delivery(delivery: Delivery) -> None:
        reply = dialect.station_reply(delivery)
        if reply is not None and requester.asked(reply.properties.correlation_id or ""):
            subscription.on_delivery(reply)

    return msgspec.structs.replace(
        subscription, on_delivery=on_delivery, bindings=dialect.station_replies
    )


def _version_of(reply: Delivery) -> OcppVersion:
    """The station's; the richest, if its gateway does not say."""
    named = (reply.properties.headers or {}).get(VERSION)
    try:
        return parse_version(named) if type(named) is str else _RICHEST
    except ValueError:
        return _RICHEST
