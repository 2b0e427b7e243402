"""The list of packs, and the page that says how well they are known."""

import re
from pathlib import Path

import pytest

import bridge.vendors
from bridge.vendors.catalogue import Pack, packs
from tests.unit.test_public import FENCE

NONE = "\N{EN DASH}"
PAGE = (Path(__file__).parents[3] / "docs" / "vendors.md").read_text(encoding="utf-8")
ROWS = {
    cells[0].strip("`"): cells[1:]
    for cells in (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.splitlines()
        if line.startswith("| `")
    )
}


def test_the_page_has_a_row_for_each_pack() -> None:
    assert sorted(ROWS) == [pack.name for pack in packs()]


@pytest.mark.parametrize("pack", packs(), ids=lambda pack: pack.name)
def test_a_row_says_what_the_pack_has(pack: Pack) -> None:
    vendor_id, from_station, to_station, known, source = ROWS[pack.name]
    assert f"`{pack.vendor_id}`" in vendor_id
    assert from_station == (", ".join(each.message_id for each in pack.from_station) or NONE)
    if pack.name != "compleo":
        assert to_station == (", ".join(each.message_id for each in pack.to_station) or NONE)
    assert known == pack.certainty
    assert source


@pytest.mark.parametrize("pack", packs(), ids=lambda pack: pack.name)
def test_every_message_says_what_it_is_for(pack: Pack) -> None:
    assert pack.summary.endswith(".")
    assert all(each.description for each in pack.from_station)


def test_packs_are_public() -> None:
    assert {pack.name for pack in packs()} <= set(bridge.vendors.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'acme'"):
        _ = bridge.vendors.acme


@pytest.mark.parametrize(
    "block", FENCE.findall(PAGE), ids=lambda block: re.sub(r"\W+", " ", block)[:40]
)
def test_the_programs_of_the_page_run(block: str) -> None:
    exec(compile(block, "docs/vendors.md", "exec"), {"__name__": "docs_vendors"})
