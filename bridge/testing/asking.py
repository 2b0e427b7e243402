"""Puts one request to a handler, without a broker."""

import asyncio
from collections.abc import Iterable
from typing import Any

from msgspec import UNSET

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
from bridge.request.incoming import Request
from bridge.request.outcome import Failure, Kind, Outcome, Reply, Retry, RetryLater
from bridge.routing.router import Router, Routes
from bridge.transport import Delivery, Properties
from bridge.worker.dispatch import Dispatcher
from bridge.worker.lifespan import Lifespans


async def ask(
    routers: Router | Iterable[Router],
    vendor_id: str,
    message_id: str | None = None,
    data: Any = UNSET,
    *,
    version: OcppVersion | str = DEFAULT_VERSION,
    station_id: str = "CP001",
) -> DataTransferResponse:
    """Put a request to `routers` and return the answer, encoded and decoded as on its real way.

    `data`: any JSON value. ``msgspec.Raw`` is sent verbatim. In OCPP 1.6, structured data travels
    as JSON text in a string. The routers' lifespans begin before the request, and end after it.

    Raises :class:`~bridge.ocpp.CallError` if the answer is a CALLERROR; if a handler failed, a note
    on the error says how, and what it raised is its cause. Raises
    :class:`~bridge.request.outcome.Retry` if the handler asks for another try, with what it raised
    as its cause, ValueError for an unknown `version`, and LifespanError for a lifespan that fails
    at its start.
    """
    version = parse_version(version)
    body = encode_request(DataTransferRequest(vendor_id, message_id, data), version)
    request = Request(
        body=body,
        station_id=station_id,
        version=version,
        ocpp_message_id="1",
        deadline=None,
        attempt=1,
        redelivered=False,
        reply_wanted=True,
        source=Delivery("", "", False, Properties(), body),
    )
    answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    routes = Routes([routers] if isinstance(routers, Router) else routers)
    lifespans = Lifespans(routes.binding.lifespans)
    dispatcher = Dispatcher(routes)
    dispatcher.settle = lambda _, outcome: answer.set_result(outcome)
    try:
        await lifespans.start()
        dispatcher.dispatch(request)
        outcome = await answer
    finally:
        dispatcher.close()
        await lifespans.stop()
    return _response(outcome, version)


def _response(outcome: Outcome, version: OcppVersion) -> DataTransferResponse:
    match outcome:
        case Reply(body, Kind.RESPONSE):
            return decode_response(body, version)
        case Reply(body):
            raise decode_call_error(body)
        case Failure(bytes(body), _, text, raised):
            error = decode_call_error(body)
            error.add_note(text)
            raise error from (raised.error if raised else None)
        case RetryLater(after, text, _, raised):
            raise Retry(after, text) from (raised.error if raised else None)
    raise AssertionError(f"a request without a deadline was given {outcome}")
