"""Events: what became of a request, as a small JSON object for whoever listens.

A worker publishes them if it is asked to. ``dtbridge tap`` shows them, and ``dtbridge
replay-check`` reads them from a file. ``docs/events.md`` tells them to other programs.
"""

import enum
from typing import Any, Final

import msgspec

from bridge.telemetry.outcomes import Counted

TYPE: Final = "DataTransferEvent"
"""The AMQP property `type` of an event."""

BODY_AT_MOST: Final = 64 * 1024
"""Bytes of a request or an answer in an event; of a larger one, only the size is told."""


class EventMode(enum.StrEnum):
    """Of which requests a worker publishes an event."""

    NONE = "none"
    """Of none."""
    FAILURES = "failures"
    """Of all that were not answered as designed: see :data:`AS_DESIGNED`."""
    ALL = "all"
    """Of all."""


AS_DESIGNED: Final = frozenset({Counted.ACCEPTED, Counted.REJECTED, Counted.ABSORBED})
"""No failures: somebody has answered, and meant what they said."""


class Event(msgspec.Struct, omit_defaults=True, gc=False):
    """One event, its fields as in the JSON. What has nothing to say is left out there."""

    time: str
    """When the request had its outcome: RFC 3339, UTC, with milliseconds."""
    outcome: str
    """One of :data:`~bridge.telemetry.outcomes.KINDS`, or one that a newer worker knows."""
    station: str = ""
    vendor: str = ""
    """The vendorId as the station spelled it; empty if it cannot be read."""
    message: str = ""
    """The messageId, likewise."""
    ocpp_version: str = ""
    ocpp_message_id: str = ""
    status: str = ""
    """The status of a DataTransferResponse."""
    code: str = ""
    """The errorCode of a CALLERROR, or the reasonCode of a rejection."""
    reason: str = ""
    """Of a request that is kept as a dead letter, as ``dtbridge dead`` has it."""
    error: str = ""
    """The type of the exception that was the cause. Never its text."""
    attempt: int = 1
    redelivered: bool = False
    waiting_s: float | None = None
    """Seconds that it waited in the worker until it was begun."""
    handler_s: float | None = None
    """Seconds from there to its outcome."""
    answer_s: float | None = None
    """Seconds from its arrival in the worker to its answer."""
    worker: str = ""
    request: str | None = None
    """Its payload, if that is asked for."""
    answer: str | None = None
    """The payload of the answer, likewise."""
    request_base64: bytes | None = None
    """In place of `request`, if that is not UTF-8."""
    answer_base64: bytes | None = None
    request_size: int | None = None
    """Bytes of a payload that is too large for an event, and so is left out."""
    answer_size: int | None = None


encode_event: Final = msgspec.json.Encoder().encode
"""An event as JSON. Raises UnicodeEncodeError for text that UTF-8 cannot encode."""

_MEMBERS: Final = msgspec.json.Decoder(dict[str, Any])


def read_members(text: bytes | str) -> dict[str, Any]:
    """All members of an event, those included that a newer worker has added.

    Raises ValueError, with a clause, for what is no event.
    """
    try:
        members = _MEMBERS.decode(text)
        read_event(members)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:  # msgspec's own among them
        raise ValueError(f"it is no event: {error}") from error
    return members


def read_event(members: dict[str, Any]) -> Event:
    """The event with these members. Raises ValueError for what is none."""
    return msgspec.convert(members, Event)


def request_body(event: Event) -> bytes | None:
    """The payload of the request, as the station sent it; None if the event does not have it."""
    return event.request_base64 if event.request is None else event.request.encode()


def answer_body(event: Event) -> bytes | None:
    """The payload of the answer, likewise."""
    return event.answer_base64 if event.answer is None else event.answer.encode()
