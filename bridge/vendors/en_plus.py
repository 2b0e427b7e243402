"""EN+ (EN Plus): a charging station's gateway tells its serial number and firmware.

Source: public logs of EN+ stations. The vendor has published no description; what a station expects
as answer is not known.

From the station        gatewayInfo
"""

from typing import Final, Protocol, Unpack

from msgspec import Struct, field

from bridge import Call, Router
from bridge.vendors.pack import Answer, Certainty, RouterOptions, make_router, message

VENDOR_ID: Final = "EN+"
CERTAINTY: Final = Certainty.OBSERVED


class GatewayInfo(Struct):
    """The gateway inside a station."""

    serial_number: str = field(name="SN")
    firmware_version: str = field(name="fwVer")
    """Such as "V3.3.102"."""
    gate_code: str = field(name="gateCode")


class CSMS(Protocol):
    """What a CSMS answers. Implement it, and give it to :func:`router`."""

    @message("gatewayInfo")
    def gateway_info(self, call: Call, data: GatewayInfo, /) -> Answer[None]:
        """To accept it is enough, as far as is known."""


def router(csms: CSMS, **options: Unpack[RouterOptions]) -> Router:
    """A router that answers by `csms`. `options` and errors are those of a Router."""
    return make_router(VENDOR_ID, CSMS, csms, **options)
