"""CALLERROR: the answer to a CALL that is wrong or could not be processed, in the spelling of each version."""

from typing import Any, Self

import msgspec
from msgspec import Struct

from bridge.ocpp.codes import DESCRIPTION_MAX_LENGTH, ErrorCode, canonical, spell
from bridge.ocpp.faults import DECODE_FAULTS, ENCODE_FAULTS, describe_fault
from bridge.ocpp.versions import OcppVersion


class CallError(Exception):
    """Raised by a handler or a decoder: answer with this CALLERROR. Raised by a client: the peer answered with it.

    `code` is an ErrorCode where the text is one in the spelling of any version, else the text as it is.
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
        """The code as `version` spells it; GenericError for a code which that version does not have."""
        return spell(self.code, version)

    @classmethod
    def from_fault(cls, fault: Exception, field: str = "") -> Self:
        """The CallError for what msgspec raised while decoding a payload, or the part of it named by `field`."""
        kind, text = describe_fault(fault, field)
        return cls(kind, text)


class CallErrorBody(Struct, rename="camel"):
    """The three parts of a CALLERROR after its message id, as an object: the body of a `CallError` reply."""

    error_code: str
    error_description: str = ""
    error_details: dict[str, Any] = {}


_DECODER = msgspec.json.Decoder(CallErrorBody)


def encode_call_error(error: CallError, version: OcppVersion) -> bytes:
    """The body of a reply that says `error`, in the spelling of `version`.

    Never raises: the description is cut to 255 characters, and details that are not JSON are left out, because
    somebody waits for the answer.
    """
    return msgspec.json.encode(call_error_body(error, version))


def call_error_body(error: CallError, version: OcppVersion) -> CallErrorBody:
    """The parts of a CALLERROR that says `error`, fit to be sent as `encode_call_error` tells."""
    description = encodable(error.description[:DESCRIPTION_MAX_LENGTH])
    return CallErrorBody(error.for_version(version), description, _sendable(error.details))


def _sendable(details: dict[str, Any]) -> dict[str, Any]:
    try:
        encoded = msgspec.json.encode(details)
    except ENCODE_FAULTS:
        return {}
    return details if encoded.startswith(b"{") else {}


def decode_call_error(body: bytes | msgspec.Raw) -> CallError:
    """The error in the body of a reply, in the spelling of any version; an unknown code is kept as it is.

    Missing description and details are read as empty. Raises ValueError for a body of any other shape.
    """
    try:
        parts = _DECODER.decode(body)
    except DECODE_FAULTS as fault:
        raise ValueError(f"Not a CALLERROR body: {describe_fault(fault)[1]}.") from fault
    return CallError(parts.error_code, parts.error_description, parts.error_details)


def encodable(text: str) -> str:
    """`text` with the code points that UTF-8 cannot carry (lone surrogates) replaced by question marks."""
    return text.encode("utf-8", "replace").decode()
