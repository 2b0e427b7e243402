"""The demo's corpus has requests of every kind, each with the one right answer."""

import msgspec
import pytest

from bridge.demo.corpus import CORPUS, STATIONS, V16, V21, V201, Failure, Message, Response, Row
from bridge.ocpp import CallError, DataTransferStatus, OcppVersion, decode_request, error_codes
from bridge.ocpp.response import REASON_CODE_MAX_LENGTH

each_message = pytest.mark.parametrize("message", CORPUS, ids=lambda message: message.name)


def test_names_are_unique() -> None:
    assert len({message.name for message in CORPUS}) == len(CORPUS)


def test_every_situation_a_requester_can_see_is_there() -> None:
    assert {message.row for message in CORPUS} == set(Row)


def test_a_station_speaks_one_version() -> None:
    assert {(message.station_id, message.ocpp_version) for message in CORPUS} == set(
        STATIONS.items()
    )


def test_every_status_is_there() -> None:
    statuses = {message.answer.status for message in CORPUS if isinstance(message.answer, Response)}
    assert statuses == set(DataTransferStatus)


@pytest.mark.parametrize("version", [V16, V201, V21])
def test_every_version_accepts_rejects_and_fails(version: str) -> None:
    rows = {message.row for message in CORPUS if message.ocpp_version == version}
    assert rows >= {
        Row.ACCEPTED_WITH_DATA,
        Row.REJECTED,
        Row.UNKNOWN_MESSAGE,
        Row.INVALID_DATA,
        Row.BROKEN_PAYLOAD,
    }


@each_message
def test_error_codes_are_those_of_the_version(message: Message) -> None:
    if isinstance(message.answer, Failure):
        assert message.answer.error_code in error_codes(OcppVersion(message.ocpp_version))


@each_message
def test_expected_data_is_json_and_a_string_in_1_6(message: Message) -> None:
    if isinstance(message.answer, Response) and message.answer.data is not None:
        data = msgspec.json.decode(message.answer.data)
        assert message.ocpp_version != V16 or isinstance(data, str)


@each_message
def test_expected_status_info_is_one_the_version_has(message: Message) -> None:
    if isinstance(message.answer, Response) and message.answer.reason_code is not None:
        assert message.ocpp_version != V16
        assert len(message.answer.reason_code) <= REASON_CODE_MAX_LENGTH


@each_message
def test_payloads_are_broken_where_the_row_says_so_and_only_there(message: Message) -> None:
    version = OcppVersion(message.ocpp_version)
    if message.row in {Row.BROKEN_FRAME, Row.OTHER_ACTION}:
        return  # the gateway answers
    if message.row is not Row.BROKEN_PAYLOAD:
        assert decode_request(message.payload, version).vendor_id
        return
    with pytest.raises(CallError) as caught:
        decode_request(message.payload, version)
    assert Failure(caught.value.for_version(version)) == message.answer
