"""Sequence diagrams as SVG."""

import re
from xml.etree import ElementTree as ET

import pytest

from website.sequence import drawn

WHOLE = """sequenceDiagram
    participant A as a station
    participant B as a gateway
    participant C as <others>
    Note over B,A: they are connected
    A->>C: first<br/>second
    alt it goes well
        C-->>A: thanks
    else it does not
        A->>A: again
    end
"""
SVG = "{http://www.w3.org/2000/svg}"


def test_all_of_it_is_shown_in_its_order() -> None:
    texts = [each.text for each in ET.fromstring(drawn(WHOLE)).iter(f"{SVG}text")]
    assert texts == [
        *("a station", "a gateway", "<others>", "they are connected", "first", "second"),
        *("alt: it goes well", "thanks", "else: it does not", "again"),
    ]


def test_an_arrow_goes_from_one_to_the_other_below_what_came_before() -> None:
    lines = [*ET.fromstring(drawn(WHOLE)).iter(f"{SVG}line")]
    arrows = [line for line in lines if "marker-end" in line.attrib]
    life = [line.attrib["x1"] for line in lines if line.get("class") == "life"]
    ways = [(life.index(each.attrib["x1"]), life.index(each.attrib["x2"])) for each in arrows]
    assert ways == [(0, 2), (2, 0), (0, 0)]
    heights = [int(each.attrib["y1"]) for each in arrows]
    assert heights == sorted(set(heights))
    assert ["stroke-dasharray" in each.attrib for each in arrows] == [False, True, False]


def test_nothing_lies_outside() -> None:
    drawing = drawn(WHOLE)
    found = re.search(r'viewBox="0 0 (\d+) (\d+)"', drawing)
    assert found is not None
    width, height = map(int, found.groups())
    assert all(0 <= int(x) <= width for x in re.findall(r' x[12]?="(\d+)"', drawing))
    assert all(
        int(size) > 0 for size in re.findall(r'<rect[^>]* (?:width|height)="(-?\d+)"', drawing)
    )
    assert all(0 <= int(y) <= height for y in re.findall(r' y[12]?="(\d+)"', drawing))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a sequence diagram: "),
        ("flowchart LR", "not a sequence diagram: flowchart LR"),
        ("sequenceDiagram\nA->>A: hello", "no participant A"),
        ("sequenceDiagram\nparticipant A as a\nloop for ever", "not known: loop for ever"),
        ("sequenceDiagram\nalt this", "alt without end"),
        ("sequenceDiagram\nelse that", "else without alt"),
        ("sequenceDiagram\nend", "end without alt"),
    ],
)
def test_what_cannot_be_drawn_is_a_mistake(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        drawn(text)
