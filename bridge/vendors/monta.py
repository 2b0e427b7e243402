"""Monta: `data` is one bare value as text, which a charging station shows on its display.

Source: the public simulator github.com/monta-app/ocpp-emulator. In the field these messages go from
the CSMS to the station. Two of them have a type here; the others are SmartChargingEnabled, EndTime
and ClearDisplay.

SoC                     StateOfCharge                 → no data
StartTime               datetime                      → no data
"""

from typing import Annotated, Final, TypeAlias

from msgspec import Meta

VENDOR_ID: Final = "com.monta"

StateOfCharge: TypeAlias = Annotated[int, Meta(ge=0, le=100)]
"""Of the vehicle's battery, in percent."""
