"""EV-BOX's text, taken apart."""

import pytest

from bridge.vendors.evbox import split_fields


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("", [""]),
        ("1,Charging,{32,22000,53}", ["1", "Charging", "{32,22000,53}"]),
        ("{1,{2,3}},,4", ["{1,{2,3}}", "", "4"]),
        ("{1,2", ["{1,2"]),
    ],
)
def test_commas_within_braces_separate_no_fields(text: str, fields: list[str]) -> None:
    assert split_fields(text) == fields
