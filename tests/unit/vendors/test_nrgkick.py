"""NRGkick's text, taken apart, and its message."""

import pytest

from bridge.vendors import nrgkick
from bridge.vendors.nrgkick import Attachment, SmartAttachment, parse_numbers
from tests.unit.vendors.tables import Asked, Form, NotAnswered, Refused, Row, missing, played

ASKED = "transaction.smart.attachment"

ROWS: list[Row] = [
    Asked(
        name="a plug",
        message_id=ASKED,
        data='"194978479, A140523, 1"',
        given=SmartAttachment(194978479, "A140523", Attachment.CEE),
    ),
    Asked(
        name="a plug, without blanks",
        message_id=ASKED,
        data='"194978479,A140523,4"',
        given=SmartAttachment(194978479, "A140523", Attachment.WALL),
    ),
    Refused(name="a kind that is none", message_id=ASKED, data='"1,A,5"', fault="data: expected"),
    Refused(name="a field less", message_id=ASKED, data='"1,A"', fault="a serial number"),
    Refused(name="a field more", message_id=ASKED, data='"1,A,1,1"', fault="a serial number"),
    Refused(name="an object", message_id=ASKED, data='{"a":1}', fault="a serial number"),
    Refused(name="without data", message_id=ASKED, fault="required"),
    NotAnswered(
        name="answered", message_id=ASKED, data='"1,A,1"', answer=1, fault="does not allow it"
    ),
]


@pytest.mark.parametrize(("row", "form"), played(ROWS))
async def test_every_message_has_its_one_right_outcome(row: Row, form: Form) -> None:
    await row.play(nrgkick, form)


def test_no_message_is_left_out() -> None:
    assert missing(nrgkick, ROWS) == set()


def test_numbers_with_commas_between_them() -> None:
    assert parse_numbers("3680.5, 3679,0") == [3680.5, 3679.0, 0.0]


@pytest.mark.parametrize("text", ["", "3680.5 W", "1,,2", "1;2"])
def test_any_other_text_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="could not convert"):
        parse_numbers(text)
