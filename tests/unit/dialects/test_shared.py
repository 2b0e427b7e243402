"""What the dialects with shared queues ask in the same way."""

import time
from typing import Any

import pytest

from bridge.dialects import CitrineOs, WebOcpp
from bridge.dialects.shared import SharedDialect
from bridge.ocpp import OcppVersion

LATER = time.time() + 10**8
"""Beyond the 49 days of the longest expiration."""

DIALECTS = [WebOcpp(), CitrineOs()]


@pytest.fixture(params=DIALECTS, ids=lambda dialect: dialect.name)
def dialect(request: pytest.FixtureRequest) -> SharedDialect:
    made: SharedDialect = request.param
    return made


def asked(**changes: Any) -> dict[str, Any]:
    parts = {
        "station_id": "CP1",
        "version": OcppVersion.V2_0_1,
        "body": b"{}",
        "deadline": LATER,
        "message_id": None,
    }
    return parts | changes


def test_a_question_is_published_once_and_known_by_its_message_id(dialect: SharedDialect) -> None:
    question = dialect.question_to_station(**asked(message_id="m-1"))
    assert (question.station_id, question.once, question.correlation_id) == ("CP1", True, "m-1")
    published = question.publishing("m-1", "amq.gen-1")
    assert dialect.exchange is not None
    assert published.exchange == dialect.exchange.name
    assert b"m-1" in published.body
    assert published.properties.reply_to is None
    assert dialect.question_to_station(**asked()).correlation_id is None


@pytest.mark.parametrize("message_id", ["", "i" * 37])
def test_a_message_id_that_ocpp_does_not_allow_is_refused(
    dialect: SharedDialect, message_id: str
) -> None:
    with pytest.raises(ValueError, match="a message id has 1 to 36 characters, not"):
        dialect.question_to_station(**asked(message_id=message_id))
    dialect.question_to_station(**asked(message_id="i" * 36))


def test_a_station_that_cannot_be_is_refused_before_anything_is_published(
    dialect: SharedDialect,
) -> None:
    with pytest.raises(ValueError, match="is no station of"):
        dialect.question_to_station(**asked(station_id="s" * 256))


def test_requests_of_stations_come_from_the_gateway(dialect: SharedDialect) -> None:
    with pytest.raises(ValueError, match=f"come from the gateway: {dialect.name} is for those to"):
        dialect.question_to_csms(**asked(vendor_id="v"))


def test_a_station_speaks_the_version_that_the_caller_says(dialect: SharedDialect) -> None:
    assert dialect.station_version(OcppVersion.V1_6) is OcppVersion.V1_6
    assert dialect.station_version(None) is OcppVersion.V2_0_1


def test_answers_of_stations_come_from_the_gateways_exchange(dialect: SharedDialect) -> None:
    assert dialect.exchange is not None
    assert {binding.exchange for binding in dialect.station_replies} == {dialect.exchange.name}
