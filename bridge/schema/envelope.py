"""What the wire contract adds to a vendor's data: payloads, AMQP properties, headers, errors.

``docs/contract.md`` is the source; this says the same in JSON Schema. OCPP 1.6 has payloads of its
own, because `data` is always text there; all versions from 2.0 on share theirs.
"""

import enum
from typing import Final

from bridge.dialects.headers import (
    CONNECTION_ID,
    CONNECTION_ID_MAX_LENGTH,
    CONTENT_TYPE,
    DEADLINE,
    OFFLINE_TYPE,
    PERSISTENT,
    REQUEST_TYPE,
    STATION_ID,
    STATION_ID_MAX_LENGTH,
    TRACE_PARENT,
    TRACE_STATE,
    TRANSIENT,
    VERSION,
)
from bridge.ocpp import DEFAULT_VERSION, DataTransferStatus, OcppVersion, error_codes
from bridge.ocpp.codes import DESCRIPTION_MAX_LENGTH
from bridge.ocpp.data_transfer import MESSAGE_ID_MAX_LENGTH, VENDOR_ID_MAX_LENGTH
from bridge.ocpp.rpc import OCPP_MESSAGE_ID_MAX_LENGTH
from bridge.request.outcome import Kind
from bridge.schema.types import PREFIX, Schema


class Form(enum.StrEnum):
    """Which payloads OCPP has: those of 1.6, and those of all versions after it."""

    V1_6 = "ocpp1.6"
    V2 = "ocpp2"

    @property
    def versions(self) -> tuple[OcppVersion, ...]:
        """The versions of OCPP that have these payloads."""
        if self is Form.V1_6:
            return (OcppVersion.V1_6,)
        return tuple(version for version in OcppVersion if version is not OcppVersion.V1_6)

    @property
    def suffix(self) -> str:
        """How the titles of its schemas end: generators of code name what they make by them."""
        return "V16" if self is Form.V1_6 else ""


def request_payload(
    form: Form,
    vendor_id: str,
    message_id: str | None,
    data: Schema | None,
    *,
    required: bool,
    to_station: bool = False,
) -> Schema:
    """A DataTransferRequest. `message_id`: None means any; empty, none.

    `data`: None means that a station's is not read, or that a station is sent none.
    """
    properties: dict[str, Schema] = {
        "vendorId": {
            "const": vendor_id,
            "type": "string",
            "description": "The case of ASCII letters does not count.",
        }
    }
    names = ["vendorId"]
    if message_id:
        properties["messageId"] = {
            "const": message_id,
            "type": "string",
            "description": "The case of ASCII letters does not count.",
        }
        names.append("messageId")
    elif message_id is None:
        properties["messageId"] = {"type": "string", "maxLength": MESSAGE_ID_MAX_LENGTH}
    else:
        properties["messageId"] = {
            "type": "string",
            "maxLength": 0,
            "description": "Absent, or empty.",
        }
    if data is not None:
        properties["data"] = data
    elif to_station:
        pass
    elif form is Form.V1_6:
        properties["data"] = {"type": "string", "description": "Not read."}
    else:
        properties["data"] = {"description": "Not read."}
    if required:
        names.append("data")
    if form is Form.V2:
        properties["customData"] = _of_component(CUSTOM_DATA)
    return {"type": "object", "properties": properties, "required": names}


def _of_component(name: str) -> Schema:
    return {"$ref": f"{PREFIX}{name}"}


CUSTOM_DATA: Final = "ocpp-custom-data"
STATUS_INFO: Final = "ocpp-status-info"
"""Names of components. No class has a hyphen in its name."""

_CUSTOM_DATA: Final[Schema] = {
    "title": "CustomData",
    "type": "object",
    "description": "From OCPP 2.0.1 on.",
    "properties": {"vendorId": {"type": "string", "maxLength": VENDOR_ID_MAX_LENGTH}},
    "required": ["vendorId"],
}
_STATUS_INFO: Final[Schema] = {
    "title": "StatusInfo",
    "type": "object",
    "description": "From OCPP 2.0.1 on.",
    "properties": {
        "reasonCode": {"type": "string", "maxLength": 20},
        "additionalInfo": {
            "type": "string",
            "maxLength": 1024,
            "description": "Until OCPP 2.0.1, at most 512 characters.",
        },
        "customData": _of_component(CUSTOM_DATA),
    },
    "required": ["reasonCode"],
}


COMPONENTS: Final[dict[str, Schema]] = {CUSTOM_DATA: _CUSTOM_DATA, STATUS_INFO: _STATUS_INFO}
"""What the payloads from OCPP 2.0 on refer to."""


def accepted_payload(form: Form, data: Schema | None, *, required: bool) -> Schema:
    """A DataTransferResponse whose status is Accepted. `data`: None means there is none."""
    properties: dict[str, Schema] = {"status": {"const": "Accepted", "type": "string"}}
    if data is not None:
        properties["data"] = data
    return {
        "type": "object",
        "properties": properties | _further(form),
        "required": ["status", "data"] if required else ["status"],
    }


def refused_payload(form: Form) -> Schema:
    """A DataTransferResponse with any other status."""
    others = [status.value for status in DataTransferStatus if status != "Accepted"]
    status: Schema = {"title": f"RefusedStatus{form.suffix}", "type": "string", "enum": others}
    data: Schema = {"description": "Mostly absent."}
    if form is Form.V1_6:
        data["type"] = "string"
    return {
        "type": "object",
        "properties": {"status": status, "data": data} | _further(form),
        "required": ["status"],
    }


def _further(form: Form) -> dict[str, Schema]:
    return (
        {}
        if form is Form.V1_6
        else {"statusInfo": _of_component(STATUS_INFO), "customData": _of_component(CUSTOM_DATA)}
    )


def call_error_payload(form: Form, *, from_station: bool) -> Schema:
    """A CALLERROR. That of a station comes as the station gave it, whatever its code is."""
    code: Schema = {"type": "string"}
    known = sorted(error_codes(form.versions[-1]))
    if from_station:
        code["description"] = f"Mostly one of {', '.join(known)}."
    else:
        code |= {"title": f"ErrorCode{form.suffix}", "enum": known}
    return {
        "type": "object",
        "properties": {
            "errorCode": code,
            "errorDescription": {"type": "string", "maxLength": DESCRIPTION_MAX_LENGTH},
            "errorDetails": {"type": "object"},
        },
        "required": ["errorCode", "errorDescription", "errorDetails"],
    }


OFFLINE_PAYLOAD: Final[Schema] = {
    "type": "object",
    "properties": {
        "sent": {
            "type": "boolean",
            "description": "False: the request was never sent to the station. True: it was, and the"
            " station may have handled it.",
        }
    },
    "required": ["sent"],
}

# ---- headers ----

_STATION: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "maxLength": STATION_ID_MAX_LENGTH,
    "description": "The charging station.",
}
_DEADLINE: Final[Schema] = {
    "type": "integer",
    "description": "int64, Unix time in milliseconds: when the sender stops waiting.",
}
_TRACE: Final[dict[str, Schema]] = {
    TRACE_PARENT: {"type": "string", "description": "W3C trace context; copied to the reply."},
    TRACE_STATE: {"type": "string", "description": "W3C trace context; copied to the reply."},
}


def _headers(title: str, properties: dict[str, Schema], *required: str) -> Schema:
    return {
        "title": title,
        "type": "object",
        "properties": properties,
        "required": [STATION_ID, *required],
    }


def request_headers(form: Form) -> Schema:
    """Of a station's request."""
    version: Schema = {
        "title": f"OcppVersion{form.suffix}",
        "type": "string",
        "enum": [each.value for each in form.versions],
    }
    if form is not Form.V1_6:
        version |= {"default": DEFAULT_VERSION.value}
    connection: Schema = {
        "type": "string",
        "minLength": 1,
        "maxLength": CONNECTION_ID_MAX_LENGTH,
        "description": "The station's connection, new for each one (a UUID). Recommended: it tells"
        " a repetition from a new request.",
    }
    properties = {
        STATION_ID: _STATION,
        VERSION: version,
        CONNECTION_ID: connection,
        DEADLINE: _DEADLINE,
        **_TRACE,
    }
    return _headers(
        f"RequestHeaders{form.suffix}", properties, *([VERSION] if form is Form.V1_6 else [])
    )


def reply_headers() -> Schema:
    """Of an answer to a station's request."""
    station: Schema = {
        "type": "string",
        "maxLength": STATION_ID_MAX_LENGTH,
        "description": "The charging station; empty if the request named none.",
    }
    return _headers("ReplyHeaders", {STATION_ID: station, **_TRACE})


def station_request_headers() -> Schema:
    """Of a request to a station."""
    return _headers("StationRequestHeaders", {STATION_ID: _STATION, DEADLINE: _DEADLINE, **_TRACE})


def station_reply_headers(form: Form) -> Schema:
    """Of a station's answer, written in the station's version."""
    version: Schema = {
        "title": f"OcppVersion{form.suffix}",
        "type": "string",
        "enum": [each.value for each in form.versions],
        "description": "The station's version, in which the payload is written.",
    }
    return _headers(
        f"StationReplyHeaders{form.suffix}",
        {STATION_ID: _STATION, VERSION: version, **_TRACE},
        VERSION,
    )


# ---- AMQP properties ----

_EXPIRATION: Final[Schema] = {
    "type": "string",
    "pattern": "^[0-9]+$",
    "description": "The time left, in milliseconds, below 2^32.",
}
_CORRELATION_ID: Final[Schema] = {
    "type": "string",
    "description": "Yours, echoed in the reply; required with reply_to.",
}


def _properties(title: str, kind: str, properties: dict[str, Schema]) -> Schema:
    first: dict[str, Schema] = {
        "content_type": {"type": "string", "const": CONTENT_TYPE},
        "type": {"type": "string", "const": kind},
    }
    return {"title": title, "type": "object", "properties": first | properties}


def request_properties(*, to_station: bool) -> Schema:
    """Of a request."""
    reply_to = "Your reply queue: direct reply-to, one that the broker named, or one whose name"
    properties: dict[str, Schema] = {
        "correlation_id": _CORRELATION_ID,
        "message_id": {
            "type": "string",
            "maxLength": OCPP_MESSAGE_ID_MAX_LENGTH,
            "description": "Names the request: make it unique (a UUID)."
            if to_station
            else "The OCPP message id of the CALL.",
        },
        "reply_to": {
            "type": "string",
            "description": f"{reply_to} is allowed. Absent: nobody waits for an answer.",
        },
        "expiration": _EXPIRATION,
        "delivery_mode": {"type": "integer", "const": TRANSIENT if to_station else PERSISTENT},
    }
    if not to_station:
        properties["timestamp"] = {
            "type": "integer",
            "description": "When you publish it, in whole seconds of Unix time. Recommended.",
        }
        properties["user_id"] = {
            "type": "string",
            "description": "Your user at the broker, which the broker checks. Recommended where"
            " several gateways share a virtual host.",
        }
    title = "StationRequestProperties" if to_station else "RequestProperties"
    return _properties(title, REQUEST_TYPE, properties)


def reply_properties(kind: str) -> Schema:
    """Of a reply. `kind`: the property `type`, which says what the body is."""
    properties: dict[str, Schema] = {
        "correlation_id": {"type": "string", "description": "That of the request."},
        "expiration": _EXPIRATION | {"description": "What is left until the deadline, if any."},
        "delivery_mode": {"type": "integer"},
    }
    return _properties(f"{kind}Properties", kind, properties)


RESPONSE: Final = Kind.RESPONSE.value
CALL_ERROR: Final = Kind.CALL_ERROR.value
OFFLINE: Final = OFFLINE_TYPE
