"""Monta: what a charging station shows on its display. `data` is one bare value as text.

Source: the public simulator github.com/monta-app/ocpp-emulator, which shows what it is sent.

To the station          SmartChargingEnabled, StartTime, EndTime, SoC, ClearDisplay
"""

from typing import Annotated, Any, Final, TypeAlias

from msgspec import Meta

from bridge.vendors.pack import BareCommand, Certainty, Command

VENDOR_ID: Final = "com.monta"
CERTAINTY: Final = Certainty.OBSERVED

StateOfCharge: TypeAlias = Annotated[int, Meta(ge=0, le=100)]
"""Of the vehicle's battery, in percent."""

smart_charging_enabled: Final[Command[bool, Any]] = Command(
    VENDOR_ID, "SmartChargingEnabled", bool, as_text=True
)
"""Show whether the vehicle is charged when it is best."""

start_time: Final[Command[str, Any]] = Command(VENDOR_ID, "StartTime", str)
"""Show when charging will begin; it is shown as it is sent, such as "13:00"."""

end_time: Final[Command[str, Any]] = Command(VENDOR_ID, "EndTime", str)
"""Show when charging will have ended; it is shown as it is sent."""

state_of_charge: Final[Command[int, Any]] = Command(VENDOR_ID, "SoC", StateOfCharge, as_text=True)
"""Show the state of charge, in percent."""

clear_display: Final[BareCommand[Any]] = BareCommand(VENDOR_ID, "ClearDisplay")
"""Show nothing of all this any more."""
