"""NRGkick: `data` is comma-separated text.

Source: github.com/dallmann-consulting/OCPP.Core issue 78. The vendor has published no description.
A station also sends its position; the form of that message is not known, so it is not here.

From the station        transaction.smart.attachment
"""

import enum
from typing import Final, Protocol, Self, Unpack

from msgspec import Struct

from bridge import Call, Router
from bridge.vendors.pack import Answer, Certainty, RouterOptions, make_router, message

VENDOR_ID: Final = "com.nrgkick"
CERTAINTY: Final = Certainty.OBSERVED


def parse_numbers(text: str) -> list[float]:
    """The comma-separated numbers in `text`. Raises ValueError for any other text."""
    return [float(value) for value in text.split(",")]


class Attachment(enum.IntEnum):
    """The plug that a mobile station has at its end."""

    CEE = 1
    DOMESTIC = 2
    TYPE_2 = 3
    WALL = 4


class SmartAttachment(Struct, frozen=True):
    """With which plug a session is charged."""

    transaction_id: int
    serial: str
    """Of the plug."""
    kind: Attachment

    @classmethod
    def from_text(cls, text: str) -> Self:
        """From `194978479, A140523, 1`. Raises ValueError for any other text."""
        try:
            transaction_id, serial, kind = (part.strip() for part in text.split(","))
            return cls(int(transaction_id), serial, Attachment(int(kind)))
        except ValueError:
            raise ValueError("expected a transaction, a serial number and a kind") from None


class CSMS(Protocol):
    """What a CSMS answers. Implement it, and give it to :func:`router`."""

    @message("transaction.smart.attachment")
    def smart_attachment(self, call: Call, data: SmartAttachment, /) -> Answer[None]:
        """A session is charged with this plug."""


def router(csms: CSMS, **options: Unpack[RouterOptions]) -> Router:
    """A router that answers by `csms`. `options` and errors are those of a Router."""
    return make_router(VENDOR_ID, CSMS, csms, **options)
