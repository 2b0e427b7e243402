"""Public keys of signed meters."""

import pytest

from bridge.vendors import general_configuration
from bridge.vendors.general_configuration import Meter, MeterConfiguration
from tests.unit.vendors.tables import Asked, Form, NotAnswered, Refused, Row, missing, played

METERS = (
    '{"meters":[{"connectorId":1,"meterSerial":"1EBZ","type":"SIGNATURE","publicKey":"30 59"}]}'
)
GIVEN = MeterConfiguration([Meter(1, "1EBZ", "SIGNATURE", "30 59")])
ASKED = "setMeterConfiguration"

ROWS: list[Row] = [
    Asked(name="as it is", message_id=ASKED, data=METERS, given=GIVEN),
    Asked(
        name="the connector as text",
        message_id=ASKED,
        data=METERS.replace(":1,", ':"1",'),
        given=GIVEN,
    ),
    Asked(name="none", message_id=ASKED, data='{"meters":[]}', given=MeterConfiguration([])),
    Refused(
        name="connector 0", message_id=ASKED, data=METERS.replace(":1,", ":0,"), fault="connectorId"
    ),
    Refused(
        name="without a key",
        message_id=ASKED,
        data=METERS.replace(',"publicKey":"30 59"', ""),
        fault="publicKey",
    ),
    Refused(name="not in a list", message_id=ASKED, data='{"meters":{}}', fault="meters"),
    Refused(name="without data", message_id=ASKED, fault="required"),
    NotAnswered(
        name="answered", message_id=ASKED, data=METERS, answer=1, fault="does not allow it"
    ),
]


@pytest.mark.parametrize(("row", "form"), played(ROWS))
async def test_every_message_has_its_one_right_outcome(row: Row, form: Form) -> None:
    await row.play(general_configuration, form)


def test_no_message_is_left_out() -> None:
    assert missing(general_configuration, ROWS) == set()
