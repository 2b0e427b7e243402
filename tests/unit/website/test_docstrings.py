"""Docstrings as Markdown."""

import griffe
import pytest

from website.docstrings import as_markdown

PACKAGE = griffe.visit("package", filepath=None, code="class Here:\n    def method(self): ...\n")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("``code`` of `data`", "`code` of `data`"),
        (":class:`Here`", '<autoref identifier="package.Here" optional>`Here`</autoref>'),
        (":class:`Nowhere`", "`Nowhere`"),
        (
            ":meth:`~bridge.Router.on`",
            '<autoref identifier="bridge.Router.on" optional>`on`</autoref>',
        ),
        (
            ":meth:`it <bridge.Router.on>`",
            '<autoref identifier="bridge.Router.on" optional>`it`</autoref>',
        ),
        (">>> a = 1\n... b", "```python\na = 1\nb\n```"),
        (
            "one   the first\ntwo   the\n      second",
            "| | |\n|---|---|\n| one | the first |\n| two | the second |",
        ),
        ("Text.\nMore  text.", "Text.\nMore  text."),
    ],
)
def test_what_is_written_for_the_source_is_shown_as_a_page(written: str, shown: str) -> None:
    assert as_markdown(written, PACKAGE) == shown
