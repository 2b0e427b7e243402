"""Which commands are imported, and that they are what the help promises."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer

from bridge.cli.main import COMMANDS, application, needed


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--help"], {}),
        (["rnu"], {}),
        (["--verison"], {}),
        ([], {}),  # a shell that completes asks so
        (["run", "--config", "x.toml"], {}),
        (["run", "--config=x.toml"], {}),
        (["run"], {"DTBRIDGE_CONFIG": "x.toml"}),
    ],
)
def test_all_are_needed_to_list_them_and_to_check_a_file(
    arguments: Sequence[str], environment: Mapping[str, str]
) -> None:
    assert list(needed(arguments, environment)) == list(COMMANDS)


def test_a_file_in_the_folder_is_checked_too(tmp_path: Path) -> None:
    assert list(needed(["run"], {})) == ["run"]
    (tmp_path / "dtbridge.toml").touch()
    assert list(needed(["run"], {})) == list(COMMANDS)


def test_a_command_that_is_named_is_needed_alone() -> None:
    assert [list(needed([name, "--help"], {})) for name in COMMANDS] == [
        [each] for each in COMMANDS
    ]
    assert list(needed(["--version"], {})) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_each_has_the_name_that_it_is_listed_by(name: str) -> None:
    group: Any = typer.main.get_group(application([name]))
    assert list(group.commands) == [name]


@pytest.mark.parametrize(
    ("name", "libraries"), [("new", []), ("run", ["aio_pika", "prometheus_client"])]
)
def test_a_command_imports_the_libraries_that_it_needs(name: str, libraries: list[str]) -> None:
    code = (
        f"import sys; from bridge.cli.main import application; application(['{name}']);"
        "print(*({'aio_pika', 'prometheus_client'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert sorted(done.stdout.split()) == libraries
