"""Texts in several languages, in customData."""

from typing import Any

import pytest

from bridge import Call, DataTransferResponse, Router
from bridge.testing import ask
from bridge.vendors.multilanguage import (
    VENDOR_ID,
    MessageContent,
    custom_data,
    personal_messages,
)

DUTCH = MessageContent("Geen tarief", "nl")
DUTCH_PLAIN = {"content": "Geen tarief", "language": "nl", "format": "UTF8"}
MADE = {"vendorId": VENDOR_ID, "personalMessageExtra": [DUTCH_PLAIN]}


def test_texts_become_custom_data_and_texts_again() -> None:
    assert custom_data([DUTCH]) == MADE
    assert personal_messages(MADE) == [DUTCH]


@pytest.mark.parametrize("other", [None, {}, {"vendorId": "com.acme", "personalMessageExtra": 1}])
def test_what_is_not_there_or_another_vendors_has_no_texts(other: Any) -> None:
    assert personal_messages(other) == []


def test_what_stations_leave_out_is_assumed() -> None:
    made = {"vendorId": VENDOR_ID, "personalMessageExtra": [{"content": "Hallo"}], "more": 1}
    assert personal_messages(made) == [MessageContent("Hallo", None, "UTF8")]


@pytest.mark.parametrize(
    ("texts", "fault"),
    [
        ([DUTCH] * 5, "personalMessageExtra"),
        ([MessageContent("c" * 513)], "content"),
        ([MessageContent("c", "x" * 9)], "language"),
        ([MessageContent("c", "en", "RTF")], "format"),  # type: ignore[arg-type]
        ([MessageContent(7)], "content"),  # type: ignore[arg-type]
    ],
)
def test_what_the_note_forbids_is_neither_written_nor_read(
    texts: list[MessageContent], fault: str
) -> None:
    with pytest.raises(ValueError, match=fault):
        custom_data(texts)
    extra = [{"content": t.content, "language": t.language, "format": t.format} for t in texts]
    with pytest.raises(ValueError, match=fault):
        personal_messages({"vendorId": VENDOR_ID, "personalMessageExtra": extra})


@pytest.mark.parametrize(("version", "arrives"), [("ocpp2.0.1", MADE), ("ocpp1.6", None)])
async def test_they_travel_with_a_data_transfer_where_the_version_has_custom_data(
    version: str, arrives: Any
) -> None:
    router = Router("com.acme")

    @router.on("GetTariff")
    async def get_tariff(call: Call) -> DataTransferResponse:
        return DataTransferResponse("Accepted", custom_data=custom_data([DUTCH]))

    response = await ask(router, "com.acme", "GetTariff", version=version)
    assert response.custom_data == arrives
