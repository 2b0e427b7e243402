"""NRGkick's text, taken apart."""

import pytest

from bridge.vendors.nrgkick import parse_numbers


def test_numbers_with_commas_between_them() -> None:
    assert parse_numbers("3680.5, 3679,0") == [3680.5, 3679.0, 0.0]


@pytest.mark.parametrize("text", ["", "3680.5 W", "1,,2", "1;2"])
def test_any_other_text_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="could not convert"):
        parse_numbers(text)
