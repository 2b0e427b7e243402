"""Prices and costs, every message, as the note has it and as stations send it."""

import datetime as dt

import pytest

from bridge.vendors import california_pricing as cost
from bridge.vendors.multilanguage import MessageContent
from tests.unit.vendors.tables import (
    Asked,
    Form,
    NotAnswered,
    NotSent,
    Refused,
    Row,
    Sent,
    missing,
    played,
)

AT = dt.datetime(2026, 3, 14, 18, 22, 5, tzinfo=dt.UTC)
PACIFIC = dt.timezone(dt.timedelta(hours=-8))
DUTCH = MessageContent("€0,12/kWh", "nl")
RUNNING = cost.RunningCost(48214, AT, 1_234_000, 2.81, "Charging", cost.ChargingPrice(0.12, 2.0))
RUNNING_JSON = (
    '{"transactionId":48214,"timestamp":"2026-03-14T18:22:05Z","meterValue":1234000,"cost":2.81,'
    '"state":"Charging","chargingPrice":{"kWhPrice":0.12,"hourPrice":2.0}'
)

ROWS: list[Row] = [
    # ---- from the station ----
    Asked(
        name="ConnectorUnplugged, transactionId a number",
        message_id="ConnectorUnplugged",
        data='{"transactionId":48213,"timestamp":"2026-03-14T18:22:05Z"}',
        given=cost.ConnectorUnplugged(48213, AT),
    ),
    Asked(
        name="ConnectorUnplugged, transactionId a text, of another day and zone",
        message_id="connectorunplugged",
        data='{"transactionId":"0048214","timestamp":"2026-03-11T02:10:44.318-08:00"}',
        given=cost.ConnectorUnplugged(
            "0048214", dt.datetime(2026, 3, 11, 2, 10, 44, 318_000, PACIFIC)
        ),
    ),
    Refused(
        name="ConnectorUnplugged without a time",
        message_id="ConnectorUnplugged",
        data='{"transactionId":48213}',
        fault="timestamp",
    ),
    Refused(
        name="ConnectorUnplugged, no time",
        message_id="ConnectorUnplugged",
        data='{"transactionId":48213,"timestamp":"yesterday"}',
        fault="timestamp",
    ),
    Refused(
        name="ConnectorUnplugged, transactionId null",
        message_id="ConnectorUnplugged",
        data='{"transactionId":null,"timestamp":"2026-03-14T18:22:05Z"}',
        fault="transactionId",
    ),
    Refused(
        name="ConnectorUnplugged without data", message_id="ConnectorUnplugged", fault="required"
    ),
    NotAnswered(
        name="ConnectorUnplugged, answered with data",
        message_id="ConnectorUnplugged",
        data='{"transactionId":48213,"timestamp":"2026-03-14T18:22:05Z"}',
        answer={"cost": 1},
        fault="ConnectorUnplugged does not allow it",
    ),
    # ---- to the station ----
    Sent(
        name="SetUserPrice",
        command=cost.set_user_price,
        data=cost.SetUserPrice("CA1B2C3D4", "$0.12/kWh"),
        wire='{"idToken":"CA1B2C3D4","priceText":"$0.12/kWh"}',
    ),
    Sent(
        name="SetUserPrice in two languages",
        command=cost.set_user_price,
        data=cost.SetUserPrice("CA1B2C3D4", "$0.12/kWh", [DUTCH]),
        wire='{"idToken":"CA1B2C3D4","priceText":"$0.12/kWh","priceTextExtra":[{"content":'
        '"€0,12/kWh","language":"nl","format":"UTF8"}]}',
    ),
    NotSent(
        name="SetUserPrice in six languages",
        command=cost.set_user_price,
        data=cost.SetUserPrice("CA1B2C3D4", "$0.12/kWh", [DUTCH] * 5),
        fault="priceTextExtra",
    ),
    NotSent(
        name="SetUserPrice, a text of 513 characters",
        command=cost.set_user_price,
        data=cost.SetUserPrice("CA1B2C3D4", "$", [MessageContent("c" * 513)]),
        fault="content",
    ),
    NotSent(
        name="SetUserPrice, a language of nine characters",
        command=cost.set_user_price,
        data=cost.SetUserPrice("CA1B2C3D4", "$", [MessageContent("c", "de-AT-xyz")]),
        fault="language",
    ),
    Sent(
        name="RunningCost",
        command=cost.running_cost,
        data=RUNNING,
        wire=RUNNING_JSON + "}",
        answer='"ok"',
        read="ok",
    ),
    Sent(
        name="RunningCost, with all that there is",
        command=cost.running_cost,
        data=cost.RunningCost(
            "48214",
            AT,
            1_234_000,
            2.81,
            "Idle",
            cost.ChargingPrice(flat_fee=42.42),
            cost.IdlePrice(30, 1.0),
            cost.NextPeriod(AT, cost.ChargingPrice(0.1), cost.IdlePrice(hour_price=0.5)),
            cost.TriggerMeterValue(AT, 5.0, 8.0, ["SuspendedEV", "SuspendedEVSE"]),
        ),
        wire='{"transactionId":"48214","timestamp":"2026-03-14T18:22:05Z","meterValue":1234000,'
        '"cost":2.81,"state":"Idle","chargingPrice":{"flatFee":42.42},'
        '"idlePrice":{"graceMinutes":30,"hourPrice":1.0},'
        '"nextPeriod":{"atTime":"2026-03-14T18:22:05Z","chargingPrice":{"kWhPrice":0.1},'
        '"idlePrice":{"hourPrice":0.5}},'
        '"triggerMeterValue":{"atTime":"2026-03-14T18:22:05Z","atEnergykWh":5.0,"atPowerkW":8.0,'
        '"atCPStatus":["SuspendedEV","SuspendedEVSE"]}}',
    ),
    NotSent(
        name="RunningCost, a state that is none",
        command=cost.running_cost,
        data=cost.RunningCost(
            1,
            AT,
            1,
            1.0,
            "Parking",  # type: ignore[arg-type]
            cost.ChargingPrice(),
        ),
        fault="state",
    ),
    NotSent(
        name="RunningCost, seven states to wait for",
        command=cost.running_cost,
        data=cost.RunningCost(
            1,
            AT,
            1,
            1.0,
            "Charging",
            cost.ChargingPrice(),
            trigger_meter_value=cost.TriggerMeterValue(at_cp_status=["Charging"] * 7),
        ),
        fault="atCPStatus",
    ),
    Sent(
        name="FinalCost",
        command=cost.final_cost,
        data=cost.FinalCost(48214, 3.31, "$2.81 @ $0.12/kWh", [DUTCH], "https://cpo.example/13546"),
        wire='{"transactionId":48214,"cost":3.31,"priceText":"$2.81 @ $0.12/kWh","priceTextExtra":'
        '[{"content":"€0,12/kWh","language":"nl","format":"UTF8"}],'
        '"qrCodeText":"https://cpo.example/13546"}',
    ),
    NotSent(
        name="FinalCost, a cost that is no number",
        command=cost.final_cost,
        data=cost.FinalCost(48214, "3.31", "free"),  # type: ignore[arg-type]
        fault="cost",
    ),
]


@pytest.mark.parametrize(("row", "form"), played(ROWS))
async def test_every_message_has_its_one_right_outcome(row: Row, form: Form) -> None:
    await row.play(cost, form)


def test_no_message_is_left_out() -> None:
    assert missing(cost, ROWS) == set()
