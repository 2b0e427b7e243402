"""How a gateway passes a request of the CSMS on to a station.

In the station's own OCPP version, as values or as bytes.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, runtime_checkable

import msgspec
from msgspec import UNSET

from bridge.ocpp import (
    ChargingStationHandler,
    DataTransferRequest,
    DataTransferResponse,
    OcppVersion,
    RequestEnvelope,
    decode_request,
    encode_request,
    encode_response,
)
from bridge.ocpp.request import decode_known_fields
from bridge.request.outcome import Reply
from bridge.request.running import in_thread

_V1_6: Final = OcppVersion.V1_6
_QUOTE: Final = ord('"')


@runtime_checkable
class PayloadHandler(Protocol):
    """Takes the requests of the CSMS to one station as bytes: for a gateway that has a socket."""

    async def on_payload(self, payload: bytes, timeout: float) -> Reply:
        """Send `payload` to the station as the payload of a CALL, and return what it answers.

        `payload`: JSON that fits the station's version. `timeout`: seconds until nobody waits for
        the answer any more; then the call is cancelled.

        Return a :class:`~bridge.request.outcome.Reply` with the payload of the CALLRESULT, or one
        of kind ``CALL_ERROR`` with ``{"errorCode":…,"errorDescription":…,"errorDetails":{}}``.
        Raise :class:`~bridge.client.errors.StationOffline` if the station's connection is gone,
        with ``sent=True`` if the payload may have reached it; TimeoutError if the station did not
        answer. Any other exception is a failure: the CSMS gets a CALLERROR without its text.
        """
        ...


@runtime_checkable
class CallHandler(Protocol):
    """As :class:`PayloadHandler`, but with callbacks: for a gateway that has very many sockets.

    A message costs it no task and no future. Where a handler is both, this is what is used.
    """

    def start_call(
        self, payload: bytes, on_answer: Callable[[Reply | BaseException], None]
    ) -> None:
        """Send `payload` to the station as the payload of a CALL.

        `payload`: JSON that fits the station's version. `on_answer` is called once, on the event
        loop, later or before this returns: with the Reply that :meth:`PayloadHandler.on_payload`
        would have returned, or what it would have raised. That may be raised here as well; then
        `on_answer` is not called. The next CALL is started only after the answer to this one, or
        :meth:`give_up_call`.
        """
        ...

    def give_up_call(self) -> None:
        """Nobody waits any more for the answer to the CALL that was started last.

        Its time is over, or the station is lost. `on_answer` need not be called for it, and an
        answer of the station that still comes is to be ignored. Must not raise.
        """
        ...


Function = Callable[[DataTransferRequest], Awaitable[DataTransferResponse]]

StationHandler = ChargingStationHandler | Function | PayloadHandler | CallHandler
"""What takes the requests of the CSMS to one station.

A :class:`~bridge.ocpp.ChargingStationHandler`, or a function ``(request) -> response``, is given
values in the form of the station's version: in OCPP 1.6 `data` is text. A plain ``def`` runs in a
thread. A :class:`PayloadHandler` and a :class:`CallHandler` are given bytes."""

Answer = Callable[[bytes, float], Awaitable[Reply]]
"""From the payload of a CALL that fits the station's version, and the seconds left, to its
answer."""


def payload_for(version: OcppVersion, body: bytes) -> bytes:
    """The payload of a request of the CSMS as it may be sent to a station of `version`.

    Untouched, except in OCPP 1.6: there `data` becomes text (structured data its JSON text, null
    nothing), and fields that 1.6 does not know are left out, because its schema forbids them.
    Raises CallError if `body` is not a DataTransferRequest.
    """
    if version is not _V1_6:
        decode_request(body, version)
        return body
    envelope = decode_known_fields(body, version)
    if envelope is None:
        envelope = decode_request(body, version)
    elif _is_text(envelope.data) and _is_utf_8(body):
        return body
    return encode_request(_as_it_came(envelope), version, strict=False)


def _is_text(data: msgspec.Raw | msgspec.UnsetType) -> bool:
    """Whether `data` may be sent to a station of OCPP 1.6 as it is: a string, or absent."""
    return data is UNSET or memoryview(data)[0] == _QUOTE


def _is_utf_8(body: bytes) -> bool:
    """JSON is checked for syntax alone as it is decoded."""
    try:
        return body.isascii() or bool(body.decode())
    except UnicodeDecodeError:
        return False


def _as_it_came(envelope: RequestEnvelope) -> DataTransferRequest:
    """The request with its data as the bytes that came, so that nothing in it is altered."""
    return DataTransferRequest(envelope.vendor_id, envelope.message, envelope.data)


def answer_of(handler: StationHandler, version: OcppVersion) -> Answer:
    """A handler as a function from a payload to an answer, but for a :class:`CallHandler`.

    Raises TypeError for anything else.

    That function raises what the handler raises, and TypeError or InvalidResponse if the handler
    returns what cannot be sent.
    """
    if isinstance(handler, PayloadHandler):
        return handler.on_payload
    function = function_of(handler)
    is_async = inspect.iscoroutinefunction(function)

    async def answer(payload: bytes, _: float) -> Reply:
        request = decode_request(payload, version).to_request()
        response = (
            function(request) if is_async else await asyncio.to_thread(in_thread, function, request)
        )
        if inspect.isawaitable(response):
            response = await response
        if not isinstance(response, DataTransferResponse):
            raise TypeError(
                f"the handler returned a {type(response).__name__}, not a DataTransferResponse"
            )
        return Reply(encode_response(response, version))

    return answer


def function_of(handler: StationHandler) -> Callable[..., Any]:
    """What is called for a request. Raises TypeError for what is no station handler."""
    if isinstance(handler, CallHandler):
        return handler.start_call
    if isinstance(handler, PayloadHandler):
        return handler.on_payload
    if isinstance(handler, ChargingStationHandler):
        return handler.on_data_transfer
    if callable(handler):
        return handler
    raise TypeError(
        f"{type(handler).__name__} is no station handler: it has no on_payload or on_data_transfer"
    )
