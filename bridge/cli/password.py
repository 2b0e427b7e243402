"""``dtbridge password``: a line of a gateway's password file."""

import getpass
import sys
from typing import Annotated

import typer

from bridge.cli.exits import EXIT_USAGE, fail
from bridge.cli.output import say
from bridge.gateway.websocket.passwords import PasswordHash, parse_password_file


def password(
    station: Annotated[str, typer.Option(envvar="DTBRIDGE_STATION", help="The charging station.")],
    hex: Annotated[  # noqa: A002 - its name is the option's
        bool,
        typer.Option(
            "--hex",
            envvar="DTBRIDGE_HEX",
            help="The password is given as hexadecimal digits, as OCPP 1.6 does.",
        ),
    ] = False,
    user: Annotated[
        str | None,
        typer.Option(envvar="DTBRIDGE_USER", help="The station's user name, if it is not its id."),
    ] = None,
) -> None:
    """Ask for a station's password, or read it from standard input, and print its line of a
    password file.
    """
    given = (
        getpass.getpass(f"Password of {station}: ")
        if sys.stdin.isatty()
        else sys.stdin.readline().rstrip("\r\n")
    )
    try:
        key = bytes.fromhex(given) if hex else given.encode()
    except ValueError:
        fail("the password is not hexadecimal", EXIT_USAGE)
    if not key:
        fail("the password is empty", EXIT_USAGE)
    if user is not None and (not user.isprintable() or not user.strip() or ":" in user):
        fail("the user name is empty, or has control characters or a colon", EXIT_USAGE)
    line = f"{station}:{PasswordHash.of(key)}" + ("" if user is None else f" user={user}")
    try:
        lines = parse_password_file(line)
        reads_back = station.isprintable() and list(lines) == [station]
    except ValueError:
        reads_back = False
    if not reads_back:
        fail(
            "a line of the password file cannot name this station: its id is empty, begins with # "
            "or a space, or has control characters",
            EXIT_USAGE,
        )
    if not lines[station].of(None if user == station else user):
        fail("the user name ends with a space", EXIT_USAGE)
    say(line)
