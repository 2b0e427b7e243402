"""The native dialect: the bridge's own wire contract (``docs/contract.md``).

Station → CSMS: published to the exchange ``datatransfer`` with :func:`vendor_key` of the vendorId
as routing key; the body is the OCPP payload. The reply goes to the queue that ``reply_to`` names,
by the default exchange; its ``type`` tells a response from a CALLERROR.

CSMS → station: published to the exchange ``datatransfer.stations`` with :func:`station_key` of the
station. The gateway that holds the station replies in the same way.

:meth:`Native.request` and :meth:`Native.reply` run once per message, so this is one of the modules
that are compiled.
"""

import re
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from bridge.compiled import fields
from bridge.dialects.copies import (
    milliseconds_left,
    properties_of_dead_letter,
    properties_of_next_try,
    vendor_and_message,
)
from bridge.dialects.dialect import GatewayExchange, Question, SharedQueue
from bridge.dialects.direct import DIRECT_REPLY_TO, is_direct_reply_to
from bridge.dialects.headers import (
    ATTEMPT,
    CONNECTION_ID,
    CONNECTION_ID_MAX_LENGTH,
    CONTENT_TYPE,
    DEADLINE,
    EXCHANGE,
    EXPIRATION,
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
from bridge.dialects.remembered import Remembered
from bridge.dialects.replies import RICHEST, OfflineBody
from bridge.ocpp import DEFAULT_VERSION, OcppVersion
from bridge.ocpp.rpc import OCPP_MESSAGE_ID_MAX_LENGTH, check_message_id
from bridge.request.incoming import Request
from bridge.request.outcome import Failure, Kind
from bridge.transport import Binding, Delivery, Properties, Publishing

fields.check((Delivery, Properties, Publishing, Request))

_TRACE_LENGTH: Final = 512
"""Characters of a trace header that a reply repeats: as many of tracestate as W3C Trace Context
("tracestate limits") asks to be passed on."""

SERVER_NAMED: Final = "amq.gen-"

_HEAD: Final = re.compile(r"[^0-9._:-]{1,40}[._:-]?")
"""The beginning of a queue's name, which queues of one kind share; what follows is often random."""


_MESSAGE_ID_MAX_LENGTH: Final = OCPP_MESSAGE_ID_MAX_LENGTH
"""A name of this module's own, because it is read once for each request."""
_EARLIEST: Final = 100_000_000_000
"""Milliseconds of Unix time: the 3rd of March 1973. A lower deadline is given in another unit: in
seconds, the same number is the year 5138."""
_VERSIONS: Final = {version.value: version for version in OcppVersion}
_NAMES: Final = {version: version.value for version in OcppVersion}
_NO_HEADERS: Final[dict[str, Any]] = {}
_RESPONSE: Final = Kind.RESPONSE
"""A name of its own, because a member of an Enum is looked up at each use."""


def _reply_properties(
    kind: str,
    version: OcppVersion | None,
    station_id: str,
    request_headers: Mapping[str, Any] = _NO_HEADERS,
) -> Properties:
    """`kind`: the property `type`. `version`: that of the answer; None: it stays unsaid."""
    headers = {STATION_ID: station_id}
    if version is not None:
        headers[VERSION] = version.value
    for name in (TRACE_PARENT, TRACE_STATE):
        value = request_headers.get(name)
        if type(value) is str and len(value) <= _TRACE_LENGTH:
            headers[name] = value
    return Properties(
        content_type=CONTENT_TYPE, headers=headers, delivery_mode=PERSISTENT, type=kind
    )


def _way_back(prefixes: tuple[str, ...], reply_to: str) -> bool | None:
    """True: ``reply_to`` is a named queue. False: direct reply-to. None: it is not allowed."""
    if reply_to.startswith(DIRECT_REPLY_TO):
        return False if is_direct_reply_to(reply_to) else None
    return True if reply_to.startswith(prefixes) else None


class Native:
    """The native dialect. It implements :class:`~bridge.dialects.dialect.Dialect`."""

    def __init__(self, names: Names | None = None, reply_prefixes: tuple[str, ...] = ()) -> None:
        """`reply_prefixes`: how the names of reply queues may begin.

        Always allowed are direct reply-to, queues that the broker named, and those that begin with
        :attr:`~bridge.dialects.names.Names.replies`. Raises ValueError for an empty prefix.
        """
        if "" in reply_prefixes:
            raise ValueError("an empty reply prefix would allow every queue")
        self.name = "native"
        self.names: Names = names or Names()
        self._requests = self.names.requests
        self.exchange: GatewayExchange | None = None
        self.queues: Sequence[SharedQueue] = ()
        # All replies of a kind to one station differ in correlation_id and expiration alone.
        self._responses = _replies(Kind.RESPONSE.value)
        self._call_errors = _replies(Kind.CALL_ERROR.value)
        self._station_responses = {
            version: _replies(Kind.RESPONSE.value, version) for version in OcppVersion
        }
        self._station_call_errors = {
            version: _replies(Kind.CALL_ERROR.value, version) for version in OcppVersion
        }
        self._offline = _replies(OFFLINE_TYPE)
        self._reply_prefixes = (SERVER_NAMED, self.names.replies, *reply_prefixes)
        self._ways_back = Remembered(partial(_way_back, self._reply_prefixes))

    def request(self, delivery: Delivery) -> Request:
        """As :meth:`Dialect.request`. Every delivery is a request, if only one with a fault."""
        properties = delivery.properties
        headers = properties.headers or _NO_HEADERS
        station_id = headers.get(STATION_ID)
        version = headers.get(VERSION, DEFAULT_VERSION)
        deadline = headers.get(DEADLINE)
        connection_id = headers.get(CONNECTION_ID)
        attempt = headers.get(ATTEMPT, 1)
        reply_to = properties.reply_to
        fault = None
        if type(station_id) is not str or not 0 < len(station_id) <= STATION_ID_MAX_LENGTH:
            fault = (
                f"header {STATION_ID}: required, "
                f"a string of at most {STATION_ID_MAX_LENGTH} characters"
            )
            station_id = ""
        if type(version) is not OcppVersion:
            known = _VERSIONS.get(version) if type(version) is str else None
            if known is None:
                fault = fault or f"header {VERSION}: expected one of {', '.join(_VERSIONS)}"
                known = DEFAULT_VERSION
            version = known
        origin: Any = connection_id
        told_apart = True
        if connection_id is None:
            # It is named by the message that it is. A copy may have a deadline of ours.
            copied = FIRST_TRY in headers
            given = None if copied and EXPIRATION in headers else deadline
            origin = (properties.correlation_id, given if type(given) is int else None)
            told_apart = copied or given is not None
        elif (
            type(connection_id) is not str or not 0 < len(connection_id) <= CONNECTION_ID_MAX_LENGTH
        ):
            fault = fault or (
                f"header {CONNECTION_ID}: expected a string of "
                f"1 to {CONNECTION_ID_MAX_LENGTH} characters"
            )
            origin = None
        if properties.user_id is not None:
            origin = (properties.user_id, origin)
        if deadline is not None:
            if type(deadline) is int and deadline >= _EARLIEST:
                deadline /= 1000
            else:
                fault = fault or _deadline_fault(deadline)
                deadline = None
        elif properties.expiration is not None:
            deadline = _end_of_life(properties.expiration)
        first_try = headers.get(FIRST_TRY) if attempt != 1 else None
        if type(attempt) is not int or attempt < 1:
            attempt = 1
        if reply_to and not properties.correlation_id:
            fault = fault or "correlation_id: required with reply_to"
        message_id = properties.message_id
        if message_id is not None and len(message_id) > _MESSAGE_ID_MAX_LENGTH:
            fault = fault or f"message_id: at most {_MESSAGE_ID_MAX_LENGTH} characters"
        return Request(
            body=delivery.body,
            station_id=station_id,
            version=version,
            ocpp_message_id=message_id,
            deadline=deadline,
            attempt=attempt,
            redelivered=delivery.redelivered,
            reply_wanted=bool(reply_to),
            fault=fault,
            source=delivery,
            first_try=first_try / 1000 if type(first_try) is int else None,
            origin=origin,
            told_apart=told_apart,
        )

    def again(self, request: Request, delay: float, *, counts: bool) -> Publishing:
        """As :meth:`Dialect.again`."""
        delivery = request.source
        key = delivery.routing_key
        if delivery.exchange != self.names.requests:
            # It came another way, but after its pause it comes by the exchange of requests.
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
        """As :meth:`Dialect.reply`. None if ``reply_to`` is not allowed.

        A request must not make the bridge publish to just any queue, nor copy its headers: only the
        trace goes back. A reply to a named queue is mandatory, so that it shows if the queue is
        gone. A reply to direct reply-to is not: up to 4.1, RabbitMQ returns it although it delivers
        it.
        """
        return self._reply(
            request, body, self._responses if kind is _RESPONSE else self._call_errors
        )

    def _reply(
        self, request: Request, body: bytes, replies: Remembered[Properties]
    ) -> Publishing | None:
        """`replies`: the properties of replies of this kind, by station."""
        delivery = request.source
        asked = delivery.properties
        reply_to = asked.reply_to
        if reply_to is None or (named := self._ways_back[reply_to]) is None:
            return None
        headers = asked.headers
        if headers is not None and TRACE_PARENT in headers:
            properties = replies.work_out(request.station_id, headers)
        else:
            properties = replies[request.station_id]
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

    def why_not_answered(self, request: Request) -> tuple[str, str]:
        """As :meth:`Dialect.why_not_answered`."""
        reply_to = request.source.properties.reply_to or ""
        if reply_to.startswith(DIRECT_REPLY_TO):
            return DIRECT_REPLY_TO, f"the reply queue {reply_to[:80]!a} is none that a broker names"
        head = _HEAD.match(reply_to)
        allowed = ", ".join(f"{prefix}*" for prefix in self._reply_prefixes)
        sentence = (
            f"the reply queue {reply_to[:80]!a} is not allowed."
            f" Allowed are {DIRECT_REPLY_TO} and {allowed}: let the broker name the queue,"
            " or allow the beginning of its name as a reply prefix"
        )
        return "" if head is None else head[0], sentence

    # ---- to ask ----

    def question_to_csms(
        self,
        *,
        station_id: str,
        version: OcppVersion,
        vendor_id: str,
        body: bytes,
        deadline: float,
        message_id: str | None,
        connection_id: str | None = None,
    ) -> Question:
        """As :meth:`Dialect.question_to_csms`."""
        check_message_id(message_id)
        publishing = partial(
            self.request_publishing,
            station_id=station_id,
            version=version,
            vendor_id=vendor_id,
            body=body,
            deadline=deadline,
            message_id=message_id,
            connection_id=connection_id,
        )
        return Question(station_id, publishing)

    def request_publishing(
        self,
        correlation_id: str,
        reply_to: str,
        *,
        station_id: str,
        version: OcppVersion,
        vendor_id: str,
        body: bytes,
        deadline: float,
        message_id: str | None,
        connection_id: str | None = None,
    ) -> Publishing:
        """A station's request, as its gateway publishes it.

        `deadline`: seconds of Unix time. `message_id`: None stands for the correlation id.
        `connection_id`: None: not said.
        """
        return self.station_asks(
            correlation_id,
            reply_to,
            station_id,
            version,
            vendor_id,
            body,
            deadline,
            message_id,
            connection_id,
        )

    def station_asks(
        self,
        correlation_id: str,
        reply_to: str,
        station_id: str,
        version: OcppVersion,
        vendor_id: str,
        body: bytes,
        deadline: float,
        message_id: str | None,
        connection_id: str | None,
    ) -> Publishing:
        """As :meth:`request_publishing`, by the places of the parameters."""
        headers = {
            STATION_ID: station_id,
            VERSION: _NAMES[version],
            DEADLINE: int(deadline * 1000),
        }
        if connection_id is not None:
            headers[CONNECTION_ID] = connection_id
        properties = _request_properties(
            headers, PERSISTENT, deadline, message_id, correlation_id, reply_to
        )
        return Publishing(vendor_key(vendor_id), body, properties, self._requests, True)

    def station_version(self, given: OcppVersion | None) -> OcppVersion:
        """The richest: the gateway leaves out what the station's own version does not have.

        Raises ValueError if one is given.
        """
        if given is not None:
            raise ValueError(
                "the gateway knows the station's version: give ocpp_version in a dialect only"
            )
        return RICHEST

    def question_to_station(
        self,
        *,
        station_id: str,
        version: OcppVersion,
        body: bytes,
        deadline: float,
        message_id: str | None,
    ) -> Question:
        """As :meth:`Dialect.question_to_station`.

        `version` stays unsaid, because the gateway knows.
        """
        check_message_id(message_id)
        publishing = partial(
            self.station_request,
            station_id=station_id,
            body=body,
            deadline=deadline,
            message_id=message_id,
        )
        return Question(station_id, publishing)

    def station_request(
        self,
        correlation_id: str,
        reply_to: str,
        *,
        station_id: str,
        body: bytes,
        deadline: float,
        message_id: str | None,
    ) -> Publishing:
        """A request of the CSMS to a station. Parameters as in :meth:`request_publishing`.

        It names no version: the gateway writes the payload in the station's. It is transient,
        because a gateway's queue lives no longer than the gateway's connection.
        """
        headers = {STATION_ID: station_id, DEADLINE: int(deadline * 1000)}
        properties = _request_properties(
            headers, TRANSIENT, deadline, message_id, correlation_id, reply_to
        )
        return Publishing(
            station_key(station_id), body, properties, self.names.stations, mandatory=True
        )

    @property
    def station_replies(self) -> Sequence[Binding]:
        """Empty: answers come to the queue that ``reply_to`` names."""
        return ()

    def read_station_reply(self, delivery: Delivery) -> Delivery | None:
        """The delivery itself."""
        return delivery

    # ---- a gateway's answers to the CSMS ----

    def station_reply(self, request: Request, body: bytes, kind: Kind) -> Publishing | None:
        """A station's answer, as :meth:`reply`, with the version that it is written in.

        The CSMS does not know the station's version.
        """
        replies = self._station_responses if kind is _RESPONSE else self._station_call_errors
        return self._reply(request, body, replies[request.version])

    def offline_reply(self, request: Request, *, sent: bool) -> Publishing | None:
        """The answer for a station that is gone. `sent`: whether it had been sent the request."""
        return self._reply(request, msgspec.json.encode(OfflineBody(sent)), self._offline)


def _replies(kind: str, version: OcppVersion | None = None) -> Remembered[Properties]:
    """The properties of replies of a kind, which are alike for all to one station."""
    return Remembered(partial(_reply_properties, kind, version))


def _request_properties(
    headers: dict[str, Any],
    delivery_mode: int,
    deadline: float,
    message_id: str | None,
    correlation_id: str,
    reply_to: str,
) -> Properties:
    """The properties of a request in either direction, which is published now."""
    now = time.time()
    return Properties(
        content_type=CONTENT_TYPE,
        headers=headers,
        delivery_mode=delivery_mode,
        correlation_id=correlation_id,
        reply_to=reply_to,
        expiration=milliseconds_left(deadline, now),
        message_id=correlation_id if message_id is None else message_id,
        timestamp=int(now),
        type=REQUEST_TYPE,
    )


def _deadline_fault(deadline: object) -> str:
    """What is wrong with a deadline."""
    text = f"header {DEADLINE}: expected Unix time in milliseconds, an integer"
    if type(deadline) is int:
        seconds = deadline >= _EARLIEST // 1000
        text += f", and {deadline} is {'in seconds' if seconds else 'long past'}"
    return text


def _end_of_life(expiration: str) -> float | None:
    """When a message that has just arrived would have expired, in seconds of Unix time.

    That is later than its requester meant, never earlier. None for what is not a number.
    """
    return time.time() + int(expiration) / 1000 if expiration.isdecimal() else None
