"""Etrel: every message, as the vendor describes it."""

import datetime as dt

import pytest

from bridge.vendors import etrel
from tests.unit.vendors.tables import Form, NotSent, Row, Sent, missing, played

AT = dt.datetime(2026, 3, 14, 18, tzinfo=dt.timezone(dt.timedelta(hours=1)))

ROWS: list[Row] = [
    Sent(
        name="SetChargingMode",
        command=etrel.set_charging_mode,
        data=etrel.SetChargingMode(1, "Fast"),
        wire='{"connectorId":1,"chargingMode":"Fast"}',
        answer='"whatever a station says"',
        read="whatever a station says",
    ),
    Sent(
        name="SetChargingMode, with all that there is",
        command=etrel.set_charging_mode,
        data=etrel.SetChargingMode(1, "Smart", 4711, AT),
        wire='{"connectorId":1,"chargingMode":"Smart","transactionId":4711,'
        '"departureTime":"2026-03-14T18:00:00+01:00"}',
    ),
    NotSent(
        name="SetChargingMode, a mode that is none",
        command=etrel.set_charging_mode,
        data=etrel.SetChargingMode(1, "Interactive"),  # type: ignore[arg-type]
        fault="chargingMode",
    ),
    NotSent(
        name="SetChargingMode, a connector that is none",
        command=etrel.set_charging_mode,
        data=etrel.SetChargingMode(-1, "Fast"),
        fault="connectorId",
    ),
    Sent(
        name="SetChargingRateKmPerKWh",
        command=etrel.set_charging_rate,
        data=etrel.SetChargingRateKmPerKWh(2, 6.5),
        wire='{"connectorId":2,"rate":6.5}',
    ),
    NotSent(
        name="SetChargingRateKmPerKWh, a vehicle that goes nowhere",
        command=etrel.set_charging_rate,
        data=etrel.SetChargingRateKmPerKWh(2, 0.0),
        fault="rate",
    ),
]


@pytest.mark.parametrize(("row", "form"), played(ROWS))
async def test_every_message_has_its_one_right_outcome(row: Row, form: Form) -> None:
    await row.play(etrel, form)


def test_no_message_is_left_out() -> None:
    assert missing(etrel, ROWS) == set()
