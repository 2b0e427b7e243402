"""The native dialect: the bridge's own wire contract, which ``docs/contract.md`` tells gateway authors.

Read and answered once per message, so it is one of the modules that are compiled (``native.pxd``).
"""

import base64
import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Generic, TypeVar

import msgspec

from bridge.compiled import fields
from bridge.dialects.copies import (
    milliseconds_left,
    properties_of_dead_letter,
    properties_of_next_try,
    vendor_and_message,
)
from bridge.dialects.dialect import GatewayExchange, SharedQueue
from bridge.dialects.headers import (
    ATTEMPT,
    CONTENT_TYPE,
    DEADLINE,
    EXCHANGE,
    FIRST_TRY,
    OFFLINE_TYPE,
    PERSISTENT,
    REQUEST_TYPE,
    ROUTING_KEY,
    STATION_ID,
    STATION_ID_MAX_LENGTH,
    TRACE_PARENT,
    TRACE_STATE,
    TRANSIENT,
    VERSION,
)
from bridge.dialects.names import Names, station_key, vendor_key
from bridge.dialects.replies import OfflineBody
from bridge.ocpp import DEFAULT_VERSION, OcppVersion
from bridge.request.incoming import Request
from bridge.request.outcome import Failure, Kind
from bridge.transport import Delivery, Properties, Publishing

fields.check((Delivery, Properties, Publishing, Request))

_TRACE_LENGTH: Final = 512
"""Characters of either that a reply repeats; W3C Trace Context asks for no more of tracestate."""

DIRECT_REPLY_TO: Final = "amq.rabbitmq.reply-to"
SERVER_NAMED: Final = "amq.gen-"

_DIRECT: Final = re.compile(
    r"amq\.rabbitmq\.reply-to\.([A-Za-z0-9+/]+={0,2})\.[A-Za-z0-9+/]+={0,2}"
)


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
_RESPONSE: Final = Kind.RESPONSE
"""By itself: a member of an Enum is looked up at each use."""


def _reply_properties(
    kind: Kind, station_id: str, request_headers: Mapping[str, Any] = _NO_HEADERS
) -> Properties:
    headers = {STATION_ID: station_id}
    for name in (TRACE_PARENT, TRACE_STATE):
        value = request_headers.get(name)
        if type(value) is str and len(value) <= _TRACE_LENGTH:
            headers[name] = value
    return Properties(
        content_type=CONTENT_TYPE, headers=headers, delivery_mode=PERSISTENT, type=kind.value
    )


def _way_back(prefixes: tuple[str, ...], reply_to: str) -> bool | None:
    """Whether a ``reply_to`` is a named queue (True) or direct reply-to (False); None: it is not allowed."""
    if reply_to.startswith(DIRECT_REPLY_TO):
        return False if is_direct_reply_to(reply_to) else None
    return True if reply_to.startswith(prefixes) else None


Value = TypeVar("Value")


class _Remembered(dict[str, Value], Generic[Value]):
    """What `work_out` says of a text, asked once: of a station, or of a reply queue."""

    KEPT: Final = 4_096
    """Answers kept, at most 500 bytes each. The texts come from outside; when there are so many, all are forgotten, and those in use are soon back."""

    def __init__(self, work_out: Callable[[str], Value]) -> None:
        super().__init__()
        self._work_out = work_out

    def __missing__(self, text: str) -> Value:
        if len(self) >= self.KEPT:
            self.clear()
        self[text] = answer = self._work_out(text)
        return answer


class Native:
    """The native dialect: what a delivery asks, and how its answer is published."""

    def __init__(self, names: Names | None = None, reply_prefixes: tuple[str, ...] = ()) -> None:
        """`reply_prefixes`: how reply queues may begin, beside direct reply-to, server-named queues and the bridge's own."""
        self.name = "native"
        self.names: Names = names or Names()
        self.exchange: GatewayExchange | None = None
        self.queues: Sequence[SharedQueue] = ()
        # Of all replies of a kind to one station: they differ in correlation_id and expiration alone.
        self._responses = _Remembered(partial(_reply_properties, Kind.RESPONSE))
        self._call_errors = _Remembered(partial(_reply_properties, Kind.CALL_ERROR))
        self._ways_back = _Remembered(
            partial(_way_back, (SERVER_NAMED, self.names.replies, *reply_prefixes))
        )

    def request(self, delivery: Delivery) -> Request:
        """Read a delivery. What breaks the contract is named in :attr:`~bridge.request.incoming.Request.fault`."""
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
                fault = (
                    fault or f"header {DEADLINE}: expected Unix time in milliseconds, an integer"
                )
                deadline = None
        elif properties.expiration is not None:
            deadline = _end_of_life(properties.expiration)
        first_try = headers.get(FIRST_TRY) if attempt != 1 else None
        if type(attempt) is not int or attempt < 1:
            attempt = 1
        if reply_to and not properties.correlation_id:
            fault = fault or "correlation_id: required with reply_to"
        return Request(
            body=delivery.body,
            station_id=station_id,
            version=version,
            ocpp_message_id=properties.message_id,
            deadline=deadline,
            attempt=attempt,
            redelivered=delivery.redelivered,
            reply_wanted=bool(reply_to),
            fault=fault,
            source=delivery,
            first_try=first_try / 1000 if type(first_try) is int else None,
        )

    def again(self, request: Request, delay: float, *, counts: bool) -> Publishing:
        """As :meth:`Dialect.again`."""
        delivery = request.source
        key = delivery.routing_key
        if (
            delivery.exchange != self.names.requests
        ):  # it came another way; from its delay it comes back this way
            key = vendor_key(vendor_and_message(request)[0])
        properties = properties_of_next_try(request, delay, counts=counts)
        return Publishing(key, request.body, properties, self.names.retry(delay), mandatory=True)

    def dead_letter(self, request: Request, failure: Failure, worker: str) -> Publishing:
        """As :meth:`Dialect.dead_letter`."""
        delivery = request.source
        origin = {EXCHANGE: delivery.exchange, ROUTING_KEY: delivery.routing_key}
        properties = properties_of_dead_letter(request, failure, worker, origin)
        return Publishing(
            delivery.routing_key, request.body, properties, self.names.dead, mandatory=True
        )

    def reply(self, request: Request, body: bytes, kind: Kind) -> Publishing | None:
        """The answer to a request, if its ``reply_to`` is allowed: a request must not make the bridge publish to just any queue.

        Nothing of the request's headers is copied but what is named here. A reply to a named queue is mandatory, which
        shows that the queue is gone. One to direct reply-to is not: up to RabbitMQ 4.1 the broker returns it although
        it delivers it.
        """
        delivery = request.source
        asked = delivery.properties
        reply_to = asked.reply_to
        if reply_to is None or (named := self._ways_back[reply_to]) is None:
            return None
        headers = asked.headers
        if headers is not None and TRACE_PARENT in headers:
            properties = _reply_properties(kind, request.station_id, headers)
        else:
            properties = (self._responses if kind is _RESPONSE else self._call_errors)[
                request.station_id
            ]
        deadline = request.deadline
        return Publishing(
            reply_to,
            body,
            properties,
            "",
            named,
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
        properties = _request_properties(
            headers, PERSISTENT, deadline, message_id, correlation_id, reply_to
        )
        return Publishing(
            vendor_key(vendor_id), body, properties, self.names.requests, mandatory=True
        )

    # CSMS → station:

    def station_request(
        self,
        *,
        station_id: str,
        body: bytes,
        deadline: float,
        message_id: str,
        correlation_id: str,
        reply_to: str,
    ) -> Publishing:
        """A request to a station, as the CSMS publishes it. `deadline` in seconds of Unix time.

        Without a version: the gateway knows which one the station speaks, and writes the payload in it. Transient, for the
        queue of a gateway lives no longer than the gateway.
        """
        headers = {STATION_ID: station_id, DEADLINE: int(deadline * 1000)}
        properties = _request_properties(
            headers, TRANSIENT, deadline, message_id, correlation_id, reply_to
        )
        return Publishing(
            station_key(station_id), body, properties, self.names.stations, mandatory=True
        )

    def station_reply(self, request: Request, body: bytes, kind: Kind) -> Publishing | None:
        """A station's answer, as :meth:`reply`; with the version it is written in, which the CSMS need not know."""
        reply = self.reply(request, body, kind)
        if reply is None:
            return None
        headers = (reply.properties.headers or {}) | {VERSION: request.version.value}
        return msgspec.structs.replace(
            reply, properties=msgspec.structs.replace(reply.properties, headers=headers)
        )

    def offline_reply(self, request: Request, *, sent: bool) -> Publishing | None:
        """What the CSMS is told of a station that is gone. `sent`: it had been sent the request."""
        reply = self.reply(request, msgspec.json.encode(OfflineBody(sent)), Kind.CALL_ERROR)
        if reply is None:
            return None
        return msgspec.structs.replace(
            reply, properties=msgspec.structs.replace(reply.properties, type=OFFLINE_TYPE)
        )


def _request_properties(
    headers: dict[str, Any],
    delivery_mode: int,
    deadline: float,
    message_id: str,
    correlation_id: str,
    reply_to: str,
) -> Properties:
    """Those of a request in either direction."""
    return Properties(
        content_type=CONTENT_TYPE,
        headers=headers,
        delivery_mode=delivery_mode,
        correlation_id=correlation_id,
        reply_to=reply_to,
        expiration=milliseconds_left(deadline),
        message_id=message_id,
        type=REQUEST_TYPE,
    )


def _end_of_life(expiration: str) -> float | None:
    """When a message that has just arrived would have expired: later than its requester meant, never earlier."""
    return time.time() + int(expiration) / 1000 if expiration.isdecimal() else None
