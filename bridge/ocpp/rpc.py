"""OCPP-J frames of every kind (OCPP-J 1.6 §4.2, OCPP-J 2.0.1 §4.2, OCPP-J 2.1 §4.2).

    [2, id, action, payload]                      CALL
    [3, id, payload]                              CALLRESULT
    [4, id, code, description, details]           CALLERROR
    [5, id, code, description, details]           CALLRESULTERROR, 2.1
    [6, id, action, payload]                      SEND, never answered, 2.1

A payload stays JSON, because its structure depends on the action. It is checked for JSON syntax,
but not for UTF-8.

Frames that need no guess are read although they are not quite right: a message type written as 2.0,
which is the same number in JSON, and a CALLERROR whose description or details are of another type.
Of a frame that cannot be read, as much of the beginning is read as there is, so that the answer has
its message id.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from bridge.ocpp.codes import DESCRIPTION_MAX_LENGTH, ErrorCode
from bridge.ocpp.errors import CallError, call_error_body
from bridge.ocpp.faults import DECODE_FAULTS, describe_fault
from bridge.ocpp.versions import OcppVersion

OCPP_MESSAGE_ID_MAX_LENGTH = 36
"""The most characters of an OCPP-J message id (a UUID has 36)."""

UNREADABLE_MESSAGE_ID = "-1"
"""The message id of a CALLERROR that answers a frame whose own id cannot be read (OCPP-J 2.0.1
§4.2.3)."""


def check_message_id(message_id: str | None) -> None:
    """Raise ValueError, with a sentence, for a message id that no request can be sent with.

    None stands for a new one.
    """
    if message_id is None or (
        message_id.isascii() and 0 < len(message_id) <= OCPP_MESSAGE_ID_MAX_LENGTH
    ):
        return
    check_length("a message id", message_id, OCPP_MESSAGE_ID_MAX_LENGTH)


def check_length(what: str, text: str, longest: int) -> None:
    """Raise ValueError for text that is empty, too long, or has no form in UTF-8.

    `what`: what it is, with an article. `longest`: characters.
    """
    if not 0 < len(text) <= longest:
        raise ValueError(f"{what} has 1 to {longest} characters, not {len(text)}")
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} is text, and {text!r} has no form in UTF-8") from None


_MessageId = Annotated[str, Meta(max_length=OCPP_MESSAGE_ID_MAX_LENGTH)]

_T = TypeVar("_T")

if TYPE_CHECKING:
    Payload: TypeAlias = Raw | bytes
    """JSON: `Raw` from a decoder, or bytes to send. `encode_frame` writes both verbatim."""
else:
    Payload = Raw  # at run time, for msgspec: it would read bytes as a string in base64


class CallFrame(Struct, array_like=True, tag=2, forbid_unknown_fields=True, gc=False):
    """A request: CALL."""

    message_id: _MessageId
    """At most 36 characters, in every kind of frame."""
    action: str
    payload: Payload


class CallResultFrame(Struct, array_like=True, tag=3, forbid_unknown_fields=True, gc=False):
    """The response to a CALL: CALLRESULT. It carries no action."""

    message_id: _MessageId
    payload: Payload


class CallErrorFrame(Struct, array_like=True, tag=4, forbid_unknown_fields=True):
    """The error that answers a CALL: CALLERROR.

    Description and details must be sent. If a peer leaves them out, or sends something else in
    their place (null, an array), they are read as empty.
    """

    message_id: _MessageId
    error_code: str
    error_description: str = ""
    error_details: dict[str, Any] = {}


class CallResultErrorFrame(Struct, array_like=True, tag=5, forbid_unknown_fields=True):
    """The error that answers a CALLRESULT: CALLRESULTERROR (2.1)."""

    message_id: _MessageId
    error_code: str
    error_description: str = ""
    error_details: dict[str, Any] = {}


class SendFrame(Struct, array_like=True, tag=6, forbid_unknown_fields=True, gc=False):
    """A message that is not answered: SEND (2.1)."""

    message_id: _MessageId
    action: str
    payload: Payload


Frame: TypeAlias = CallFrame | CallResultFrame | CallErrorFrame | CallResultErrorFrame | SendFrame


class FrameError(ValueError):
    """Bytes that are not a frame of this version.

    `code` and `description` are those of the CALLERROR that answers it. `message_id` is the frame's
    own, even if it is longer than OCPP allows, or "-1" if it cannot be read. `message_type` is the
    frame's first element, or None if it cannot be read.
    """

    def __init__(
        self,
        code: ErrorCode,
        description: str,
        message_id: str = UNREADABLE_MESSAGE_ID,
        message_type: int | None = None,
    ) -> None:
        super().__init__(f"{code}: {description}")
        self.code = code
        self.description = description
        self.message_id = message_id
        self.message_type = message_type

    def wants_answer(self, version: OcppVersion) -> bool:
        """Whether OCPP-J asks for a CALLERROR.

        A broken CALL is answered, and so is a frame that may have been one. Other broken frames are
        not answered, because two peers would go on answering each other's errors. A message type
        that the version does not define is answered in 2.0 and 2.0.1 (OCPP-J 2.0.1 §4.4), and
        ignored in 1.6 and 2.1 (OCPP-J 1.6 §4.1.3, OCPP-J 2.1 §4.4): a later version may use it for
        messages that are never answered, as 2.1 does for SEND.
        """
        if self.message_type is None or self.message_type == _CALL:
            return True
        return (
            self.message_type not in _MESSAGE_TYPES[version] and version in _ANSWERS_UNKNOWN_TYPES
        )

    def answer(self, version: OcppVersion) -> CallErrorFrame:
        """The CALLERROR that answers the broken frame."""
        return call_error_frame(self.message_id, CallError(self.code, self.description), version)


_UP_TO_2_0_1: msgspec.json.Decoder[Frame] = msgspec.json.Decoder(
    CallFrame | CallResultFrame | CallErrorFrame
)
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
_CALL, _CALL_ERROR, _CALL_RESULT_ERROR = 2, 4, 5
_ERROR_PARTS = 5
"""Elements of a CALLERROR."""
_ANSWERS_UNKNOWN_TYPES = frozenset({OcppVersion.V2_0, OcppVersion.V2_0_1})
_FAULTS = (*DECODE_FAULTS, UnicodeEncodeError)
"""All that decoding a WebSocket message can raise. A text message may hold lone surrogates."""

_ANSWERED_ID_MAX_LENGTH = 255
"""The most characters of a message id that an answer repeats. No peer is known to send more than
48, and whatever is repeated must be bounded."""
_HEAD_LENGTH = 2_048
"""Characters of a broken frame that are searched for its message id: the longest that is answered,
each of its characters as an escape of six."""
_HEAD = re.compile(
    r"\ufeff?[ \t\r\n]*\[[ \t\r\n]*"
    r'(?P<type>"[^"\\]{0,20}"|[^\s,\]"]{1,20})[ \t\r\n]*'
    r'(?:,[ \t\r\n]*(?P<id>"(?:[^"\\]|\\.)*"))?'
)
"""The beginning of a frame: its first element, and its second if that is a whole string."""

_parts = msgspec.json.Decoder(list[Raw]).decode
_answered_id = msgspec.json.Decoder(Annotated[str, Meta(max_length=_ANSWERED_ID_MAX_LENGTH)]).decode
_number = msgspec.json.Decoder(int | float).decode
_string = msgspec.json.Decoder(str).decode
_details = msgspec.json.Decoder(dict[str, Any]).decode


def decode_frame(data: bytes | str, version: OcppVersion) -> Frame:
    """The frame in `data`, which is one WebSocket message.

    Raises FrameError if it is not a valid frame of `version`.
    """
    try:
        return _DECODERS[version].decode(data)
    except _FAULTS as fault:
        frame = _read_anyway(data, version)
        if frame is None:
            raise _frame_error(data, version, fault) from fault
        return frame


def encode_frame(frame: Frame) -> bytes:
    """The bytes of `frame`: payloads are written verbatim, descriptions cut to 255 characters."""
    if isinstance(frame, CallErrorFrame | CallResultErrorFrame):
        if len(frame.error_description) > DESCRIPTION_MAX_LENGTH:
            frame = msgspec.structs.replace(
                frame, error_description=frame.error_description[:DESCRIPTION_MAX_LENGTH]
            )
    elif isinstance(frame.payload, bytes):
        frame = msgspec.structs.replace(frame, payload=Raw(frame.payload))
    return msgspec.json.encode(frame)


def call_error_frame(message_id: str, error: CallError, version: OcppVersion) -> CallErrorFrame:
    """The frame that answers the CALL `message_id` with `error`, spelled as `version` does."""
    body = call_error_body(error, version)
    return CallErrorFrame(message_id, body.error_code, body.error_description, body.error_details)


def _read_anyway(data: bytes | str, version: OcppVersion) -> Frame | None:
    """A frame that is not quite right but leaves no doubt; None for any other."""
    try:
        parts = _parts(data)
    except _FAULTS:
        return None
    message_type = _message_type(parts)
    if message_type is None or message_type not in _MESSAGE_TYPES[version]:
        return None
    if message_type in {_CALL_ERROR, _CALL_RESULT_ERROR} and 3 <= len(parts) <= _ERROR_PARTS:
        # Whoever waits for the answer needs its code and its text, whatever stands beside them.
        if _read(_string, parts, 3) is None:
            parts[3:4] = [Raw(b'""')]
        if _read(_details, parts, 4) is None:
            parts[4:] = [Raw(b"{}")]
    again = b"[%d,%b]" % (message_type, b",".join(map(bytes, parts[1:])))
    try:
        return _DECODERS[version].decode(again)
    except _FAULTS:
        return None


def _frame_error(data: bytes | str, version: OcppVersion, fault: Exception) -> FrameError:
    """The error for a broken frame, with as much of the frame as can be read."""
    code, text = _malformed(version), _describe(fault)
    try:
        parts, whole = _parts(data), True
    except _FAULTS:
        parts, whole = _head(data), False
    message_type = _message_type(parts)
    message_id = _read(_answered_id, parts, 1)
    if not whole:
        return FrameError(code, text, message_id or UNREADABLE_MESSAGE_ID, message_type)
    if message_id is None or len(message_id) > OCPP_MESSAGE_ID_MAX_LENGTH:
        wanted = f"a string of at most {OCPP_MESSAGE_ID_MAX_LENGTH} characters as second element"
        known = UNREADABLE_MESSAGE_ID if message_id is None else message_id
        return FrameError(code, f"message id: expected {wanted}", known, message_type)
    if message_type not in _MESSAGE_TYPES[version]:
        return FrameError(_unknown_type(version), "unknown message type", message_id, message_type)
    return FrameError(code, text, message_id, message_type)


def _head(data: bytes | str) -> list[Raw]:
    """The first elements of a frame that is no JSON as a whole, as far as they can be read."""
    head = data[:_HEAD_LENGTH]
    text = head if isinstance(head, str) else bytes(head).decode(errors="surrogateescape")
    found = _HEAD.match(text)
    if found is None:
        return []
    # Broken UTF-8 and lone surrogates become bytes that no JSON has, so they are not read.
    return [
        Raw(part.encode(errors="surrogatepass"))
        for part in (found["type"], found["id"])
        if part is not None
    ]


def _message_type(parts: list[Raw]) -> int | None:
    """The first element, if it is a whole number."""
    number = _read(_number, parts, 0)
    if isinstance(number, float):
        return int(number) if number.is_integer() else None
    return number


def _read(decode: Callable[[Raw], _T], parts: list[Raw], position: int) -> _T | None:
    try:
        return decode(parts[position])
    except (IndexError, *_FAULTS):
        return None


def _describe(fault: Exception) -> str:
    if isinstance(fault, UnicodeEncodeError):
        return "frame: invalid UTF-8"
    return describe_fault(fault, "frame")[1]


def _malformed(version: OcppVersion) -> ErrorCode:
    if version == OcppVersion.V1_6:  # it has no RpcFrameworkError
        return ErrorCode.FORMAT_VIOLATION
    return ErrorCode.RPC_FRAMEWORK_ERROR


def _unknown_type(version: OcppVersion) -> ErrorCode:
    if version == OcppVersion.V1_6:  # it has no MessageTypeNotSupported
        return ErrorCode.PROTOCOL_ERROR
    return ErrorCode.MESSAGE_TYPE_NOT_SUPPORTED
