"""The tables of `dtbridge dead`, as wide as the terminal is."""

import io

import msgspec
import pytest
import rich.console

from bridge.cli.dead_output import age, letters_table
from bridge.dead_letters.letter import DeadLetter
from tests.unit.dead_letters.test_filter import NOW, a_letter

LONG = a_letter(
    id="1" * 12,
    vendor="org.openchargealliance.iso15118pnc",
    message="GetInstalledCertificateIds",
    station="DE*ABC*E1234567*0001",
    reason="retries-exhausted",
    attempts=5,
    error="ConnectionError: " + "x" * 4_000,
)


def shown(letters: list[DeadLetter], width: int) -> list[str]:
    written = io.StringIO()
    console = rich.console.Console(width=width, file=written)
    console.print(letters_table(letters, width, NOW))
    return written.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 100, 130, 200])
def test_each_dead_letter_has_its_reason_whole_and_the_start_of_its_error(width: int) -> None:
    header, *lines = shown([a_letter(), LONG], width)
    assert all(len(line) <= width for line in (header, *lines))
    assert ("goes back to" in header) == (width >= 130)
    if width < 180:  # the errors have lines of their own
        assert len(lines) == 4
        first, second = lines[1], lines[3]
        assert first.lstrip() == "ValueError: no"
        assert len(second) == width
        assert second.lstrip().startswith("ConnectionError: x")
    else:
        assert len(lines) == 2
        assert "ValueError: no" in lines[0]
        assert "ConnectionError: x" in lines[1]
    assert "retries-exhausted" in "".join(lines)


def test_a_narrow_table_shows_as_much_of_an_id_as_tells_them_apart() -> None:
    _, first, *_ = shown([a_letter(), LONG], 80)
    assert first.startswith("00000000  1h")
    _, first, *_ = shown([a_letter(), a_letter(id="000000000001")], 80)
    assert first.startswith("000000000000  1h")


def test_nothing_in_a_table_is_a_command_or_markup() -> None:
    _, line, error = shown([a_letter(vendor="\x1b[2J\n[bold]", error="\x9b\u202e")], 100)
    assert (line + error).isprintable()
    assert "[bold]" in line


def test_what_is_not_known_is_left_empty() -> None:
    letter = msgspec.structs.replace(a_letter(), failed_at=None, attempts=None)
    _, line, error = shown([letter], 80)
    assert [*line.split(), *error.split()] == [
        "00000000",
        "com.Acme",
        "GetTariff",
        "CP1",
        "failed",
        "ValueError:",
        "no",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (59.9, "59s"), (60, "1m"), (3599, "59m"), (7200, "2h"), (200_000, "2d")],
)
def test_ages_are_short(seconds: float, text: str) -> None:
    assert age(seconds) == text
