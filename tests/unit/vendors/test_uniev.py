"""UNIEV's cards: every message, as the code of CSMS has it."""

import pytest

from bridge.testing import ask
from bridge.vendors import uniev
from tests.unit.vendors.tables import (
    Asked,
    Form,
    NotAnswered,
    NotSent,
    Refused,
    Row,
    Sent,
    answering,
    missing,
    played,
)

ROWS: list[Row] = [
    Asked(
        name="uvCardReg",
        message_id="uvCardReg",
        data='{"token":"W00000000000000001","memberId":"craypas"}',
        given=uniev.CardRegistration("craypas", token="W00000000000000001"),
    ),
    Asked(
        name="uvCardReg, memberID in capitals",
        message_id="uvCardReg",
        data='{"token":"W00000000000000001","memberID":"kkko"}',
        given=uniev.CardRegistration("kkko", token="W00000000000000001"),
    ),
    Refused(
        name="uvCardReg of nobody",
        message_id="uvCardReg",
        data='{"token":"W00000000000000001"}',
        fault="memberId is required",
    ),
    Refused(
        name="uvCardReg without a card",
        message_id="uvCardReg",
        data='{"memberId":"craypas"}',
        fault="token",
    ),
    Refused(
        name="uvCardReg, the card a number",
        message_id="uvCardReg",
        data='{"memberId":"craypas","token":1}',
        fault="token",
    ),
    Asked(
        name="uvCardRegStatus",
        message_id="uvCardRegStatus",
        data='{"status":"CardAuthMode","memberId":"craypas"}',
        given=uniev.CardRegistrationStatus("craypas", status="CardAuthMode"),
    ),
    Asked(
        name="uvCardRegStatus without a member",
        message_id="uvCardRegStatus",
        data='{"status":"Rejected"}',
        given=uniev.CardRegistrationStatus(status="Rejected"),
    ),
    Refused(
        name="uvCardRegStatus, a status that is none",
        message_id="uvCardRegStatus",
        data='{"status":"Accepted","memberId":"craypas"}',
        fault="status",
    ),
    Asked(
        name="uvGetIdTagProfile",
        message_id="uvGetIdTagProfile",
        data='{"idTag":"W00000000000000001"}',
        given=uniev.IdTagQuery("W00000000000000001"),
        answer=uniev.IdTagProfile("7"),
        sent='{"power":"7"}',
    ),
    Refused(
        name="uvGetIdTagProfile of no card",
        message_id="uvGetIdTagProfile",
        data="{}",
        fault="idTag",
    ),
    NotAnswered(
        name="uvGetIdTagProfile, a number",
        message_id="uvGetIdTagProfile",
        data='{"idTag":"W00000000000000001"}',
        answer=uniev.IdTagProfile(7),  # type: ignore[arg-type]
        fault="power",
    ),
    Sent(
        name="uvStartCardRegMode",
        command=uniev.start_card_registration,
        data=uniev.Member("craypas"),
        wire='{"memberId":"craypas"}',
    ),
    Sent(
        name="uvStopCardReqMode of a GRE station",
        command=uniev.stop_card_registration.for_vendor("GRE"),
        data=uniev.Member("craypas"),
        wire='{"memberId":"craypas"}',
    ),
    NotSent(
        name="uvStartCardRegMode of nobody",
        command=uniev.start_card_registration,
        data=uniev.Member(None),  # type: ignore[arg-type]
        fault="memberId",
    ),
]


@pytest.mark.parametrize(("row", "form"), played(ROWS))
async def test_every_message_has_its_one_right_outcome(row: Row, form: Form) -> None:
    await row.play(uniev, form)


def test_no_message_is_left_out() -> None:
    assert missing(uniev, ROWS) == set()


async def test_the_vendor_is_who_the_stations_say() -> None:
    router = uniev.router(answering(uniev.CSMS, None), "gresystem")
    data = {"token": "W1", "memberId": "craypas"}
    assert (await ask(router, "gresystem", "uvCardReg", data)).status == "Accepted"
