"""Copies of a request: one that waits for the next try, and one that is kept as a dead letter."""

import time
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from bridge.dialects.headers import (
    ATTEMPT,
    DEADLINE,
    ERROR,
    EXPIRATION,
    FAILED_AT,
    FIRST_TRY,
    MESSAGE,
    NOT_BEFORE,
    PERSISTENT,
    REASON,
    REPLAYED,
    STATION_ID,
    VENDOR,
    WORKER,
)
from bridge.dialects.names import Names
from bridge.ocpp import CallError, decode_request
from bridge.request.incoming import Request
from bridge.request.outcome import Failure
from bridge.request.retry import milliseconds
from bridge.transport import Delivery, Properties, Publishing

_NOT_KEPT: Final = frozenset({"CC", "BCC", NOT_BEFORE})
_BROKERS_PREFIX: Final = "x-"
"""How the broker's own headers begin. They are never copied. Nor are ``CC`` and ``BCC``, by which
the broker would send the copy to others as well, nor the end of the last pause."""
_OWN_PREFIX: Final = "dtbridge-"
_OWN_KEPT: Final = frozenset({ATTEMPT, EXPIRATION, FIRST_TRY, REPLAYED})
"""Of the bridge's own headers, those that a request may come with: it may have been tried before.
The others tell of a dead letter. On a request they are its sender's, and go no further."""
_DEATHS: Final = "x-death"
"""The broker's own account of how often it has dead-lettered a message, and why."""

_EXPIRATION_MAX: Final = 2**32 - 1
"""Milliseconds. RabbitMQ refuses more (406 PRECONDITION_FAILED, value_too_large)."""

_NO_HEADERS: Final[dict[str, Any]] = {}


def properties_of_next_try(request: Request, delay: float, *, counts: bool) -> Properties:
    """The properties of a request that waits `delay` seconds for its next try.

    `counts`: whether what came before counts as a try.
    """
    now = _milliseconds(time.time())
    headers = _kept_headers(request, now)
    headers[ATTEMPT] = request.attempt + counts
    headers[NOT_BEFORE] = now + milliseconds(delay)
    if request.deadline is not None and type(headers.get(DEADLINE)) is not int:
        headers[DEADLINE] = _milliseconds(request.deadline)
        if request.source.properties.expiration is not None:
            headers[EXPIRATION] = request.source.properties.expiration
    # Without the expiration: if it is shorter than the delay, the request would come back early.
    return _properties_of_copy(request, headers)


def pause_left(delivery: Delivery, delay: float) -> float:
    """Seconds that a request in the queue for pauses of `delay` seconds still has to wait.

    Never more than `delay`, whatever the clock says of the worker that put it there.
    """
    end = (delivery.properties.headers or _NO_HEADERS).get(NOT_BEFORE)
    return min(delay, end / 1000 - time.time()) if type(end) is int else delay


def after_pause(delivery: Delivery, names: Names) -> Publishing:
    """The request after its pause, on its way back to where it came from.

    Anybody who may write to the delay queue can have put it there, with any properties.
    """
    headers = _copied(delivery.properties.headers)
    properties = msgspec.structs.replace(delivery.properties, headers=headers, user_id=None)
    return Publishing(
        delivery.routing_key, delivery.body, properties, names.after_retry, mandatory=True
    )


def properties_of_dead_letter(
    request: Request, failure: Failure, worker: str, more: Mapping[str, Any]
) -> Properties:
    """The properties of a request that is given up.

    `more`: headers that the dialect adds, such as where the request came from.
    """
    vendor_id, message_id = vendor_and_message(request)
    now = _milliseconds(time.time())
    story = {
        REASON: failure.reason.value,
        ERROR: _error_of(failure),
        ATTEMPT: request.attempt,
        FAILED_AT: now,
        VENDOR: vendor_id,
        MESSAGE: message_id,
        STATION_ID: request.station_id,
        WORKER: worker,
    }
    return _properties_of_copy(request, {**_kept_headers(request, now), **story, **more})


def _error_of(failure: Failure) -> str:
    """What went wrong, and where."""
    raised = failure.raised
    return f"{failure.error} ({raised.at})" if raised and raised.at else failure.error


def _properties_of_copy(request: Request, headers: dict[str, Any]) -> Properties:
    source = request.source
    return msgspec.structs.replace(
        source.properties, headers=headers, expiration=None, delivery_mode=PERSISTENT, user_id=None
    )


def _kept_headers(request: Request, now: int) -> dict[str, Any]:
    """The headers that a copy keeps, and when the request was handled first.

    That is `now` (milliseconds of Unix time), unless the headers say.
    """
    kept = {
        name: value
        for name, value in _copied(request.source.properties.headers).items()
        if name in _OWN_KEPT or not name.startswith(_OWN_PREFIX)
    }
    if type(kept.get(FIRST_TRY)) is not int:
        kept[FIRST_TRY] = now
    return kept


def _copied(headers: Mapping[str, Any] | None) -> dict[str, Any]:
    """Those of a message's headers that any copy of it may have."""
    return {
        name: value
        for name, value in (headers or _NO_HEADERS).items()
        if name not in _NOT_KEPT and not name.startswith(_BROKERS_PREFIX)
    }


def may_be_rejected(delivery: Delivery) -> bool:
    """Whether the broker can dead-letter it.

    The broker adds to the header ``x-death``. If that was forged, RabbitMQ 3.10 stops
    dead-lettering on the whole node, for everybody: it expects a list of tables, each with a count,
    and no two for one queue and reason. So only what the broker can have written itself is given
    back to it.
    """
    headers = delivery.properties.headers
    if headers is None or _DEATHS not in headers:
        return True
    deaths = headers[_DEATHS]
    if type(deaths) is not list:
        return False
    seen = set()
    for death in deaths:
        if type(death) is not dict or type(death.get("count")) is not int:
            return False
        place = death.get("queue"), death.get("reason")
        if not all(type(part) is str for part in place) or place in seen:
            return False
        seen.add(place)
    return True


def vendor_and_message(request: Request) -> tuple[str, str]:
    """The vendorId and messageId, for people who look for them.

    Empty if the payload does not say.
    """
    try:
        envelope = decode_request(request.body, request.version)
    except CallError:
        return "", ""
    return envelope.vendor_id, envelope.message_id or ""


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def milliseconds_left(deadline: float, now: float | None = None) -> str:
    """The `expiration` of a message that nobody wants after `deadline` (Unix time in seconds).

    `now`: the same; None: what the clock shows. It is never negative, and never above 49 days: the
    broker would close the channel for either.
    """
    now = time.time() if now is None else now
    return str(max(0, min(_EXPIRATION_MAX, int((deadline - now) * 1000))))
