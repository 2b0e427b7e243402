"""Recognizes requests of other dialects among the dead letters.

What the bridge gives up tells its story in headers, in every dialect the same. What the broker
dead-letters by itself (expired, delivered too often) has only what the gateway wrote, so the story
is read from that. The body shows which form a request has: an array is an OCPP-J frame, an object
with context and payload is CitrineOS's, and anything else is the native payload.
"""

from typing import Any

import msgspec
from msgspec import Raw

from bridge.ocpp.faults import DECODE_FAULTS
from bridge.transport import Delivery


class Inside(msgspec.Struct, frozen=True):
    """What is inside a request in a gateway's own form. What is not known is an empty text."""

    payload: bytes
    station_id: str
    ocpp_message_id: str
    ocpp_version: str


_frame = msgspec.json.Decoder(list[Raw]).decode
_parts = msgspec.json.Decoder(dict[str, Raw]).decode
_any = msgspec.json.Decoder().decode


def inside(delivery: Delivery) -> Inside | None:
    """The request in a dead letter; None if it has the native form, or none. Never raises."""
    start = delivery.body.lstrip()[:1]
    try:
        if start == b"[":
            return _inside_frame(delivery)
        if start == b"{":
            return _inside_envelope(delivery)
    except DECODE_FAULTS:
        pass
    return None


def _inside_frame(delivery: Delivery) -> Inside | None:
    parts = _frame(delivery.body)
    if len(parts) < 4:
        return None
    return Inside(bytes(parts[3]), delivery.properties.reply_to or "", _text(parts[1]), "")


def _inside_envelope(delivery: Delivery) -> Inside | None:
    parts = {name.removeprefix("_"): part for name, part in _parts(delivery.body).items()}
    if "payload" not in parts or "context" not in parts or "vendorId" in parts:
        return None
    context = _value(parts["context"])
    told = context if isinstance(context, dict) else {}
    station = told.get("stationId") or told.get("ocppConnectionName")
    return Inside(
        bytes(parts["payload"]),
        station if isinstance(station, str) else "",
        _string(told.get("correlationId")),
        _text(parts.get("protocol", b"null")),
    )


def _value(part: Raw | bytes) -> Any:
    try:
        return _any(part)
    except DECODE_FAULTS:
        return None


def _text(part: Raw | bytes) -> str:
    return _string(_value(part))


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""
