"""An outcome in a few words, for lines and traces."""

import msgspec

from bridge.ocpp.faults import DECODE_FAULTS
from bridge.request.counting import of_other
from bridge.request.outcome import Failure, Kind, Offline, Outcome, Reply
from bridge.telemetry.outcomes import KINDS, Counted


class _Answer(msgspec.Struct, rename="camel"):
    status: str | None = None
    error_code: str | None = None


_WORDS: dict[str | None, str] = {
    "Accepted": KINDS[Counted.ACCEPTED],
    "Rejected": KINDS[Counted.REJECTED],
    "UnknownMessageId": KINDS[Counted.UNKNOWN_MESSAGE],
    "UnknownVendorId": KINDS[Counted.UNKNOWN_VENDOR],
}
"""The outcome of an answer with this status. Stations write theirs as they like."""

_decode = msgspec.json.Decoder(_Answer).decode


def outcome_word(outcome: Outcome) -> str:
    """What became of a request: as it is counted, or ``offline``."""
    match outcome:
        case Offline():
            return "offline"
        case Reply(body, Kind.RESPONSE):
            return _WORDS.get(status_of(body)[0], KINDS[Counted.ACCEPTED])
        case Reply():
            return KINDS[Counted.CALL_ERROR]
        case _:
            return KINDS[of_other(outcome)]


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
