"""The wire contract: names, and AMQP properties ↔ request. Pure; ``docs/contract.md`` tells gateway authors the same.

Request, gateway → bridge: exchange ``datatransfer``, routing key :func:`vendor_key` of the vendorId, body the OCPP payload.
Reply: default exchange, routing key the request's ``reply_to``, ``type`` tells a response from a CALLERROR.
CSMS → station: exchange ``datatransfer.stations``, routing key :func:`station_key` of the station; the gateway that holds it replies.
"""

import base64
import hashlib
import re
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec

from bridge.ocpp import DEFAULT_VERSION, CallError, OcppVersion, decode_request
from bridge.ocpp.faults import DECODE_FAULTS
from bridge.outcome import Failure, Kind, Reply
from bridge.request import Request
from bridge.retry import milliseconds
from bridge.transport import Delivery, Properties, Publishing

STATION_ID: Final = "ocpp-station-id"
STATION_ID_MAX_LENGTH: Final = 255
"""Characters. OCPP 2.0.1 allows 48, and what a reply repeats must fit a frame."""
VERSION: Final = "ocpp-version"
DEADLINE: Final = "ocpp-deadline"
"""int64, Unix time in milliseconds."""
TRACE_PARENT: Final = "traceparent"
TRACE_STATE: Final = "tracestate"
_TRACE_LENGTH: Final = 512
"""Characters of either that a reply repeats; W3C Trace Context asks for no more of tracestate."""
ATTEMPT: Final = "dtbridge-attempt"
"""The bridge's own count of tries: RabbitMQ 4 ignores the ``x-death`` of a message that is published again."""

FIRST_TRY: Final = "dtbridge-first-try"
"""int64, Unix time in milliseconds: when the request was handled first."""
REASON: Final = "dtbridge-reason"
ERROR: Final = "dtbridge-error"
FAILED_AT: Final = "dtbridge-failed-at"
"""int64, Unix time in milliseconds: when the request was given up."""
VENDOR: Final = "dtbridge-vendor"
MESSAGE: Final = "dtbridge-message"
WORKER: Final = "dtbridge-worker"
EXCHANGE: Final = "dtbridge-exchange"
ROUTING_KEY: Final = "dtbridge-routing-key"

_BROKERS_OWN: Final = frozenset({"CC", "BCC"})
_BROKERS_PREFIX: Final = "x-"
"""Headers that are the broker's, or make it do things: never copied."""

CONTENT_TYPE: Final = "application/json"
REQUEST_TYPE: Final = "DataTransfer"
OFFLINE_TYPE: Final = "StationOffline"
"""Of a reply to the CSMS: the gateway has lost the station. The body says whether the station had been sent the request."""

TRANSIENT: Final = 1
PERSISTENT: Final = 2

_EXPIRATION_MAX: Final = 2**32 - 1
"""Milliseconds; RabbitMQ refuses more (406 PRECONDITION_FAILED, value_too_large)."""

# ---- names ----

_KEPT: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789.-")
_KEY_LENGTH: Final = 200
"""Characters. A queue name has at most 255 bytes, and a prefix stands before the key."""
_KEY_KEPT: Final = 100
_BYTES: Final = tuple(chr(byte) if byte in _KEPT else f"_{byte:02x}" for byte in range(256))
_CASED_BYTES: Final = tuple(chr(byte) if 65 <= byte <= 90 else text for byte, text in enumerate(_BYTES))
""":data:`_BYTES`, and ``A-Z`` as they are."""

RESERVED: Final = ("dead", "unknown-vendor")
RESERVED_PREFIXES: Final = ("retry.", "replies.")
"""Names of the bridge's own queues. A vendor so called has a queue of its own all the same."""


def vendor_key(vendor_id: str) -> str:
    """The routing key of a vendorId: at most 200 characters from ``a-z 0-9 . - _``, easy in any language.

    ASCII letters become lower case; of the UTF-8 form every byte but ``a-z 0-9 . -`` becomes ``_`` and two lower-case
    hexadecimal digits; of a key above 200 characters the first 100 stay, then ``_x`` and the SHA-256 of them all.
    """
    return _bounded("".join(map(_BYTES.__getitem__, vendor_id.encode("utf-8", "surrogatepass").lower())))


def station_key(station_id: str) -> str:
    """The routing key of a charging station: as :func:`vendor_key`, but letters keep their case.

    OCPP says of a vendorId that case does not count, and nothing of the kind of a station's identity: ``CP1`` and ``cp1`` are two
    stations, each with its own URL. So ``A-Z`` stay as well. Two stations never share a key.
    """
    return _bounded("".join(map(_CASED_BYTES.__getitem__, station_id.encode("utf-8", "surrogatepass"))))


def _bounded(key: str) -> str:
    if len(key) <= _KEY_LENGTH:
        return key
    return f"{key[:_KEY_KEPT]}_x{hashlib.sha256(key.encode()).hexdigest()}"


class _Vendor(msgspec.Struct, rename="camel"):
    """Of a payload, what it is routed by."""

    vendor_id: str


_decode_vendor = msgspec.json.Decoder(_Vendor).decode


def read_vendor_id(payload: bytes) -> str:
    """The vendorId of a DataTransferRequest; empty if none can be read, and then the routing key is empty as well."""
    try:
        return _decode_vendor(payload).vendor_id
    except DECODE_FAULTS:
        return ""


class Names(msgspec.Struct, frozen=True):
    """Exchanges and queues, all below one prefix, so that several bridges can share a virtual host."""

    prefix: str = "datatransfer"

    @property
    def requests(self) -> str:
        """Exchange: gateways publish requests here. Direct."""
        return self.prefix

    @property
    def unrouted(self) -> str:
        """Exchange: where requests go that no vendor's queue takes. Fanout."""
        return f"{self.prefix}.unrouted"

    @property
    def unknown_vendor(self) -> str:
        """Queue: those requests; every worker answers them."""
        return f"{self.prefix}.unknown-vendor"

    @property
    def dead(self) -> str:
        """Exchange (fanout) and queue: what could not be handled."""
        return f"{self.prefix}.dead"

    def retry(self, delay: float) -> str:
        """Exchange (fanout) and queue: requests that wait `delay` seconds, one of DELAYS, for their next try."""
        return f"{self.prefix}.retry.{milliseconds(delay)}"

    @property
    def stations(self) -> str:
        """Exchange: requests from the CSMS to stations, by :func:`station_key`. Direct."""
        return f"{self.prefix}.stations"

    @property
    def replies(self) -> str:
        """How reply queues begin that gateways declare themselves; always allowed as ``reply_to``."""
        return f"{self.prefix}.replies."

    def vendor_queue(self, vendor_id: str) -> str:
        """Queue: the requests of one vendor.

        A vendor whose key is the name of one of the bridge's own queues gets one with its first letter written as
        :func:`vendor_key` never writes it.
        """
        key = vendor_key(vendor_id)
        if key in RESERVED or key.startswith(RESERVED_PREFIXES):
            key = f"_{ord(key[0]):02x}{key[1:]}"
        return f"{self.prefix}.{key}"


# ---- requests and replies ----

DIRECT_REPLY_TO: Final = "amq.rabbitmq.reply-to"
SERVER_NAMED: Final = "amq.gen-"

_DIRECT: Final = re.compile(r"amq\.rabbitmq\.reply-to\.([A-Za-z0-9+/]+={0,2})\.[A-Za-z0-9+/]+={0,2}")


@lru_cache(maxsize=4096)
def is_direct_reply_to(name: str) -> bool:
    """Whether RabbitMQ can read a name of direct reply-to.

    It decodes what it finds there, and a forged one that cannot be decoded ends the publisher's connection with 541
    INTERNAL_ERROR (seen on 3.10). A name is a process identifier in Erlang's external term format and a key, both in base64.
    """
    match = _DIRECT.fullmatch(name)
    if match is None:
        return False
    try:
        term = base64.b64decode(match[1], validate=True)
    except ValueError:
        return False
    # 131, the tag of a pid (new: 88, old: 103), its node as an atom, and three numbers (4 + 4 + 4 or 1 bytes).
    if len(term) < 5 or term[0] != 131 or term[1] not in {88, 103}:
        return False
    numbers = 12 if term[1] == 88 else 9
    match term[2]:
        case 119 | 115:  # an atom with a short length
            return len(term) == 4 + term[3] + numbers
        case 118 | 100:
            return len(term) == 5 + int.from_bytes(term[3:5]) + numbers
        case _:
            return False


_VERSIONS: Final = {version.value: version for version in OcppVersion}
_NO_HEADERS: Final[dict[str, Any]] = {}


def _reply_properties(station_id: str, kind: Kind, request_headers: Mapping[str, Any] = _NO_HEADERS) -> Properties:
    headers = {STATION_ID: station_id}
    for name in (TRACE_PARENT, TRACE_STATE):
        value = request_headers.get(name)
        if type(value) is str and len(value) <= _TRACE_LENGTH:
            headers[name] = value
    return Properties(content_type=CONTENT_TYPE, headers=headers, delivery_mode=PERSISTENT, type=kind.value)


class _SharedProperties(dict[tuple[str, Kind], Properties]):
    """Properties of the replies to one station, made once: they differ in correlation_id and expiration alone."""

    KEPT: Final = 4_096
    """Stations remembered, about 500 bytes each."""

    def __missing__(self, key: tuple[str, Kind]) -> Properties:
        if len(self) >= self.KEPT:
            self.clear()
        self[key] = properties = _reply_properties(*key)
        return properties


class Contract:
    """The native dialect: what a delivery asks, and how its answer is published."""

    def __init__(self, names: Names | None = None, reply_prefixes: tuple[str, ...] = ()) -> None:
        """`reply_prefixes`: how reply queues may begin, beside direct reply-to, server-named queues and the bridge's own."""
        self.names = names or Names()
        self._shared = _SharedProperties()
        self._reply_to_allowed = (f"{DIRECT_REPLY_TO}.", SERVER_NAMED, self.names.replies, *reply_prefixes)

    def request(self, delivery: Delivery) -> Request:
        """Read a delivery. What breaks the contract is named in :attr:`~bridge.request.Request.fault`."""
        properties = delivery.properties
        headers = properties.headers or _NO_HEADERS
        station_id = headers.get(STATION_ID)
        version = headers.get(VERSION, DEFAULT_VERSION)
        deadline = headers.get(DEADLINE)
        attempt = headers.get(ATTEMPT, 1)
        reply_to = properties.reply_to
        fault = None
        if type(station_id) is not str or not 0 < len(station_id) <= STATION_ID_MAX_LENGTH:
            fault = f"header {STATION_ID}: required, a string of at most {STATION_ID_MAX_LENGTH} characters"
            station_id = ""
        if type(version) is not OcppVersion:
            known = _VERSIONS.get(version) if type(version) is str else None
            if known is None:
                fault = fault or f"header {VERSION}: expected one of {', '.join(_VERSIONS)}"
                known = DEFAULT_VERSION
            version = known
        if deadline is not None:
            if type(deadline) is int:
                deadline /= 1000
            else:
                fault = fault or f"header {DEADLINE}: expected Unix time in milliseconds, an integer"
                deadline = None
        elif properties.expiration is not None:
            deadline = _end_of_life(properties.expiration)
        first_try = headers.get(FIRST_TRY) if attempt != 1 else None
        if type(attempt) is not int or attempt < 1:
            attempt = 1
        if reply_to and not properties.correlation_id:
            fault = fault or "correlation_id: required with reply_to"
        return Request(
            delivery.body,
            station_id,
            version,
            properties.message_id,
            deadline,
            attempt,
            delivery.redelivered,
            bool(reply_to),
            fault,
            delivery,
            None,
            None,
            first_try / 1000 if type(first_try) is int else None,
        )

    def again(self, request: Request, delay: float, *, counts: bool) -> Publishing:
        """The request on its way to its next try, `delay` seconds from now. `counts`: the last one was a try."""
        headers = _kept_headers(request, _milliseconds(time.time()))
        headers[ATTEMPT] = request.attempt + counts
        if request.deadline is not None:
            headers.setdefault(DEADLINE, _milliseconds(request.deadline))
        delivery: Delivery = request.source
        # Without its expiration: one that is shorter than the delay would bring the request back early.
        properties = msgspec.structs.replace(
            delivery.properties, headers=headers, expiration=None, delivery_mode=PERSISTENT, user_id=None
        )
        key = delivery.routing_key
        if delivery.exchange != self.names.requests:  # it came another way; from its delay it comes back this way
            key = vendor_key(_vendor_and_message(request)[0])
        return Publishing(key, request.body, properties, self.names.retry(delay), mandatory=True)

    def dead_letter(self, request: Request, failure: Failure, worker: str) -> Publishing:
        """The request as it is kept when it is given up: its body and properties untouched, the story in headers."""
        delivery: Delivery = request.source
        vendor_id, message_id = _vendor_and_message(request)
        now = _milliseconds(time.time())
        headers = _kept_headers(request, now) | {
            REASON: failure.reason.value,
            ERROR: failure.error,
            ATTEMPT: request.attempt,
            FAILED_AT: now,
            VENDOR: vendor_id,
            MESSAGE: message_id,
            STATION_ID: request.station_id,
            WORKER: worker,
            EXCHANGE: delivery.exchange,
            ROUTING_KEY: delivery.routing_key,
        }
        properties = msgspec.structs.replace(
            delivery.properties, headers=headers, expiration=None, delivery_mode=PERSISTENT, user_id=None
        )
        return Publishing(delivery.routing_key, request.body, properties, self.names.dead, mandatory=True)

    def reply(self, request: Request, body: bytes, kind: Kind) -> Publishing | None:
        """The answer to a request, if its ``reply_to`` is allowed: a request must not make the bridge publish to just any queue.

        Nothing of the request's headers is copied but what is named here. A reply to a named queue is mandatory, which
        shows that the queue is gone. One to direct reply-to is not: up to RabbitMQ 4.1 the broker returns it although
        it delivers it.
        """
        asked: Properties = request.source.properties
        reply_to = asked.reply_to
        if reply_to is None or not reply_to.startswith(self._reply_to_allowed):
            return None
        direct = reply_to.startswith(DIRECT_REPLY_TO)
        if direct and not is_direct_reply_to(reply_to):
            return None
        headers = asked.headers
        if headers is not None and TRACE_PARENT in headers:
            properties = _reply_properties(request.station_id, kind, headers)
        else:
            properties = self._shared[request.station_id, kind]
        deadline = request.deadline
        return Publishing(
            reply_to,
            body,
            properties,
            "",
            not direct,
            asked.correlation_id,
            None if deadline is None else milliseconds_left(deadline),
        )

    def request_publishing(
        self,
        *,
        station_id: str,
        version: OcppVersion,
        vendor_id: str,
        body: bytes,
        deadline: float,
        message_id: str,
        correlation_id: str,
        reply_to: str,
    ) -> Publishing:
        """A request, as a gateway publishes it. `deadline` in seconds of Unix time."""
        headers = {STATION_ID: station_id, VERSION: version.value, DEADLINE: int(deadline * 1000)}
        properties = Properties(
            content_type=CONTENT_TYPE,
            headers=headers,
            delivery_mode=PERSISTENT,
            correlation_id=correlation_id,
            reply_to=reply_to,
            expiration=milliseconds_left(deadline),
            message_id=message_id,
            type=REQUEST_TYPE,
        )
        return Publishing(vendor_key(vendor_id), body, properties, self.names.requests, mandatory=True)

    # CSMS → station:

    def station_request(
        self, *, station_id: str, body: bytes, deadline: float, message_id: str, correlation_id: str, reply_to: str
    ) -> Publishing:
        """A request to a station, as the CSMS publishes it. `deadline` in seconds of Unix time.

        Without a version: the gateway knows which one the station speaks, and writes the payload in it. Transient, for the
        queue of a gateway lives no longer than the gateway.
        """
        headers = {STATION_ID: station_id, DEADLINE: int(deadline * 1000)}
        properties = Properties(
            content_type=CONTENT_TYPE,
            headers=headers,
            delivery_mode=TRANSIENT,
            correlation_id=correlation_id,
            reply_to=reply_to,
            expiration=milliseconds_left(deadline),
            message_id=message_id,
            type=REQUEST_TYPE,
        )
        return Publishing(station_key(station_id), body, properties, self.names.stations, mandatory=True)

    def station_reply(self, request: Request, body: bytes, kind: Kind) -> Publishing | None:
        """A station's answer, as :meth:`reply`; with the version it is written in, which the CSMS need not know."""
        reply = self.reply(request, body, kind)
        if reply is None:
            return None
        headers = (reply.properties.headers or {}) | {VERSION: request.version.value}
        return msgspec.structs.replace(reply, properties=msgspec.structs.replace(reply.properties, headers=headers))

    def offline_reply(self, request: Request, *, sent: bool) -> Publishing | None:
        """What the CSMS is told of a station that is gone. `sent`: it had been sent the request."""
        reply = self.reply(request, msgspec.json.encode(_Offline(sent)), Kind.CALL_ERROR)
        if reply is None:
            return None
        return msgspec.structs.replace(reply, properties=msgspec.structs.replace(reply.properties, type=OFFLINE_TYPE))


class _Offline(msgspec.Struct):
    """The body of a reply that says so."""

    sent: bool


_decode_offline = msgspec.json.Decoder(_Offline).decode


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


def _kept_headers(request: Request, now: int) -> dict[str, Any]:
    """Those of the request but for the broker's, and when it was handled first: `now`, unless they say."""
    headers = request.source.properties.headers or _NO_HEADERS
    kept = {
        name: value
        for name, value in headers.items()
        if name not in _BROKERS_OWN and not name.startswith(_BROKERS_PREFIX)
    }
    if type(kept.get(FIRST_TRY)) is not int:
        kept[FIRST_TRY] = now
    return kept


def _vendor_and_message(request: Request) -> tuple[str, str]:
    """For people who look for it; empty where the payload does not say."""
    try:
        envelope = decode_request(request.body, request.version)
    except CallError:
        return "", ""
    return envelope.vendor_id, envelope.message_id or ""


def _end_of_life(expiration: str) -> float | None:
    """When a message that has just arrived would have expired: later than its requester meant, never earlier."""
    return time.time() + int(expiration) / 1000 if expiration.isdecimal() else None


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def milliseconds_left(deadline: float) -> str:
    """The `expiration` of a message that nobody wants after `deadline` (Unix time in seconds).

    Never what the broker would close the channel for: a negative one, or one beyond 49 days.
    """
    return str(max(0, min(_EXPIRATION_MAX, int((deadline - time.time()) * 1000))))
