"""The command ``dtbridge``.

Every option is also an environment variable, ``DTBRIDGE_…``. A mistake is told in one sentence.
"""

import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import typer

from bridge.cli.check import check
from bridge.cli.dead import dead
from bridge.cli.demo import demo
from bridge.cli.exits import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from bridge.cli.gateway import gateway, password
from bridge.cli.output import is_unwritable, open_standard_streams
from bridge.cli.process import ending
from bridge.cli.run import run
from bridge.cli.send import send, send_to_station
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
)
app.command()(run)
app.command()(gateway)
app.command()(password)
app.command()(send)
app.command("send-to-station")(send_to_station)
app.add_typer(dead)
app.command()(check)
app.command()(demo)


@ending()
def main() -> None:
    """The console script. Its process ends with it."""
    dtbridge(sys.argv[1:])


def dtbridge(arguments: Sequence[str]) -> NoReturn:
    """Run a command, and raise SystemExit with its exit code."""
    open_standard_streams()
    try:
        sys.exit(app(list(arguments) or ["--help"], standalone_mode=False))
    except typer.Abort:
        sys.exit(EXIT_INTERRUPTED)
    except _UsageError as error:
        typer.echo(f"dtbridge: {without_secrets(error.format_message())}", err=True)
        sys.exit(EXIT_USAGE)
    except OSError as error:
        if not is_unwritable(error):
            raise
        typer.echo(f"dtbridge: standard output cannot be written: {error.strerror}", err=True)
        sys.exit(EXIT_FAILED)
