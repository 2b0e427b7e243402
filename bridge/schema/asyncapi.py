"""All that travels, as one AsyncAPI document. https://www.asyncapi.com/docs/reference/specification/v3.0.0

It is written from the side of the CSMS: the worker receives what stations ask and replies, and a
client sends what stations are asked.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from bridge.dialects.names import Names, station_key, vendor_key
from bridge.dialects.partitions import ONE_QUEUE, Partitions
from bridge.schema.envelope import (
    CALL_ERROR,
    COMPONENTS,
    OFFLINE,
    OFFLINE_PAYLOAD,
    RESPONSE,
    Form,
    accepted_payload,
    call_error_payload,
    refused_payload,
    reply_headers,
    reply_properties,
    request_headers,
    request_payload,
    request_properties,
    station_reply_headers,
    station_request_headers,
)
from bridge.schema.messages import NO_DATA, VendorMessage
from bridge.schema.types import PREFIX, Schema, as_text, json_types, schemas, without_null

AMQP: Final = "0.3.0"
"""The version of AsyncAPI's bindings for AMQP. https://github.com/asyncapi/bindings/tree/master/amqp"""

Document = dict[str, Any]

# ---- what this document says beyond AsyncAPI ----

VENDOR: Final = "x-vendor-id"
"""Of an operation: the vendor, as it is registered."""
MESSAGE: Final = "x-message-id"
"""Of an operation: the messageId; empty: there is none; null: all others of the vendor."""
PART: Final = "x-part"
"""Of a message: request, accepted, refused, call-error or station-offline."""
FORM: Final = "x-ocpp"
"""Of a message: the form of its payload, ``ocpp1.6`` or ``ocpp2``; absent: it is the same."""
PROPERTIES: Final = "x-amqp-properties"
"""Of a message: the schema of its AMQP properties. AsyncAPI's headers are AMQP's headers alone."""
QUEUES: Final = "x-queues"
"""Of a channel: the queues behind the routing key."""

_REPLIES: Final = "replies"
_STATIONS: Final = "stations"
_STATION_REPLIES: Final = "station-replies"


class _Data(msgspec.Struct):
    """The schemas of what is asked and answered; None: there is no data."""

    request: Schema | None
    answer: Schema | None


def document(
    messages: Sequence[VendorMessage],
    *,
    title: str,
    version: str,
    names: Names,
    partitions: Mapping[str, Partitions] | None = None,
) -> Document:
    """The document of these messages. `partitions`: by vendorId, of those that have them."""
    return _Writer(messages, names, partitions or {}).document(title, version)


class _Writer:
    def __init__(
        self,
        messages: Sequence[VendorMessage],
        names: Names,
        partitions: Mapping[str, Partitions],
    ) -> None:
        self._entries = messages
        self._names = names
        self._partitions = partitions
        self._channels: dict[str, Any] = {}
        self._operations: dict[str, Any] = {}
        self._messages: dict[str, Any] = {}
        self._data, self._schemas = _data_of(messages)

    def document(self, title: str, version: str) -> Document:
        for entry, data in zip(self._entries, self._data, strict=True):
            if entry.to_station:
                self._add_to_station(entry, data)
            else:
                self._add_from_station(entry, data)
        return {
            "asyncapi": "3.0.0",
            "info": {"title": title, "version": version, "description": self._introduction()},
            "defaultContentType": "application/json",
            "channels": self._channels,
            "operations": self._operations,
            "components": {"messages": self._messages, "schemas": COMPONENTS | self._schemas},
        }

    # ---- what stations ask ----

    def _add_from_station(self, entry: VendorMessage, data: _Data) -> None:
        channel = f"requests.{vendor_key(entry.vendor_id)}"
        if channel not in self._channels:
            self._channels[channel] = self._requests_channel(entry.vendor_id)
        name = self._name(entry)
        requests = [
            self._message(
                channel,
                f"{name}.request.{form}",
                part="request",
                form=form,
                title=f"{_title(entry)}, {_versions(form)}",
                model=f"{_model(entry)}Request{form.suffix}",
                payload=request_payload(
                    form,
                    entry.vendor_id,
                    entry.message_id,
                    self._in_form(form, data.request),
                    required=entry.required,
                ),
                headers=request_headers(form),
                properties=request_properties(to_station=False),
            )
            for form in Form
        ]
        replies = self._replies_channel(
            _REPLIES, "Where answers to stations go: the queue that the request names."
        )
        answers = self._answers(replies, name, entry, data)
        self._operations[name] = self._operation(
            entry, "receive", channel, requests, replies, answers
        )

    def _requests_channel(self, vendor_id: str) -> dict[str, Any]:
        queue = self._names.vendor_queue(vendor_id)
        spread = self._partitions.get(vendor_id, ONE_QUEUE)
        key = vendor_key(vendor_id)
        exchange = self._names.requests
        return {
            "address": key,
            "title": f"Requests of {vendor_id}",
            "description": f"Publish to the exchange `{exchange}` with the routing key `{key}`,"
            f" with confirms. Whoever declares it does so with the argument `alternate-exchange:"
            f" {self._names.unrouted}`.",
            "messages": {},
            "bindings": _bound(exchange),
            QUEUES: list(spread.queues(queue)),
        }

    # ---- what stations are asked ----

    def _add_to_station(self, entry: VendorMessage, data: _Data) -> None:
        exchange = self._names.stations
        if _STATIONS not in self._channels:
            self._channels[_STATIONS] = {
                "address": "{stationKey}",
                "title": "Requests to stations",
                "description": f"A gateway binds a queue of its own to the exchange `{exchange}`,"
                " with the key of each station that it holds, for as long as it holds it.",
                "parameters": {"stationKey": {"description": _STATION_KEY}},
                "messages": {},
                "bindings": _bound(exchange),
            }
        name = self._name(entry)
        request = self._message(
            _STATIONS,
            f"{name}.request",
            part="request",
            form=None,
            title=f"{_title(entry)}, to a station",
            model=f"{_model(entry)}Request",
            payload=request_payload(
                Form.V2,
                entry.vendor_id,
                entry.message_id,
                data.request,
                required=entry.required,
                to_station=True,
            ),
            headers=station_request_headers(),
            properties=request_properties(to_station=True),
        )
        replies = self._replies_channel(
            _STATION_REPLIES, "Where stations' answers go: the queue that the request names."
        )
        answers = self._answers(replies, name, entry, data)
        answers.append(
            self._message(
                replies,
                "station-offline",
                part="station-offline",
                form=None,
                title="The gateway has lost the station",
                model="StationOffline",
                payload=OFFLINE_PAYLOAD,
                headers=reply_headers(),
                properties=reply_properties(OFFLINE),
            )
        )
        self._operations[name] = self._operation(
            entry, "send", _STATIONS, [request], replies, answers
        )

    # ---- what both have ----

    def _answers(
        self, channel: str, name: str, entry: VendorMessage, data: _Data
    ) -> list[dict[str, str]]:
        """References to the messages that may be the answer: accepted, refused, or a CALLERROR."""
        answers = []
        prefix = "station-" if entry.to_station else ""
        whose = "Station" if entry.to_station else ""
        answer = None if data.answer is None else without_null(data.answer)
        required = data.answer is not None and "null" not in json_types(data.answer, self._schemas)
        for form in Form:
            headers = station_reply_headers(form) if entry.to_station else reply_headers()
            parts = (
                (
                    "accepted",
                    f"{_model(entry)}Accepted",
                    f"{name}.accepted.{form}",
                    f"{_title(entry)} is accepted",
                    accepted_payload(form, self._in_form(form, answer), required=required),
                    RESPONSE,
                ),
                (
                    "refused",
                    f"{whose}Refused",
                    f"{prefix}refused.{form}",
                    f"{_WHOSE[entry.to_station]} refusal",
                    refused_payload(form),
                    RESPONSE,
                ),
                (
                    "call-error",
                    f"{whose}CallError",
                    f"{prefix}call-error.{form}",
                    f"{_WHOSE[entry.to_station]} CALLERROR",
                    call_error_payload(form, from_station=entry.to_station),
                    CALL_ERROR,
                ),
            )
            answers += [
                self._message(
                    channel,
                    key,
                    part=part,
                    form=form,
                    title=f"{title}, {_versions(form)}",
                    model=f"{model}{form.suffix}",
                    payload=payload,
                    headers=headers,
                    properties=reply_properties(kind),
                )
                for part, model, key, title, payload, kind in parts
            ]
        return answers

    def _replies_channel(self, key: str, description: str) -> str:
        if key not in self._channels:
            self._channels[key] = {
                "address": None,
                "description": description,
                "messages": {},
                "bindings": {
                    "amqp": {
                        "is": "routingKey",
                        "exchange": {"name": "", "type": "default"},
                        "bindingVersion": AMQP,
                    }
                },
            }
        return key

    def _name(self, entry: VendorMessage) -> str:
        """What names an operation, and begins the names of its messages.

        It has letters, digits, ``.``, ``-`` and ``_``; that of no other operation is the same.
        """
        message = "_other" if entry.message_id is None else station_key(entry.message_id) or "_none"
        name = f"{'to-station.' if entry.to_station else ''}{vendor_key(entry.vendor_id)}.{message}"
        while name in self._operations:  # a.b of c is not a of b.c
            name += "_"
        return name

    def _in_form(self, form: Form, data: Schema | None) -> Schema | None:
        if data is None or form is not Form.V1_6:
            return data
        return as_text(data, self._schemas)

    def _message(
        self,
        channel: str,
        key: str,
        *,
        part: str,
        form: Form | None,
        title: str,
        model: str,
        payload: Schema,
        headers: Schema,
        properties: Schema,
    ) -> dict[str, str]:
        """Add a message, and refer to it as one of its channel."""
        message = {
            "name": key,
            "title": title,
            "payload": {"title": model} | payload,
            "headers": self._shared("headers", headers),
            "correlationId": {
                "location": "$message.header#/correlation_id",
                "description": "The AMQP property of that name.",
            },
            "bindings": {
                "amqp": {
                    "messageType": properties["properties"]["type"]["const"],
                    "bindingVersion": AMQP,
                }
            },
            PART: part,
            PROPERTIES: self._shared("properties", properties),
        }
        if form is not None:
            message[FORM] = form.value
        self._messages[key] = message
        self._channels[channel]["messages"][key] = {"$ref": f"#/components/messages/{key}"}
        return {"$ref": f"#/channels/{channel}/messages/{key}"}

    def _shared(self, what: str, schema: Schema) -> dict[str, str]:
        """A reference to a schema that several messages have, which has a title."""
        name = f"{what}-{schema['title']}"
        self._schemas[name] = schema
        return {"$ref": f"{PREFIX}{name}"}

    def _operation(
        self,
        entry: VendorMessage,
        action: str,
        channel: str,
        requests: Iterable[dict[str, str]],
        replies: str,
        answers: Iterable[dict[str, str]],
    ) -> dict[str, Any]:
        described = [entry.description] if entry.description else []
        if entry.timeout is not None:
            described.append(f"Answered within {entry.timeout:g} s once it is begun.")
        operation = {
            "action": action,
            "channel": {"$ref": f"#/channels/{channel}"},
            "title": _title(entry),
            "messages": list(requests),
            "tags": [{"name": entry.vendor_id}],
            "bindings": {
                "amqp": {
                    "deliveryMode": 1 if entry.to_station else 2,
                    "mandatory": True,
                    "bindingVersion": AMQP,
                }
            },
            "reply": {
                "address": {
                    "location": "$message.header#/reply_to",
                    "description": "The AMQP property of that name: a queue.",
                },
                "channel": {"$ref": f"#/channels/{replies}"},
                "messages": list(answers),
            },
            VENDOR: entry.vendor_id,
            MESSAGE: entry.message_id,
        }
        if described:
            operation["description"] = "\n\n".join(described)
        return operation

    def _introduction(self) -> str:
        names = self._names
        return _INTRODUCTION.format(
            exchange=names.requests, unrouted=names.unrouted, stations=names.stations
        )


def _data_of(messages: Sequence[VendorMessage]) -> tuple[list[_Data], dict[str, Schema]]:
    types = [kind for entry in messages for kind in (entry.data, entry.answer)]
    found, components = schemas([kind for kind in types if kind is not NO_DATA])
    waiting = iter(found)
    each = iter([None if kind is NO_DATA else _text_or(kind, next(waiting)) for kind in types])
    return [_Data(request, answer) for request, answer in zip(each, each, strict=True)], components


def _text_or(kind: Any, schema: Schema) -> Schema:
    """Data that is bytes is text; bytes deeper inside are base64."""
    return {"type": "string"} if kind is bytes else schema


def _bound(exchange: str) -> dict[str, Any]:
    return {
        "amqp": {
            "is": "routingKey",
            "exchange": {
                "name": exchange,
                "type": "direct",
                "durable": True,
                "autoDelete": False,
            },
            "bindingVersion": AMQP,
        }
    }


def _model(entry: VendorMessage) -> str:
    """How the titles of its schemas begin, as generators of code write a name."""
    message = "Other" if entry.message_id is None else entry.message_id or "Unnamed"
    words = re.findall("[A-Za-z0-9]+", f"{entry.vendor_id} {message}")
    direction = "ToStation" if entry.to_station else ""
    return "".join(f"{word[0].upper()}{word[1:]}" for word in words) + direction


def _title(entry: VendorMessage) -> str:
    if entry.message_id is None:
        return f"{entry.vendor_id}: any other message"
    return f"{entry.vendor_id}: {entry.message_id or 'without a messageId'}"


def _versions(form: Form) -> str:
    return "OCPP 1.6" if form is Form.V1_6 else "OCPP 2.x"


_WHOSE: Final = {False: "The CSMS's", True: "A station's"}

_STATION_KEY: Final = (
    "The station's id, with each byte of its UTF-8 form other than `A`-`Z`, `a`-`z`, `0`-`9`, `.`"
    " and `-` written as `_` and two lower-case hexadecimal digits. Of a result of more than 200"
    " characters, the first 100, then `_x` and the SHA-256 of the whole result in hexadecimal"
    " digits."
)
_INTRODUCTION: Final = """\
Vendors' messages in OCPP DataTransfer, between charging stations and the CSMS, over RabbitMQ.
The operations are those of the CSMS: it receives what stations ask, and sends what they are asked.

A gateway publishes the payload of each CALL untouched to the exchange `{exchange}`, with the
vendor's routing key, with confirms, and sends the station the payload of the reply.
The AMQP property `type` says what a reply is: `DataTransferResponse`, the payload of a CALLRESULT,
or `CallError`, an object with the code, the description and the details of a CALLERROR.
Requests of vendors that are not named here get the status `UnknownVendorId`.
Data that does not fit gets the status `Rejected`, from OCPP 2.0.1 on with the reason `InvalidData`.
A vendor's routing key is its vendorId, with ASCII letters in lower case, and each byte of its UTF-8
form other than `a`-`z`, `0`-`9`, `.` and `-` written as `_` and two lower-case hexadecimal digits.
Of a key of more than 200 characters the first 100 stay, followed by `_x` and the SHA-256 of the
whole key in hexadecimal digits.
A request whose vendorId cannot be read, or has more than 255 characters, has an empty one.
Where a vendor takes any other message, every messageId is answered; from all others a messageId
that is not named here gets the status `UnknownMessageId`.

Exchanges are durable: `{exchange}` is direct and has the alternate exchange `{unrouted}`, a fanout;
`{stations}` is direct.

In OCPP 1.6 `data` is a string: structured data travels as its JSON text in it.
From OCPP 2.0 on it is JSON; the text is taken there, too.
"""
