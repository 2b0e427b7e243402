"""generalConfiguration: a charging station tells the public keys of its signed meters.

Under German calibration law (Eichrecht) a driver checks signed meter readings with the meter's
public key. Source: the public simulator github.com/evbox/station-simulator, which sends this
message.

From the station        setMeterConfiguration
"""

from typing import Annotated, Final, Protocol, Unpack

from msgspec import Meta, Struct

from bridge import Call, Lenient, Router
from bridge.vendors.pack import Answer, Certainty, RouterOptions, make_router, message

VENDOR_ID: Final = "generalConfiguration"
CERTAINTY: Final = Certainty.OBSERVED


class Meter(Struct, rename="camel"):
    """The meter of one connector."""

    connector_id: Annotated[int, Meta(ge=1)]
    meter_serial: str
    type: str
    """The kind of key, such as "SIGNATURE"."""
    public_key: str
    """In hexadecimal digits. The simulator separates the bytes with spaces."""


class MeterConfiguration(Struct):
    """All meters of a station."""

    meters: list[Meter]


class CSMS(Protocol):
    """What a CSMS answers. Implement it, and give it to :func:`router`."""

    @message("setMeterConfiguration")
    def set_meter_configuration(
        self, call: Call, data: Lenient[MeterConfiguration], /
    ) -> Answer[None]:
        """Keep each meter's public key."""


def router(csms: CSMS, **options: Unpack[RouterOptions]) -> Router:
    """A router that answers by `csms`. `options` and errors are those of a Router."""
    return make_router(VENDOR_ID, CSMS, csms, **options)
