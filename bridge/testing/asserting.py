"""Assertions whose failures say what happened instead: about answers, retries and dead letters."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET

from bridge.dead_letters.letter import DeadLetter
from bridge.ocpp import DataTransferResponse
from bridge.testing.tries import Try, story, told_letter

_ANY: Final = object()
"""No particular value is expected."""


def assert_accepted(response: DataTransferResponse, data: Any = _ANY) -> None:
    """Assert that the status is Accepted, and that the answer has this `data`.

    `data`: what the JSON of the answer holds; UNSET (of msgspec): none. Data that is JSON text, as
    in OCPP 1.6, may be given as the value that it holds. Raises AssertionError otherwise.
    """
    __tracebackhide__ = True
    if response.status != "Accepted":
        raise AssertionError(f"expected Accepted, and the answer is {_told(response)}")
    if data is not _ANY and response.data != data and _value(response.data) != data:
        expected = "no data" if data is UNSET else f"data {data!r}"
        raise AssertionError(f"expected {expected}, and the answer is {_told(response)}")


def assert_rejected(response: DataTransferResponse, reason_code: str | None = None) -> None:
    """Assert that the status is Rejected, with this reason code.

    `reason_code`: None: any, or none. OCPP 1.6 has none. Raises AssertionError otherwise.
    """
    __tracebackhide__ = True
    if response.status != "Rejected":
        raise AssertionError(f"expected Rejected, and the answer is {_told(response)}")
    found = response.status_info.reason_code if response.status_info else None
    if reason_code is not None and found != reason_code:
        raise AssertionError(
            f"expected the reason code {reason_code!r}, and the answer is {_told(response)}"
        )


def _value(data: Any) -> Any:
    """The value that data holds as JSON text; anything else itself."""
    if not isinstance(data, str):
        return data
    try:
        return msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return data


def _told(response: DataTransferResponse) -> str:
    told = str(response.status)
    if response.data is not UNSET:
        told += f" with data {response.data!r}"
    if response.status_info:
        told += f" with {response.status_info!r}"
    return told


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Of which request something is asserted. None: of any."""

    vendor: str | None = None
    message: str | None = None
    station: str | None = None

    def misfits(self, vendor: str, message: str, station: str) -> list[str]:
        """What is otherwise. The case of vendorId and messageId does not count."""
        pairs = [
            ("vendor", self.vendor, vendor, True),
            ("message", self.message, message, True),
            ("station", self.station, station, False),
        ]
        return [
            f"its {name} is {found!r}"
            for name, wanted, found, folds in pairs
            if wanted is not None
            and (wanted.lower() != found.lower() if folds else wanted != found)
        ]

    def __str__(self) -> str:
        fields = msgspec.structs.asdict(self).items()
        told = [f"{name} {value!r}" for name, value in fields if value is not None]
        return f" of {', '.join(told)}" if told else ""


def retried(
    tries: Sequence[Try],
    letters: Sequence[DeadLetter],
    wanted: Wanted,
    *,
    times: int | None,
    after: float | None,
) -> list[Try]:
    """Those tries of such requests that another one was to follow. Raises AssertionError."""
    __tracebackhide__ = True
    found = [
        each
        for each in tries
        if each.retried_after is not None
        and not wanted.misfits(each.vendor_id, each.message_id, each.station_id)
    ]
    if len(found) != times if times is not None else not found:
        expected = "at least one" if times is None else times
        raise _failed(
            f"expected {expected} to be tried again{wanted}: {len(found)}", tries, letters
        )
    others = [each.retried_after for each in found if after not in (None, each.retried_after)]
    if others:
        pauses = ", ".join(f"{other:g} s" for other in others)
        raise _failed(
            f"expected another try{wanted} after {after:g} s, not {pauses}", tries, letters
        )
    return found


def dead_letter(
    tries: Sequence[Try],
    letters: Sequence[DeadLetter],
    wanted: Wanted,
    *,
    reason: str | None,
    error: str,
    attempts: int | None,
) -> DeadLetter:
    """The one dead letter that is such. Raises AssertionError unless there is exactly one."""
    __tracebackhide__ = True

    def misfits(letter: DeadLetter) -> list[str]:
        found = wanted.misfits(letter.vendor, letter.message, letter.station)
        if reason is not None and letter.reason != reason:
            found.append(f"its reason is {letter.reason!r}")
        if error not in letter.error:
            found.append(f"its error is {letter.error!r}")
        if attempts is not None and letter.attempts != attempts:
            found.append(f"it was tried {letter.attempts} times")
        return found

    judged = [(letter, misfits(letter)) for letter in letters]
    fitting = [letter for letter, why in judged if not why]
    if len(fitting) == 1:
        return fitting[0]
    parts = [] if reason is None else [f"reason {reason!r}"]
    parts += [f"error {error!r}"] if error else []
    parts += [] if attempts is None else [f"{attempts} tries"]
    asked = f"{wanted}{' with ' if parts else ''}{', '.join(parts)}"
    lines = [f"expected one dead letter{asked}: {len(fitting) or 'none'}"]
    lines += [f"  not {told_letter(letter)}: {', '.join(why)}" for letter, why in judged if why]
    fit = [letter for letter, why in judged if not why]  # the others are told of already
    raise _failed("\n".join(lines), tries, fit)


def no_dead_letters(tries: Sequence[Try], letters: Sequence[DeadLetter]) -> None:
    """Raises AssertionError if there is a dead letter."""
    __tracebackhide__ = True
    if letters:
        raise _failed(f"expected no dead letters: {len(letters)}", tries, letters)


def _failed(text: str, tries: Sequence[Try], letters: Sequence[DeadLetter]) -> AssertionError:
    """With all that happened, and the last exception of a handler as its cause."""
    error = AssertionError(f"{text}\n{story(tries, letters)}")
    error.__cause__ = next((each.error for each in reversed(tries) if each.error), None)
    return error
