"""NRGkick: `data` is comma-separated text.

Source: public reports, such as github.com/dallmann-consulting/OCPP.Core issue 78. The vendor has
published no description.
"""

from typing import Final

VENDOR_ID: Final = "com.nrgkick"


def parse_numbers(text: str) -> list[float]:
    """The comma-separated numbers in `text`. Raises ValueError for any other text."""
    return [float(value) for value in text.split(",")]
