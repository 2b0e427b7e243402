"""Every outcome is counted as one thing, and an answer as what its bytes say."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.ocpp import (
    CallError,
    DataTransferResponse,
    DataTransferStatus,
    ErrorCode,
    OcppVersion,
    StatusInfo,
    encode_accepted,
    encode_response,
    rejected,
)
from bridge.request.counting import of_other, of_reply
from bridge.request.outcome import (
    Dropped,
    Failure,
    Late,
    Offline,
    Outcome,
    Reason,
    Reply,
    RetryLater,
    call_error,
)
from bridge.routing.router import UNKNOWN_MESSAGE_REPLY, UNKNOWN_VENDOR_REPLY
from bridge.telemetry.measures import MOST
from bridge.telemetry.outcomes import ANSWERED, KINDS, Counted

STATUSES = {
    DataTransferStatus.ACCEPTED: Counted.ACCEPTED,
    DataTransferStatus.REJECTED: Counted.REJECTED,
    DataTransferStatus.UNKNOWN_MESSAGE_ID: Counted.UNKNOWN_MESSAGE,
    DataTransferStatus.UNKNOWN_VENDOR_ID: Counted.UNKNOWN_VENDOR,
}
VERSIONS = st.sampled_from(OcppVersion)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(status=st.sampled_from(DataTransferStatus), data=JSON, version=VERSIONS)
def test_a_response_is_counted_by_its_status_whatever_its_data(
    status: DataTransferStatus, data: Any, version: OcppVersion
) -> None:
    response = DataTransferResponse(status, data, StatusInfo("Accepted", "Rejected"))
    assert of_reply(Reply(encode_response(response, version))) == STATUSES[status]


@given(data=JSON, version=VERSIONS)
def test_what_a_handler_returns_is_accepted(data: Any, version: OcppVersion) -> None:
    assert of_reply(Reply(encode_accepted(data, version))) == Counted.ACCEPTED


@given(reason=st.text(max_size=20) | st.none(), version=VERSIONS)
def test_a_rejection_is_rejected(reason: str | None, version: OcppVersion) -> None:
    assert of_reply(Reply(rejected(reason, "Accepted", version))) == Counted.REJECTED


@pytest.mark.parametrize("version", OcppVersion)
@pytest.mark.parametrize("code", ErrorCode)
def test_a_call_error_is_a_call_error(code: ErrorCode, version: OcppVersion) -> None:
    assert of_reply(call_error(CallError(code, "Accepted"), version)) == Counted.CALL_ERROR


def test_answers_for_want_of_a_handler_say_what_was_unknown() -> None:
    assert of_reply(UNKNOWN_VENDOR_REPLY) == Counted.UNKNOWN_VENDOR
    assert of_reply(UNKNOWN_MESSAGE_REPLY) == Counted.UNKNOWN_MESSAGE


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"status":"', b'{"status":"Unknown'], ids=["empty", "no", "cut", "short"]
)
def test_a_body_that_is_no_answer_of_ours_is_counted_all_the_same(body: bytes) -> None:
    assert of_reply(Reply(body)) == Counted.ACCEPTED


@pytest.mark.parametrize(
    ("outcome", "counted"),
    [
        *((Failure(None, reason), Counted[reason.name]) for reason in Reason),
        (RetryLater(1.0), Counted.RETRIED),
        (RetryLater(1.0, counts=False), Counted.PUT_OFF),
        (Late(), Counted.LATE),
        (Dropped(), Counted.DROPPED),
    ],
)
def test_what_is_no_answer_is_counted_as_what_it_is(outcome: Outcome, counted: Counted) -> None:
    assert of_other(outcome) == counted


def test_a_worker_loses_no_station() -> None:
    with pytest.raises(TypeError, match="a worker has no Offline"):
        of_other(Offline(sent=True))


def test_the_list_is_closed_and_fits_a_tally() -> None:
    assert list(Counted) == list(range(len(Counted)))
    assert len(KINDS) == len(Counted) <= MOST
    answered = {Counted(kind).name for kind in range(ANSWERED + 1)}
    assert answered.isdisjoint({"EXPIRED", "BROKEN", "LATE", "DROPPED", "RETRIED", "PUT_OFF"})
