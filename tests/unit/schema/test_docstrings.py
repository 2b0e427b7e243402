"""What stands below a field is found in the source of its class."""

import msgspec

from bridge.schema.docstrings import field_docstrings


class Base(msgspec.Struct):
    first: int
    """The first
    of all."""


class Derived(Base):
    second: int = 2
    """The second."""
    third: int = 3


def test_a_field_has_the_text_below_it_and_that_of_a_base_counts() -> None:
    assert field_docstrings(Derived) == {"first": "The first\nof all.", "second": "The second."}


def test_a_class_without_source_has_none() -> None:
    assert field_docstrings(msgspec.defstruct("Made", [("first", int)])) == {}
