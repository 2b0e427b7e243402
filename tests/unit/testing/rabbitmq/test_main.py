"""`python -m bridge.testing.rabbitmq`."""

from pathlib import Path

import pytest

from bridge.testing.rabbitmq.__main__ import main


def test_when_nothing_works_the_error_is_one_sentence(
    nothing_installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ensure"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_an_unknown_command_gets_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["destroy"])
    assert ended.value.code == 2
    assert "ensure|run" in capsys.readouterr().err


def test_help_is_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, told in ((["--help"], "until Ctrl-C"), (["run", "--help"], "--management")):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
        assert told in capsys.readouterr().out
