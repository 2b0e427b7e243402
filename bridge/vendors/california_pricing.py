"""California pricing over OCPP 1.6: prices and costs that a charging station shows to its driver.

Source: "OCPP & California Pricing Requirements", application note v3, Open Charge Alliance, section
3. The lengths of texts are those of OCPP 2.0.1 (MessageContentType). In 2.0.1 the same travels in
customData of other messages than DataTransfer.

From the station        ConnectorUnplugged
To the station          SetUserPrice, RunningCost, FinalCost
"""

import datetime as dt
from typing import Annotated, Any, Final, Literal, Protocol, TypeAlias, Unpack

from msgspec import Meta, Struct, field

from bridge import Call, Router
from bridge.vendors.multilanguage import MessageContent
from bridge.vendors.pack import Answer, Certainty, Command, RouterOptions, make_router, message

VENDOR_ID: Final = "org.openchargealliance.costmsg"
CERTAINTY: Final = Certainty.SPECIFIED

TransactionId: TypeAlias = int | str
"""A number, as in OCPP 1.6, or a text, as in 2.x."""


# ---- from the station ----


class ConnectorUnplugged(Struct, rename="camel"):
    """The driver has unplugged the vehicle, which ends the idle fee.

    A station keeps this message while it is offline, so the timestamp may lie far back.
    """

    transaction_id: TransactionId
    timestamp: dt.datetime
    """When the vehicle was unplugged."""


class CSMS(Protocol):
    """What a CSMS answers. Implement it, and give it to :func:`router`."""

    @message("ConnectorUnplugged")
    def connector_unplugged(self, call: Call, data: ConnectorUnplugged, /) -> Answer[None]:
        """End the idle fee, and send the :data:`final_cost`."""


def router(csms: CSMS, **options: Unpack[RouterOptions]) -> Router:
    """A router that answers by `csms`. `options` and errors are those of a Router."""
    return make_router(VENDOR_ID, CSMS, csms, **options)


# ---- to the station ----

Extra: TypeAlias = Annotated[list[MessageContent], Meta(max_length=4)]
"""A text in further languages."""


class SetUserPrice(Struct, rename="camel", omit_defaults=True):
    """What this driver will pay."""

    id_token: str
    """Of the driver who has just presented it."""
    price_text: str
    price_text_extra: Extra | None = None


class ChargingPrice(Struct, rename="camel", omit_defaults=True):
    """What charging costs."""

    kwh_price: float | None = field(name="kWhPrice", default=None)
    hour_price: float | None = None
    flat_fee: float | None = None
    """Once for each session."""


class IdlePrice(Struct, rename="camel", omit_defaults=True):
    """What it costs to stay without charging."""

    grace_minutes: int | None = None
    """Minutes that cost nothing."""
    hour_price: float | None = None


class NextPeriod(Struct, rename="camel", omit_defaults=True):
    """The prices from a time on."""

    at_time: dt.datetime
    charging_price: ChargingPrice
    idle_price: IdlePrice | None = None


ChargePointStatus: TypeAlias = Literal[
    "Available",
    "Preparing",
    "Charging",
    "SuspendedEVSE",
    "SuspendedEV",
    "Finishing",
    "Reserved",
    "Unavailable",
    "Faulted",
]
"""Of a connector (OCPP 1.6 §7.7)."""


class TriggerMeterValue(Struct, rename="camel", omit_defaults=True):
    """When the station is to send meter values, so that the CSMS can tell the cost."""

    at_time: dt.datetime | None = None
    at_energy_kwh: float | None = field(name="atEnergykWh", default=None)
    """When the meter has gone on by so much, in kWh."""
    at_power_kw: float | None = field(name="atPowerkW", default=None)
    """When the power crosses this, in kW."""
    at_cp_status: Annotated[list[ChargePointStatus], Meta(max_length=6)] | None = field(
        name="atCPStatus", default=None
    )
    """When the connector comes to one of these."""


class RunningCost(Struct, rename="camel", omit_defaults=True):
    """What the session has cost so far, and the prices that the station reckons on with."""

    transaction_id: TransactionId
    timestamp: dt.datetime
    """When it cost so much."""
    meter_value: int
    """The meter's reading then, in Wh."""
    cost: float
    state: Literal["Charging", "Idle"]
    charging_price: ChargingPrice
    idle_price: IdlePrice | None = None
    next_period: NextPeriod | None = None
    trigger_meter_value: TriggerMeterValue | None = None


class FinalCost(Struct, rename="camel", omit_defaults=True):
    """What the session has cost."""

    transaction_id: TransactionId
    cost: float
    price_text: str
    """How the cost came about."""
    price_text_extra: Extra | None = None
    qr_code_text: str | None = None
    """What a QR code is to say, such as the URL of a receipt."""


set_user_price: Final[Command[SetUserPrice, Any]] = Command(VENDOR_ID, "SetUserPrice", SetUserPrice)
"""Show a driver the price, when the token was accepted."""

running_cost: Final[Command[RunningCost, Any]] = Command(VENDOR_ID, "RunningCost", RunningCost)
"""Show a driver the cost so far."""

final_cost: Final[Command[FinalCost, Any]] = Command(VENDOR_ID, "FinalCost", FinalCost)
"""Show a driver the cost when the session has ended."""
