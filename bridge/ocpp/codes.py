"""The error codes of a CALLERROR, and how each version spells them."""

import enum

from bridge.ocpp.versions import OcppVersion

DESCRIPTION_MAX_LENGTH = 255
"""Characters of an errorDescription (OCPP-J 1.6 §4.2.3, OCPP-J 2.0.1 §4.2.3)."""


class ErrorCode(enum.StrEnum):
    """The error codes, by their names in OCPP 2.0.1 (OCPP-J 2.0.1 §4.3); 1.6 spells two of them in its own way."""

    FORMAT_VIOLATION = "FormatViolation"
    """The payload is no JSON, or not the structure of the action. 1.6: FormationViolation."""

    GENERIC_ERROR = "GenericError"
    """Any other error."""

    INTERNAL_ERROR = "InternalError"
    """The receiver failed to process the request."""

    MESSAGE_TYPE_NOT_SUPPORTED = "MessageTypeNotSupported"
    """The message type number is unknown. Not in 1.6."""

    NOT_IMPLEMENTED = "NotImplemented"
    """The action is not known to the receiver."""

    NOT_SUPPORTED = "NotSupported"
    """The action is known but not supported."""

    OCCURRENCE_CONSTRAINT_VIOLATION = "OccurrenceConstraintViolation"
    """A field is missing, or there are too many. 1.6: OccurenceConstraintViolation."""

    PROPERTY_CONSTRAINT_VIOLATION = "PropertyConstraintViolation"
    """A field has a value outside its limits."""

    PROTOCOL_ERROR = "ProtocolError"
    """The payload is incomplete."""

    RPC_FRAMEWORK_ERROR = "RpcFrameworkError"
    """The frame is not a valid RPC. Not in 1.6."""

    SECURITY_ERROR = "SecurityError"
    """A security issue kept the receiver from completing the action."""

    TYPE_CONSTRAINT_VIOLATION = "TypeConstraintViolation"
    """A field has the wrong type of data."""


_MISSPELT = {
    ErrorCode.FORMAT_VIOLATION: "FormationViolation",
    ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION: "OccurenceConstraintViolation",
}
"""The official spellings of OCPP-J 1.6 that differ."""

_NOT_IN_1_6 = frozenset({ErrorCode.MESSAGE_TYPE_NOT_SUPPORTED, ErrorCode.RPC_FRAMEWORK_ERROR})

_CANONICAL: dict[str, ErrorCode] = {code.value: code for code in ErrorCode} | {
    text: code for code, text in _MISSPELT.items()
}
"""Every spelling of every version → the code."""

_SPELLED: dict[str, dict[ErrorCode, str]] = {
    version: {code: code.value for code in ErrorCode} for version in OcppVersion
}
_SPELLED[OcppVersion.V1_6] = {
    code: _MISSPELT.get(code, code.value) for code in ErrorCode if code not in _NOT_IN_1_6
}


def error_codes(version: OcppVersion) -> frozenset[str]:
    """The error codes of a version, as it spells them."""
    return frozenset(_SPELLED[version].values())


def canonical(text: str) -> ErrorCode | str:
    """The code that `text` spells in any version, else the text as it is."""
    return _CANONICAL.get(text, text)


def spell(code: str, version: OcppVersion) -> str:
    """`code` as `version` spells it; GenericError where that version has no such code."""
    known = _CANONICAL.get(code, ErrorCode.GENERIC_ERROR)
    return _SPELLED[version].get(known, ErrorCode.GENERIC_ERROR.value)
