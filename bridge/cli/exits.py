"""How the commands end: exit codes, and one sentence about what failed.

A command that logs, ``run`` or ``gateway``, says it in the format of its log: as a sentence to
read, or as a record of JSON like those before it.
"""

import contextlib
import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

import typer

from bridge.telemetry.exceptions import exc_info_of, exception_text
from bridge.telemetry.lines import escaped
from bridge.telemetry.logs import LogFormat, LogLevel, formatter, is_json

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_CALL_ERROR: Final = 3
EXIT_DIFFERENT: Final = 3
"""Of `dtbridge topology`: the broker does not have what it must have. Of `dtbridge schema --diff`:
stations or gateways would break."""
EXIT_NO_ANSWER: Final = 4
EXIT_STATION_OFFLINE: Final = 5
EXIT_INTERRUPTED: Final = 130
"""As a shell has it: 128 and the number of the signal, SIGINT."""

_LOGGING: Final = frozenset({"run", "gateway"})
"""The commands with an option for the format of their log."""


class _Manner:
    """How this command speaks."""

    format = LogFormat.CONSOLE
    level = LogLevel.INFO
    may_be_configured: frozenset[str] = frozenset()
    """Which of both a configuration file may say: nothing that counts more does."""


def speak_as_told(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Note the format of the log, for failures from here on.

    `arguments` are those of ``dtbridge``, not yet checked: that one of them is wrong is a failure,
    too.
    """
    command = next((each for each in arguments if not each.startswith("-")), "")
    _Manner.format, _Manner.level = LogFormat.CONSOLE, LogLevel.INFO
    _Manner.may_be_configured = frozenset()
    if command not in _LOGGING:
        return
    given = _last(arguments, "--log-format") or environment.get("DTBRIDGE_LOG_FORMAT") or ""
    level = _last(arguments, "--log-level") or environment.get("DTBRIDGE_LOG_LEVEL") or ""
    _Manner.format = LogFormat.AUTO
    said = {"log_format": given, "log_level": level}
    _Manner.may_be_configured = frozenset(key for key, value in said.items() if not value)
    with contextlib.suppress(ValueError):
        _Manner.format = LogFormat(given)
    with contextlib.suppress(ValueError):
        _Manner.level = LogLevel(level)


def speak_as_configured(settings: Mapping[str, object]) -> None:
    """Note what a configuration file says of the log, unless options or variables said so."""
    told = {key: str(settings[key]) for key in _Manner.may_be_configured & settings.keys()}
    with contextlib.suppress(ValueError, KeyError):
        _Manner.format = LogFormat(told["log_format"])
    with contextlib.suppress(ValueError, KeyError):
        _Manner.level = LogLevel(told["log_level"])


def _last(arguments: Sequence[str], option: str) -> str | None:
    """What an option was given last; what stands after ``--`` is none."""
    found = None
    for number, argument in enumerate(arguments):
        if argument == "--":
            break
        if argument == option:
            found = next(iter(arguments[number + 1 : number + 2]), None)
        elif argument.startswith(f"{option}="):
            found = argument.partition("=")[2]
    return found


def fail(sentence: str, code: int = EXIT_FAILED, *, error: BaseException | None = None) -> NoReturn:
    """End the command with one sentence on standard error.

    `error`: what is behind it. Its traceback is shown at the log level debug.
    """
    say_failed(sentence, code, error)
    raise typer.Exit(code)


def say_failed(sentence: str, code: int, error: BaseException | None = None) -> None:
    """As :func:`fail`, without the end."""
    if _Manner.level is not LogLevel.DEBUG:
        error = None
    with contextlib.suppress(OSError):  # nobody is there to be told
        if is_json(_Manner.format, sys.stderr):
            typer.echo(_record(sentence, code, error), err=True)
            return
        if error is not None:
            typer.echo(escaped(exception_text(exc_info_of(error))), err=True)
        typer.echo(f"dtbridge: {escaped(sentence)}", err=True)


def _record(sentence: str, code: int, error: BaseException | None) -> str:
    shown = {"event": sentence, "exit_code": code}
    record = logging.makeLogRecord(
        {
            "name": "bridge.cli",
            "levelno": logging.CRITICAL,
            "levelname": "CRITICAL",
            "msg": sentence,
            "bridge": shown,
            "exc_info": None if error is None else exc_info_of(error),
        }
    )
    return formatter(LogFormat.JSON, sys.stderr).format(record)
