"""Monta's display: every message is one bare value as text, whatever the version."""

import pytest

from bridge.vendors import monta
from tests.unit.vendors.tables import Form, NotSent, Row, Sent, missing, played

ROWS: list[Row] = [
    Sent(
        name="SmartChargingEnabled", command=monta.smart_charging_enabled, data=True, wire='"true"'
    ),
    Sent(name="StartTime", command=monta.start_time, data="13:00", wire='"13:00"'),
    Sent(name="EndTime", command=monta.end_time, data="17:00", wire='"17:00"'),
    Sent(name="SoC", command=monta.state_of_charge, data=80, wire='"80"'),
    Sent(name="ClearDisplay", command=monta.clear_display),
    NotSent(name="SoC of 101", command=monta.state_of_charge, data=101, fault="SoC does not allow"),
    NotSent(name="SoC as text", command=monta.state_of_charge, data="80", fault="SoC"),
    NotSent(name="StartTime, a number", command=monta.start_time, data=13, fault="StartTime"),
    NotSent(
        name="neither true nor false",
        command=monta.smart_charging_enabled,
        data=1,
        fault="SmartChargingEnabled",
    ),
]


@pytest.mark.parametrize(("row", "form"), played(ROWS))
async def test_every_message_has_its_one_right_outcome(row: Row, form: Form) -> None:
    await row.play(monta, form)


def test_no_message_is_left_out() -> None:
    assert missing(monta, ROWS) == set()
