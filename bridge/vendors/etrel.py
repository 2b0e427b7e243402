"""Etrel INCH: how a vehicle is charged, as a driver chooses it in an app.

Source: "INCH DataTransfer messages description", Etrel, public, 2021. It also names TxLimit, and
for stations with a payment terminal CreditCardChargingStartedOnSatelliteCharger and
CreditCardTransactionBillingData. Their fields were not to be had, so they are not here.

To the station          SetChargingMode, SetChargingRateKmPerKWh
"""

import datetime as dt
from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import Meta, Struct

from bridge.vendors.pack import Certainty, Command

VENDOR_ID: Final = "Etrel"
CERTAINTY: Final = Certainty.DOCUMENTED

ConnectorId: TypeAlias = Annotated[int, Meta(ge=0)]


class SetChargingMode(Struct, rename="camel", omit_defaults=True):
    """Charge at once, or as it is best until the driver leaves."""

    connector_id: ConnectorId
    charging_mode: Literal["Fast", "Smart"]
    transaction_id: int | None = None
    departure_time: dt.datetime | None = None


class SetChargingRateKmPerKWh(Struct, rename="camel", omit_defaults=True):
    """How far this vehicle goes, so that the station can show kilometres."""

    connector_id: ConnectorId
    rate: Annotated[float, Meta(gt=0)]
    """In km/kWh."""
    transaction_id: int | None = None


set_charging_mode: Final[Command[SetChargingMode, Any]] = Command(
    VENDOR_ID, "SetChargingMode", SetChargingMode
)
"""Tell a station how to charge, and until when."""

set_charging_rate: Final[Command[SetChargingRateKmPerKWh, Any]] = Command(
    VENDOR_ID, "SetChargingRateKmPerKWh", SetChargingRateKmPerKWh
)
"""Tell a station how far the vehicle goes with a kWh."""
