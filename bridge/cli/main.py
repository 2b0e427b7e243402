"""The command ``dtbridge``.

Every option is also an environment variable, ``DTBRIDGE_…``. A mistake is told in one sentence.
"""

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Final, NoReturn

import typer

from bridge.cli.check import check
from bridge.cli.completion import PROGRAM, completion, mind_completion
from bridge.cli.config_file import configure_commands, is_from_file, read_from
from bridge.cli.dead import dead
from bridge.cli.demo import demo
from bridge.cli.doctor import doctor
from bridge.cli.exits import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, say_failed, speak_as_told
from bridge.cli.gateway import gateway, password
from bridge.cli.health import health
from bridge.cli.new import new
from bridge.cli.output import is_unwritable, open_standard_streams, say
from bridge.cli.pausing import pause, paused, resume
from bridge.cli.process import ending
from bridge.cli.replay_check import replay_check
from bridge.cli.run import run
from bridge.cli.schema import schema
from bridge.cli.send import send, send_to_station
from bridge.cli.tap import tap
from bridge.cli.top import top
from bridge.cli.topology import topology
from bridge.cli.version import versions
from bridge.rabbitmq.urls import without_secrets

_UsageError: Final[Any] = typer.BadParameter.__mro__[1]
"""The base of what Click raises for wrong options. Typer exports no name for it, and its newer
versions bring a Click of their own."""

app = typer.Typer(
    name="dtbridge",
    help="OCPP DataTransfer between RabbitMQ and typed handlers.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _on_version(wanted: bool) -> None:
    if wanted:
        say(versions())
        raise typer.Exit


@app.callback()
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


app.command()(run)
app.command()(gateway)
app.command()(password)
app.command()(send)
app.command("send-to-station")(send_to_station)
app.command()(tap)
app.command("replay-check")(replay_check)
app.command()(health)
app.command()(pause)
app.command()(resume)
app.command()(paused)
app.add_typer(dead)
app.add_typer(topology)
app.command()(check)
app.command()(schema)
app.command()(doctor)
app.command()(top)
app.command()(demo)
app.command()(new)
app.command()(completion)
configure_commands(app)


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
