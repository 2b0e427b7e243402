"""nu.ame: a bidirectional charging station tells its limits. The keys are in snake_case.

Source: public logs of a Heliox station, as operated by Fermata Energy. No description has been
published; what a station expects as answer is not known.

customMeterValues       CustomMeterValues             → not known
"""

from typing import Annotated, Final

from msgspec import Meta, Struct

VENDOR_ID: Final = "nu.ame"


class CustomMeterValues(Struct):
    """The limits and the state of a station. Negative power discharges the vehicle."""

    local_mode: bool
    p_baseline: int
    """Active power, in W."""
    q_baseline: int
    """Reactive power, in var."""
    p_max: int
    """Active power at most, in W."""
    p_min: int
    """Active power at least, in W."""
    min_soc: Annotated[int, Meta(ge=0, le=100)]
    """State of charge at least, in percent."""
    max_soc: Annotated[int, Meta(ge=0, le=100)]
    """State of charge at most, in percent."""
    session_active: bool
    output_power: int
    """Active power now, in W."""
