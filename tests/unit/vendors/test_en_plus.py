"""EN+'s gateway."""

import pytest

from bridge.vendors import en_plus
from tests.unit.vendors.tables import Asked, Form, NotAnswered, Refused, Row, missing, played

INFO = '{"SN":"SN10052104262317","fwVer":"V3.2.418","gateCode":"91"}'

ROWS: list[Row] = [
    Asked(
        name="gatewayInfo",
        message_id="gatewayInfo",
        data=INFO,
        given=en_plus.GatewayInfo("SN10052104262317", "V3.2.418", "91"),
    ),
    Asked(
        name="gatewayInfo, a field more",
        message_id="gatewayInfo",
        data='{"SN":"S","fwVer":"V","gateCode":"","imei":1}',
        given=en_plus.GatewayInfo("S", "V", ""),
    ),
    Refused(
        name="a field less",
        message_id="gatewayInfo",
        data='{"SN":"S","fwVer":"V"}',
        fault="gateCode",
    ),
    Refused(
        name="another case",
        message_id="gatewayInfo",
        data=INFO.replace("SN", "sn", 1),
        fault="SN",
    ),
    Refused(
        name="a number", message_id="gatewayInfo", data=INFO.replace('"91"', "91"), fault="gateCode"
    ),
    Refused(name="not JSON", message_id="gatewayInfo", data='"SN=SN1"', fault="data"),
    NotAnswered(
        name="answered", message_id="gatewayInfo", data=INFO, answer={}, fault="does not allow it"
    ),
]


@pytest.mark.parametrize(("row", "form"), played(ROWS))
async def test_every_message_has_its_one_right_outcome(row: Row, form: Form) -> None:
    await row.play(en_plus, form)


def test_no_message_is_left_out() -> None:
    assert missing(en_plus, ROWS) == set()
