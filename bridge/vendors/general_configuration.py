"""generalConfiguration: a charging station tells the public keys of its signed meters.

Under German calibration law (Eichrecht) a driver checks signed meter readings with the meter's
public key. Source: the public simulator github.com/evbox/station-simulator, which sends this
message.

setMeterConfiguration   MeterConfiguration            → no data
"""

from typing import Annotated, Final

from msgspec import Meta, Struct

VENDOR_ID: Final = "generalConfiguration"


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
