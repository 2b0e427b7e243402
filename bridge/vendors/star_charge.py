"""StarCharge: a charging station tells the ids of the vehicle that is plugged in.

Source: public reports. The vendor has published no description. `data` is a JSON array, over OCPP
1.6 in a string.

From the station        CarId
"""

from typing import Final, Protocol, Unpack

from bridge import Call, Router
from bridge.vendors.pack import Answer, Certainty, RouterOptions, make_router, message

VENDOR_ID: Final = "StarCharge"
CERTAINTY: Final = Certainty.OBSERVED


class CSMS(Protocol):
    """What a CSMS answers. Implement it, and give it to :func:`router`."""

    @message("CarId")
    def car_id(self, call: Call, data: list[str], /) -> Answer[None]:
        """The vehicle is plugged in."""


def router(csms: CSMS, **options: Unpack[RouterOptions]) -> Router:
    """A router that answers by `csms`. `options` and errors are those of a Router."""
    return make_router(VENDOR_ID, CSMS, csms, **options)
