"""EN+ (EN Plus): a charging station's gateway tells its serial number and firmware.

Source: public logs of EN+ stations. The vendor has published no description; what a station expects
as answer is not known.

gatewayInfo             GatewayInfo                   → not known
"""

from typing import Final

from msgspec import Struct, field

VENDOR_ID: Final = "EN+"


class GatewayInfo(Struct):
    """The gateway inside a station."""

    serial_number: str = field(name="SN")
    firmware_version: str = field(name="fwVer")
    """Such as "V3.3.102"."""
    gate_code: str = field(name="gateCode")
