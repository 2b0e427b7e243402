"""Reads dead letters, and makes of one a request to be tried again.

The bridge writes the story of a request that it gives up into headers
(:meth:`~bridge.dialects.dialect.Dialect.dead_letter`). What the broker dead-letters by itself
(expired in its queue, delivered too often, rejected by a worker) has the broker's own ``x-death``.
The bridge's copies never have one, so what has is not the bridge's: its headers of those names are
whatever its sender wrote, and tell nothing. :func:`read` makes a :class:`DeadLetter` of either, and
never fails: nothing is too broken for the queue ``datatransfer.dead``.

A request of another dialect is read by its form
(:mod:`bridge.dead_letters.forms`), and goes back to its queue, not to its gateway's exchange.

All of this is pure. :mod:`bridge.dead_letters.queue` reads the queue and changes it.
"""

import base64
import hashlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from msgspec import Raw

from bridge.dead_letters.forms import Inside, inside, read_text
from bridge.dialects.headers import (
    ATTEMPT,
    DEADLINE,
    ERROR,
    EXCHANGE,
    FAILED_AT,
    FIRST_TRY,
    MARKER_BODY,
    MESSAGE,
    PERSISTENT,
    REASON,
    REPLAYED,
    ROUTING_KEY,
    STATION_ID,
    VENDOR,
    VERSION,
    WORKER,
)
from bridge.ocpp.errors import encodable
from bridge.ocpp.faults import DECODE_FAULTS
from bridge.request.outcome import Reason
from bridge.transport import Delivery, Publishing

ID_LENGTH: Final = 12
"""Hexadecimal digits of an id. 48 bits keep the 1,000,000 dead letters of a full queue apart."""

_OWN_HEADERS: Final = "dtbridge-"
"""How the bridge's own headers begin."""
_DEATHS: Final = "x-death"
_REPLAYED_MAX: Final = 2**31 - 1
_TEXT_MAX: Final = 4_096
"""Characters of a text that are kept. Names have at most 255, and workers cap an error."""
_BROKERS_OWN: Final = ("x-", "CC", "BCC")
"""How headers begin that are the broker's, or make it do things. By ``x-death``, RabbitMQ up to
3.13 sees that a message goes round, and drops it."""

_BROKERS_REASONS: Final = {
    "expired": "nobody took it in its time",
    "rejected": "a worker rejected it",
    "delivery_limit": (
        "delivered more often than its queue allows, and never settled: it may kill its worker"
    ),
    "maxlen": "its queue was full",
}
"""The broker's names for its reasons, and what they mean here."""
_PAST_DEADLINE: Final = "its deadline had passed before a worker began with it"
"""What it means that workers reject a request past its deadline."""

MARKER: Final = "marker"
"""The reason of what is no request: ``dtbridge topology`` had put it into a queue to know that it
is empty, and was killed."""
_MARKERS_ERROR: Final = "left by a `dtbridge topology` that was killed: delete it"

REASONS: Final = tuple(
    dict.fromkeys((*(reason.value for reason in Reason), *_BROKERS_REASONS, MARKER))
)
"""Every reason a dead letter can have."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """The story of a request that was given up. What is not known is an empty text or None."""

    id: str
    """Its name as long as it is in the queue: :data:`ID_LENGTH` hexadecimal digits."""
    reason: str
    """One of :data:`REASONS`; empty if the message is not a dead letter of ours."""
    error: str
    """Type and text of what went wrong. For the broker's reasons: what they mean, and the queue."""
    vendor: str
    message: str
    station: str
    ocpp_version: str
    ocpp_message_id: str
    attempts: int | None
    """Tries so far; None if nobody counted them."""
    first_try: datetime | None
    failed_at: datetime | None
    """When it was given up. The broker tells it to the second."""
    worker: str
    """Who gave it up; empty if it was the broker."""
    exchange: str
    """Where it was published first, and is published again when it is replayed."""
    routing_key: str
    replayed: int
    """How often it has been replayed."""
    size: int
    """Bytes of the body."""
    replayable: bool
    """Whether it says where it came from. If not, it cannot be replayed."""


class _Origin(msgspec.Struct, frozen=True):
    """The part of a story that the bridge and the broker tell in different ways."""

    reason: str
    error: str
    at: datetime | None
    exchange: str | None
    routing_key: str


class _Envelope(msgspec.Struct, rename="camel"):
    vendor_id: Raw = Raw(b"")
    message_id: Raw = Raw(b"")


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)


def read(delivery: Delivery) -> DeadLetter:
    """The story of a message in the dead-letter queue. Never raises, whatever the message is."""
    properties = delivery.properties
    headers = properties.headers or {}
    form = inside(delivery)
    origin = _origin(delivery, form)
    if delivery.body == MARKER_BODY and not headers.get(STATION_ID):
        origin = _Origin(MARKER, _MARKERS_ERROR, origin.at, None, "")
    ours = _is_ours(headers)
    if ours and VENDOR in headers:
        vendor, message = _text(headers.get(VENDOR)), _text(headers.get(MESSAGE))
    else:
        vendor, message = _vendor_and_message(delivery.body if form is None else form.payload)
    form = form or _NATIVE
    return DeadLetter(
        id=_identify(headers, properties.message_id, origin.at, delivery.body),
        reason=origin.reason,
        error=origin.error,
        vendor=vendor,
        message=message,
        station=_text(headers.get(STATION_ID)) or _text(form.station_id),
        ocpp_version=_text(headers.get(VERSION)) or _text(form.ocpp_version),
        ocpp_message_id=_text(form.ocpp_message_id) or _text(properties.message_id),
        attempts=_count(headers.get(ATTEMPT)),
        first_try=_time(headers.get(FIRST_TRY)),
        failed_at=origin.at,
        worker=_text(headers.get(WORKER)) if ours else "",
        exchange=_text(origin.exchange),
        routing_key=_text(origin.routing_key),
        replayed=_count(headers.get(REPLAYED)) or 0,
        size=len(delivery.body),
        replayable=origin.exchange is not None,
    )


def replayed(delivery: Delivery, letter: DeadLetter) -> Publishing | None:
    """The request as it is published for another try; None if it does not say where it came from.

    Body and properties stay as they are, except for what is stale: ``reply_to`` (nobody waits any
    more), deadline and expiration (they are over), the count of tries, and the story of its death.
    Its timestamp is now, because it is published now.
    A request without a correlation_id gets the dead letter's id as one, by which it is known if the
    broker returns it. A request of another dialect gets its station's id as a header, because the
    stale part may be where it had it.
    """
    properties = delivery.properties
    headers = properties.headers or {}
    form = inside(delivery)
    origin = _origin(delivery, form)
    if origin.exchange is None or letter.reason == MARKER:
        return None
    kept = {
        name: value
        for name, value in headers.items()
        if name != DEADLINE and not name.startswith((_OWN_HEADERS, *_BROKERS_OWN))
    }
    if form is not None and form.station_id:
        kept.setdefault(STATION_ID, form.station_id)
    fresh = msgspec.structs.replace(
        properties,
        headers=kept | {REPLAYED: min(letter.replayed + 1, _REPLAYED_MAX)},
        delivery_mode=PERSISTENT,
        correlation_id=properties.correlation_id or letter.id,
        reply_to=None,
        expiration=None,
        timestamp=int(time.time()),
        user_id=None,
    )
    return Publishing(origin.routing_key, delivery.body, fresh, origin.exchange, mandatory=True)


def everything(delivery: Delivery, letter: DeadLetter) -> dict[str, Any]:
    """All that is known of a dead letter, as JSON can hold it: story, properties, headers and body.

    The body is text, under ``body``; if it is not UTF-8, it is under ``body_base64``.
    """
    properties = {
        name: value
        for name, value in msgspec.structs.asdict(delivery.properties).items()
        if value is not None and name != "headers"
    }
    try:
        body = {"body": delivery.body.decode()}
    except UnicodeDecodeError:
        body = {"body_base64": base64.b64encode(delivery.body).decode()}
    headers = delivery.properties.headers or {}
    return (
        msgspec.structs.asdict(letter)
        | {"properties": _plain(properties), "headers": _plain(headers)}
        | body
    )


def _plain(value: Any) -> Any:
    """The value of a property or header, as JSON can hold it.

    msgspec itself can write bytes, times and decimals.
    """
    match value:
        case str():
            return encodable(value)
        case dict():
            return {encodable(name): _plain(item) for name, item in value.items()}
        case list():
            return [_plain(item) for item in value]
    return value


# ---- the story, as the bridge or the broker tells it ----

_NATIVE: Final = Inside(Raw(b""), "", "", "")
"""The native form: nothing stands around the payload."""


def _origin(delivery: Delivery, form: Inside | None) -> _Origin:
    headers = delivery.properties.headers or {}
    if _is_ours(headers):
        return _told_by_bridge(headers)
    return _told_by_broker(headers, delivery.routing_key, to_queue=form is not None)


def _is_ours(headers: Mapping[str, Any]) -> bool:
    """Whether a worker published it to the dead letters. What the broker put there has its mark."""
    return REASON in headers and _DEATHS not in headers


def _told_by_bridge(headers: Mapping[str, Any]) -> _Origin:
    exchange = headers.get(EXCHANGE)
    routing_key = headers.get(ROUTING_KEY)
    if not isinstance(exchange, str) or not isinstance(routing_key, str):
        exchange, routing_key = None, ""
    return _Origin(
        _text(headers.get(REASON)),
        _text(headers.get(ERROR)),
        _time(headers.get(FAILED_AT)),
        exchange,
        routing_key,
    )


def _told_by_broker(headers: Mapping[str, Any], routing_key: str, *, to_queue: bool) -> _Origin:
    """By the newest entry of ``x-death``.

    Never by ``x-first-death-…``: if a request was tried again, that is its pause in a retry queue.
    `to_queue`: it goes back to its queue by name, not to where it was published.
    """
    death = _newest_death(headers)
    if death is None:
        return _Origin("", "", None, None, "")
    exchange = death.get("exchange")
    keys = death.get("routing-keys")
    key = keys[0] if isinstance(keys, list) and keys and type(keys[0]) is str else routing_key
    queue = death.get("queue")
    if to_queue:
        exchange, key = ("", queue) if type(queue) is str else (None, "")
    at = _time(death.get("time"))
    reason = _text(death.get("reason"))
    means = _BROKERS_REASONS.get(reason, "dead-lettered by the broker")
    if reason == "rejected" and _was_over(headers.get(DEADLINE), at):
        reason, means = Reason.EXPIRED.value, _PAST_DEADLINE
    error = f"{means} (queue {_text(queue)})"
    return _Origin(reason, error, at, exchange if type(exchange) is str else None, key)


def _newest_death(headers: Mapping[str, Any]) -> dict[str, Any] | None:
    """The first entry of ``x-death``: the broker lists the newest first."""
    deaths = headers.get(_DEATHS)
    if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict):
        return deaths[0]
    return None


def _was_over(deadline: Any, at: datetime | None) -> bool:
    """Whether a deadline (milliseconds of Unix time) had passed at a time that the broker tells.

    The broker cuts off the fractions of a second.
    """
    return type(deadline) is int and at is not None and deadline < (at.timestamp() + 1) * 1000


def _vendor_and_message(body: bytes | Raw) -> tuple[str, str]:
    try:
        envelope = _ENVELOPE.decode(body)
    except DECODE_FAULTS:
        return "", ""
    return _text(read_text(envelope.vendor_id)), _text(read_text(envelope.message_id))


# ---- what headers hold ----


def _text(value: Any) -> str:
    """A header's text, fit to be printed as UTF-8; empty for anything but text.

    What is too long is cut: thousands of letters may be listed.
    """
    if isinstance(value, bytes):  # a string that is not UTF-8
        value = value[:_TEXT_MAX].decode(errors="replace")
    return encodable(value[:_TEXT_MAX]) if isinstance(value, str) else ""


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _time(value: Any) -> datetime | None:
    """The time in an AMQP timestamp, or in milliseconds of Unix time; None for anything else."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if type(value) is not int:
        return None
    try:
        return datetime.fromtimestamp(value / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _identify(
    headers: Mapping[str, Any], message_id: str | None, at: datetime | None, body: bytes
) -> str:
    """An id, made from what no replay, restart or other reader changes."""
    station = headers.get(STATION_ID)
    parts = (
        station if isinstance(station, str) else "",
        message_id or "",
        at.isoformat() if at else "",
    )
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:%s" % (len(encoded), encoded))
    digest.update(body)
    return digest.hexdigest()[:ID_LENGTH]
