"""Compleo: the tariff of stations with a payment terminal.

Source: "System documentation Integrated Payment Terminal", Compleo, public. What was to be had of
it names the fields of a tariff. The messageId is not known: the manual of your stations has it.
That amounts are numbers, and which fields may be left out, is not sure. A station also sends a
message after a payment, before its Authorize, and another at the end; their form is not known, so
they are not here.

To the station          a tariff, by :func:`tariff_command`
"""

import datetime as dt
from typing import Any, Final

from msgspec import Struct

from bridge.vendors.pack import Certainty, Command

VENDOR_ID: Final = "com.compleo"
CERTAINTY: Final = Certainty.DOCUMENTED


class TariffElement(Struct, rename="camel", omit_defaults=True):
    """One part of a price."""

    type: str
    """What is paid for."""
    currency: str
    gross_amount: float
    vat: float
    restrictions: dict[str, Any] | None = None
    """When the part counts. The form is not known."""


class Tariff(Struct, rename="camel", omit_defaults=True):
    """What charging costs at the station, from the next session on that begins after a time."""

    id: str
    valid_from: dt.datetime
    elements: list[TariffElement]
    restrictions: dict[str, Any] | None = None
    """When the tariff counts. The form is not known."""


def tariff_command(message_id: str) -> Command[Tariff, Any]:
    """The command that gives a station its tariff. `message_id`: as its manual says."""
    return Command(VENDOR_ID, message_id, Tariff)
