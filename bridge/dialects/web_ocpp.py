"""The dialect of rabbitmq-web-ocpp, a plugin by which stations connect to RabbitMQ itself.

    station ── OCPP-J ── RabbitMQ: amq.topic ── ocpp16.DataTransfer.req ──→ a queue of ours
       ▲                     └── station id ──→ ocpp.<station id>, the plugin's queue of a station

There is a queue of ours for each OCPP version.

Request: the OCPP-J frame as the station sent it, ``[2,id,"DataTransfer",{…}]``. ``correlation_id``
is the message id, ``reply_to`` the station id, ``type`` the action, ``content_type``
application/json. There are no headers. It is transient; newer versions of the plugin make it
persistent.

Answer: the frame for the station, ``[3,id,{…}]`` or ``[4,id,code,description,{}]``, published to
the same exchange with the station id as routing key. The plugin's queues outlive the connection, so
every answer expires.

The other way: a CALL with the station id as routing key. Its answer comes with the routing key
``ocpp16.response.conf`` or ``ocpp16.response.error``. Newer versions say ``DataTransfer`` in place
of ``response``; older ones say an error's code there.
"""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from bridge.dialects.copies import milliseconds_left
from bridge.dialects.dialect import Foreign, GatewayExchange, SharedQueue
from bridge.dialects.headers import CONTENT_TYPE, REQUEST_TYPE, STATION_ID, TRANSIENT
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
from bridge.ocpp import (
    CallError,
    CallErrorFrame,
    CallFrame,
    ErrorCode,
    FrameError,
    OcppVersion,
    call_error_frame,
    decode_frame,
    encode_frame,
)
from bridge.ocpp.codes import DESCRIPTION_MAX_LENGTH
from bridge.ocpp.errors import CallErrorBody
from bridge.ocpp.rpc import OCPP_MESSAGE_ID_MAX_LENGTH, UNREADABLE_MESSAGE_ID, CallResultFrame
from bridge.request.incoming import Request
from bridge.request.outcome import Kind, Reply
from bridge.transport import Binding, Delivery, Properties, Publishing

NAME: Final = "web-ocpp"
EXCHANGE: Final = "amq.topic"
"""The plugin's default. Its newest versions call it ``ocpp``."""
PATIENCE: Final = 30.0
"""Seconds that a station waits for an answer. The plugin sets no limit; OCPP libraries wait as
long."""

PROTOCOLS: Final = {
    "ocpp16": OcppVersion.V1_6,
    "ocpp20": OcppVersion.V2_0,
    "ocpp201": OcppVersion.V2_0_1,
    "ocpp21": OcppVersion.V2_1,
}
"""How the plugin's routing keys begin."""
_PROPERTIES: Final = Properties(content_type=CONTENT_TYPE, delivery_mode=TRANSIENT)
"""The properties of every answer. Transient, as the requests are: if the broker stops, so do the
station's connection and its wait."""
_REQUEST_PROPERTIES: Final = Properties(
    content_type=CONTENT_TYPE, delivery_mode=TRANSIENT, type=REQUEST_TYPE
)
_KEY: Final = re.compile(r"(ocpp\d+)\.")
"""How the plugin's own routing keys begin. A station with such a name is not answered: its answers
would come to us, or to somebody else who listens for requests."""
_ODD: Final = re.compile(r"[^A-Za-z0-9]+")
"""What the plugin leaves out of an action where it makes a routing key of it."""

_json = msgspec.json.encode
_call_error = msgspec.json.Decoder(CallErrorBody).decode


class WebOcpp(SharedDialect):
    """The dialect of rabbitmq-web-ocpp. It implements :class:`~bridge.dialects.dialect.Dialect`."""

    def __init__(
        self, prefix: str = PREFIX, exchange: str = EXCHANGE, patience: float = PATIENCE
    ) -> None:
        """`prefix`: how our own names begin. `exchange`: the plugin's.

        `patience`: seconds from a request's arrival until nobody waits for its answer any more.
        """
        names = DialectNames(prefix, NAME)
        self._exchange = exchange
        self._patience = patience
        self._protocols = {f"{names.own}.{protocol}": protocol for protocol in PROTOCOLS}
        super().__init__(
            names,
            GatewayExchange(exchange, "topic", durable=True),
            list(map(self._queue, self._protocols)),
        )

    def _queue(self, name: str) -> SharedQueue:
        """A classic queue: older versions of the plugin give a quorum queue no more than the first
        message of a connection.

        Classic queues count no deliveries. But what is requeued keeps its age, so that a request
        that kills its worker ends by its time to live.
        """
        binding = Binding(self._exchange, f"{self._protocols[name]}.{REQUEST_TYPE}.req")
        return SharedQueue(name, binding, self._patience, replicated=False)

    def _protocol_of(self, delivery: Delivery) -> str | None:
        """The protocol that the routing key begins with.

        What comes back from a pause, or is replayed, has the name of its queue as routing key.
        """
        key = delivery.routing_key
        match = _KEY.match(key)
        return self._protocols.get(key) if match is None else match[1]

    def queue_of(self, delivery: Delivery) -> str:
        """As :meth:`SharedDialect.queue_of`."""
        protocol = self._protocol_of(delivery)
        return next(
            (name for name, of in self._protocols.items() if of == protocol), self.queues[0].name
        )

    def request(self, delivery: Delivery) -> Request:
        """As :meth:`~bridge.dialects.dialect.Dialect.request`."""
        version = PROTOCOLS.get(self._protocol_of(delivery) or "")
        if version is None:
            raise Foreign(
                f"routing key {delivery.routing_key[:60]!r}: "
                "not of a version of OCPP with DataTransfer"
            )
        properties = delivery.properties
        headers = properties.headers or {}
        replayed = is_replayed(headers)
        station_id = headers.get(STATION_ID) if replayed else properties.reply_to
        if not fits(station_id):
            raise Foreign("reply_to: required, the station")
        until = deadline(headers, self._patience)
        frame = self._frame(delivery, version, station_id, until)
        attempt, first_try = tries(headers)
        return Request(
            body=bytes(frame.payload),
            station_id=station_id,
            version=version,
            ocpp_message_id=frame.message_id,
            deadline=until,
            attempt=attempt,
            redelivered=delivery.redelivered,
            reply_wanted=not replayed,
            source=delivery,
            first_try=first_try,
        )

    def _frame(
        self, delivery: Delivery, version: OcppVersion, station_id: str, until: float | None
    ) -> CallFrame:
        try:
            frame = decode_frame(delivery.body, version)
        except FrameError as error:
            # Only what is a CALL, or may be one, is answered. Otherwise two peers could answer each
            # other's errors for ever.
            answer = None
            if error.message_type in {None, 2} and until is not None:
                error.message_id = _readable_id(error, delivery.properties.correlation_id)
                answer = self._publishing(
                    station_id, error.message_id, encode_frame(error.answer(version)), until
                )
            raise Foreign(f"no OCPP-J frame: {error}", answer) from error
        if not isinstance(frame, CallFrame):
            raise Foreign(f"a {type(frame).__name__.removesuffix('Frame')}, not a CALL")
        if frame.action != REQUEST_TYPE:
            answer = None
            if until is not None and _ODD.sub("", frame.action) == REQUEST_TYPE:
                # The plugin leaves odd characters out of the key ("Data-Transfer"), so that this
                # came to us, and nobody else will answer it.
                refusal = CallError(ErrorCode.NOT_IMPLEMENTED, f"{frame.action:.60} is not known")
                frame_ = encode_frame(call_error_frame(frame.message_id, refusal, version))
                answer = self._publishing(station_id, frame.message_id, frame_, until)
            raise Foreign(f"action {frame.action[:60]!r}, not {REQUEST_TYPE}", answer)
        return frame

    def reply(self, request: Request, body: bytes, kind: Kind) -> Publishing | None:
        """As :meth:`~bridge.dialects.dialect.Dialect.reply`."""
        message_id = request.ocpp_message_id or ""
        if kind is Kind.RESPONSE:
            frame = b"[3,%b,%b]" % (_json(message_id), body)
        else:
            error = _call_error(body)
            frame = encode_frame(
                CallErrorFrame(
                    message_id, error.error_code, error.error_description, error.error_details
                )
            )
        assert request.deadline is not None  # noqa: S101 - whoever waits does so until then
        return self._publishing(request.station_id, message_id, frame, request.deadline)

    @property
    def station_replies(self) -> Sequence[Binding]:
        """As :attr:`~bridge.dialects.dialect.Dialect.station_replies`."""
        keys = (f"*.{REQUEST_TYPE}.conf", "*.response.conf", "*.*.error")
        return [Binding(self._exchange, key) for key in keys]

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
        """As :meth:`SharedDialect.station_request`. The frame is the same in every version."""
        frame = b'[2,%b,"%b",%b]' % (_json(message_id), REQUEST_TYPE.encode(), body)
        publishing = self._publishing(station_id, message_id, frame, deadline)
        if publishing is None or not fits(station_id):
            raise ValueError(f"{station_id[:60]!r} is no station of {NAME}")
        return msgspec.structs.replace(publishing, properties=_REQUEST_PROPERTIES)

    def read_station_reply(self, delivery: Delivery) -> Delivery | None:
        """As :meth:`~bridge.dialects.dialect.Dialect.read_station_reply`."""
        version = PROTOCOLS.get(self._protocol_of(delivery) or "")
        if version is None:
            return None
        try:
            frame = decode_frame(delivery.body, version)
        except FrameError as error:
            return self._broken_reply(delivery, version, error)
        match frame:
            case CallResultFrame(message_id, payload):
                answer = Reply(bytes(payload))
            case CallErrorFrame(message_id, code, description, details):
                answer = Reply(_json(CallErrorBody(code, description, details)), Kind.CALL_ERROR)
            case _:
                return None
        return native_reply(delivery, delivery.properties.reply_to, version, message_id, answer)

    def _broken_reply(
        self, delivery: Delivery, version: OcppVersion, error: FrameError
    ) -> Delivery | None:
        """An answer that cannot be read ends the wait for it. None if it may be no answer."""
        message_id = _readable_id(error, delivery.properties.correlation_id)
        if error.message_type in {2, 6} or message_id == UNREADABLE_MESSAGE_ID:
            return None
        text = f"the station's answer is broken: {error.description}"
        told = CallErrorBody(ErrorCode.FORMAT_VIOLATION, text[:DESCRIPTION_MAX_LENGTH])
        answer = Reply(_json(told), Kind.CALL_ERROR)
        return native_reply(delivery, delivery.properties.reply_to, version, message_id, answer)

    def _publishing(
        self, station_id: str, message_id: str, frame: bytes, until: float
    ) -> Publishing | None:
        if _KEY.match(station_id):
            return None
        return Publishing(
            station_id,
            frame,
            _PROPERTIES,
            self._exchange,
            True,
            message_id,
            milliseconds_left(until),
        )


def _readable_id(error: FrameError, correlation_id: str | None) -> str:
    """The message id for the answer to a broken CALL.

    The plugin accepts a number as message id, and has it as text in the correlation id.
    """
    if (
        error.message_id != UNREADABLE_MESSAGE_ID
        or not correlation_id
        or len(correlation_id) > OCPP_MESSAGE_ID_MAX_LENGTH
    ):
        return error.message_id
    return correlation_id
