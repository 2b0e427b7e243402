"""The documents, as CommonMark reads them: what the tests look at in them."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT: Final = Path(__file__).parents[1]
_READER: Final = MarkdownIt("commonmark").enable("table")


def documents() -> list[Path]:
    """README.md and everything in docs/: what a user reads."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def for_developers() -> list[Path]:
    """The other documents of the root, and those beside examples."""
    found = {*ROOT.glob("*.md"), *(ROOT / "examples").rglob("*.md")} - {*documents()}
    return sorted(path for path in found if "node_modules" not in path.parts)


def tokens(path: Path) -> list[Token]:
    """What the document is made of."""
    return _READER.parse(path.read_text(encoding="utf-8"))


class Block(NamedTuple):
    """A fenced block."""

    path: Path
    line: int
    """Its first one, in the document; from 1."""
    language: str
    text: str
    note: str
    """The comment right before it, which says what it needs; empty if there is none."""

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def blocks(path: Path) -> Iterator[Block]:
    """The fenced blocks of a document, in their order."""
    note = ""
    for token in tokens(path):
        if token.type == "fence":
            assert token.map
            yield Block(path, token.map[0] + 1, token.info, token.content, note)
        comment = re.fullmatch(r"<!-- (.*?)\s*-->\n?", token.content, re.DOTALL)
        note = comment[1] if token.type == "html_block" and comment else ""


def links(path: Path) -> Iterator[str]:
    """Where the links and the pictures of a document go."""
    for token in tokens(path):
        for child in token.children or ():
            target = child.attrGet("href") or child.attrGet("src")
            if target:
                yield str(target)


def anchors(path: Path) -> set[str]:
    """Those of the headings, as GitHub names them."""
    found: set[str] = set()
    read = tokens(path)
    for heading, inline in itertools.pairwise(read):
        if heading.type == "heading_open":
            text = "".join(child.content for child in inline.children or ())
            slug = re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-")
            number = sum(
                re.fullmatch(rf"{re.escape(slug)}(-\d+)?", each) is not None for each in found
            )
            found.add(f"{slug}-{number}" if number else slug)
    return found


def paragraphs(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines of each paragraph, with the number of the first: no headings, tables or code."""
    read = tokens(path)
    for opening, inline in itertools.pairwise(read):
        if opening.type == "paragraph_open" and inline.map:
            yield inline.map[0] + 1, inline.content.split("\n")
