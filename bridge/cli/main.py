"""The command ``dtbridge``.

Every option is also an environment variable, ``DTBRIDGE_…``. A mistake is told in one sentence.
"""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any, Final, NoReturn

import typer

from bridge.cli.completion import PROGRAM, mind_completion
from bridge.cli.config_file import configure_commands, is_from_file, may_be_read, read_from
from bridge.cli.exits import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, say_failed, speak_as_told
from bridge.cli.output import is_unwritable, open_standard_streams, say
from bridge.cli.process import ending
from bridge.cli.version import versions
from bridge.rabbitmq.urls import without_secrets

COMMANDS: Final = {
    "run": "run:run",
    "gateway": "gateway:gateway",
    "password": "password:password",
    "send": "send:send",
    "send-to-station": "send:send_to_station",
    "tap": "tap:tap",
    "replay-check": "replay_check:replay_check",
    "health": "health:health",
    "pause": "pausing:pause",
    "resume": "pausing:resume",
    "paused": "pausing:paused",
    "dead": "dead:dead",
    "topology": "topology:topology",
    "check": "check:check",
    "schema": "schema:schema",
    "doctor": "doctor:doctor",
    "top": "top:top",
    "demo": "demo:demo",
    "new": "new:new",
    "completion": "completion:completion",
}
"""Every command, in the order of the help, with its module here and its function or group there."""

_UsageError: Final[Any] = typer.BadParameter.__mro__[1]
"""The base of what Click raises for wrong options. Typer exports no name for it, and its newer
versions bring a Click of their own."""


def application(commands: Iterable[str] = COMMANDS) -> typer.Typer:
    """The command with these of its commands. Each is imported here, with all that it needs."""
    app = typer.Typer(
        name=PROGRAM,
        help="OCPP DataTransfer between RabbitMQ and typed handlers.",
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(options)
    for name in commands:
        module, _, attribute = COMMANDS[name].partition(":")
        command = getattr(import_module(f"bridge.cli.{module}"), attribute)
        if isinstance(command, typer.Typer):
            app.add_typer(command)
        else:
            app.command(name)(command)
    configure_commands(app)
    return app


def _on_version(wanted: bool) -> None:
    if wanted:
        say(versions())
        raise typer.Exit


def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_on_version,
            is_eager=True,
            help="Show versions, and whether the hot path is compiled.",
        ),
    ] = False,
) -> None:
    """OCPP DataTransfer between RabbitMQ and typed handlers."""
    del version


def needed(arguments: Sequence[str], environment: Mapping[str, str]) -> Iterable[str]:
    """The commands that these arguments need: one alone, where it is named at once.

    To import what all need takes half a second of the processor. A configuration file is checked
    against all of them.
    """
    if arguments and arguments[0] in COMMANDS and not may_be_read(arguments, environment):
        return (arguments[0],)
    return () if arguments[:1] == ["--version"] else COMMANDS


@ending()
def main() -> None:
    """The console script. Its process ends with it."""
    dtbridge(sys.argv[1:])


def dtbridge(arguments: Sequence[str]) -> NoReturn:
    """Run a command, and raise SystemExit with its exit code."""
    open_standard_streams()
    speak_as_told(arguments, os.environ)
    mind_completion()
    try:
        app = application(needed(arguments, os.environ))
        sys.exit(app(list(arguments) or ["--help"], prog_name=PROGRAM, standalone_mode=False))
    except typer.Abort:
        sys.exit(EXIT_INTERRUPTED)
    except _UsageError as error:
        say_failed(_told(error), EXIT_USAGE)
        sys.exit(EXIT_USAGE)
    except OSError as error:
        if not is_unwritable(error):
            raise
        say_failed(f"standard output cannot be written: {error.strerror}", EXIT_FAILED)
        sys.exit(EXIT_FAILED)


def _told(error: Any) -> str:
    """What is wrong with an option, where it stands, and where to read how it should be."""
    sentence = without_secrets(error.format_message())
    context, parameter = error.ctx, getattr(error, "param", None)
    if context is None:
        return sentence
    if parameter is not None and is_from_file(context, parameter):
        sentence = f"{sentence.rstrip('.')}, in {read_from()}"
    elif getattr(parameter, "name", None) == "targets":
        sentence = (
            f"{sentence.rstrip('.')}: name your routers, as my_vendors.acme:router, or begin with "
            "`dtbridge new NAME`"
        )
    return f"{sentence.rstrip('.')} (see `{context.command_path} -h`)"
