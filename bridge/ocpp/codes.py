"""The error codes of a CALLERROR, and how each version spells them."""

import enum

from bridge.ocpp.versions import OcppVersion

DESCRIPTION_MAX_LENGTH = 255
"""The most characters of an errorDescription (OCPP-J 1.6 §4.2.3, OCPP-J 2.0.1 §4.2.3)."""


class ErrorCode(enum.StrEnum):
    """The error codes of a CALLERROR, by their names in OCPP 2.0.1 (OCPP-J 2.0.1 §4.3).

    OCPP 1.6 spells two of them differently and lacks two others (OCPP-J 1.6 §4.2.3). `CallError`
    accepts every spelling, and the functions that write use the spelling of the version.
    """

    FORMAT_VIOLATION = "FormatViolation"
    """The payload is not JSON, or does not have the structure of the action. 1.6 spells it
    FormationViolation."""

    GENERIC_ERROR = "GenericError"
    """Any other error."""

    INTERNAL_ERROR = "InternalError"
    """The receiver failed to process the request."""

    MESSAGE_TYPE_NOT_SUPPORTED = "MessageTypeNotSupported"
    """The message type number is unknown. Not in 1.6."""

    NOT_IMPLEMENTED = "NotImplemented"
    """The receiver does not know the action."""

    NOT_SUPPORTED = "NotSupported"
    """The receiver knows the action but does not support it."""

    OCCURRENCE_CONSTRAINT_VIOLATION = "OccurrenceConstraintViolation"
    """A field is missing or occurs too often. 1.6 spells it OccurenceConstraintViolation."""

    PROPERTY_CONSTRAINT_VIOLATION = "PropertyConstraintViolation"
    """The value of a field is outside its limits."""

    PROTOCOL_ERROR = "ProtocolError"
    """The payload is incomplete."""

    RPC_FRAMEWORK_ERROR = "RpcFrameworkError"
    """The frame is not a valid RPC. Not in 1.6."""

    SECURITY_ERROR = "SecurityError"
    """A security issue prevented the receiver from completing the action."""

    TYPE_CONSTRAINT_VIOLATION = "TypeConstraintViolation"
    """A field has the wrong type of data."""


_MISSPELT = {
    ErrorCode.FORMAT_VIOLATION: "FormationViolation",
    ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION: "OccurenceConstraintViolation",
}
"""The official spellings of OCPP-J 1.6, where they differ (OCPP-J 1.6 §4.2.3)."""

_NOT_IN_1_6 = frozenset({ErrorCode.MESSAGE_TYPE_NOT_SUPPORTED, ErrorCode.RPC_FRAMEWORK_ERROR})

_CANONICAL: dict[str, ErrorCode] = {code.value: code for code in ErrorCode} | {
    text: code for code, text in _MISSPELT.items()
}
"""Every spelling in every version → the code."""

_SPELLED: dict[str, dict[ErrorCode, str]] = {
    version: {code: code.value for code in ErrorCode} for version in OcppVersion
}
_SPELLED[OcppVersion.V1_6] = {
    code: _MISSPELT.get(code, code.value) for code in ErrorCode if code not in _NOT_IN_1_6
}
"""version → code → its spelling there; codes that a version lacks are missing."""


def error_codes(version: OcppVersion) -> frozenset[str]:
    """The error codes that `version` has, as it spells them."""
    return frozenset(_SPELLED[version].values())


def canonical(text: str) -> ErrorCode | str:
    """The code that `text` spells in any version, or `text` unchanged if it spells none."""
    return _CANONICAL.get(text, text)


def spell(code: str, version: OcppVersion) -> str:
    """`code` as `version` spells it; GenericError if the version has no such code."""
    known = _CANONICAL.get(code, ErrorCode.GENERIC_ERROR)
    return _SPELLED[version].get(known, ErrorCode.GENERIC_ERROR.value)
