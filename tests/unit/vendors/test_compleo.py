"""A tariff for a station with a payment terminal."""

import datetime as dt

import pytest
from msgspec.structs import replace

from bridge.vendors import compleo
from tests.unit.vendors.tables import Form, NotSent, Row, Sent, played

CHANGE_TARIFF = compleo.tariff_command("ChangeTariff")
AT = dt.datetime(2026, 3, 14, tzinfo=dt.UTC)
ENERGY = compleo.TariffElement("ENERGY", "EUR", 0.49, 19.0)


TARIFF = compleo.Tariff("T1", AT, [ENERGY])


ROWS: list[Row] = [
    Sent(
        name="a tariff",
        command=CHANGE_TARIFF,
        data=TARIFF,
        wire='{"id":"T1","validFrom":"2026-03-14T00:00:00Z","elements":[{"type":"ENERGY",'
        '"currency":"EUR","grossAmount":0.49,"vat":19.0}]}',
    ),
    Sent(
        name="a tariff with restrictions",
        command=CHANGE_TARIFF,
        data=compleo.Tariff(
            "T1",
            AT,
            [compleo.TariffElement("TIME", "EUR", 1, 19, {"from": 240})],
            {"days": ["MON"]},
        ),
        wire='{"id":"T1","validFrom":"2026-03-14T00:00:00Z","elements":[{"type":"TIME",'
        '"currency":"EUR","grossAmount":1,"vat":19,"restrictions":{"from":240}}],'
        '"restrictions":{"days":["MON"]}}',
    ),
    NotSent(
        name="an amount as text",
        command=CHANGE_TARIFF,
        data=replace(
            TARIFF,
            elements=[compleo.TariffElement("ENERGY", "EUR", "0.49", 19)],  # type: ignore[arg-type]
        ),
        fault="grossAmount",
    ),
    NotSent(
        name="no time",
        command=CHANGE_TARIFF,
        data=replace(TARIFF, valid_from=""),
        fault="validFrom",
    ),
]


@pytest.mark.parametrize(("row", "form"), played(ROWS))
async def test_every_message_has_its_one_right_outcome(row: Row, form: Form) -> None:
    await row.play(compleo, form)
