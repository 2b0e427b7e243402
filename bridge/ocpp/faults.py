"""What msgspec reports about bytes that do not fit, in the words and error codes of OCPP.

msgspec's errors carry no kind, so the kind is read from the message, and the unit tests pin the
texts. A message whose form is unknown here becomes a PropertyConstraintViolation that quotes it.
"""

import re
from collections.abc import Callable

import msgspec

from bridge.ocpp.codes import DESCRIPTION_MAX_LENGTH, ErrorCode

DECODE_FAULTS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""All that decoding hostile bytes can raise. UnicodeDecodeError (invalid UTF-8 in a string) and
RecursionError (nested too deeply) are not DecodeErrors."""

ENCODE_FAULTS = (
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    RecursionError,
    msgspec.MsgspecError,
)
"""All that encoding an arbitrary value can raise: for a type that has no form in JSON, a lone
surrogate or an integer of more than 4,300 digits (ValueError), an object with an unset attribute,
or a structure that contains itself (RecursionError)."""

_NAMES = {
    "str": "a string",
    "object": "an object",
    "array": "an array",
    "int": "an integer",
    "float": "a number",
    "bool": "a boolean",
}

_AT = " - at `$"
"""What stands between a message of msgspec and the path of the fault, which a backtick ends."""
_TEXT_LENGTH = 1024
"""Characters of a message that are looked at: it quotes the data, which may have megabytes. More
than an answer holds."""


def _missing(found: re.Match[str]) -> tuple[ErrorCode, str, str]:
    return ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION, found[1], "required field is missing"


def _unknown(found: re.Match[str]) -> tuple[ErrorCode, str, str]:
    return ErrorCode.FORMAT_VIOLATION, found[1], "unknown field"


def _too_long(found: re.Match[str]) -> tuple[ErrorCode, str, str]:
    return (
        ErrorCode.PROPERTY_CONSTRAINT_VIOLATION,
        "",
        f"expected a string of at most {found[1]} characters",
    )


def _not_in_enum(found: re.Match[str]) -> tuple[ErrorCode, str, str]:
    return ErrorCode.PROPERTY_CONSTRAINT_VIOLATION, "", f"unknown value {found[1]}"


def _wrong_type(found: re.Match[str]) -> tuple[ErrorCode, str, str]:
    expected = " or ".join(_NAMES.get(name, name) for name in found[1].split(" | "))
    return (
        ErrorCode.TYPE_CONSTRAINT_VIOLATION,
        "",
        f"expected {expected}, got {_NAMES.get(found[2], found[2])}",
    )


def _too_few(found: re.Match[str]) -> tuple[ErrorCode, str, str]:
    return ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION, "", f"expected at least {found[1]} elements"


def _too_many(_: re.Match[str]) -> tuple[ErrorCode, str, str]:
    # msgspec names a limit too, but for a tagged array it does not count the tag.
    return ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION, "", "too many elements"


_KINDS: tuple[
    tuple[re.Pattern[str], Callable[[re.Match[str]], tuple[ErrorCode, str, str]]], ...
] = (
    (re.compile(r"Object missing required field `(.+)`", re.DOTALL), _missing),
    (re.compile(r"Object contains unknown field `(.*)`", re.DOTALL), _unknown),
    (re.compile(r"Expected `str` of length <= (\d+)"), _too_long),
    (re.compile(r"Expected `array` of at least length (\d+).*"), _too_few),
    (re.compile(r"Expected `array` of at most length \d+.*"), _too_many),
    (re.compile(r"Invalid enum value (.+)", re.DOTALL), _not_in_enum),
    (re.compile(r"Expected `(.+)`, got `(.+)`"), _wrong_type),
)


def describe_fault(fault: Exception, field: str = "") -> tuple[ErrorCode, str]:
    """The OCPP error code for one of DECODE_FAULTS, and a sentence that names the field.

    `field` is the path of the part that was decoded; empty for the payload itself. The sentence has
    at most 255 characters.
    """
    if isinstance(fault, RecursionError):
        return ErrorCode.FORMAT_VIOLATION, _named(field, "nested too deeply")
    if isinstance(fault, UnicodeDecodeError):
        return ErrorCode.FORMAT_VIOLATION, _named(field, "invalid UTF-8")
    if not isinstance(fault, msgspec.ValidationError):
        return ErrorCode.FORMAT_VIOLATION, _named(field, f"not valid JSON ({fault})")
    text = str(fault)
    # The last one is msgspec's own: those before it are in the data that it quotes.
    if text.endswith("`") and (end := text.rfind(_AT)) >= 0:
        path = text[end + len(_AT) : -1]
        text = text[:end]
        field = _joined(field, path[:_TEXT_LENGTH].lstrip("."))
    if len(text) > _TEXT_LENGTH:
        text = text[: _TEXT_LENGTH - 1] + text[-1]  # which closes what is quoted
    for pattern, kind in _KINDS:
        if (found := pattern.fullmatch(text)) is not None:
            code, name, sentence = kind(found)
            return code, _named(_joined(field, name), sentence)
    return ErrorCode.PROPERTY_CONSTRAINT_VIOLATION, _named(field, text[:1].lower() + text[1:])


def _joined(field: str, name: str) -> str:
    if not field or not name:
        return field or name
    return f"{field}{name}" if name.startswith("[") else f"{field}.{name}"


def _named(field: str, sentence: str) -> str:
    text = f"{field or 'payload'}: {sentence}"
    return text[:DESCRIPTION_MAX_LENGTH]  # the name of a field may be a megabyte long
