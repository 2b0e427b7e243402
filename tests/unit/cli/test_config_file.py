"""What dtbridge.toml says, what counts more, and what is refused in it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner, Result

from bridge.cli.config_file import LARGEST, NAME, configure_commands
from bridge.cli.exits import fail, speak_as_told
from bridge.cli.secrets import file_variable

Url = Annotated[list[str], typer.Option(envvar="DTBRIDGE_AMQP_URL", callback=file_variable)]


def work(
    targets: Annotated[list[str], typer.Argument(envvar="DTBRIDGE_TARGETS")],
    amqp_url: Url = ["local"],  # noqa: B006 - Typer copies it
    prefetch: Annotated[int, typer.Option(envvar="DTBRIDGE_PREFETCH", min=1)] = 200,
    wait: Annotated[float, typer.Option("--drain-timeout", envvar="DTBRIDGE_DRAIN_TIMEOUT")] = 25,
    strict: Annotated[bool, typer.Option("--strict", envvar="DTBRIDGE_STRICT")] = False,
    log_format: Annotated[str, typer.Option(envvar="DTBRIDGE_LOG_FORMAT")] = "auto",
) -> None:
    del log_format
    typer.echo(f"{targets} {amqp_url} {prefetch} {wait} {strict}")


def look(
    amqp_url: Url = ["local"],  # noqa: B006 - Typer copies it
    vendor: Annotated[str, typer.Option(envvar="DTBRIDGE_DEAD_VENDOR")] = "any",
) -> None:
    typer.echo(f"{amqp_url} {vendor}")


def ask(vendor: Annotated[str, typer.Option(envvar="DTBRIDGE_VENDOR")] = "none") -> None:
    typer.echo(vendor)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    speak_as_told([], {})


def run(*arguments: str, file: str | None = None, **variables: str) -> Result:
    if file is not None:
        Path(NAME).write_text(file, encoding="utf-8")
    app, dead = typer.Typer(), typer.Typer(name="dead")
    app.command("run")(work)
    app.command("send")(ask)
    dead.command("list")(look)
    dead.command("purge")(look)
    app.add_typer(dead)
    configure_commands(app)
    return CliRunner().invoke(app, arguments, env=variables)


WHOLE = """
[run]
targets = ["a:b", "c:d"]
amqp-url = "amqp://file"
prefetch = 10
drain-timeout = 1.5
strict = true
"""


def test_every_kind_of_option_is_read() -> None:
    assert run("run", file=WHOLE).stdout == "['a:b', 'c:d'] ['amqp://file'] 10 1.5 True\n"


def test_without_a_file_the_defaults_hold() -> None:
    assert run("run", "x:y").stdout == "['x:y'] ['local'] 200 25.0 False\n"


def test_the_environment_counts_more_and_the_command_line_most() -> None:
    done = run("run", "--prefetch", "30", file=WHOLE, DTBRIDGE_PREFETCH="20", DTBRIDGE_AMQP_URL="b")
    assert done.stdout == "['a:b', 'c:d'] ['b'] 30 1.5 True\n"
    assert run("run", "x:y", file=WHOLE).stdout.startswith("['x:y']")


@pytest.mark.parametrize("key", ["amqp-url-file", "amqp_url_file"])
def test_a_secret_stands_in_a_file_of_its_own(key: str) -> None:
    assert "['@/run/url']" in run("run", "x:y", file=f'[run]\n{key} = "/run/url"').stdout


def test_a_variable_with_a_secret_or_its_file_counts_more_than_the_file() -> None:
    file = '[run]\namqp-url-file = "/run/url"'
    assert "['@/other']" in run("run", "x:y", file=file, DTBRIDGE_AMQP_URL_FILE="/other").stdout
    assert "['amqp://b']" in run("run", "x:y", file=file, DTBRIDGE_AMQP_URL="amqp://b").stdout


def test_above_all_sections_a_key_holds_for_the_commands_that_read_its_variable() -> None:
    file = 'amqp-url = "all"\nvendor = "com.acme"\n[dead]\namqp-url = "dead"\n'
    assert "['all']" in run("run", "x:y", file=file).stdout
    assert run("send").stdout == "com.acme\n"
    assert run("dead", "list").stdout == "['dead'] any\n"


def test_the_commands_own_section_counts_most() -> None:
    file = '[dead]\nvendor = "a"\n[dead.list]\nvendor = "b"\n'
    assert run("dead", "list", file=file).stdout == "['local'] b\n"
    assert run("dead", "purge").stdout == "['local'] a\n"


def test_another_file_is_named_by_an_option_or_a_variable() -> None:
    Path("other.toml").write_text('vendor = "other"')
    assert run("send", file='vendor = "this"').stdout == "this\n"
    assert run("send", "--config", "other.toml").stdout == "other\n"
    assert run("send", DTBRIDGE_CONFIG="other.toml").stdout == "other\n"
    assert run("send", "--config", "/dev/null").stdout == "none\n"


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("[rnu]", "there is no section 'rnu' in dtbridge.toml; known are dead, run, send"),
        (
            "[run]\nprefech = 1",
            (
                "there is no key 'prefech' in [run] of dtbridge.toml; known are amqp-url, "
                "amqp-url-file, drain-timeout, log-format, prefetch, strict, targets"
            ),
        ),
        ("[dead.purge]\nyes = true", "'yes' in [dead.purge] of dtbridge.toml; known are"),
        ("dead-vendors = 'a'", "there is no key 'dead-vendors' in dtbridge.toml; known are"),
        ("[run]\nprefetch-file = 'a'", "there is no key 'prefetch-file'"),
        ("[run]\nstrict = 'yes'", "strict in [run] of dtbridge.toml: expected true or false"),
        ("[run]\nprefetch = true", "prefetch in [run] of dtbridge.toml: expected a text or a"),
        ("[run]\nprefetch = [1]", "prefetch in [run] of dtbridge.toml: expected a text or a"),
        ("[run]\namqp-url = [['a']]", "or a list of them"),
        ("[run]\ndrain-timeout = 2026-01-01", "expected a text or a number"),
        ("[run]\namqp-url = 'a'\namqp-url-file = 'b'", "amqp-url and amqp-url-file in"),
        ("[run", "dtbridge.toml is not TOML: "),
        ("#" * (LARGEST + 1), "it holds more than 256 kB"),
    ],
)
def test_a_mistake_in_it_ends_the_command(file: str, told: str) -> None:
    done = run("run", "x:y", file=file)
    assert told in done.stderr
    assert (done.exit_code, done.stdout) == (2, "")


def test_a_mistake_is_told_by_every_command() -> None:
    assert run("send", file="[run]\nprefech = 1").exit_code == 2


def test_a_value_that_an_option_refuses_is_refused() -> None:
    assert run("run", "x:y", file="[run]\nprefetch = 0").exit_code == 2
    assert run("run", "x:y", file="[run]\nprefetch = 1.5").exit_code == 2


def test_a_file_that_is_named_must_be_there() -> None:
    done = run("send", "--config", "nowhere.toml")
    assert "cannot be read from the file nowhere.toml: No such file or directory" in done.stderr
    assert done.exit_code == 2


def test_what_is_no_text_is_told_without_a_word_of_it() -> None:
    Path(NAME).write_bytes(b"secret = '\xff'")
    done = run("send")
    assert "it is not UTF-8" in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "is_json"),
    [
        ([], {}, False),
        (["--log-format", "json"], {}, True),
        ([], {"DTBRIDGE_LOG_FORMAT": "json"}, True),
    ],
)
def test_a_failure_is_told_in_the_format_that_the_file_says(
    arguments: list[str],
    environment: dict[str, str],
    is_json: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    speak_as_told(["run", *arguments], environment)
    assert run("run", file="[run]\nlog-format = 'console'\ntargets = 'a:b'").exit_code == 0
    with pytest.raises(typer.Exit):
        fail("it failed")
    assert capsys.readouterr().err.startswith("{") == is_json
