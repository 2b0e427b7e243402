"""The documents: no link is dead, and each line has one sentence."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.documents import ROOT, anchors, documents, for_developers, links, paragraphs

ALL: Final = documents() + for_developers()
ENDS: Final = re.compile(r"""(?<!\*\*\d)[.!?]["”)*_]*(?= +["“(*_\[]*[A-Z`])""")
"""The end of a sentence that another one follows; the number of a bold step is none."""
GOES_ON: Final = re.compile(r"""[.:!?;,]["”)*_`]*$""")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def dead(path: Path) -> list[str]:
    """Links to files and anchors that are not there."""
    found = []
    for link in links(path):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        file = (path.parent / target).resolve() if target else path
        is_there = file.exists() and file.is_relative_to(ROOT)
        if not is_there or (anchor and anchor not in anchors(file)):
            found.append(link)
    return found


def beside_its_line(path: Path) -> list[str]:
    """The lines that have two sentences, or half a one."""
    found = []
    for first, lines in paragraphs(path):
        for number, line in enumerate(lines):
            text = re.sub("`[^`]*`", "`code`", line)
            if ENDS.search(text):
                found.append(f"{first + number}: two sentences: {line}")
            if line is not lines[-1] and not GOES_ON.search(text):
                found.append(f"{first + number}: the sentence goes on in the next line: {line}")
    return found


@pytest.mark.parametrize("path", ALL, ids=name)
def test_no_link_is_dead(path: Path) -> None:
    assert dead(path) == []


@pytest.mark.parametrize("path", documents(), ids=name)
def test_a_line_is_a_sentence(path: Path) -> None:
    assert beside_its_line(path) == []


def test_the_readme_names_every_document() -> None:
    """Those of the decisions stand in a list of their own, and how-to guides may be many."""
    readme = {str((ROOT / link.partition("#")[0]).resolve()) for link in links(ROOT / "README.md")}
    listed = {str(path) for path in (ROOT / "docs").glob("*.md")} - {str(ROOT / "docs/index.md")}
    assert listed <= readme
    decisions = ROOT / "docs" / "decisions"
    assert {path.name for path in decisions.glob("0*.md")} == {
        link for link in links(decisions / "README.md") if link.startswith("0")
    }


# ---- the rules find what they are for ----


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tests.unit.test_documents.ROOT", tmp_path)
    (tmp_path / "other.md").write_text("# One `two`, *three*!\n\n## Same\n\n## Same\n")
    return tmp_path / "page.md"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[a](other.md) [b](other.md#one-two-three) [c](other.md#same-1)", []),
        ("[a](https://nowhere.example/#b) `[c](d.md)`", []),
        ("[a](another.md)", ["another.md"]),
        ("| [a](other.md#two) |\n|---|", ["other.md#two"]),
        ("# Here\n[a](#here)", []),
        ("# Here\n[a](#there)", ["#there"]),
        ("![a](picture.svg)", ["picture.svg"]),
        ("[a](../outside.md)", ["../outside.md"]),
    ],
)
def test_a_dead_link_is_found(page: Path, text: str, found: list[str]) -> None:
    page.write_text(text)
    assert dead(page) == found


@pytest.mark.parametrize(
    "text",
    [
        "One. Two.",
        "* One.\n* One.  Two.",
        'He said "no." She did not.',
        "It is `so`. `that` too.",
        "One sentence\nover two lines.",
    ],
)
def test_a_line_with_more_or_less_than_a_sentence_is_found(page: Path, text: str) -> None:
    page.write_text(text)
    assert len(beside_its_line(page)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "One.\nTwo.",
        "It says `One. Two.` and goes on.",
        "**1. Accounts.**\nTwo.",
        "| One. Two. |\n|---|",
        "```\nOne. Two.\n```",
        "# One. Two.",
        "Version 4.3 of RabbitMQ, e.g. on Debian.",
    ],
)
def test_a_sentence_a_line_is_not_found(page: Path, text: str) -> None:
    page.write_text(text)
    assert beside_its_line(page) == []
