"""Replies, as whoever asked reads them."""

from typing import Any

import pytest

from bridge.dialects.replies import read_offline, read_reply, read_version
from bridge.ocpp import OcppVersion
from bridge.request.outcome import Kind, Reply
from bridge.transport import Delivery, Properties


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"sent":"no"}', b"\xff"])
def test_a_lost_station_without_a_word_on_the_request_may_have_had_it(body: bytes) -> None:
    assert read_offline(Delivery("", "", False, Properties(type="StationOffline"), body)) is True
    assert read_offline(Delivery("", "", False, Properties(type="CallError"), body)) is None


@pytest.mark.parametrize("kind", Kind)
def test_a_reply_is_read_by_its_type(kind: Kind) -> None:
    delivery = Delivery("", "", False, Properties(type=kind.value), b"{}")
    assert read_reply(delivery) == Reply(b"{}", kind)


@pytest.mark.parametrize("type_", [None, "", "DataTransfer"])
def test_a_reply_of_an_unknown_type_is_a_response(type_: str | None) -> None:
    assert read_reply(Delivery("", "", False, Properties(type=type_), b"")).kind is Kind.RESPONSE


@pytest.mark.parametrize(
    ("headers", "version"),
    [
        ({"ocpp-version": "ocpp1.6"}, OcppVersion.V1_6),
        ({"ocpp-version": "ocpp1.5"}, OcppVersion.V2_1),
        ({"ocpp-version": 16}, OcppVersion.V2_1),
        ({}, OcppVersion.V2_1),
        (None, OcppVersion.V2_1),
    ],
)
def test_an_answer_without_a_version_is_read_as_the_richest(
    headers: dict[str, Any] | None, version: OcppVersion
) -> None:
    assert read_version(Delivery("", "", False, Properties(headers=headers), b"")) is version
