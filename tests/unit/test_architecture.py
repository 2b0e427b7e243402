"""The picture and its page tell the same, and the comparison tells what was measured."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
PICTURE = (DOCS / "architecture.svg").read_text(encoding="utf-8")
PAGE = (DOCS / "architecture.md").read_text(encoding="utf-8")
COMPARISON = (DOCS / "comparison.md").read_text(encoding="utf-8")
PERFORMANCE = (DOCS / "performance.md").read_text(encoding="utf-8")
SVG = "{http://www.w3.org/2000/svg}"


def test_each_step_of_the_picture_is_told_and_no_other() -> None:
    texts = ET.fromstring(PICTURE).iter(f"{SVG}text")
    shown = [each.text for each in texts if each.get("class") == "number"]
    assert shown == re.findall(r"^\*\*(\w+) \S ", PAGE, re.MULTILINE)
    assert len(shown) == 13


def test_the_picture_needs_nothing_from_elsewhere_and_knows_the_dark() -> None:
    outside = re.sub(r'xmlns="[^"]*"', "", PICTURE)
    assert not re.search(r"https?:|href|@import|<image|<script", outside)
    assert "prefers-color-scheme: dark" in PICTURE


def test_what_the_comparison_says_of_speed_is_what_was_measured() -> None:
    section = COMPARISON.partition("## Measured")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:1] == "|"]
    told = [row for row in rows if len(row) == 5]
    assert len(told) == 4
    for name, rate, cpu, latency, memory in told:
        begins = f"| 250-byte request | {name} | "
        [there] = [
            line.removeprefix(begins)
            for line in PERFORMANCE.replace("**", "").splitlines()
            if line.startswith(begins)
        ]
        numbers = [re.sub(r" \(.*?\)", "", each) for each in there.split(" | ")]
        assert [rate, cpu, latency, memory] == [*numbers[:2], *numbers[3:5]]
