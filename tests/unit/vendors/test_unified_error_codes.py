"""Details of an error, as reports have them and as stations may send them."""

from uuid import UUID

import pytest

from bridge.testing import ask
from bridge.vendors import unified_error_codes as uec
from tests.unit.vendors.tables import (
    Asked,
    Form,
    NotAnswered,
    Refused,
    Row,
    answering,
    missing,
    played,
)

ID = "f66f316e-e2c1-4f7c-a509-ad4cb0cf1cd2"
MESSAGE = "StatusNotificationDetailRequest"
SHORT = f'{{"eventId":"{ID}","errorCode":"ContactorPosition"}}'

ROWS: list[Row] = [
    Asked(
        name="a detail",
        message_id=MESSAGE,
        data=f'{{"eventId":"{ID}","errorCode":"ContactorPosition","parameters":[{{"a":1.5}},null]}}',
        given=uec.StatusNotificationDetail(UUID(ID), "ContactorPosition", [{"a": 1.5}, None]),
    ),
    Asked(
        name="a detail without parameters",
        message_id=MESSAGE,
        data=SHORT,
        given=uec.StatusNotificationDetail(UUID(ID), "ContactorPosition"),
    ),
    Asked(
        name="a detail, its id in capitals, parameters as text",
        message_id=MESSAGE.upper(),
        data=f'{{"eventId":"{ID.upper()}","errorCode":"","parameters":"{{}}"}}',
        given=uec.StatusNotificationDetail(UUID(ID), "", "{}"),
    ),
    Refused(
        name="an id that is no UUID",
        message_id=MESSAGE,
        data='{"eventId":"17","errorCode":"ContactorPosition"}',
        fault="eventId",
    ),
    Refused(
        name="without an error code",
        message_id=MESSAGE,
        data=f'{{"eventId":"{ID}"}}',
        fault="errorCode",
    ),
    Refused(
        name="an error code as a number",
        message_id=MESSAGE,
        data=f'{{"eventId":"{ID}","errorCode":17}}',
        fault="errorCode",
    ),
    Refused(name="without data", message_id=MESSAGE, fault="required"),
    NotAnswered(
        name="an answer with data",
        message_id=MESSAGE,
        data=SHORT,
        answer="thanks",
        fault="does not allow it",
    ),
]


@pytest.mark.parametrize(("row", "form"), played(ROWS))
async def test_every_message_has_its_one_right_outcome(row: Row, form: Form) -> None:
    await row.play(uec, form)


def test_no_message_is_left_out() -> None:
    assert missing(uec, ROWS) == set()


async def test_the_vendor_is_who_the_stations_say() -> None:
    router = uec.router(answering(uec.CSMS, None), "urn:example:spec")
    data = {"eventId": ID, "errorCode": "ContactorPosition"}
    assert (await ask(router, "URN:example:spec", MESSAGE, data)).status == "Accepted"
