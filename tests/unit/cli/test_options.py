"""The options that commands share."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import bridge
from bridge.cli.dead import dead
from bridge.cli.main import application
from bridge.cli.options import broker_urls, exchange_name, finite, prefix, reply_prefixes, words
from bridge.cli.topology import topology

PACKAGE = Path(bridge.__file__).parent


@pytest.mark.parametrize("values", [["a", "b", "c"], ["a b,c"], ["a,", " b", "c"]])
def test_an_option_given_several_times_can_be_one_text(values: list[str]) -> None:
    assert words(values) == ["a", "b", "c"]


def test_a_broker_can_stand_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Everybody on the machine sees the arguments of a process."""
    file = tmp_path / "url"
    file.write_text("amqp://u:p%40ss@a/ amqp://u:p%40ss@b/\n")
    assert [url.password for url in broker_urls([f"@{file}"])] == ["p@ss", "p@ss"]
    with pytest.raises(typer.Exit):
        broker_urls([f"@{file}2"])
    assert capsys.readouterr().err.startswith(
        f"dtbridge: the broker's URL cannot be read from the file {file}2: "
    )


def test_every_host_of_a_broker_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["amqp://a/ amqps://b/", "amqp://c/"]
    assert [str(url) for url in broker_urls(given)] == ["amqp://a/", "amqps://b/", "amqp://c/"]
    with pytest.raises(typer.Exit):
        broker_urls(["amqp://a/ http://b/"])
    assert capsys.readouterr().err.startswith("dtbridge: this is not a broker URL: it has spaces")


@pytest.mark.parametrize("text", ["datatransfer", "A.b_c:d-1", "x" * 50])
def test_what_names_may_begin_with(text: str) -> None:
    assert prefix(text) == text


@pytest.mark.parametrize("values", [[""], [" "], [","], ["replies.", ""]])
def test_an_empty_reply_prefix_is_refused_and_not_every_queue_allowed(values: list[str]) -> None:
    with pytest.raises(typer.BadParameter, match="every queue"):
        reply_prefixes(values)
    assert reply_prefixes(["replies. a,b"]) == ["replies. a,b"]


@pytest.mark.parametrize("text", ["", "a b", "a*", "ü", "x" * 51])
def test_what_names_may_not_begin_with(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        prefix(text)


@pytest.mark.parametrize("text", [None, "amq.topic", "a/b #1", "x" * 127])
def test_what_an_exchange_may_be_called(text: str | None) -> None:
    assert exchange_name(text) == text


@pytest.mark.parametrize("text", ["", "a*", "x" * 128])
def test_what_an_exchange_may_not_be_called(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        exchange_name(text)


def test_a_number_of_seconds_is_finite() -> None:
    assert finite(None) is None
    assert finite(0.5) == 0.5
    for seconds in (float("nan"), float("inf")):
        with pytest.raises(typer.BadParameter, match="is not a number of seconds"):
            finite(seconds)


def options() -> set[str]:
    """All that begin with two dashes."""
    commands = dict(typer.main.get_group(application()).commands)
    for group in (dead, topology):
        del commands[str(group.info.name)]
        commands |= typer.main.get_group(group).commands
    return {
        name
        for command in commands.values()
        for parameter in command.params
        for name in parameter.opts
        if name.startswith("--")
    }


def texts(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


COMMANDS = {"cli", "demo", "doctor", "testing"}
"""What nobody imports who has no command line. The doctor's advice is for whoever runs commands."""

LIBRARY = [
    path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in COMMANDS
]


def test_no_module_of_the_library_speaks_of_options() -> None:
    """Whoever imports it has none: its messages and docstrings name parameters."""
    known = options()
    assert {"--prefix", "--idempotency", "--listen", "--dry-run", "--prune"} <= known
    assert len(LIBRARY) > 50
    told = {
        (path.relative_to(PACKAGE).as_posix(), found)
        for path in LIBRARY
        for text in texts(path)
        for found in re.findall(r"--[a-z][a-z-]+", text)
        if found in known
    }
    assert told == set()
