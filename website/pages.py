"""The site's pages beside docs/, and links between pages, which are elsewhere than their files."""

import importlib
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

from website.markdown import lines_and_code
from website.sequence import drawn

ROOT: Final = Path(__file__).resolve().parents[1]

OF_THE_ROOT: Final = ("CHANGELOG.md", "CONTRIBUTING.md", "RELEASE.md", "SECURITY.md")
"""Documents of the root that are pages of the site."""

REFERENCE: Final = (
    "bridge",
    "bridge.testing",
    "bridge.gateway",
    "bridge.ocpp",
    "bridge.dialects",
    "bridge.idempotency",
    "bridge.vendors",
    "bridge.testing.conformance",
    "bridge.testing.rabbitmq",
)
"""Every public package, each a page of the reference."""

LINK: Final = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
"""A link: its text, and where it goes."""


def place(page: str, target: str) -> str | None:
    """The path from the root of what `page` links to; None if it is no file of ours."""
    path = target.partition("#")[0]
    if ":" in target or not path:
        return None
    folder = "" if page in OF_THE_ROOT else posixpath.join("docs", posixpath.dirname(page))
    return posixpath.normpath(posixpath.join(folder, path))


def linked(page: str, text: str) -> Iterator[str]:
    """The paths of files outside the documents that a page links to."""
    for line, is_code in lines_and_code(text):
        for _, target in () if is_code else LINK.findall(line):
            path = place(page, target)
            if path and _is_source(path):
                yield path


def _is_source(path: str) -> bool:
    return not path.startswith("docs/") and path not in OF_THE_ROOT and (ROOT / path).is_file()


def with_links(page: str, text: str) -> str:
    """The text of a page with each link to where the site has its target."""
    folder = posixpath.dirname(page)

    def link(match: re.Match[str]) -> str:
        path = place(page, match[2])
        _, mark, anchor = match[2].partition("#")
        if path is None:
            return match[0]
        if path.startswith("docs/"):
            path = path.removeprefix("docs/")
        elif _is_source(path):
            path = f"source/{path}"
        elif path not in OF_THE_ROOT:  # a folder of the sources
            return match[1]
        return f"[{match[1]}]({posixpath.relpath(path, folder)}{mark}{anchor})"

    return "\n".join(
        line if is_code else LINK.sub(link, line) for line, is_code in lines_and_code(text)
    )


def with_diagrams(text: str) -> str:
    """The text of a page with its diagrams drawn. Raises ValueError for one that cannot be."""
    block = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return block.sub(lambda match: f"<div>{drawn(match[1])}</div>", text)


def reference() -> dict[str, str]:
    """The pages of the reference, by their paths."""
    packs = importlib.import_module("bridge.vendors")
    names = [name for name in packs.__all__ if isinstance(getattr(packs, name), ModuleType)]
    return {
        f"reference/{number}-{name}.md": _reference_page(name)
        for number, name in enumerate(REFERENCE)
    } | {
        f"reference/vendors/{name}.md": _reference_page(f"bridge.vendors.{name}") for name in names
    }


def _reference_page(name: str) -> str:
    module = importlib.import_module(name)
    page = f"# {name}\n\n::: {name}\n"
    if public := getattr(module, "__all__", None):
        own = [each for each in public if not isinstance(getattr(module, each), ModuleType)]
        page += f"    options:\n      members: [{', '.join(own)}]\n"
    return page
