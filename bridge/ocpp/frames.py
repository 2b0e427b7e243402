"""OCPP-J frames of every kind (OCPP-J 1.6 §4.2, OCPP-J 2.0.1 §4.2, OCPP-J 2.1 §4.2).

    [2, id, action, payload]                      CALL
    [3, id, payload]                              CALLRESULT
    [4, id, code, description, details]           CALLERROR
    [5, id, code, description, details]           CALLRESULTERROR, 2.1
    [6, id, action, payload]                      SEND, never answered, 2.1

A payload stays JSON: what it must look like depends on the action. It is checked for syntax, not for UTF-8.
"""

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct

from bridge.ocpp.codes import ErrorCode
from bridge.ocpp.errors import DESCRIPTION_MAX_LENGTH, CallError
from bridge.ocpp.faults import DECODE_FAULTS, describe
from bridge.ocpp.versions import OcppVersion

MESSAGE_ID_MAX_LENGTH = 36
"""Characters of an OCPP-J message id (a UUID has 36)."""

UNREADABLE_MESSAGE_ID = "-1"
"""The message id of a CALLERROR that answers a frame whose own cannot be read (OCPP-J 2.0.1 §4.2.3)."""

_MessageId = Annotated[str, Meta(max_length=MESSAGE_ID_MAX_LENGTH)]

if TYPE_CHECKING:
    Payload: TypeAlias = Raw | bytes
    """JSON: `Raw` from a decoder, or bytes to send; `encode_frame` writes both verbatim."""
else:
    Payload = Raw  # What a decoder is to make of it; for msgspec, bytes would be a string in base64.


class CallFrame(Struct, array_like=True, tag=2, forbid_unknown_fields=True):
    """A request."""

    message_id: _MessageId
    action: str
    payload: Payload


class CallResultFrame(Struct, array_like=True, tag=3, forbid_unknown_fields=True):
    """The response to a CALL; it carries no action."""

    message_id: _MessageId
    payload: Payload


class CallErrorFrame(Struct, array_like=True, tag=4, forbid_unknown_fields=True):
    """The error that answers a CALL. Description and details are mandatory to send; where a peer leaves them out,
    they are read as empty.
    """

    message_id: _MessageId
    error_code: str
    error_description: str = ""
    error_details: dict[str, Any] = {}


class CallResultErrorFrame(Struct, array_like=True, tag=5, forbid_unknown_fields=True):
    """The error that answers a CALLRESULT (2.1)."""

    message_id: _MessageId
    error_code: str
    error_description: str = ""
    error_details: dict[str, Any] = {}


class SendFrame(Struct, array_like=True, tag=6, forbid_unknown_fields=True):
    """A message that is not answered (2.1)."""

    message_id: _MessageId
    action: str
    payload: Payload


Frame: TypeAlias = CallFrame | CallResultFrame | CallErrorFrame | CallResultErrorFrame | SendFrame


class FrameError(ValueError):
    """Bytes that are not a frame of this version. `message_id` is that of the frame, or "-1" if it cannot be read;
    `code` is the error code that a CALLERROR to it has.
    """

    def __init__(self, code: ErrorCode, description: str, message_id: str = UNREADABLE_MESSAGE_ID) -> None:
        super().__init__(f"{code}: {description}")
        self.code = code
        self.description = description
        self.message_id = message_id


_UP_TO_2_0_1: msgspec.json.Decoder[Frame] = msgspec.json.Decoder(CallFrame | CallResultFrame | CallErrorFrame)
_DECODERS: dict[str, msgspec.json.Decoder[Frame]] = {
    OcppVersion.V1_6: _UP_TO_2_0_1,
    OcppVersion.V2_0: _UP_TO_2_0_1,
    OcppVersion.V2_0_1: _UP_TO_2_0_1,
    OcppVersion.V2_1: msgspec.json.Decoder(Frame),
}
_MESSAGE_TYPES: dict[str, range] = {
    OcppVersion.V1_6: range(2, 5),
    OcppVersion.V2_0: range(2, 5),
    OcppVersion.V2_0_1: range(2, 5),
    OcppVersion.V2_1: range(2, 7),
}
_parts = msgspec.json.Decoder(list[Raw]).decode
_message_id = msgspec.json.Decoder(_MessageId).decode
_message_type = msgspec.json.Decoder(int).decode


def decode_frame(data: bytes | str, version: OcppVersion) -> Frame:
    """The frame in `data`, one WebSocket message. Raises FrameError for anything else."""
    try:
        return _DECODERS[version].decode(data)
    except (*DECODE_FAULTS, UnicodeEncodeError) as fault:
        raise _frame_error(data, version, fault) from fault


def encode_frame(frame: Frame) -> bytes:
    """The bytes of `frame`, its payload verbatim, its description cut to 255 characters."""
    if isinstance(frame, CallErrorFrame | CallResultErrorFrame):
        if len(frame.error_description) > DESCRIPTION_MAX_LENGTH:
            frame = msgspec.structs.replace(frame, error_description=frame.error_description[:DESCRIPTION_MAX_LENGTH])
    elif isinstance(frame.payload, bytes):
        frame = msgspec.structs.replace(frame, payload=Raw(frame.payload))
    return msgspec.json.encode(frame)


def call_error_frame(message_id: str, error: CallError, version: OcppVersion) -> CallErrorFrame:
    """The frame that answers the CALL `message_id` with `error`, in the spelling of `version`."""
    return CallErrorFrame(message_id, error.for_version(version), error.description, error.details)


def _frame_error(data: bytes | str, version: OcppVersion, fault: Exception) -> FrameError:
    """Read what can be read of a broken frame, to answer it as well as possible."""
    try:
        parts = _parts(data)
    except (*DECODE_FAULTS, UnicodeEncodeError):
        return FrameError(_malformed(version), describe(fault, "frame")[1])
    what = describe(fault, "frame")[1]
    if len(parts) < 2:
        return FrameError(_malformed(version), what)
    message_id = _read_message_id(parts[1])
    if message_id is None:
        return FrameError(_malformed(version), "message id: expected a string of at most 36 characters")
    if not _is_known_type(parts[0], version):
        return FrameError(_unknown_type(version), "unknown message type", message_id)
    return FrameError(_malformed(version), what, message_id)


def _read_message_id(part: Raw) -> str | None:
    try:
        return _message_id(part)
    except DECODE_FAULTS:
        return None


def _is_known_type(part: Raw, version: OcppVersion) -> bool:
    try:
        return _message_type(part) in _MESSAGE_TYPES[version]
    except DECODE_FAULTS:
        return False


def _malformed(version: OcppVersion) -> ErrorCode:
    return ErrorCode.FORMAT_VIOLATION if version == OcppVersion.V1_6 else ErrorCode.RPC_FRAMEWORK_ERROR


def _unknown_type(version: OcppVersion) -> ErrorCode:
    return ErrorCode.PROTOCOL_ERROR if version == OcppVersion.V1_6 else ErrorCode.MESSAGE_TYPE_NOT_SUPPORTED
