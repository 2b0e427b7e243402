"""CALLERROR: the answer to a CALL that is invalid or that could not be processed."""

from typing import Any, Self

import msgspec
from msgspec import Struct

from bridge.ocpp.codes import DESCRIPTION_MAX_LENGTH, ErrorCode, canonical, spell
from bridge.ocpp.faults import DECODE_FAULTS, ENCODE_FAULTS, describe_fault
from bridge.ocpp.versions import OcppVersion


class CallError(Exception):
    """A CALLERROR (OCPP-J 1.6 §4.2.3, OCPP-J 2.0.1 §4.2.3).

    Raised by a handler or a decoder, it says: answer with this CALLERROR. Raised by a client, it
    says: the peer answered with this CALLERROR.

    `code` is an ErrorCode if the given text spells one in any version, else that text.
    `description` is cut to 255 characters when it is sent. `details` is a JSON object.
    """

    def __init__(
        self, code: ErrorCode | str, description: str = "", details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(code, description, details)
        self.code: ErrorCode | str = canonical(code)
        self.description = description
        self.details: dict[str, Any] = {} if details is None else details

    def __str__(self) -> str:
        return f"{self.code}: {self.description}" if self.description else str(self.code)

    def for_version(self, version: OcppVersion) -> str:
        """The code as `version` spells it; GenericError if the version has no such code."""
        return spell(self.code, version)

    @classmethod
    def from_fault(cls, fault: Exception, field: str = "") -> Self:
        """The CallError for one of DECODE_FAULTS.

        `field` is the path of the part that was decoded; empty for the payload itself.
        """
        kind, text = describe_fault(fault, field)
        return cls(kind, text)


class CallErrorBody(Struct, rename="camel"):
    """The three parts of a CALLERROR that follow its message id, as an object.

    This is the body of a `CallError` reply in the wire contract.
    """

    error_code: str
    error_description: str = ""
    error_details: dict[str, Any] = {}


class _LenientBody(Struct, rename="camel"):
    """A body of which only the code has the right type."""

    error_code: str
    error_description: Any = ""
    error_details: Any = {}


_DECODER = msgspec.json.Decoder(CallErrorBody)
_LENIENT = msgspec.json.Decoder(_LenientBody)


def encode_call_error(error: CallError, version: OcppVersion, *, own_codes: bool = False) -> bytes:
    """The body of a reply with `error`, its code as `version` spells it.

    Never raises, because somebody waits for the answer: the description is cut to 255 characters,
    and details that have no form in JSON are left out. `own_codes`: pass on a code that the version
    does not have, cut to 255 characters, instead of GenericError. That is for answers of stations:
    the CSMS is to know what the station said.
    """
    return msgspec.json.encode(call_error_body(error, version, own_codes=own_codes))


def call_error_body(
    error: CallError, version: OcppVersion, *, own_codes: bool = False
) -> CallErrorBody:
    """The parts of a CALLERROR with `error`, made fit to be sent as in `encode_call_error`."""
    code = error.for_version(version)
    if own_codes and code == ErrorCode.GENERIC_ERROR:
        code = encodable(error.code[:DESCRIPTION_MAX_LENGTH])
    description = encodable(error.description[:DESCRIPTION_MAX_LENGTH])
    return CallErrorBody(code, description, _sendable(error.details))


def _sendable(details: dict[str, Any]) -> dict[str, Any]:
    try:
        encoded = msgspec.json.encode(details)
    except ENCODE_FAULTS:
        return {}
    return details if encoded.startswith(b"{") else {}


def decode_call_error(body: bytes | msgspec.Raw) -> CallError:
    """The error in the body of a reply, its code in the spelling of any version.

    An unknown code is kept as it is. A description or details that are missing or of another type,
    such as null, are read as empty. Raises ValueError for a body of any other shape.
    """
    try:
        parts = _DECODER.decode(body)
    except DECODE_FAULTS as fault:
        lenient = _decode_lenient(body)
        if lenient is None:
            raise ValueError(f"Not a CALLERROR body: {describe_fault(fault)[1]}.") from fault
        parts = lenient
    return CallError(parts.error_code, parts.error_description, parts.error_details)


def _decode_lenient(body: bytes | msgspec.Raw) -> CallErrorBody | None:
    try:
        parts = _LENIENT.decode(body)
    except DECODE_FAULTS:
        return None
    description, details = parts.error_description, parts.error_details
    return CallErrorBody(
        parts.error_code,
        description if isinstance(description, str) else "",
        details if isinstance(details, dict) else {},
    )


def encodable(text: str) -> str:
    """`text`, with question marks for what UTF-8 cannot encode (lone surrogates)."""
    return text.encode("utf-8", "replace").decode()
