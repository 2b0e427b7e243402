"""nu.ame: a bidirectional charging station tells its limits. The keys are in snake_case.

Source: public logs of a Heliox station, as operated by Fermata Energy. No description has been
published; what a station expects as answer is not known.

From the station        customMeterValues
"""

from typing import Annotated, Final, Protocol, TypeAlias, Unpack

from msgspec import Meta, Struct

from bridge import Call, Lenient, Router
from bridge.vendors.pack import Answer, Certainty, RouterOptions, make_router, message

VENDOR_ID: Final = "nu.ame"
CERTAINTY: Final = Certainty.OBSERVED

Percent: TypeAlias = Annotated[int, Meta(ge=0, le=100)]


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
    min_soc: Percent
    """State of charge at least, in percent."""
    max_soc: Percent
    """State of charge at most, in percent."""
    session_active: bool
    output_power: int
    """Active power now, in W."""


class CSMS(Protocol):
    """What a CSMS answers. Implement it, and give it to :func:`router`."""

    @message("customMeterValues")
    def custom_meter_values(self, call: Call, data: Lenient[CustomMeterValues], /) -> Answer[None]:
        """To accept it is enough, as far as is known."""


def router(csms: CSMS, **options: Unpack[RouterOptions]) -> Router:
    """A router that answers by `csms`. `options` and errors are those of a Router."""
    return make_router(VENDOR_ID, CSMS, csms, **options)
