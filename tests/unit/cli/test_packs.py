"""The list of vendor packs on the command line."""

import pytest
import typer

from bridge.cli.packs import check_packs


def lines(shown: str) -> list[list[str]]:
    rows = [line.strip("│┃ ").replace("┃", "│").split("│") for line in shown.splitlines()]
    return [[cell.strip() for cell in row] for row in rows if len(row) > 1]


def test_other_targets_are_left(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_packs(["my.acme:router", "bridge.vendorsack"]) == [
        "my.acme:router",
        "bridge.vendorsack",
    ]
    assert capsys.readouterr().out == ""


def test_a_pack_is_listed_with_its_types(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_packs(["bridge.vendors.monta", "bridge.vendors.star_charge"]) == []
    header, *rows = lines(capsys.readouterr().out)
    assert header == ["pack", "vendor", "asked by", "message", "data", "answer", "known"]
    assert rows[3:] == [
        ["monta", "com.monta", "CSMS", "SoC", "int", "?", "observed"],
        ["monta", "com.monta", "CSMS", "ClearDisplay", "-", "?", "observed"],
        ["star_charge", "StarCharge", "station", "CarId", "list[str]", "-", "observed"],
    ]


def test_all_packs_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_packs(["bridge.vendors"]) == []
    shown = capsys.readouterr().out
    assert "TriggerMessage" in shown
    assert "(types only)" in shown


def test_a_pack_that_is_none_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        check_packs(["bridge.vendors.acme"])
    assert "there is no vendor pack 'bridge.vendors.acme'" in capsys.readouterr().err
