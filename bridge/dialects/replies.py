"""Replies, as whoever asked reads them."""

import msgspec

from bridge.dialects.headers import (
    OFFLINE_TYPE,
)
from bridge.ocpp.faults import DECODE_FAULTS
from bridge.request.outcome import Kind, Reply
from bridge.transport import Delivery


class OfflineBody(msgspec.Struct):
    """The body of a reply that says so."""

    sent: bool


_decode_offline = msgspec.json.Decoder(OfflineBody).decode


def read_offline(delivery: Delivery) -> bool | None:
    """Of a reply that says that the station is gone, whether it had been sent the request; None: it says something else.

    One that cannot be read counts as sent: a request that may have been handled is not to be repeated.
    """
    if delivery.properties.type != OFFLINE_TYPE:
        return None
    try:
        return _decode_offline(delivery.body).sent
    except DECODE_FAULTS:
        return True


def read_reply(delivery: Delivery) -> Reply:
    """The answer that a reply brings."""
    is_error = delivery.properties.type == Kind.CALL_ERROR.value
    return Reply(delivery.body, Kind.CALL_ERROR if is_error else Kind.RESPONSE)
