"""nu.ame's limits."""

import pytest

from bridge.vendors import nu_ame
from tests.unit.vendors.tables import Asked, Form, NotAnswered, Refused, Row, missing, played

VALUES = (
    '{"local_mode":false,"p_baseline":5000,"q_baseline":0,"p_max":19200,"p_min":-19200,'
    '"min_soc":20,"max_soc":95,"ev_min_soc":10,"session_active":true,"output_power":4180}'
)
GIVEN = nu_ame.CustomMeterValues(
    local_mode=False,
    p_baseline=5000,
    q_baseline=0,
    p_max=19200,
    p_min=-19200,
    min_soc=20,
    max_soc=95,
    session_active=True,
    output_power=4180,
)
ASKED = "customMeterValues"

ROWS: list[Row] = [
    Asked(name="as it is, a field more", message_id=ASKED, data=VALUES, given=GIVEN),
    Asked(
        name="numbers and booleans as text",
        message_id=ASKED,
        data=VALUES.replace("5000", '"5000.0"').replace("20,", '"20",').replace("true", '"true"'),
        given=GIVEN,
    ),
    Asked(
        name="booleans as numbers",
        message_id=ASKED,
        data=VALUES.replace("true", "1").replace("false", "0"),
        given=GIVEN,
    ),
    Refused(name="120 %", message_id=ASKED, data=VALUES.replace("95", "120"), fault="max_soc"),
    Refused(name="no number", message_id=ASKED, data=VALUES.replace("95", '"full"'), fault="soc"),
    Refused(
        name="half a watt", message_id=ASKED, data=VALUES.replace("4180", "0.5"), fault="power"
    ),
    Refused(
        name="a field less",
        message_id=ASKED,
        data=VALUES.replace('"p_max":19200,', ""),
        fault="p_max",
    ),
    NotAnswered(
        name="answered", message_id=ASKED, data=VALUES, answer=1, fault="does not allow it"
    ),
]


@pytest.mark.parametrize(("row", "form"), played(ROWS))
async def test_every_message_has_its_one_right_outcome(row: Row, form: Form) -> None:
    await row.play(nu_ame, form)


def test_no_message_is_left_out() -> None:
    assert missing(nu_ame, ROWS) == set()
