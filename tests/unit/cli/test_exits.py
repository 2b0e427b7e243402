"""A failure is said in the format of the log: a sentence, or a record."""

import json
import sys
from collections.abc import Iterator

import pytest
import typer

from bridge.cli.exits import EXIT_USAGE, fail, speak_as_told


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    speak_as_told([], {})


def said(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(typer.Exit) as ended:
        fail("no \x1bbroker", EXIT_USAGE)
    assert ended.value.exit_code == EXIT_USAGE
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["run", "m:r", "--log-format", "json"], {}),
        (["run", "m:r", "--log-format=json", "--bogus"], {}),
        (["run", "--log-format", "console", "m:r", "--log-format", "json"], {}),
        (["gateway"], {"DTBRIDGE_LOG_FORMAT": "json"}),
        (["run", "m:r"], {}),  # auto, and standard error is no terminal
        (["run", "m:r", "--log-format", "nonsense"], {}),
    ],
)
def test_as_a_record(
    arguments: list[str], environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    speak_as_told(arguments, environment)
    record = json.loads(said(capsys))
    assert record.pop("timestamp")
    assert record == {
        "event": "no \x1bbroker",
        "exit_code": 2,
        "level": "critical",
        "logger": "bridge.cli",
    }


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["run", "m:r", "--log-format", "console"], {}),
        (["run", "m:r", "--log-format", "none"], {"DTBRIDGE_LOG_FORMAT": "json"}),
        (["run", "--log-format", "console", "--", "--log-format", "json"], {}),
        (["send"], {"DTBRIDGE_LOG_FORMAT": "json"}),
        ([], {}),
        (["run", "--log-format"], {"DTBRIDGE_LOG_FORMAT": "console"}),
    ],
)
def test_as_a_sentence(
    arguments: list[str], environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    speak_as_told(arguments, environment)
    assert said(capsys) == "dtbridge: no \\x1bbroker\n"


def test_on_a_terminal_auto_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    speak_as_told(["run"], {})
    assert said(capsys) == "dtbridge: no \\x1bbroker\n"


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_at_debug_the_cause_is_shown_whole(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    speak_as_told(["run", "--log-level", "debug", "--log-format", log_format], {})
    with pytest.raises(ZeroDivisionError) as caught:
        _ = 1 // 0
    with pytest.raises(typer.Exit):
        fail("it failed", error=caught.value)
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert "ZeroDivisionError: " in told
    assert "it failed" in told
