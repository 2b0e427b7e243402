"""Outcomes in words."""

import pytest

from bridge.request.outcome import (
    Dropped,
    Failure,
    Kind,
    Late,
    Offline,
    Outcome,
    Reason,
    Reply,
    RetryLater,
)
from bridge.request.telling import answer_of, outcome_word, status_of

ERROR = b'{"errorCode":"SecurityError","errorDescription":"no","errorDetails":{}}'


@pytest.mark.parametrize(
    ("outcome", "word", "status", "code"),
    [
        (Reply(b'{"status":"Rejected"}'), "rejected", "Rejected", None),
        (Reply(ERROR, Kind.CALL_ERROR), "call_error", None, "SecurityError"),
        (Failure(ERROR, Reason.TIMED_OUT), "timed_out", None, "SecurityError"),
        (Failure(None, Reason.EXPIRED), "expired", None, None),
        (RetryLater(1.0), "retried", None, None),
        (RetryLater(1.0, counts=False), "put_off", None, None),
        (Late(), "late", None, None),
        (Dropped(), "dropped", None, None),
        (Offline(sent=True), "offline", None, None),
    ],
)
def test_an_outcome_has_a_word_and_what_its_answer_says(
    outcome: Outcome, word: str, status: str | None, code: str | None
) -> None:
    assert outcome_word(outcome) == word
    assert status_of(answer_of(outcome)) == (status, code)


@pytest.mark.parametrize("body", [None, b"", b"[]", b'{"status":7}', b"\xff"])
def test_what_is_no_answer_says_nothing(body: bytes | None) -> None:
    assert status_of(body) == (None, None)
