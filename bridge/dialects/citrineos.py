"""The dialect of CitrineOS, whose modules talk to each other through RabbitMQ.

Read from its versions 1.8 and 2.

    station ── OCPP-J ── router ──→ citrineos (headers) ── action, origin, state ──→ a queue of ours
       ▲                    └──←──────────┘ state, origin, tenantId, station

Every message has its routing in AMQP headers, all of them strings: ``origin`` (``cs`` or ``csms``),
``eventGroup``, ``action``, ``state`` (``1`` request, ``2`` response); and its context:
``correlationId`` (the OCPP message id), ``stationId`` (from version 2 on ``ocppConnectionName``),
``tenantId``, ``timestamp``. The body says the same again, with numbers for state and tenant::

    {"origin": …, "eventGroup": …, "action": …, "context": {…}, "state": 1,
     "protocol": "ocpp2.0.1", "payload": {…}}

Messages that a module passes on have the same keys with an underscore in front. CitrineOS believes
the body, so the headers are read only where the body says nothing.

Answer: the same with origin ``csms`` and state 2. The payload of an error is an ``OcppError``. The
router forgets a call after 20 s.

The other way: origin ``csms``, state 1, and a new correlation id. What the station answers has
origin ``cs`` and state 2. CitrineOS does not pass on a station's CALLERROR (as of version 2): such
a request has no answer.
"""

import math
import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeGuard

import msgspec
from msgspec import Raw

from bridge.dialects.copies import milliseconds_left
from bridge.dialects.dialect import Foreign, GatewayExchange, SharedQueue
from bridge.dialects.headers import CONTENT_TYPE, REQUEST_TYPE
from bridge.dialects.names import PREFIX
from bridge.dialects.shared import (
    DialectNames,
    SharedDialect,
    deadline,
    fits,
    is_replayed,
    native_reply,
    tries,
)
from bridge.ocpp import DEFAULT_VERSION, CallError, ErrorCode, OcppVersion
from bridge.ocpp.errors import CallErrorBody, call_error_body, encodable
from bridge.ocpp.faults import DECODE_FAULTS, describe_fault
from bridge.request.incoming import Request
from bridge.request.outcome import Kind, Reply
from bridge.transport import Binding, Delivery, Properties, Publishing

NAME: Final = "citrineos"
EXCHANGE: Final = "citrineos"
"""CitrineOS's default."""
PATIENCE: Final = 20.0
"""Seconds from a request's timestamp until the router forgets the call: the default of its setting
``maxCallLengthSeconds``."""

ORIGIN_STATION: Final = "cs"
ORIGIN_CSMS: Final = "csms"
STATE_REQUEST: Final = 1
STATE_RESPONSE: Final = 2
CONTENT_ENCODING: Final = "utf-8"

_STATIONS: Final = ("ocppConnectionName", "stationId")
"""The names of a station's id: from version 2 on, and in version 1."""
TENANT: Final = 1
"""CitrineOS's default tenant."""
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_EVENT_GROUP: Final = "general"
"""CitrineOS's event group for messages without one. Nobody looks at it."""
_VERSIONS: Final = {version.value: version for version in OcppVersion}

_json = msgspec.json.encode
_parts = msgspec.json.Decoder(dict[str, Raw]).decode
_any = msgspec.json.Decoder().decode
_call_error = msgspec.json.Decoder(CallErrorBody).decode


class Envelope(msgspec.Struct, frozen=True):
    """What stands around the payload of a request, and is repeated in its answer."""

    context: bytes
    """JSON, as it came."""
    stations: dict[str, str]
    """The station's id, by the names that the context has for it."""
    correlation_id: str
    tenant_id: str
    timestamp: str
    event_group: str
    protocol: str | None

    @property
    def station_id(self) -> str:
        return next(iter(self.stations.values()))


class CitrineRequest(Request, eq=False, gc=True, kw_only=True):
    """A request, and the envelope it came in."""

    envelope: Envelope


class OcppError(msgspec.Struct, kw_only=True):
    """An error, as CitrineOS writes it to JSON."""

    name: str
    message_id: str = msgspec.field(name="_messageId", default="")
    error_code: str = msgspec.field(name="_errorCode")
    error_details: dict[str, Any] = msgspec.field(name="_errorDetails", default={})
    message: str = ""


_decode_error = msgspec.json.Decoder(OcppError).decode


class CitrineOs(SharedDialect):
    """The dialect of CitrineOS. It implements :class:`~bridge.dialects.dialect.Dialect`."""

    def __init__(
        self,
        prefix: str = PREFIX,
        exchange: str = EXCHANGE,
        patience: float = PATIENCE,
        tenant_id: int = TENANT,
    ) -> None:
        """`prefix`: how our own names begin. `exchange`: CitrineOS's.

        `patience`: seconds from a request's timestamp until nobody waits for its answer any more.
        `tenant_id`: the tenant of the stations that the CSMS sends requests to.
        """
        names = DialectNames(prefix, NAME)
        self._exchange = exchange
        self._patience = patience
        self._tenant_id = tenant_id
        headers = {"x-match": "all", **_routing(ORIGIN_STATION, STATE_REQUEST)}
        queue = SharedQueue(names.own, Binding(exchange, arguments=headers))
        super().__init__(names, GatewayExchange(exchange, "headers", durable=False), [queue])

    def queue_of(self, delivery: Delivery) -> str:
        """As :meth:`SharedDialect.queue_of`."""
        return self.queues[0].name

    def request(self, delivery: Delivery) -> Request:
        """As :meth:`~bridge.dialects.dialect.Dialect.request`."""
        headers = delivery.properties.headers or {}
        try:
            parts = _read_parts(delivery.body)
        except DECODE_FAULTS as error:
            text = describe_fault(error, "body")[1]
            raise Foreign(text, self._answer_to_broken(headers, text)) from error
        _expect(parts, headers, "action", REQUEST_TYPE)
        _expect(parts, headers, "origin", ORIGIN_STATION)
        _expect(parts, headers, "state", STATE_REQUEST)
        envelope = _envelope(_context(parts), parts, headers)
        version, fault = _version(parts)
        attempt, first_try = tries(headers)
        return CitrineRequest(
            body=bytes(parts.get("payload", b"null")),
            station_id=envelope.station_id,
            version=version,
            ocpp_message_id=envelope.correlation_id,
            deadline=deadline(headers, self._patience, _time(envelope.timestamp)),
            attempt=attempt,
            redelivered=delivery.redelivered,
            reply_wanted=not is_replayed(headers),
            fault=fault,
            source=delivery,
            first_try=first_try,
            envelope=envelope,
        )

    def reply(self, request: Request, body: bytes, kind: Kind) -> Publishing | None:
        """As :meth:`~bridge.dialects.dialect.Dialect.reply`."""
        assert isinstance(request, CitrineRequest)  # noqa: S101 - it is one of ours
        assert request.deadline is not None  # noqa: S101 - whoever waits does so until then
        if kind is Kind.CALL_ERROR:
            body = _json(_ocpp_error(request.envelope.correlation_id, _call_error(body)))
        return self._answer(request.envelope, body, request.deadline)

    def _answer_to_broken(self, headers: Mapping[str, Any], text: str) -> Publishing | None:
        """An error for the call that a broken body belongs to, if the headers name the call."""
        until = deadline(headers, self._patience)
        try:
            envelope = _envelope({}, {}, headers)
        except Foreign:
            return None
        if until is None:
            return None
        error = call_error_body(CallError(ErrorCode.FORMAT_VIOLATION, text), DEFAULT_VERSION)
        return self._answer(envelope, _json(_ocpp_error(envelope.correlation_id, error)), until)

    def _answer(self, envelope: Envelope, payload: bytes, until: float) -> Publishing:
        protocol = (
            b"" if envelope.protocol is None else b'"protocol":%b,' % _json(envelope.protocol)
        )
        body = (
            b'{"origin":"%b","eventGroup":%b,"action":"%b","context":%b,"state":%d,%b"payload":%b}'
            % (
                ORIGIN_CSMS.encode(),
                _json(envelope.event_group),
                REQUEST_TYPE.encode(),
                envelope.context,
                STATE_RESPONSE,
                protocol,
                payload,
            )
        )
        headers = {
            **_routing(ORIGIN_CSMS, STATE_RESPONSE),
            "eventGroup": envelope.event_group,
            "correlationId": envelope.correlation_id,
            **envelope.stations,
            "tenantId": envelope.tenant_id,
            "timestamp": envelope.timestamp,
        }
        properties = Properties(
            content_type=CONTENT_TYPE,
            content_encoding=CONTENT_ENCODING,
            headers=headers,
            expiration=milliseconds_left(until),
        )
        return Publishing("", body, properties, self._exchange, mandatory=True)

    @property
    def station_replies(self) -> Sequence[Binding]:
        """As :attr:`~bridge.dialects.dialect.Dialect.station_replies`."""
        headers = {"x-match": "all", **_routing(ORIGIN_STATION, STATE_RESPONSE)}
        return [Binding(self._exchange, arguments=headers)]

    def station_request(
        self,
        message_id: str,
        reply_to: str = "",
        *,
        station_id: str,
        version: OcppVersion,
        body: bytes,
        deadline: float,
    ) -> Publishing:
        """As :meth:`SharedDialect.station_request`.

        The station's id has both of its names, for both versions of CitrineOS. The property
        correlation_id tells only us which request the broker returns.
        """
        if not _is_text(station_id):
            raise ValueError(f"{station_id[:60]!r} is no station of {NAME}")
        told = {
            **dict.fromkeys(_STATIONS, station_id),
            "correlationId": message_id,
            "timestamp": _now(),
        }
        # Version 2 drops a request that is older than it says here.
        lives = max(1, math.ceil(deadline - time.time()))
        context = {**told, "tenantId": self._tenant_id, "staleAfterSeconds": lives}
        routing = _routing(ORIGIN_CSMS, STATE_REQUEST) | {"eventGroup": _EVENT_GROUP}
        parts = {
            **routing,
            "context": context,
            "state": STATE_REQUEST,
            "protocol": version.value,
            "payload": Raw(body),
        }
        properties = Properties(
            content_type=CONTENT_TYPE,
            content_encoding=CONTENT_ENCODING,
            headers={**routing, **told, "tenantId": str(self._tenant_id)},
            correlation_id=message_id,
            expiration=milliseconds_left(deadline),
        )
        return Publishing("", _json(parts), properties, self._exchange, mandatory=True)

    def read_station_reply(self, delivery: Delivery) -> Delivery | None:
        """As :meth:`~bridge.dialects.dialect.Dialect.read_station_reply`."""
        headers = delivery.properties.headers or {}
        try:
            parts = _read_parts(delivery.body)
            _expect(parts, headers, "action", REQUEST_TYPE)
            _expect(parts, headers, "origin", ORIGIN_STATION)
            _expect(parts, headers, "state", STATE_RESPONSE)
            envelope = _envelope(_context(parts), parts, headers)
        except (Foreign, *DECODE_FAULTS):
            return None
        payload = parts.get("payload", Raw(b"null"))
        error = _read_error(payload)
        if error is None:
            answer = Reply(bytes(payload))
        else:
            body = _json(CallErrorBody(error.error_code, error.message, error.error_details))
            answer = Reply(body, Kind.CALL_ERROR)
        version = _VERSIONS.get(envelope.protocol or "")
        return native_reply(delivery, envelope.station_id, version, envelope.correlation_id, answer)


def _routing(origin: str, state: int) -> dict[str, str]:
    """The headers that CitrineOS's bindings look at."""
    return {"action": REQUEST_TYPE, "origin": origin, "state": str(state)}


def _read_parts(body: bytes) -> dict[str, Raw]:
    """The parts of a body by their names, without an underscore in front. Raises DECODE_FAULTS."""
    parts = _parts(body)
    return {
        name.removeprefix("_"): part for name, part in parts.items() if name.startswith("_")
    } | {name: part for name, part in parts.items() if not name.startswith("_")}


def _value(part: Raw | None) -> Any:
    """The value of a part; None if it is absent, null or cannot be read."""
    try:
        return None if part is None else _any(part)
    except DECODE_FAULTS:
        return None


def _expect(
    parts: Mapping[str, Raw], headers: Mapping[str, Any], name: str, expected: str | int
) -> None:
    """Raises Foreign if a message has no `name`, or another value than `expected`."""
    found = _value(parts[name]) if name in parts else headers.get(name)
    if type(found) not in {int, str} or found not in {expected, str(expected)}:
        shown = found[:60] if type(found) is str else type(found).__name__
        raise Foreign(f"{name} {shown!r}, not {expected!r}")


def _context(parts: Mapping[str, Raw]) -> dict[str, Any]:
    context = _value(parts.get("context"))
    if context is None:
        return {}
    if not isinstance(context, dict):
        raise Foreign("context: expected an object")
    return context


def _version(parts: Mapping[str, Raw]) -> tuple[OcppVersion, str | None]:
    """The version that a message names, or the default; and what is wrong with the name."""
    protocol = _value(parts.get("protocol"))
    if protocol is None:
        return DEFAULT_VERSION, None
    version = _VERSIONS.get(protocol) if isinstance(protocol, str) else None
    if version is None:
        return DEFAULT_VERSION, f"protocol: expected one of {', '.join(_VERSIONS)}"
    return version, None


def _envelope(
    context: Mapping[str, Any], parts: Mapping[str, Raw], headers: Mapping[str, Any]
) -> Envelope:
    """Raises Foreign without a station or a correlation id: then nobody can be answered."""
    told = {name: value for name, value in headers.items() if _is_text(value)} | dict(context)
    stations = {name: told[name] for name in _STATIONS if _is_text(told.get(name))}
    if not stations:
        raise Foreign(
            "context.stationId or context.ocppConnectionName: required, "
            "a string of at most 255 bytes"
        )
    correlation_id = told.get("correlationId")
    if not _is_text(correlation_id):
        raise Foreign("context.correlationId: required, a string of at most 255 bytes")
    tenant_id = told.get("tenantId")
    if not (_is_text(tenant_id) or (type(tenant_id) is int and abs(tenant_id) < 2**63)):
        tenant_id = TENANT
    timestamp = told.get("timestamp")
    if not _is_text(timestamp):
        timestamp = _now()
    event_group = _value(parts["eventGroup"]) if "eventGroup" in parts else told.get("eventGroup")
    protocol = _value(parts.get("protocol"))
    # The tenant is a number in a body, and text in headers, where this one may come from.
    tenant = int(tenant_id) if _NUMBER.fullmatch(str(tenant_id)) else tenant_id
    essential = {
        **stations,
        "correlationId": correlation_id,
        "tenantId": tenant,
        "timestamp": timestamp,
    }
    return Envelope(
        bytes(parts["context"]) if context else _json(essential),
        stations,
        correlation_id,
        str(tenant_id),
        timestamp,
        event_group if _is_text(event_group) else _EVENT_GROUP,
        protocol if isinstance(protocol, str) else None,
    )


def _is_text(value: object) -> TypeGuard[str]:
    """Whether it is text that both a header and JSON can carry."""
    return fits(value) and (value.isascii() or encodable(value) == value)


def _time(timestamp: str) -> float | None:
    """Seconds of Unix time; None if it is not a time."""
    try:
        at = datetime.fromisoformat(timestamp)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _now() -> str:
    """The time, as JavaScript writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _read_error(payload: Raw) -> OcppError | None:
    """The error in a payload; None if it is a response."""
    try:
        error = _decode_error(payload)
    except DECODE_FAULTS:
        return None
    return error if error.name == "OcppError" else None


def _ocpp_error(correlation_id: str, error: CallErrorBody) -> OcppError:
    return OcppError(
        name="OcppError",
        message_id=correlation_id,
        error_code=error.error_code,
        error_details=error.error_details,
        message=error.error_description,
    )
