"""Text from elsewhere, on a terminal."""

import json
import tracemalloc

import pytest
import rich.table

from bridge.cli.tables import json_text, print_table, printable

CONTROLS = "\x07\x1b[2J\x7f\x85\x9b2J\u202e\u2028\U000e0001"


def test_json_from_elsewhere_commands_no_terminal_and_is_read_as_it_was() -> None:
    value = {"body": CONTROLS, CONTROLS: ["ü\N{BATTERY}"]}
    for text in (json_text(value), json_text(value, indent=2)):
        assert text.replace("\n", "").isprintable()
        assert "ü\N{BATTERY}" in text
        assert json.loads(text) == value


def test_text_from_elsewhere_keeps_its_length_and_commands_no_terminal() -> None:
    long = ("ü" + CONTROLS) * 1_000
    shown = printable(long)
    assert shown.isprintable()
    assert len(shown) == len(long)
    assert shown.count("ü") == 1_000


def test_a_long_body_is_made_printable_in_portions() -> None:
    body = "\x9b" * 200_000
    tracemalloc.start()
    try:
        printable(body)
        json_text(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 * len(body)


def test_brackets_in_a_table_stay(capsys: pytest.CaptureFixture[str]) -> None:
    table = rich.table.Table("data")
    table.add_row("dict[str, int]")
    table.add_row("a[red]b")
    print_table(table)
    shown = capsys.readouterr().out
    assert "dict[str, int]" in shown
    assert "a[red]b" in shown
