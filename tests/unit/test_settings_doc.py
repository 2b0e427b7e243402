"""docs/settings.md names every option of workers and gateways, its variable and its default."""

import enum
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from bridge.cli.gateway import DEFAULTS
from bridge.cli.main import application

TEXT = (Path(__file__).parents[2] / "docs" / "settings.md").read_text(encoding="utf-8")
MIB = 1024 * 1024

IN_WORDS = {
    "--amqp-url": "localhost",
    "--gateway-exchange": "`amq.topic`, `citrineos`",
    "--answer-within": "30 s, 20 s",
    "--ocpp-versions": " ".join(f"`{version}`" for version in DEFAULTS.versions),
    "--tls-ciphers": "with forward secrecy",
    "--max-rate": "0",
}
"""Defaults that depend on something, or are not a value."""


class Row(NamedTuple):
    variables: list[str]
    default: str


def rows(heading: str) -> dict[str, Row]:
    """The options of a section, each with its row."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert section is not None
    found: dict[str, Row] = {}
    for line in re.findall(r"^\| `--.*$", section[1], re.MULTILINE):
        options, variables, default, *_ = [cell.strip() for cell in line.split("|")[1:-1]]
        for option in re.findall(r"`(--[a-z-]+)`", options):
            assert option not in found
            found[option] = Row(re.findall(r"`(DTBRIDGE_\w+)`", variables), default)
    return found


def written(value: Any) -> set[str]:
    """How a default may be written."""
    match value:
        case None | [] | () | "":
            return {"\N{EN DASH}"}
        case bool():
            return {"on" if value else "off"}
        case enum.Enum():
            return {f"`{value.value}`"}
        case int() if value >= MIB and value % MIB == 0:
            return {f"{value // MIB} MiB"}
        case int():
            return {f"{value:,}", f"{value} s"}
        case float():
            return {f"{value:g} s"}
        case _:
            return {f"`{value}`"}


WORKER = rows("A worker")
GATEWAY = rows("A gateway")
PARAMETERS = [
    (command, parameter)
    for command in ("run", "gateway")
    for parameter in typer.main.get_group(application()).commands[command].params
    if parameter.param_type_name == "option" and parameter.name != "help"
]


@pytest.mark.parametrize(
    ("command", "parameter"),
    PARAMETERS,
    ids=[f"{command} {parameter.opts[0]}" for command, parameter in PARAMETERS],
)
def test_an_option_stands_there_with_its_variable_and_its_default(
    command: str, parameter: Any
) -> None:
    option = parameter.opts[0]
    row = (WORKER if command == "run" else GATEWAY)[option]
    if row.default == "as above":
        row = WORKER[option]
    assert parameter.envvar in row.variables
    default = parameter.default() if callable(parameter.default) else parameter.default
    assert row.default in ({IN_WORDS[option]} if option in IN_WORDS else written(default))


def test_no_option_stands_there_that_is_gone() -> None:
    for command, table in (("run", WORKER), ("gateway", GATEWAY)):
        there = {parameter.opts[0] for name, parameter in PARAMETERS if name == command}
        assert table.keys() == there
