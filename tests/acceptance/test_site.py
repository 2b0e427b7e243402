"""The documents as a site: it builds, needs no network, and people find what they look for."""

import importlib
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Final
from urllib.parse import unquote, urldefrag, urljoin

import pytest
from markdown_it import MarkdownIt

import bridge
from tests.integration.support import ROOT
from tests.unit.test_public import PUBLIC
from website.navigation import NAVIGATION, sections
from website.pages import OF_THE_ROOT, REFERENCE

SITE: Final = ROOT / "build" / "site" / "html"

GOALS: Final = {
    "install": ("install.html", ""),
    "first handler": ("handlers.html", ""),
    "errors": ("handlers.html", "what-a-request-gets"),
    "retry": ("handlers.html", "trying-again"),
    "testing": ("testing.html", ""),
    "deploying": ("deployment.html", ""),
    "monitoring": ("operations.html", "watching"),
    "upgrading": ("upgrading.html", ""),
    "writing a gateway": ("gateways.html", ""),
}
"""What people look for, and where it is: a page and an anchor."""

COUNTED: Final = {"li", "pre", "table", "tr", "h1", "h2", "h3", "img"}
"""Elements that a page of the site has as often as its document."""


class Page(HTMLParser):
    """What a page of the site has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.assets: list[str] = []
        self.links: list[str] = []
        """Of the article: not of the navigation around it."""
        self.anchors: set[str] = set()
        self.elements: Counter[str] = Counter()
        self._in_article = 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors.add(given.get("id", ""))
        if tag == "article":
            self._in_article += 1
        if tag == "link" and given.get("rel", "") not in {"canonical", "next", "prev"}:
            self.assets.append(given["href"])
        if tag in {"script", "img", "iframe", "source", "video"} and "src" in given:
            self.assets.append(given["src"])
        if self._in_article:
            self.elements[tag] += 1
            if tag == "a" and "headerlink" not in given.get("class", ""):
                self.links.append(given.get("href", ""))

    def handle_endtag(self, tag: str) -> None:
        self._in_article -= tag == "article"


@pytest.fixture(scope="module")
def pages() -> dict[str, Page]:
    """The site, built as `make docs` does: each page by its path."""
    built = subprocess.run(
        [sys.executable, "-m", "website"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    assert "No issues found" in built.stderr
    return {path.relative_to(SITE).as_posix(): Page(path) for path in SITE.rglob("*.html")}


def documents() -> Iterator[Path]:
    yield from (ROOT / "docs").rglob("*.md")
    yield from (ROOT / name for name in OF_THE_ROOT)


def html(document: Path) -> str:
    """The path of its page."""
    name = document.relative_to(ROOT).as_posix().removeprefix("docs/").removesuffix(".md")
    return re.sub("README$", "index", name) + ".html"


def test_every_document_has_its_page(pages: dict[str, Page]) -> None:
    assert {html(document) for document in documents()} <= set(pages)


def test_no_page_asks_a_network_for_anything(pages: dict[str, Page]) -> None:
    asked = [(path, asset) for path, page in pages.items() for asset in page.assets]
    assert len(asked) > len(pages)
    assert [each for each in asked if re.match(r"(\w+:)?//", each[1])] == []
    for path, asset in asked:
        if not asset.startswith("data:") and path != "404.html":
            assert (SITE / Path(path).parent / asset.partition("?")[0]).exists(), (path, asset)
    for sheet in SITE.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert not re.search(r"""(url\(|@import )["']?(https?:)?//""", text), sheet
    # The theme's script fetches a library where a page has a diagram; ours are drawn.
    assert not any('class="mermaid"' in (SITE / path).read_text() for path in pages)


def test_what_people_look_for_is_two_clicks_away_at_most(pages: dict[str, Page]) -> None:
    clicks = {"index.html": 0}
    queue = ["index.html"]
    for place in queue:
        page = urldefrag(place).url
        for link in pages[page].links:
            target = urljoin(place, link)
            if urldefrag(target).url in pages and clicks[place] < 2:
                queue += [] if target in clicks else [target]
                clicks.setdefault(target, clicks[place] + 1)
    for goal, (path, anchor) in GOALS.items():
        assert clicks.get(f"{path}#{anchor}".rstrip("#"), 3) <= 2, goal
        assert anchor in pages[path].anchors | {""}, goal


def test_no_link_is_dead(pages: dict[str, Page]) -> None:
    """Neither those that are written, nor those that the generator makes."""
    dead = []
    for path, page in pages.items():
        for link in page.links:
            target, anchor = urldefrag(urljoin(path, link))
            if not re.match(r"\w+:", link) and target in pages:
                anchors = pages[target].anchors
                dead += [] if unquote(anchor) in anchors | {""} else [(path, link)]
            elif not re.match(r"\w+:", link) and not (SITE / target).is_file():
                dead.append((path, link))
    assert dead == []


def test_the_search_knows_every_page(pages: dict[str, Page]) -> None:
    index = json.loads((SITE / "search.json").read_text(encoding="utf-8"))
    found = {urldefrag(item["location"]).url for item in index["items"]}
    assert set(pages) - {"404.html"} <= {path or "index.html" for path in found}
    assert "handlers.html#trying-again" in {item["location"] for item in index["items"]}


def test_a_page_has_all_that_its_document_has(pages: dict[str, Page]) -> None:
    """The generator reads another Markdown than CommonMark, and may take a list for a paragraph."""
    for document in documents():
        elements = pages[html(document)].elements
        there = {name: elements[name] for name in COUNTED}
        assert there == in_document(document), document


def in_document(document: Path) -> dict[str, int]:
    """How often it has each of the elements that are counted, as CommonMark reads it."""
    tokens = MarkdownIt("commonmark").enable("table").parse(document.read_text(encoding="utf-8"))
    inline = [child for token in tokens for child in token.children or ()]
    names = ("pre" if token.tag == "code" else token.tag for token in tokens if token.nesting >= 0)
    found = Counter(names)
    drawings = sum(token.info == "mermaid" for token in tokens)
    return {name: found[name] for name in COUNTED} | {
        "pre": found["pre"] - drawings,
        "img": sum(token.tag == "img" for token in inline),
    }


# ---- the reference ----


def test_the_reference_has_every_public_package() -> None:
    assert set(REFERENCE) == set(PUBLIC)


@pytest.mark.parametrize("package", REFERENCE)
def test_the_reference_has_every_public_name(pages: dict[str, Page], package: str) -> None:
    module = importlib.import_module(package)
    anchors = pages[f"reference/{REFERENCE.index(package)}-{package}.html"].anchors
    names = (name for name in module.__all__ if not isinstance(getattr(module, name), ModuleType))
    assert {f"{package}.{name}" for name in names} <= anchors


def test_docstrings_read_well(pages: dict[str, Page]) -> None:
    for path in SITE.glob("reference/**/*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r":(attr|class|data|exc|func|meth|mod):|&gt;&gt;&gt; |``", text), path


def test_a_default_is_shown_as_its_number(pages: dict[str, Page]) -> None:
    """Not by the name of a constant: of a parameter, and of a field."""
    text = re.sub("<[^>]+>", "", (SITE / "reference" / "0-bridge.html").read_text("utf-8"))
    assert "timeout: float = 20.0,\n    retry: RetryPolicy | None = None" in text
    assert f"prefetch: int = {bridge.Settings().prefetch}\n" in text


# ---- the navigation ----


def test_a_page_that_stands_nowhere_is_a_mistake() -> None:
    named = [page for pages in NAVIGATION.values() for page in pages if "*" not in page]
    assert sections([*named, "how-to/pool.md"])["How-to guides"] == ["how-to/pool.md"]
    with pytest.raises(LookupError, match=r"not in the navigation: forgotten\.md"):
        sections([*named, "forgotten.md"])
    with pytest.raises(LookupError, match=r"the navigation has index\.md, which does not exist"):
        sections(named[1:])
