"""StarCharge's vehicles."""

import pytest

from bridge.vendors import star_charge
from tests.unit.vendors.tables import Asked, Form, NotAnswered, Refused, Row, missing, played

ROWS: list[Row] = [
    Asked(
        name="a vehicle",
        message_id="CarId",
        data='["LGXC76C44N0123456"]',
        given=["LGXC76C44N0123456"],
    ),
    Asked(name="none", message_id="CarId", data="[]", given=[]),
    Refused(name="without data", message_id="CarId", fault="required"),
    Refused(name="a bare id", message_id="CarId", data='"LGXC76C44N0123456"', fault="data"),
    Refused(name="a number", message_id="CarId", data="[1]", fault="data[0]"),
    Refused(name="an object", message_id="CarId", data='{"id":"LG"}', fault="an array"),
    NotAnswered(
        name="answered", message_id="CarId", data="[]", answer=1, fault="does not allow it"
    ),
]


@pytest.mark.parametrize(("row", "form"), played(ROWS))
async def test_every_message_has_its_one_right_outcome(row: Row, form: Form) -> None:
    await row.play(star_charge, form)


def test_no_message_is_left_out() -> None:
    assert missing(star_charge, ROWS) == set()
