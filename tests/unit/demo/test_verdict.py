"""Only the expected answer counts as right."""

import pytest

from bridge.demo.corpus import Failure, Offline, Response
from bridge.demo.verdict import Answer, judge

ACCEPTED = Answer("DataTransferResponse", b'{"status":"Accepted"}')
WITH_DATA = Answer("DataTransferResponse", b'{"status":"Accepted","data":{"a": 1}}')
REJECTED = Answer(
    "DataTransferResponse",
    b'{"status":"Rejected","statusInfo":{"reasonCode":"InvalidData",'
    b'"additionalInfo":"data.a: expected an integer"}}',
)
OFFLINE = Answer("StationOffline", b"")
ERROR = Answer(
    "CallError", b'{"errorCode":"InternalError","errorDescription":"failed","errorDetails":{}}'
)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (ACCEPTED, Response("Accepted")),
        (WITH_DATA, Response("Accepted", b'{"a": 1}')),
        (REJECTED, Response("Rejected", reason_code="InvalidData", info="data.a")),
        (ERROR, Failure("InternalError")),
        (OFFLINE, Offline()),
    ],
)
def test_the_expected_answer_fits(answer: Answer, expected: Response | Failure | Offline) -> None:
    assert judge(answer, expected).fits


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, Response("Accepted")),
        (ACCEPTED, Response("Rejected")),
        (ACCEPTED, Response("Accepted", b"{}")),
        (ACCEPTED, Failure("InternalError")),
        (WITH_DATA, Response("Accepted")),
        (WITH_DATA, Response("Accepted", b'{"a":1}')),
        (REJECTED, Response("Rejected")),
        (REJECTED, Response("Rejected", reason_code="InvalidData", info="data.b")),
        (REJECTED, Response("Rejected", reason_code="OutOfRange")),
        (ERROR, Failure("GenericError")),
        (ERROR, Response("Accepted")),
        (ERROR, Offline()),
        (OFFLINE, Response("Accepted")),
        (OFFLINE, Failure("InternalError")),
        (Answer("", ACCEPTED.body), Response("Accepted")),
        (Answer("CallError", ACCEPTED.body), Failure("InternalError")),
        (Answer("DataTransferResponse", b""), Response("Accepted")),
        (Answer("DataTransferResponse", b'{"status":"Accepted","more":1}'), Response("Accepted")),
        (Answer("DataTransferResponse", b'{"status":"\xff"}'), Response("Accepted")),
    ],
)
def test_any_other_answer_does_not(
    answer: Answer | None, expected: Response | Failure | Offline
) -> None:
    assert not judge(answer, expected).fits


def test_an_outcome_says_what_came() -> None:
    assert judge(ERROR, Failure("InternalError")).kind == "InternalError"
    assert judge(ERROR, Failure("InternalError")).is_error
    assert judge(WITH_DATA, Response("Accepted")).detail == '{"a": 1}'
    assert (
        judge(REJECTED, Response("Rejected")).detail == "InvalidData: data.a: expected an integer"
    )
