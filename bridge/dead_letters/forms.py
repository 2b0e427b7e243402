"""Recognizes requests of other dialects among the dead letters.

What the bridge gives up tells its story in headers, in every dialect the same. What the broker
dead-letters by itself (expired, delivered too often) has only what the gateway wrote, so the story
is read from that. The body shows which form a request has: an array is an OCPP-J frame, an object
with context and payload is CitrineOS's, and anything else is the native payload.
"""

import re
from typing import Final

import msgspec
from msgspec import Raw

from bridge.ocpp.faults import DECODE_FAULTS
from bridge.transport import Delivery

LONGEST: Final = 64 * 1024
"""Bytes of a text in JSON that is read. No id, version or name is as long."""

_ABSENT: Final = Raw(b"")


class Inside(msgspec.Struct, frozen=True):
    """What is inside a request in a gateway's own form. What is not known is an empty text."""

    payload: Raw
    station_id: str
    ocpp_message_id: str
    ocpp_version: str


class _Frame(msgspec.Struct, array_like=True):
    """The head of a CALL. A body may have millions of elements: no object is made for the rest."""

    message_type: Raw
    message_id: Raw
    action: Raw
    payload: Raw


class _Envelope(msgspec.Struct, rename="camel"):
    vendor_id: Raw = _ABSENT
    payload: Raw = _ABSENT
    context: Raw = _ABSENT
    protocol: Raw = _ABSENT
    payload_underlined: Raw = msgspec.field(default=_ABSENT, name="_payload")
    context_underlined: Raw = msgspec.field(default=_ABSENT, name="_context")
    protocol_underlined: Raw = msgspec.field(default=_ABSENT, name="_protocol")


class _Context(msgspec.Struct, rename="camel"):
    station_id: Raw = _ABSENT
    ocpp_connection_name: Raw = _ABSENT
    correlation_id: Raw = _ABSENT


_frame = msgspec.json.Decoder(_Frame).decode
_envelope = msgspec.json.Decoder(_Envelope).decode
_context = msgspec.json.Decoder(_Context).decode
_string = msgspec.json.Decoder(str).decode

_START: Final = re.compile(rb"[ \t\r\n]*([\[{])")


def inside(delivery: Delivery) -> Inside | None:
    """The request in a dead letter; None if it has the native form, or none. Never raises."""
    start = _START.match(delivery.body)
    try:
        if start is not None and start[1] == b"[":
            return _inside_frame(delivery)
        if start is not None:
            return _inside_envelope(delivery)
    except DECODE_FAULTS:
        pass
    return None


def _inside_frame(delivery: Delivery) -> Inside:
    frame = _frame(delivery.body)
    station_id = delivery.properties.reply_to or ""
    return Inside(frame.payload, station_id, read_text(frame.message_id), "")


def _inside_envelope(delivery: Delivery) -> Inside | None:
    envelope = _envelope(delivery.body)
    payload = envelope.payload or envelope.payload_underlined
    context = envelope.context or envelope.context_underlined
    if not payload or not context or envelope.vendor_id:
        return None
    told = _read_context(context)
    return Inside(
        payload,
        read_text(told.station_id) or read_text(told.ocpp_connection_name),
        read_text(told.correlation_id),
        read_text(envelope.protocol or envelope.protocol_underlined),
    )


def _read_context(context: Raw) -> _Context:
    try:
        return _context(context)
    except DECODE_FAULTS:
        return _Context()


def read_text(part: Raw) -> str:
    """A text in JSON; empty for anything else, and for what is too long for any text we know."""
    if len(memoryview(part)) > LONGEST:
        return ""
    try:
        return _string(part)
    except DECODE_FAULTS:
        return ""
