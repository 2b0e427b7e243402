"""What becomes of a request: one value from a short closed list.

Whatever handles a request gives it an outcome and knows no broker; the worker's intake, or the
gateway's, turns the outcome into what the broker is told. :func:`outcome_of_error` maps what a
handler raised to its outcome.
"""

import enum
import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec

from bridge.ocpp import (
    CallError,
    ErrorCode,
    OcppVersion,
    encode_call_error,
    rejected,
)
from bridge.ocpp.errors import encodable
from bridge.request.incoming import Request
from bridge.request.retry import RetryPolicy
from bridge.telemetry.exceptions import begin_at, raised_at


class Rejected(Exception):
    """Raised by a handler to answer with the status ``Rejected``.

    From OCPP 2.0.1 on the answer carries the reason as its statusInfo. Nothing has failed: the
    request is answered and done.
    """

    def __init__(self, reason_code: str | None = None, additional_info: str | None = None) -> None:
        """`reason_code`: at most 20 characters; None: no statusInfo.

        `additional_info`: at most 512 characters, in OCPP 2.1 1024. Longer ones are cut.
        """
        super().__init__(reason_code, additional_info)
        self.reason_code = reason_code
        self.additional_info = additional_info


class Retry(Exception):
    """Raised by a handler when something it depends on is down: the request is tried again later.

    How often, and how soon, is said by the :class:`~bridge.request.retry.RetryPolicy` of the
    handler, its router or the worker. A request without a try left, or without time for one before
    its deadline, is answered with a CALLERROR and kept as a dead letter.
    """

    def __init__(self, after: float | timedelta | None = None, reason: str = "") -> None:
        """`after`: seconds until the next try, rounded up to a delay that there is a queue for.

        None: the policy's exponential back-off. `reason`: for logs and the dead letter; it never
        goes to the station. Raises ValueError if `after` is negative, infinite or not a number.
        """
        super().__init__(after, reason)
        self.after = after.total_seconds() if isinstance(after, timedelta) else after
        self.reason = reason
        if self.after is not None and not 0 <= self.after < math.inf:
            raise ValueError(f"Retry(after=…) takes seconds from 0 up, not {self.after}")


class Kind(enum.Enum):
    """Which answer of OCPP-J a reply is. The value is the AMQP property `type`."""

    RESPONSE = "DataTransferResponse"
    CALL_ERROR = "CallError"


class Reason(enum.StrEnum):
    """Why a request was dead-lettered."""

    FAILED = "failed"
    """Its handler raised, or returned what cannot be sent."""
    TIMED_OUT = "timed-out"
    """Its handler took longer than it may."""
    RETRIES_EXHAUSTED = "retries-exhausted"
    """Its handler asked for another try and there is none left, or no time for it."""
    EXPIRED = "expired"
    """Its deadline passed before it was handled."""
    OVERLOADED = "overloaded"
    """More came than could be handled, and its deadline was too near to begin with it."""
    BROKEN = "broken"
    """It cannot be read, or breaks the wire contract, and nobody waits to be told so."""
    FOREIGN = "foreign"
    """It is not a request in the dialect of its queue."""


class Reply(msgspec.Struct, frozen=True, gc=False):
    """Answer the request; then it is done."""

    body: bytes
    """The payload of the CALLRESULT, JSON. Of a ``CALL_ERROR``, an object with `errorCode`,
    `errorDescription` and `errorDetails`."""
    kind: Kind = Kind.RESPONSE


class Raised(msgspec.Struct, frozen=True):
    """What a handler raised, for logs and traces: no station, and no store of replies, is given it.

    It holds the frames of the handler, so nobody may keep it longer than it takes to tell of it.
    """

    error: BaseException
    handler: Callable[..., Any]
    """The function."""
    at: str = ""
    """Where it came up, and who called that, in words; empty: not known."""


class Failure(msgspec.Struct, frozen=True):
    """Answer with a CALLERROR if somebody still waits; then keep the request as a dead letter."""

    body: bytes | None
    """The CALLERROR; None: nobody waits."""
    reason: Reason
    error: str = ""
    """Type and text of what went wrong, for logs and the dead letter; never for the station."""
    raised: Raised | None = None
    """The exception, if one is the cause."""


class RetryLater(msgspec.Struct, frozen=True):
    """No answer yet: try the request again after a while."""

    after: float
    """Seconds."""
    error: str = ""
    counts: bool = True
    """Whether this was a try. It was not if another worker is handling the request just now."""
    raised: Raised | None = None
    """As of a :class:`Failure`."""


class Late(msgspec.Struct, frozen=True, gc=False):
    """It was handled, but its deadline has passed: nobody waits for the answer, and it is done."""


class Dropped(msgspec.Struct, frozen=True, gc=False):
    """Its deadline passed before it was handled, and the configuration says to forget it."""


class Offline(msgspec.Struct, frozen=True, gc=False):
    """A request to a station that the gateway has lost: whoever waits is told at once."""

    sent: bool
    """Whether the station had been sent it, and so may have handled it."""


Outcome = Reply | Failure | RetryLater | Late | Dropped | Offline

COULD_NOT_PROCESS = "The request could not be processed."
TOOK_TOO_LONG = "The request took too long to process."
"""What a station is told of a failure. Never the text of an exception: that may hold anything."""

_failure_bodies = {
    (version, code): encode_call_error(CallError(code, text), version)
    for version in OcppVersion
    for code, text in (
        (ErrorCode.INTERNAL_ERROR, COULD_NOT_PROCESS),
        (ErrorCode.GENERIC_ERROR, TOOK_TOO_LONG),
    )
}


def describe_error(error: BaseException) -> str:
    """Type and text of an error and of its cause, for logs and dead letters. Never raises.

    At most 512 characters: the text of an exception can hold a whole document.
    """
    text = _type_and_text(error)
    if error.__cause__ is not None:  # raise … from …
        text += f", because of {_type_and_text(error.__cause__)}"
    return encodable(text[:512])


def _type_and_text(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - the error is somebody else's class
        text = "(its text cannot be had)"
    return f"{type(error).__name__}: {text}"[:512]


def failed(request: Request, error: str, reason: Reason = Reason.FAILED) -> Failure:
    """The outcome when the handler, or what it returned, is at fault."""
    return Failure(_failure_bodies[request.version, ErrorCode.INTERNAL_ERROR], reason, error)


def timed_out(request: Request, now: float, error: str) -> Failure:
    """The outcome when the handler took too long. `now` in seconds of Unix time.

    If the deadline has passed, nobody waits for an answer, and none is given.
    """
    if request.deadline is not None and now >= request.deadline:
        return Failure(None, Reason.EXPIRED, error)
    return Failure(
        _failure_bodies[request.version, ErrorCode.GENERIC_ERROR], Reason.TIMED_OUT, error
    )


def impossible(request: Request, error: str) -> Failure:
    """The outcome when the answer cannot be sent."""
    return Failure(_failure_bodies[request.version, ErrorCode.INTERNAL_ERROR], Reason.FAILED, error)


def overloaded(request: Request, error: str) -> Failure:
    """The outcome when no time is left to handle it: whoever waits is told while they wait."""
    return Failure(
        _failure_bodies[request.version, ErrorCode.GENERIC_ERROR], Reason.OVERLOADED, error
    )


def call_error(error: CallError, version: OcppVersion) -> Reply:
    """A CALLERROR that the payload deserves, or the handler has chosen.

    It is an answer like any other: nothing failed, and no dead letter is kept.
    """
    return Reply(encode_call_error(error, version), Kind.CALL_ERROR)


def outcome_of_error(
    error: BaseException, request: Request, policy: RetryPolicy, now: float
) -> Outcome:
    """The outcome of a request whose handler raised `error`. Never raises.

    `policy`: when it is tried again. `now` in seconds of Unix time.
    """
    late = request.deadline is not None and request.deadline <= now
    try:
        outcome = _outcome_of_error(error, request, policy, now)
    except BaseException as fault:  # noqa: BLE001 - made wrongly: its reason is no text
        outcome = failed(
            request, f"{describe_error(fault)}, while answering for {describe_error(error)}"
        )
    if not late:
        return outcome
    return msgspec.structs.replace(outcome, body=None) if isinstance(outcome, Failure) else Late()


def raised_by(handler: Callable[..., Any], error: BaseException, outcome: Outcome) -> Outcome:
    """The same outcome, with the exception that it is the outcome of. Never raises."""
    if not isinstance(outcome, Failure | RetryLater):
        return outcome
    begin_at(handler, error)
    return msgspec.structs.replace(outcome, raised=Raised(error, handler, raised_at(error)))


def _outcome_of_error(
    error: BaseException, request: Request, policy: RetryPolicy, now: float
) -> Outcome:
    match error:
        case Rejected():
            return Reply(rejected(error.reason_code, error.additional_info, request.version))
        case CallError():
            return call_error(error, request.version)
        case Retry():
            return _retry(error.after, error, request, policy, now)
        case _ if isinstance(error, policy.on):
            return _retry(None, error, request, policy, now)
        case _:
            return failed(request, describe_error(error))


def _retry(
    after: float | None, error: BaseException, request: Request, policy: RetryPolicy, now: float
) -> Outcome:
    """Another try, if there is one left and time for it."""
    first_try = now if request.first_try is None else request.first_try
    delay = policy.pause(
        request.attempt, after=after, now=now, first_try=first_try, deadline=request.deadline
    )
    if delay is None:
        return failed(request, describe_error(error), Reason.RETRIES_EXHAUSTED)
    return RetryLater(delay, describe_error(error))


Settle = Callable[[Request, Outcome], None]
"""Is told the outcome of a request: once for each."""
