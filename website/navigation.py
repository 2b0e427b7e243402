"""Where the pages of the site stand."""

import fnmatch
import json
from collections.abc import Iterable, Iterator
from typing import Final

NAVIGATION: Final[dict[str, tuple[str, ...]]] = {
    "Start": (
        "index.md",
        "install.md",
        "tutorial.md",
        "handlers.md",
        "lifespan.md",
        "exactly-once.md",
        "testing.md",
        "client.md",
        "vendors.md",
        "schema.md",
        "examples.md",
    ),
    "How-to guides": ("how-to/*.md",),
    "In production": (
        "deployment.md",
        "running.md",
        "settings.md",
        "access.md",
        "operations.md",
        "upgrading.md",
        "metrics.md",
        "tracing.md",
        "events.md",
        "topology.md",
        "scaling.md",
        "SECURITY.md",
    ),
    "Gateways": ("gateways.md", "contract.md", "dialects.md"),
    "Reference": ("reference/*.md",),
    "Vendor packs": ("reference/vendors/*.md",),
    "Why it is so": (
        "architecture.md",
        "comparison.md",
        "reliability.md",
        "performance.md",
        "internals.md",
        "glossary.md",
        "decisions/README.md",
        "decisions/0*.md",
    ),
    "Project": ("CONTRIBUTING.md", "RELEASE.md", "CHANGELOG.md"),
}
"""The sections and their pages. A pattern stands for all pages that it finds, in the order of
their names."""


def sections(pages: Iterable[str]) -> dict[str, list[str]]:
    """Every section that has pages, and its pages.

    Raises LookupError if one of the `pages` stands nowhere, or one that is named does not exist.
    """
    left = set(pages)
    found = {}
    for title, patterns in NAVIGATION.items():
        entries = [page for pattern in patterns for page in _matching(pattern, left)]
        left -= set(entries)
        if entries:
            found[title] = entries
    if left:
        raise LookupError(f"not in the navigation: {', '.join(sorted(left))}")
    return found


def _matching(pattern: str, pages: set[str]) -> Iterator[str]:
    if "*" in pattern:
        yield from sorted(
            page for page in fnmatch.filter(pages, pattern) if page.count("/") == pattern.count("/")
        )
    elif pattern in pages:
        yield pattern
    else:
        raise LookupError(f"the navigation has {pattern}, which does not exist")


def as_toml(found: dict[str, list[str]]) -> str:
    """The navigation, as the generator reads it."""
    rows = (f"  {{ {json.dumps(title)} = {json.dumps(pages)} }}," for title, pages in found.items())
    return "\n".join(["nav = [", *rows, "]", ""])
