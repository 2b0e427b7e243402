"""Options that take a secret can have it from a file that a variable names."""

from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner, Result

from bridge.cli.main import application
from bridge.cli.secrets import file_variable, secret

SECRETS = {
    "DTBRIDGE_AMQP_URL",
    "DTBRIDGE_MANAGEMENT",
    "DTBRIDGE_IDEMPOTENCY",
    "DTBRIDGE_STATION_PASSWORD",
}
"""What may hold a password."""


def commands(group: Any) -> list[Any]:
    found = []
    for command in group.commands.values():
        found += commands(command) if hasattr(command, "commands") else [command]
    return found


def test_every_option_that_takes_a_secret_takes_a_file() -> None:
    seen = set()
    for command in commands(typer.main.get_group(application())):
        for parameter in command.params:
            if parameter.envvar in SECRETS:
                seen.add(parameter.envvar)
                assert parameter.callback is not None, (command.name, parameter.name)
    assert seen == SECRETS


def one(
    url: Annotated[str, typer.Option(envvar="ONE", callback=file_variable)] = "default",
    urls: Annotated[list[str], typer.Option(envvar="SEVERAL", callback=file_variable)] = ["a"],  # noqa: B006
) -> None:
    typer.echo(f"{url} {urls}")


def run(*arguments: str, **variables: str) -> Result:
    app = typer.Typer()
    app.command()(one)
    return CliRunner().invoke(app, arguments, env=variables)


@pytest.mark.parametrize(
    ("arguments", "variables", "printed"),
    [
        ([], {}, "default ['a']"),
        ([], {"ONE_FILE": "/a", "SEVERAL_FILE": "/b"}, "@/a ['@/b']"),
        ([], {"ONE": "x", "SEVERAL": "y"}, "x ['y']"),
        (["--url", "z"], {"ONE_FILE": "/a"}, "z ['a']"),
        (["--url", "z"], {"ONE": "x", "ONE_FILE": "/a"}, "z ['a']"),
        ([], {"ONE_FILE": ""}, "default ['a']"),
    ],
)
def test_which_counts(arguments: list[str], variables: dict[str, str], printed: str) -> None:
    assert run(*arguments, **variables).stdout == f"{printed}\n"


def test_both_variables_at_once_are_a_mistake() -> None:
    done = run(ONE="x", ONE_FILE="/a")
    assert done.exit_code == 2
    assert "ONE and ONE_FILE exclude each other" in done.output


def test_a_file_stands_for_what_it_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "secret"
    file.write_text("Qx7\n")
    assert secret(f"@{file}", "the password") == "Qx7"
    assert secret("Qx7", "the password") == "Qx7"
    with pytest.raises(typer.Exit):
        secret(f"@{file}2", "the password")
    told = capsys.readouterr().err
    assert told.startswith(f"dtbridge: the password cannot be read from the file {file}2: ")
