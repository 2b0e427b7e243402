"""The table from what a handler raised to what its request gets."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from bridge import CallError, Rejected, Retry
from bridge.ocpp import ErrorCode, OcppVersion, StatusInfo, decode_call_error, decode_response
from bridge.request.outcome import (
    COULD_NOT_PROCESS,
    TOOK_TOO_LONG,
    Failure,
    Kind,
    Late,
    Outcome,
    Reason,
    Reply,
    RetryLater,
    describe_error,
    failed,
    outcome_of_error,
    timed_out,
)
from bridge.request.retry import RetryPolicy
from tests.support import a_request

NOW = 1_000.0
V16, V20, V201, V21 = OcppVersion


def outcome(error: BaseException, *, policy: RetryPolicy | None = None, **request: Any) -> Outcome:
    return outcome_of_error(error, a_request(**request), policy or RetryPolicy(jitter=0), NOW)


class Untold(Exception):
    def __str__(self) -> str:
        raise KeyError("no text")


class WithoutItsFields(Rejected):
    def __init__(self) -> None:
        """Forgets to call the base class."""


@pytest.mark.parametrize("version", OcppVersion)
def test_rejected_is_a_response_with_status_info_where_the_version_has_it(
    version: OcppVersion,
) -> None:
    answer = outcome(Rejected("NoTariff", "unknown tariff 7"), version=version)
    assert isinstance(answer, Reply)
    assert answer.kind is Kind.RESPONSE
    response = decode_response(answer.body, version, strict=True)
    assert response.status == "Rejected"
    expected = StatusInfo("NoTariff", "unknown tariff 7") if version in {V201, V21} else None
    assert response.status_info == expected


@pytest.mark.parametrize("version", OcppVersion)
def test_a_call_error_is_a_reply_in_the_spelling_of_the_version(version: OcppVersion) -> None:
    answer = outcome(CallError(ErrorCode.FORMAT_VIOLATION, "no", {"a": 1}), version=version)
    assert isinstance(answer, Reply)
    assert answer.kind is Kind.CALL_ERROR
    code = "FormationViolation" if version is V16 else "FormatViolation"
    assert msgspec.json.decode(answer.body) == {
        "errorCode": code,
        "errorDescription": "no",
        "errorDetails": {"a": 1},
    }


@pytest.mark.parametrize("version", OcppVersion)
@pytest.mark.parametrize(
    "error",
    [
        ValueError("password=secret"),
        KeyError("secret"),
        Untold("secret"),
        AssertionError(),
        BaseExceptionGroup("secret", [KeyboardInterrupt()]),
        CallError("InternalError", ValueError("secret")),  # type: ignore[arg-type]
        WithoutItsFields(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_anything_else_is_a_failure_with_a_fixed_text(
    error: BaseException, version: OcppVersion
) -> None:
    failure = outcome(error, version=version)
    assert isinstance(failure, Failure)
    assert failure.reason is Reason.FAILED
    assert type(error).__name__ in failure.error
    assert failure.body is not None
    told = decode_call_error(failure.body)
    assert (told.code, told.description, told.details) == (
        ErrorCode.INTERNAL_ERROR,
        COULD_NOT_PROCESS,
        {},
    )
    assert b"secret" not in failure.body


@pytest.mark.parametrize("version", [V201, V21])
def test_a_reason_that_is_no_text_is_a_failure(version: OcppVersion) -> None:
    failure = outcome(Rejected(404), version=version)  # type: ignore[arg-type]
    assert isinstance(failure, Failure)
    assert failure.reason is Reason.FAILED


def test_the_text_of_an_error_is_capped() -> None:
    assert describe_error(ValueError("x" * 10_000)) == "ValueError: " + "x" * 500
    assert describe_error(Untold()) == "Untold: (its text cannot be had)"


@pytest.mark.parametrize(
    ("after", "seconds"),
    [
        (None, 1.0),
        (2.5, 2.5),
        (2.6, 5.0),
        (0, 0.1),
        (timedelta(minutes=1), 60.0),
        (timedelta(0), 0.1),
        (3600, 300.0),
    ],
)
def test_retry_is_another_try_later(after: Any, seconds: float) -> None:
    assert outcome(Retry(after, "db down")) == RetryLater(seconds, f"Retry: ({after!r}, 'db down')")


def test_retry_without_a_wish_backs_off_as_the_policy_says() -> None:
    assert outcome(Retry(), attempt=3) == RetryLater(5.0, "Retry: (None, '')")
    assert outcome(Retry(), attempt=3, policy=RetryPolicy(first=10, jitter=0)) == RetryLater(
        30.0, "Retry: (None, '')"
    )


def test_retry_is_allowed_while_tries_and_time_are_left() -> None:
    assert isinstance(outcome(Retry(), policy=RetryPolicy(attempts=3), attempt=2), RetryLater)
    assert isinstance(outcome(Retry(5), deadline=NOW + 5.1), RetryLater)
    assert isinstance(outcome(Retry(5), attempt=2, first_try=NOW - 3595), RetryLater)


@pytest.mark.parametrize(
    ("error", "request_fields"),
    [
        (Retry(), {"attempt": 3}),
        (Retry(), {"attempt": 4}),
        (Retry(5), {"deadline": NOW + 5}),
        (Retry(), {"deadline": NOW + 1}),
        (Retry(5), {"attempt": 2, "first_try": NOW - 3596}),
        (ConnectionError("down"), {"attempt": 3}),
        (ConnectionError("down"), {"deadline": NOW + 1}),
    ],
)
def test_a_retry_that_is_not_possible_is_a_failure(error: Exception, request_fields: Any) -> None:
    failure = outcome(
        error, policy=RetryPolicy(attempts=3, jitter=0, on=(ConnectionError,)), **request_fields
    )
    assert isinstance(failure, Failure)
    assert failure.reason is Reason.RETRIES_EXHAUSTED
    assert failure.body is not None
    assert decode_call_error(failure.body).code is ErrorCode.INTERNAL_ERROR


def test_an_error_that_the_policy_names_means_retry_and_any_other_does_not() -> None:
    policy = RetryPolicy(jitter=0, on=(ConnectionError, TimeoutError))
    assert outcome(ConnectionResetError("down"), policy=policy) == RetryLater(
        1.0, "ConnectionResetError: down"
    )
    assert outcome(TimeoutError("slow"), policy=policy, attempt=2) == RetryLater(
        2.5, "TimeoutError: slow"
    )
    for error in (ValueError(), OSError()):
        assert isinstance(outcome(error, policy=policy), Failure)
    # What is an answer stays one, whatever the policy says.
    greedy = RetryPolicy(on=(Exception,))
    assert isinstance(outcome(Rejected("No"), policy=greedy), Reply)
    assert isinstance(outcome(CallError("InternalError"), policy=greedy), Reply)


@pytest.mark.parametrize("after", [-1, -0.001, float("nan"), float("inf"), timedelta(seconds=-1)])
def test_retry_takes_seconds_from_0_up(after: Any) -> None:
    with pytest.raises(ValueError, match="takes seconds from 0 up"):
        Retry(after)


@pytest.mark.parametrize("deadline", [NOW, NOW - 1])
@pytest.mark.parametrize("error", [Rejected("r"), CallError("InternalError")])
def test_after_the_deadline_nobody_is_told_of_a_refusal(error: Exception, deadline: float) -> None:
    assert outcome(error, deadline=deadline) == Late()


@pytest.mark.parametrize(
    ("error", "reason"), [(ValueError(), Reason.FAILED), (Retry(), Reason.RETRIES_EXHAUSTED)]
)
def test_after_the_deadline_a_failure_is_kept_and_nobody_told(
    error: Exception, reason: Reason
) -> None:
    failure = outcome(error, deadline=NOW - 1)
    assert isinstance(failure, Failure)
    assert (failure.body, failure.reason) == (None, reason)


@pytest.mark.parametrize("version", OcppVersion)
def test_a_time_out_before_the_deadline_is_a_generic_error(version: OcppVersion) -> None:
    for deadline in (None, NOW + 1):
        failure = timed_out(a_request(version=version, deadline=deadline), NOW, "slow")
        assert failure.reason is Reason.TIMED_OUT
        assert failure.body is not None
        told = decode_call_error(failure.body)
        assert (told.code, told.description) == (ErrorCode.GENERIC_ERROR, TOOK_TOO_LONG)


def test_a_time_out_at_the_deadline_is_told_to_nobody() -> None:
    assert timed_out(a_request(deadline=NOW), NOW, "slow") == Failure(None, Reason.EXPIRED, "slow")


def test_a_failure_keeps_its_text_for_the_log() -> None:
    assert failed(a_request(), "ValueError: x").error == "ValueError: x"
