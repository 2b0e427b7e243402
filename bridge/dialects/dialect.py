"""The wire contract: names, and AMQP properties ↔ request. Pure; ``docs/contract.md`` tells gateway authors the same.

Request, gateway → bridge: exchange ``datatransfer``, routing key :func:`vendor_key` of the vendorId, body the OCPP payload.
Reply: default exchange, routing key the request's ``reply_to``, ``type`` tells a response from a CALLERROR.
CSMS → station: exchange ``datatransfer.stations``, routing key :func:`station_key` of the station; the gateway that holds it replies.

Gateways write in one :class:`Dialect` or another; the native one is :class:`bridge.dialects.native.Contract`.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from bridge.ocpp import CallError, decode_request
from bridge.ocpp.faults import DECODE_FAULTS
from bridge.request.incoming import Request
from bridge.request.outcome import Failure, Kind, Reply
from bridge.request.retry import milliseconds
from bridge.transport import Binding, Delivery, Properties, Publishing

STATION_ID: Final = "ocpp-station-id"
STATION_ID_MAX_LENGTH: Final = 255
"""Characters. OCPP 2.0.1 allows 48, and what a reply repeats must fit a frame."""
VERSION: Final = "ocpp-version"
DEADLINE: Final = "ocpp-deadline"
"""int64, Unix time in milliseconds."""
TRACE_PARENT: Final = "traceparent"
TRACE_STATE: Final = "tracestate"
ATTEMPT: Final = "dtbridge-attempt"
"""The bridge's own count of tries: RabbitMQ 4 ignores the ``x-death`` of a message that is published again."""

FIRST_TRY: Final = "dtbridge-first-try"
"""int64, Unix time in milliseconds: when the request was handled first."""
NOT_BEFORE: Final = "dtbridge-not-before"
"""int64, Unix time in milliseconds: when the pause ends in which a request waits for its next try."""
REASON: Final = "dtbridge-reason"
ERROR: Final = "dtbridge-error"
FAILED_AT: Final = "dtbridge-failed-at"
"""int64, Unix time in milliseconds: when the request was given up."""
VENDOR: Final = "dtbridge-vendor"
MESSAGE: Final = "dtbridge-message"
WORKER: Final = "dtbridge-worker"
EXCHANGE: Final = "dtbridge-exchange"
ROUTING_KEY: Final = "dtbridge-routing-key"
REPLAYED: Final = "dtbridge-replayed"
"""How often a request has been taken out of the dead-letter queue for another try."""

_NOT_KEPT: Final = frozenset({"CC", "BCC", NOT_BEFORE})
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
    def after_retry(self) -> str:
        """Exchange: where they go then, each with its routing key."""
        return self.requests

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


# ---- dialects ----


class Foreign(Exception):
    """A message in a queue of ours that is no request: it is not handled, but kept where somebody can look at it."""

    def __init__(self, reason: str, answer: Publishing | None = None) -> None:
        """`reason`: for logs and the dead letter. `answer`: for whoever may wait all the same."""
        super().__init__(reason)
        self.reason = reason
        self.answer = answer


class GatewayExchange(msgspec.Struct, frozen=True):
    """The exchange that a gateway of another dialect publishes to, as that gateway declares it."""

    name: str
    kind: str
    durable: bool


class SharedQueue(msgspec.Struct, frozen=True):
    """A queue with the requests of all vendors, of a gateway that does not route by vendor."""

    name: str
    binding: Binding
    message_ttl: float | None = None
    """Seconds after which nobody waits for what is still in it; None: the requests say when."""
    replicated: bool = True
    """False: a classic queue, whatever the others are."""


class Dialect(Protocol):
    """How a gateway writes on RabbitMQ: what a delivery asks, and how its outcome is published."""

    name: str
    """For logs."""
    names: Names
    exchange: GatewayExchange | None
    """None: the bridge's own, of the wire contract."""
    queues: Sequence[SharedQueue]
    """None of them: there is a queue for each vendor."""

    def request(self, delivery: Delivery) -> Request:
        """Read a delivery. Raises :class:`Foreign`; what is wrong in a request is named in its ``fault``."""

    def reply(self, request: Request, body: bytes, kind: Kind) -> Publishing | None:
        """The answer to a request; None: it may not be answered where it asks to be."""

    def again(self, request: Request, delay: float, *, counts: bool) -> Publishing:
        """The request on its way to its next try, `delay` seconds from now. `counts`: the last one was a try."""

    def dead_letter(self, request: Request, failure: Failure, worker: str) -> Publishing:
        """The request as it is kept when it is given up: its body and properties untouched, the story in headers."""


# ---- requests and replies ----

_NO_HEADERS: Final[dict[str, Any]] = {}


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


def properties_of_next_try(request: Request, delay: float, *, counts: bool) -> Properties:
    """Those of a request that waits `delay` seconds for its next try. `counts`: the last one was a try."""
    now = _milliseconds(time.time())
    headers = _kept_headers(request, now)
    headers[ATTEMPT] = request.attempt + counts
    headers[NOT_BEFORE] = now + milliseconds(delay)
    if request.deadline is not None and type(headers.get(DEADLINE)) is not int:
        headers[DEADLINE] = _milliseconds(request.deadline)
    # Without its expiration: one that is shorter than the delay would bring the request back early.
    return _properties_of_copy(request, headers)


def pause_left(delivery: Delivery, delay: float) -> float:
    """Seconds that a request in the queue of pauses of `delay` seconds still has to wait; never more than these, whatever
    the clock of who put it there says.
    """
    end = (delivery.properties.headers or _NO_HEADERS).get(NOT_BEFORE)
    return min(delay, end / 1000 - time.time()) if type(end) is int else delay


def after_pause(delivery: Delivery, names: Names) -> Publishing:
    """A request whose pause is over, on its way back to where it came from."""
    headers = dict(delivery.properties.headers or _NO_HEADERS)
    headers.pop(NOT_BEFORE, None)
    properties = msgspec.structs.replace(delivery.properties, headers=headers)
    return Publishing(delivery.routing_key, delivery.body, properties, names.after_retry, mandatory=True)


def properties_of_dead_letter(request: Request, failure: Failure, worker: str, more: Mapping[str, Any]) -> Properties:
    """Those of a request that is given up. `more`: headers of the dialect's own; where it came from among them."""
    vendor_id, message_id = vendor_and_message(request)
    now = _milliseconds(time.time())
    story = {
        REASON: failure.reason.value,
        ERROR: failure.error,
        ATTEMPT: request.attempt,
        FAILED_AT: now,
        VENDOR: vendor_id,
        MESSAGE: message_id,
        STATION_ID: request.station_id,
        WORKER: worker,
    }
    return _properties_of_copy(request, {**_kept_headers(request, now), **story, **more})


def _properties_of_copy(request: Request, headers: dict[str, Any]) -> Properties:
    source: Delivery = request.source
    return msgspec.structs.replace(
        source.properties, headers=headers, expiration=None, delivery_mode=PERSISTENT, user_id=None
    )


def _kept_headers(request: Request, now: int) -> dict[str, Any]:
    """Those of the request but for the broker's and its last pause, and when it was handled first: `now`, unless they say."""
    headers = request.source.properties.headers or _NO_HEADERS
    kept = {
        name: value for name, value in headers.items() if name not in _NOT_KEPT and not name.startswith(_BROKERS_PREFIX)
    }
    if type(kept.get(FIRST_TRY)) is not int:
        kept[FIRST_TRY] = now
    return kept


def vendor_and_message(request: Request) -> tuple[str, str]:
    """For people who look for it; empty where the payload does not say."""
    try:
        envelope = decode_request(request.body, request.version)
    except CallError:
        return "", ""
    return envelope.vendor_id, envelope.message_id or ""


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def milliseconds_left(deadline: float) -> str:
    """The `expiration` of a message that nobody wants after `deadline` (Unix time in seconds).

    Never what the broker would close the channel for: a negative one, or one beyond 49 days.
    """
    return str(max(0, min(_EXPIRATION_MAX, int((deadline - time.time()) * 1000))))
