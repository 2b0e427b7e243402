"""Reads replies, for whoever asked."""

from typing import Final

import msgspec

from bridge.dialects.headers import OFFLINE_TYPE, VERSION
from bridge.ocpp import OcppVersion, parse_version
from bridge.ocpp.faults import DECODE_FAULTS
from bridge.request.outcome import Kind, Reply
from bridge.transport import Delivery

RICHEST: Final = OcppVersion.V2_1
"""The OCPP version that can say the most."""


_CALL_ERROR: Final = Kind.CALL_ERROR
_CALL_ERROR_TYPE: Final = _CALL_ERROR.value
"""Names of their own, because members of an Enum are looked up at each use."""


class OfflineBody(msgspec.Struct):
    """The body of a reply of type :data:`~bridge.dialects.headers.OFFLINE_TYPE`."""

    sent: bool
    """Whether the request had been sent to the station."""


_decode_offline = msgspec.json.Decoder(OfflineBody).decode


def read_offline(delivery: Delivery) -> bool | None:
    """Whether a lost station had been sent the request; None if the reply says something else.

    A body that cannot be read counts as sent: a request that may have been handled must not be
    repeated.
    """
    if delivery.properties.type != OFFLINE_TYPE:
        return None
    try:
        return _decode_offline(delivery.body).sent
    except DECODE_FAULTS:
        return True


def read_reply(delivery: Delivery) -> Reply:
    """The answer in a reply."""
    if delivery.properties.type == _CALL_ERROR_TYPE:
        return Reply(delivery.body, _CALL_ERROR)
    return Reply(delivery.body)


def read_version(delivery: Delivery) -> OcppVersion:
    """The version that a station's answer is written in; :data:`RICHEST` if it does not say."""
    named = (delivery.properties.headers or {}).get(VERSION)
    try:
        return parse_version(named) if type(named) is str else RICHEST
    except ValueError:
        return RICHEST
