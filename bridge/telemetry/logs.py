"""Logging: what every module writes to, and how the commands show it.

A library is silent. All that is logged here goes to loggers of the standard library below
``bridge``, and an application decides what becomes of it. Only the commands call :func:`configure`.
"""

import contextlib
import enum
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Final, TextIO

import structlog

from bridge.telemetry.exceptions import ExcInfo, exc_info_of, exception_text
from bridge.telemetry.handled import facts
from bridge.telemetry.lines import Formatter, for_terminal, to_json

LIBRARIES: Final = ("aio_pika", "aiormq", "websockets")
"""Loggers of libraries that report at length what the bridge says in one line."""

for _name in ("bridge", *LIBRARIES):
    # Where nothing is configured, logging prints warnings and errors that have found no handler.
    logging.getLogger(_name).addHandler(logging.NullHandler())


class EventLogger:
    """Writes events and their pairs of key and value to a logger of the standard library.

    >>> get_logger("bridge.worker").info("consuming", queues=3)

    The record's message is a line to read: ``consuming queues=3``. Handlers that want the parts
    find them in the record's attribute ``bridge``: ``{"queues": 3, "event": "consuming"}``. What
    the application has bound with ``structlog.contextvars`` is in both, and so is the request that
    is being handled.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @cached_property
    def _logger(self) -> logging.Logger:
        """Made at the first line: logging.config disables loggers that exist when it is called."""
        return logging.getLogger(self.name)

    def debug(self, event: str, /, **pairs: Any) -> None:
        self._write(logging.DEBUG, event, pairs)

    def info(self, event: str, /, **pairs: Any) -> None:
        self._write(logging.INFO, event, pairs)

    def warning(self, event: str, /, **pairs: Any) -> None:
        self._write(logging.WARNING, event, pairs)

    def error(self, event: str, /, **pairs: Any) -> None:
        self._write(logging.ERROR, event, pairs)

    def exception(self, event: str, /, **pairs: Any) -> None:
        """An error, with the traceback of the exception that is being handled."""
        self._write(logging.ERROR, event, pairs, exc_info=True)

    def raised(self, level: "LogLevel", event: str, error: BaseException, /, **pairs: Any) -> None:
        """A line with the traceback of an exception that was handled elsewhere."""
        self._write(_NUMBERS[level], event, pairs, exc_info=exc_info_of(error))

    def is_enabled_for(self, level: "LogLevel") -> bool:
        """Whether lines of this level go anywhere."""
        return self._logger.isEnabledFor(_NUMBERS[level])

    def _write(
        self,
        level: int,
        event: str,
        pairs: dict[str, Any],
        *,
        exc_info: bool | ExcInfo | None = None,
    ) -> None:
        """Never raises: a request is settled after its line is written."""
        if not self._logger.isEnabledFor(level):
            return
        parts = {**pairs, "event": event}
        for bound in (structlog.contextvars.get_contextvars(), facts()):
            for key, value in bound.items():
                parts.setdefault(key, value)
        shown = {key: value for key, value in parts.items() if key != "event"}
        if shown:  # without arguments, logging leaves percent signs alone
            event = " ".join([_literally(event), *(f"{_literally(key)}=%r" for key in shown)])
        # logging sees to a handler that fails, and lets through what a filter raises.
        with contextlib.suppress(Exception):
            self._logger.log(
                level,
                event,
                *shown.values(),
                exc_info=exc_info,
                extra={"bridge": parts},
                stacklevel=3,  # whoever called info(), or one of its siblings
            )


def _literally(text: str) -> str:
    """For a %-format."""
    return text.replace("%", "%%")


def get_logger(name: str) -> EventLogger:
    """The logger of a module. `name`: ``bridge`` and the package, as in ``bridge.worker``."""
    return EventLogger(name)


class LogFormat(enum.StrEnum):
    """How log lines look."""

    JSON = "json"
    """An object a line."""
    CONSOLE = "console"
    """Text, coloured on a terminal."""
    AUTO = "auto"
    """Text on a terminal, JSON elsewhere."""
    NONE = "none"
    """Whatever the vendors' modules set up; nothing, if they do not."""


class LogLevel(enum.StrEnum):
    """The least important lines that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


_NUMBERS: Final = {level: getattr(logging, level.name) for level in LogLevel}


def configure(log_format: LogFormat, level: LogLevel) -> None:
    """Write all log lines, and Python's warnings, to standard error.

    Handlers that are there already stay, and get the lines as well. A logging level of the root
    logger above `level` is lowered to it.
    """
    with configuring(log_format, level):
        pass


@contextmanager
def configuring(log_format: LogFormat, level: LogLevel) -> Iterator[None]:
    """Configure once the block has ended, in which the vendors' modules are imported.

    Until then the root logger is left to them: ``logging.basicConfig`` does nothing where there is
    a handler already, and ``logging.config`` removes those that it finds. Only their warnings are
    written at once.
    """
    if log_format is LogFormat.NONE:
        yield
        return
    output = _Output(sys.stderr)
    output.setFormatter(formatter(log_format, sys.stderr))
    output.setLevel(level.value.upper())
    logging.captureWarnings(capture=True)
    warnings = logging.getLogger("py.warnings")
    warnings.addHandler(output)
    try:
        yield
    finally:
        warnings.removeHandler(output)
        warnings.disabled = False  # by logging.config, as all loggers that exist when it is called
        _write_to(output)


class _Output(logging.StreamHandler[TextIO]):
    """The output of a command."""


def _write_to(output: _Output) -> None:
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, _Output):  # from before
            root.removeHandler(handler)
    root.addHandler(output)
    root.setLevel(min(root.level, output.level))
    for name in LIBRARIES:  # not asyncio's: it tells of failures that nobody awaited
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # For handlers that log with structlog.
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _merge_request(
    _logger: Any, _method: str, line: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """A processor: what is known of the request that is handled, unless the line says it itself."""
    for key, value in facts().items():
        line.setdefault(key, value)
    return line


_process: dict[str, int] = {}


def name_process(number: int) -> None:
    """Have every line of this process say which one of several it is."""
    _process["process"] = number


def _merge_process(
    _logger: Any, _method: str, line: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    return {**line, **_process}


_SHARED: Final[tuple[structlog.typing.Processor, ...]] = (
    structlog.contextvars.merge_contextvars,
    _merge_request,
    _merge_process,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.ExceptionRenderer(exception_text),
)
"""What becomes of every line, however it was logged."""


def is_json(log_format: LogFormat, stream: TextIO) -> bool:
    """Whether lines are objects of JSON when they are written to this stream."""
    return log_format is LogFormat.JSON or (log_format is LogFormat.AUTO and not stream.isatty())


def formatter(log_format: LogFormat, stream: TextIO) -> logging.Formatter:
    """What makes lines of that look for a stream."""
    as_json = is_json(log_format, stream)
    rendering: tuple[structlog.typing.Processor, ...] = (
        (structlog.processors.JSONRenderer(to_json),)
        if as_json
        else (for_terminal, structlog.dev.ConsoleRenderer(colors=stream.isatty()))
    )
    return Formatter(
        foreign_pre_chain=(_take_apart, *_SHARED),
        processors=(structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering),
    )


def _take_apart(
    _logger: logging.Logger, _method: str, line: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Of a record of an :class:`EventLogger`, the event and its pairs in place of the message."""
    parts = getattr(line["_record"], "bridge", None)
    if not isinstance(parts, dict) or "event" not in parts:
        return line
    return {**parts, **line, "event": parts["event"]}
