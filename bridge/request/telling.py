"""An outcome in a few words, for lines and traces."""

import msgspec

from bridge.ocpp.faults import DECODE_FAULTS
from bridge.request.outcome import Dropped, Failure, Kind, Late, Offline, Outcome, Reply, RetryLater


class _Answer(msgspec.Struct, rename="camel"):
    status: str | None = None
    error_code: str | None = None


_decode = msgspec.json.Decoder(_Answer).decode


def outcome_word(outcome: Outcome) -> str:
    """What became of a request: one of a dozen words."""
    match outcome:
        case Reply(_, Kind.CALL_ERROR):
            return "call-error"
        case Reply():
            return "answered"
        case Failure():
            return outcome.reason.value
        case RetryLater():
            return "retried" if outcome.counts else "put-off"
        case Late():
            return "late"
        case Dropped():
            return "dropped"
        case Offline():
            return "offline"


def status_of(body: bytes | None) -> tuple[str | None, str | None]:
    """The status of a response, and the error code of a CALLERROR; None: it is not one."""
    if body is None:
        return None, None
    try:
        answer = _decode(body)
    except DECODE_FAULTS:
        return None, None
    return answer.status, answer.error_code


def answer_of(outcome: Outcome) -> bytes | None:
    """The payload that whoever waits is sent; None: there is none."""
    match outcome:
        case Reply() | Failure():
            return outcome.body
        case _:
            return None
