"""Routers and station messages → what is sent and answered, as Python types."""

import inspect
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import UNSET

from bridge.ocpp import DataTransferResponse
from bridge.routing.errors import InvalidData
from bridge.routing.handler import Handler
from bridge.routing.router import Router
from bridge.routing.signature import type_of_answer
from bridge.routing.station_message import ToStation

NO_DATA: Final = None
"""The type of data that is not there: what a function without a ``return`` says of its answer."""


class VendorMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A request, and its answer."""

    vendor_id: str
    """As it is registered."""
    message_id: str | None
    """As it is registered; ``""``: requests without a messageId; None: all others of the vendor."""
    to_station: bool
    """Whether the CSMS sends it to stations; if not, stations send it."""
    data: Any
    """The type of the request's data; :data:`NO_DATA`: it is not read, or there is none."""
    required: bool
    """Whether a request without data is refused."""
    answer: Any
    """The type of the data of an answer that accepts; :data:`NO_DATA`: there is none."""
    description: str
    """What its author says of it; may be empty."""
    timeout: float | None = None
    """Seconds that its handler may take; None: nobody knows."""


def vendor_messages(
    routers: Iterable[Router], to_stations: Iterable[ToStation] = ()
) -> tuple[VendorMessage, ...]:
    """Every message of these routers, and every one that stations are sent, in their order."""
    handled = [
        _handled(router.vendor_id, message_id, handler)
        for router in routers
        for message_id, handler in router.handlers()
    ]
    return (*handled, *map(_to_station, to_stations))


def _handled(vendor_id: str, message_id: str | None, handler: Handler) -> VendorMessage:
    answer = type_of_answer(handler.function, is_async=handler.is_async)
    if isinstance(answer, type) and issubclass(answer, DataTransferResponse):
        answer = Any
    return VendorMessage(
        vendor_id=vendor_id,
        message_id=message_id,
        to_station=False,
        data=NO_DATA if handler.read_data is None else handler.data_type,
        required=_is_required(handler),
        answer=NO_DATA if answer is type(None) else answer,
        description=_written_about(handler.function),
        timeout=handler.timeout,
    )


def _to_station(message: ToStation) -> VendorMessage:
    return VendorMessage(
        vendor_id=message.vendor_id,
        message_id=message.message_id or "",
        to_station=True,
        data=message.data,
        required=message.data is not NO_DATA,
        answer=message.answer,
        description=message.description,
    )


def _is_required(handler: Handler) -> bool:
    if handler.read_data is None:
        return False
    try:
        handler.read_data(UNSET)
    except InvalidData:
        return True
    return False


def _written_about(function: Any) -> str:
    """The docstring of a function; of an object that can be called or a partial, none."""
    return (inspect.getdoc(function) or "") if inspect.isroutine(function) else ""
