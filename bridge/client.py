"""The requester's side: send a DataTransfer as a gateway would, and await its answer.

Replies come to a private queue that dies with its connection. So when a connection is lost, every request that has no
answer yet is published again on the next one, with the same OCPP message id; a worker's idempotency store answers the
repetition of one that was handled already.
"""

import asyncio
import itertools
import secrets
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import structlog

from bridge.broker.session import RabbitTransport, back_off, parse_urls
from bridge.contract import Contract
from bridge.ocpp import (
    DEFAULT_VERSION,
    DataTransferRequest,
    DataTransferResponse,
    OcppVersion,
    decode_call_error,
    decode_response,
    encode_request,
    parse_version,
)
from bridge.outcome import Kind
from bridge.transport import Confirm, Delivery, State, Subscription, Transport, TransportError

log = structlog.get_logger("bridge.client")

TIMEOUT: Final = 30.0
"""Seconds to wait for an answer. OCPP libraries wait as long."""
REFUSALS: Final = 6
"""Times that a request is published again when the broker refuses it: for three seconds on average, six at most."""


class NoAnswer(TimeoutError):
    """Nobody answered in time. The request may have been handled all the same."""


class NotAccepted(TransportError):
    """The broker did not take the request: no exchange or queue for it, or a full one."""


class _Outstanding:
    """A request without its answer."""

    __slots__ = (
        "again",
        "answer",
        "body",
        "deadline",
        "message_id",
        "refusals",
        "station_id",
        "vendor_id",
        "version",
    )

    def __init__(
        self,
        station_id: str,
        version: OcppVersion,
        vendor_id: str,
        body: bytes,
        deadline: float,
        message_id: str,
        answer: "asyncio.Future[DataTransferResponse]",
    ) -> None:
        self.station_id = station_id
        self.version = version
        self.vendor_id = vendor_id
        self.body = body
        self.deadline = deadline
        self.message_id = message_id
        self.answer = answer
        self.refusals = 0
        self.again: asyncio.TimerHandle | None = None


class Client:
    """Sends requests and matches their answers; any number at a time.

    >>> async with Client("amqp://localhost") as client:
    ...     response = await client.data_transfer("CP001", DataTransferRequest("com.acme", "GetTariff"))
    """

    def __init__(
        self,
        urls: str | Sequence[str] = (),
        *,
        timeout: float = TIMEOUT,
        contract: Contract | None = None,
        transport: Transport | None = None,
    ) -> None:
        """`urls`: one broker, or its hosts. `timeout`: seconds, for requests that give none of their own.

        `transport`: in place of the URLs, for tests. Raises ValueError for a URL that is none.
        """
        if transport is None:
            transport = RabbitTransport(parse_urls([urls] if isinstance(urls, str) else urls), name="dtbridge client")
        self._transport = transport
        self._contract = contract or Contract()
        self._timeout = timeout
        self._outstanding: dict[str, _Outstanding] = {}
        self._reconnected = True
        self._prefix = secrets.token_hex(6)
        self._numbers = itertools.count(1)
        self.late = 0
        """Replies whose request had timed out, or that were the second to one."""

    @property
    def state(self) -> State:
        return self._transport.state

    @property
    def outstanding(self) -> int:
        """Requests without an answer."""
        return len(self._outstanding)

    async def __aenter__(self) -> Self:
        """Raises :class:`~bridge.transport.BrokerUnreachable`."""
        # No acknowledgements, so no prefetch either: a reply is matched as it comes.
        await self._transport.start([Subscription("", 0, self._on_reply, no_ack=True)], self._on_state)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._transport.close()
        for waiting in self._outstanding.values():
            waiting.answer.cancel()
        self._outstanding.clear()

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
        :class:`NoAnswer` after the time-out; :class:`NotAccepted` if the broker will not have it.
        """
        version = parse_version(ocpp_version)
        body = encode_request(request, version)
        seconds = self._timeout if timeout is None else timeout
        loop = asyncio.get_running_loop()
        correlation_id = f"{self._prefix}-{next(self._numbers):x}"
        outstanding = _Outstanding(
            station_id,
            version,
            request.vendor_id,
            body,
            time.time() + seconds,
            correlation_id if message_id is None else message_id,
            loop.create_future(),
        )
        self._outstanding[correlation_id] = outstanding
        timer = loop.call_later(seconds, self._time_out, outstanding, seconds)
        try:
            self._publish(correlation_id, outstanding)
            return await outstanding.answer
        finally:
            timer.cancel()
            if outstanding.again is not None:
                outstanding.again.cancel()
            self._outstanding.pop(correlation_id, None)

    def _publish(self, correlation_id: str, outstanding: _Outstanding) -> None:
        if outstanding.again is not None:
            outstanding.again.cancel()
        reply_to = self._transport.reply_queue
        if reply_to is None or outstanding.answer.done():
            return  # between two connections: sent when the next one is open
        publishing = self._contract.request_publishing(
            station_id=outstanding.station_id,
            version=outstanding.version,
            vendor_id=outstanding.vendor_id,
            body=outstanding.body,
            deadline=outstanding.deadline,
            message_id=outstanding.message_id,
            correlation_id=correlation_id,
            reply_to=reply_to,
        )

        def on_confirm(confirm: Confirm) -> None:
            if confirm is Confirm.RETURNED:
                self._fail(outstanding, NotAccepted("no queue takes the request: is the topology declared?"))
            elif confirm is Confirm.REFUSED and not outstanding.answer.done():
                self._publish_again_later(correlation_id, outstanding)

        self._transport.publish(publishing, on_confirm)

    def _publish_again_later(self, correlation_id: str, outstanding: _Outstanding) -> None:
        """A queue whose leader has just gone refuses until it has another; a full one goes on refusing."""
        outstanding.refusals += 1
        if outstanding.refusals > REFUSALS:
            self._fail(outstanding, NotAccepted("the broker refuses the request: its queue is full"))
            return
        pause = back_off(outstanding.refusals)
        loop = asyncio.get_running_loop()
        outstanding.again = loop.call_later(pause, self._publish, correlation_id, outstanding)

    def _time_out(self, outstanding: _Outstanding, seconds: float) -> None:
        self._fail(outstanding, NoAnswer(f"no answer within {seconds:g} s"))

    def _fail(self, outstanding: _Outstanding, error: Exception) -> None:
        if not outstanding.answer.done():
            outstanding.answer.set_exception(error)

    def _on_reply(self, delivery: Delivery) -> None:
        outstanding = self._outstanding.pop(delivery.properties.correlation_id or "", None)
        if outstanding is None or outstanding.answer.done():
            self.late += 1
            return
        try:
            if delivery.properties.type == Kind.CALL_ERROR.value:
                outstanding.answer.set_exception(decode_call_error(delivery.body))
            else:
                outstanding.answer.set_result(decode_response(delivery.body, outstanding.version))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the reply is the caller's to know
            outstanding.answer.set_exception(error)

    def _on_state(self, state: State, reason: str) -> None:
        log.debug(state.value, reason=reason)
        if state is State.CONNECTING:
            self._reconnected = True
        elif state is State.CONSUMING and self._reconnected:  # and not when the broker has merely lifted an alarm
            self._reconnected = False
            for correlation_id, outstanding in tuple(self._outstanding.items()):
                self._publish(correlation_id, outstanding)
