"""From a request and its outcome to an event, on its way out.

One :class:`EventRecorder` serves all intakes of a worker. Events are worth less than requests: they
are sent when nothing is delayed by it, and dropped otherwise, and whatever goes wrong with one of
them is its own end alone.

It runs once for each request while events are on, so this is one of the modules that are compiled.
"""

import re
import time
from collections.abc import Callable, Iterable
from typing import Annotated, Final

import msgspec

from bridge.compiled import fields
from bridge.dialects.headers import CONTENT_TYPE, TRANSIENT
from bridge.dialects.names import OTHER_VENDORS, event_word
from bridge.ocpp.data_transfer import MESSAGE_ID_MAX_LENGTH, VENDOR_ID_MAX_LENGTH
from bridge.ocpp.errors import encodable
from bridge.ocpp.faults import DECODE_FAULTS
from bridge.ocpp.rpc import OCPP_MESSAGE_ID_MAX_LENGTH
from bridge.request.incoming import Request
from bridge.request.outcome import Failure, Kind, Outcome, Reason, Reply, RetryLater
from bridge.routing.router import fold
from bridge.telemetry import events
from bridge.telemetry.counts import WorkerCounts
from bridge.telemetry.events import AS_DESIGNED, BODY_AT_MOST, Event, EventMode, encode_event
from bridge.telemetry.logs import get_logger
from bridge.telemetry.outcomes import KINDS, Counted
from bridge.transport import Properties, Publishing

log = get_logger("bridge.worker")

fields.check((Reply, Request))

_PROPERTIES: Final = Properties(
    content_type=CONTENT_TYPE, delivery_mode=TRANSIENT, type=events.TYPE
)
"""Of all events, which differ in the correlation id alone: so they are encoded once."""

_RESPONSE: Final = Kind.RESPONSE

_EXPIRED: Final = Counted.EXPIRED.value
_DROPPED: Final = Counted.DROPPED.value
_OVERLOADED: Final = Counted.OVERLOADED.value
_ACCEPTED: Final = Counted.ACCEPTED.value
"""Names of their own, because a member of an Enum is looked up at each use."""

_UNREAD: Final = frozenset({Reason.EXPIRED, Reason.OVERLOADED, Reason.FOREIGN})
"""Reasons that are none of an exception."""
_DESIGNED: Final = frozenset(counted.value for counted in AS_DESIGNED)

_STATUS: Final = b'{"status":"'
_ERROR_CODE: Final = b'{"errorCode":"'
"""How the bridge's own answers begin, and so nearly all."""
_TYPE_NAME: Final = re.compile(r"[^\W\d]\w{0,99}(?=: )")
"""The type at the beginning of what :func:`~bridge.request.outcome.describe_error` has written."""

_MILLISECONDS: Final = tuple(f"{number:03d}Z" for number in range(1000))
"""How a time ends."""

_SPELLINGS_KEPT: Final = 4_096
"""Spellings of vendorIds that are remembered. They come from stations, so there is a bound."""
_CODE_LENGTH: Final = 50
"""Characters of a code. OCPP's own have no more."""


class _Names(msgspec.Struct, rename="camel", gc=False):
    """The part of a payload that says what it is about."""

    vendor_id: Annotated[str, msgspec.Meta(max_length=VENDOR_ID_MAX_LENGTH)]
    message_id: Annotated[str, msgspec.Meta(max_length=MESSAGE_ID_MAX_LENGTH)] | None = None


class _StatusInfo(msgspec.Struct, rename="camel"):
    reason_code: str = ""


class _Answer(msgspec.Struct, rename="camel"):
    """The part of an answer that tells what it says."""

    status: str = ""
    error_code: str = ""
    status_info: _StatusInfo | None = None


_decode_names: Final = msgspec.json.Decoder(_Names).decode
_decode_answer: Final = msgspec.json.Decoder(_Answer).decode
_NO_ANSWER: Final = _Answer()


class EventRecorder:
    """Publishes an event for each request that has its outcome."""

    def __init__(
        self,
        mode: EventMode,
        *,
        bodies: bool,
        exchange: str,
        vendor_ids: Iterable[str],
        emit: Callable[[Publishing], bool],
        counts: WorkerCounts,
        worker: str,
    ) -> None:
        """`mode`: of which requests; `bodies`: whether events have their payloads.

        `exchange`: where they are published. `vendor_ids`: those that there are handlers for. The
        events of all others share a key. `emit`: as :meth:`~bridge.transport.Transport.emit`.
        `worker`: who we are.
        """
        self._all = mode is EventMode.ALL
        self._bodies = bodies
        self._exchange = exchange
        self._emit = emit
        self._counts = counts
        self._worker = encodable(worker)
        self._known = {fold(vendor_id): _keys(event_word(vendor_id)) for vendor_id in vendor_ids}
        self._others = _keys(OTHER_VENDORS)
        self._spelled: dict[str, list[str]] = {}
        """By vendorId as stations spell it: the routing keys of its outcomes."""
        self._second = 0
        self._until_second = ""
        """How a time of that second begins."""

    def settled(self, request: Request, outcome: Outcome, counted: int) -> None:
        """Tell what became of a request. Never raises.

        `counted`: the :class:`~bridge.telemetry.outcomes.Counted` of its outcome.
        """
        if not self._all and counted in _DESIGNED:
            return
        try:
            self._tell(request, outcome, counted)
        except Exception as error:  # noqa: BLE001 - an event that cannot be written ends alone
            self._counts.events_dropped += 1
            log.debug("event dropped", error=type(error).__name__)

    def _tell(self, request: Request, outcome: Outcome, counted: int) -> None:
        status = code = reason = error = ""
        body: bytes | None = None
        if isinstance(outcome, Reply):
            reply: Reply = outcome
            body = reply.body
            if reply.kind is _RESPONSE:
                status = _text_after(_STATUS, body) or _read(body).status
                if counted != _ACCEPTED and b"reasonCode" in body:
                    code = _reason_code(body)
            else:
                code = _text_after(_ERROR_CODE, body) or _read(body).error_code
        elif isinstance(outcome, Failure):
            body = outcome.body
            reason = outcome.reason.value
            if outcome.reason not in _UNREAD:
                error = _type_name(outcome.error)
            if body is not None:
                code = _text_after(_ERROR_CODE, body)
        elif isinstance(outcome, RetryLater):
            error = _type_name(outcome.error)
        waiting = handling = answering = None
        arrived = request.arrived
        if arrived is not None:
            now = time.monotonic()
            ended = now if request.ended is None else request.ended
            answering = _rounded(ended - arrived)
            if request.begun is not None:
                waiting = _rounded(request.begun - arrived)
                handling = _rounded(ended - request.begun)
            elif counted in (_EXPIRED, _DROPPED, _OVERLOADED):
                waiting = answering
        try:
            names: _Names = _decode_names(request.body)
            vendor_id, message_id = names.vendor_id, names.message_id or ""
        except DECODE_FAULTS:
            vendor_id = message_id = ""
        ocpp_message_id = request.ocpp_message_id or ""
        if len(ocpp_message_id) > OCPP_MESSAGE_ID_MAX_LENGTH:
            ocpp_message_id = ocpp_message_id[:OCPP_MESSAGE_ID_MAX_LENGTH]
        event = Event(
            self._now(),
            KINDS[counted],
            request.station_id,
            vendor_id,
            message_id,
            request.version,
            ocpp_message_id,
            status,
            code[:_CODE_LENGTH],
            reason,
            error,
            request.attempt,
            request.redelivered,
            waiting,
            handling,
            answering,
            self._worker,
        )
        if self._bodies:
            _add_bodies(event, request.body, body)
        try:
            encoded = encode_event(event)
        except UnicodeEncodeError:  # bytes that are not UTF-8 came in as lone surrogates
            _make_encodable(event)
            encoded = encode_event(event)
        keys = self._spelled.get(vendor_id)
        if keys is None:
            keys = self._keys_of(vendor_id)
        publishing = Publishing(
            keys[counted], encoded, _PROPERTIES, self._exchange, False, ocpp_message_id
        )
        if not self._emit(publishing):
            self._counts.events_dropped += 1

    def _now(self) -> str:
        """The time of day, with milliseconds. The rest of it is written once a second."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._until_second = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
        return self._until_second + _MILLISECONDS[int((now - second) * 1000)]

    def _keys_of(self, vendor_id: str) -> list[str]:
        keys = self._known.get(fold(vendor_id))
        if keys is None:
            return self._others
        if len(self._spelled) >= _SPELLINGS_KEPT:
            self._spelled.clear()
        self._spelled[vendor_id] = keys
        return keys


def _keys(word: str) -> list[str]:
    """The routing key of each outcome, in their order."""
    return [f"{word}.{kind}" for kind in KINDS]


def _rounded(seconds: float) -> float:
    """To microseconds. The built-in function takes longer than all else here."""
    return int(seconds * 1e6 + 0.5) / 1e6


def _text_after(start: bytes, body: bytes) -> str:
    """The plain text between `start`, with which `body` begins, and the next quote; else empty."""
    if not body.startswith(start):
        return ""
    text = body[len(start) : body.find(b'"', len(start))]
    return text.decode() if text.isalnum() else ""


def _read(body: bytes) -> _Answer:
    try:
        return _decode_answer(body)
    except DECODE_FAULTS:
        return _NO_ANSWER


def _reason_code(body: bytes) -> str:
    info = _read(body).status_info
    return "" if info is None else info.reason_code


def _type_name(error: str) -> str:
    """The type of an error, as far as its description begins with one. Never what it says."""
    match = _TYPE_NAME.match(error)
    return "" if match is None else match[0]


def _add_bodies(event: Event, request: bytes, answer: bytes | None) -> None:
    if len(request) > BODY_AT_MOST:
        event.request_size = len(request)
    else:
        try:
            event.request = request.decode()
        except UnicodeDecodeError:
            event.request_base64 = request
    if answer is None:
        return
    if len(answer) > BODY_AT_MOST:
        event.answer_size = len(answer)
    else:
        try:
            event.answer = answer.decode()
        except UnicodeDecodeError:  # a handler's own Raw
            event.answer_base64 = answer


def _make_encodable(event: Event) -> None:
    for name in ("station", "vendor", "message", "ocpp_message_id", "code", "error"):
        setattr(event, name, encodable(getattr(event, name)))
