"""How a gateway passes a request of the CSMS on to a station: in the station's own version, as values or as bytes."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, runtime_checkable

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
from bridge.request.outcome import Reply


@runtime_checkable
class PayloadHandler(Protocol):
    """For a gateway that has a socket and wants bytes."""

    async def on_payload(self, payload: bytes, timeout: float) -> Reply:  # noqa: ASYNC109 - told, not kept: the link keeps it
        """Send `payload` to the station as the payload of a CALL, and return what it answers.

        That is a :class:`~bridge.request.outcome.Reply` with the payload of the CALLRESULT, or of kind ``CALL_ERROR`` with
        ``{"errorCode":…,"errorDescription":…,"errorDetails":{}}``. `timeout`: seconds until nobody waits any more; then the
        call is cancelled. Raise :class:`~bridge.client.errors.StationOffline` if the station's connection is gone, with
        ``sent=True`` if the payload may have reached it.
        """
        ...


Function = Callable[[DataTransferRequest], Awaitable[DataTransferResponse]]

StationHandler = ChargingStationHandler | Function | PayloadHandler
"""Who takes the requests of the CSMS to one station. The first two are given values, in the form of the station's version: in OCPP 1.6
`data` is text. Plain functions run in a thread."""

Answer = Callable[[bytes, float], Awaitable[Reply]]
"""The payload of a CALL that fits the station's version, and the seconds left → the station's answer."""


def payload_for(version: OcppVersion, body: bytes) -> bytes:
    """The payload of a request of the CSMS as a station of `version` may be sent it.

    Untouched, but in OCPP 1.6: there `data` becomes text (structured data its own JSON text, null nothing), and fields that
    1.6 does not know are left out, for its schema forbids them. Raises CallError for what is no request.
    """
    envelope = decode_request(body, version)
    if version is not OcppVersion.V1_6:
        return body
    return encode_request(_as_it_came(envelope), version, strict=False)


def _as_it_came(envelope: RequestEnvelope) -> DataTransferRequest:
    """With `data` still the bytes that came, so that nothing in it is altered."""
    return DataTransferRequest(envelope.vendor_id, envelope.message, envelope.data)


def answer_of(handler: StationHandler, version: OcppVersion) -> Answer:
    """What a handler makes of a payload. Raises TypeError for what is no handler.

    The answer raises what the handler raises; TypeError or InvalidResponse if it returns what cannot be sent.
    """
    if isinstance(handler, PayloadHandler):
        return handler.on_payload
    function: Callable[[DataTransferRequest], Any]
    if isinstance(handler, ChargingStationHandler):
        function = handler.on_data_transfer
    elif callable(handler):
        function = handler
    else:
        raise TypeError(
            f"{type(handler).__name__} is no station handler: it has no on_payload or on_data_transfer"
        )
    is_async = inspect.iscoroutinefunction(function)

    async def answer(payload: bytes, _: float) -> Reply:
        request = decode_request(payload, version).to_request()
        response = (
            function(request)
            if is_async
            else await asyncio.to_thread(_in_thread, function, request)
        )
        if inspect.isawaitable(response):
            response = await response
        if not isinstance(response, DataTransferResponse):
            raise TypeError(
                f"the handler returned a {type(response).__name__}, not a DataTransferResponse"
            )
        return Reply(encode_response(response, version))

    return answer


def _in_thread(function: Callable[[DataTransferRequest], Any], request: DataTransferRequest) -> Any:
    """A StopIteration cannot leave through a future: on CPython 3.11 whoever waits for it would wait for ever."""
    try:
        return function(request)
    except StopIteration as error:
        raise RuntimeError("the handler raised StopIteration") from error
