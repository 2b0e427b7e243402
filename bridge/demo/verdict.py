"""Whether an answer is the one that the corpus expects, and how it reads in one line."""

import msgspec
from msgspec import UNSET, Raw, UnsetType

from bridge.demo.corpus import Failure, Offline, Response


class Answer(msgspec.Struct, frozen=True):
    """What came back for a request."""

    type: str
    """`DataTransferResponse`, `CallError` or `StationOffline`."""
    body: bytes
    """The payload of the response, an object with errorCode, errorDescription and errorDetails, or
    nothing."""


class _StatusInfo(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    reason_code: str
    additional_info: str = ""


class _Response(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    status: str
    data: Raw | UnsetType = UNSET
    status_info: _StatusInfo | None = None


class _CallError(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    error_code: str
    error_description: str
    error_details: dict[str, object]


class Outcome(msgspec.Struct, frozen=True):
    """An answer, taken apart."""

    kind: str
    """The status of a response, the error code of a CALLERROR, or why there is neither."""
    is_error: bool
    detail: str
    """The data or statusInfo of a response, the description of a CALLERROR."""
    fits: bool
    """Whether this is the expected answer."""


def judge(answer: Answer | None, expected: Response | Failure | Offline) -> Outcome:
    """Compare `answer`, None if nobody answered, with the expected one. Never raises."""
    if answer is None:
        return Outcome("no answer", is_error=True, detail="", fits=False)
    if answer.type == "StationOffline":
        detail = "no gateway has the station"
        return Outcome(
            "StationOffline", is_error=False, detail=detail, fits=isinstance(expected, Offline)
        )
    try:
        if answer.type == "CallError":
            return _judge_error(msgspec.json.decode(answer.body, type=_CallError), expected)
        if answer.type == "DataTransferResponse":
            return _judge_response(msgspec.json.decode(answer.body, type=_Response), expected)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        return Outcome("unreadable", is_error=True, detail=f"{fault}", fits=False)
    return Outcome("unknown type", is_error=True, detail=answer.type, fits=False)


def _judge_error(error: _CallError, expected: Response | Failure | Offline) -> Outcome:
    fits = isinstance(expected, Failure) and error.error_code == expected.error_code
    return Outcome(error.error_code, is_error=True, detail=error.error_description, fits=fits)


def _judge_response(response: _Response, expected: Response | Failure | Offline) -> Outcome:
    data = None if response.data is UNSET else bytes(response.data)
    info = response.status_info
    fits = (
        isinstance(expected, Response)
        and response.status == expected.status
        and data == expected.data
        and (info.reason_code if info else None) == expected.reason_code
        and expected.info in (info.additional_info if info else "")
    )
    detail = data.decode(errors="replace") if data else ""
    if info:
        detail = f"{detail} {info.reason_code}: {info.additional_info}".strip()
    return Outcome(response.status, is_error=False, detail=detail, fits=fits)
