"""Evnex's message without data."""

import pytest

from bridge.vendors import evnex
from tests.unit.vendors.tables import Asked, Form, NotAnswered, Row, missing, played

ROWS: list[Row] = [
    Asked(name="GetNetStat", message_id="GetNetStat"),
    Asked(name="GetNetStat, data null", message_id="GetNetStat", data="null"),
    Asked(name="GetNetStat, with data nobody asked for", message_id="getnetstat", data='{"a":1}'),
    NotAnswered(
        name="answered", message_id="GetNetStat", answer={"up": True}, fault="does not allow it"
    ),
]


@pytest.mark.parametrize(("row", "form"), played(ROWS))
async def test_every_message_has_its_one_right_outcome(row: Row, form: Form) -> None:
    await row.play(evnex, form)


def test_no_message_is_left_out() -> None:
    assert missing(evnex, ROWS) == set()
