"""Log lines as text. Each is written, whatever is in it, and none commands a terminal.

Part of what is logged comes from stations and peers. JSON has no form for some of it (half of a
surrogate pair, an integer above 64 bits), and a terminal takes some of it for commands (ESC, and
the C1 controls, which JSON leaves as they are).
"""

import logging
import re
from typing import Any, Final

import orjson
import structlog

_DEEPEST: Final = 5
"""Levels of a value that JSON has no form for. What lies deeper is written as text."""
_INTEGERS: Final = range(-(2**63), 2**64)
"""What orjson writes as a number."""
_MULTILINE: Final = frozenset({"event", "exception", "stack"})
"""What may have several lines on a terminal, such as a traceback."""
_NOT_ASCII: Final = re.compile("[\x7f-\U0010ffff]{1,4096}")
_NOT_PLAIN: Final = re.compile("[^\n\t -~]+")


def to_json(line: object, **_: object) -> str:
    """A line as an object of JSON. Never raises."""
    try:
        text = orjson.dumps(line, default=_text_of).decode()
    except (TypeError, ValueError, RecursionError):
        text = orjson.dumps(_plain(line, _DEEPEST)).decode()
    return printable_json(text)


def printable_json(text: str) -> str:
    """The same JSON, with everything escaped that a terminal might obey.

    JSON itself asks that of the characters below U+0020 alone. Outside of strings it is ASCII.
    """
    return _NOT_ASCII.sub(_escape_for_json, text)


def for_terminal(
    _logger: Any, _method: str, line: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """A processor: the same line, with everything escaped that a terminal might obey."""
    return {
        escaped(str(key)): (
            escaped(_text_of(value)) if key in _MULTILINE else _shown_for_terminal(value)
        )
        for key, value in line.items()
    }


class Formatter(structlog.stdlib.ProcessorFormatter):
    """Writes a line where another would raise: arguments that do not fit, a failing ``__repr__``.

    logging prints such an error to standard error, with a traceback in place of the line.
    """

    def format(self, record: logging.LogRecord) -> str:
        try:
            return super().format(record)
        except Exception as error:  # noqa: BLE001 - whatever a value or its class may raise
            message = _text_of(record.msg)
            parts = getattr(record, "bridge", None)
            known = parts if isinstance(parts, dict) and "event" in parts else {"event": message}
            plain = logging.makeLogRecord(
                record.__dict__
                | {
                    "msg": message,
                    "args": (),
                    "bridge": known | {"unwritten": f"{type(error).__name__}: {_text_of(error)}"},
                }
            )
            return super().format(plain)


class _Literal:
    """A value that is shown as this text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _shown_for_terminal(value: Any) -> Any:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, str):
        return value if value.isprintable() else _Literal(repr(value))
    try:
        shown = repr(value)
    except Exception:  # noqa: BLE001 - a vendor's class
        shown = _text_of(value)
    return _Literal(escaped(shown).replace("\n", r"\n").replace("\t", r"\t"))


def _text_of(value: Any) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - a vendor's class
        return f"<{type(value).__name__}: {type(error).__name__} instead of text>"


def _plain(value: Any, levels: int) -> Any:
    """The value as far as JSON has a form for it. Half a surrogate pair becomes its escape."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int) and value in _INTEGERS:
        return int(value)
    if levels:
        if isinstance(value, dict):
            return {
                _encodable(_text_of(key)): _plain(item, levels - 1) for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [_plain(item, levels - 1) for item in value]
    return _encodable(_text_of(value))


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _escape_for_json(match: re.Match[str]) -> str:
    text = match[0]
    return text if text.isprintable() else "".join(map(_json_escape, text))


def _json_escape(sign: str) -> str:
    if sign.isprintable():
        return sign
    units = sign.encode("utf-16-be")
    return "".join(f"\\u{units[n : n + 2].hex()}" for n in range(0, len(units), 2))


def escaped(text: str) -> str:
    """Text with everything escaped that a terminal might obey, but for line breaks and tabs."""
    return _NOT_PLAIN.sub(_escape_for_terminal, text)


def _escape_for_terminal(match: re.Match[str]) -> str:
    text = match[0]
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)
