"""Easee: the sessions that a charging station has kept. `data` is nearly JSON.

Source: "Data Transfer", developer.easee.com. Keys stand without quotes, and texts in single ones:
`{start:'2021-03-01T00:00:00.000Z',stop:'2021-03-08T00:00:00.000Z'}`. The examples there have a
backslash before each quote, which is read as well, and not sent. The document does not say in full
what ImportEaseeSessions is answered with, so its answer is the text.

To the station          OverrideSchedule, ListEaseeSessions, ImportEaseeSessions
"""

import datetime as dt
import re
from typing import Any, Final, Self

import msgspec
from msgspec import Struct

from bridge.vendors.pack import BareCommand, Certainty, Command

VENDOR_ID: Final = "no.easee"
CERTAINTY: Final = Certainty.DOCUMENTED

LONGEST: Final = dt.timedelta(days=31)
"""The longest period that may be asked for."""


class Period(Struct, frozen=True):
    """From a time to another, 31 days at most."""

    start: dt.datetime
    stop: dt.datetime

    def __post_init__(self) -> None:
        if (self.start.tzinfo is None) or (self.stop.tzinfo is None):
            raise ValueError("a period needs times with a time zone")
        if not dt.timedelta() <= self.stop - self.start <= LONGEST:
            raise ValueError(f"a period has at most {LONGEST.days} days, and its stop comes later")

    def to_text(self) -> str:
        """As the vendor writes it, in UTC."""
        start, stop = (_timestamp(each) for each in (self.start, self.stop))
        return f"{{start:'{start}',stop:'{stop}'}}"


def _timestamp(moment: dt.datetime) -> str:
    text = moment.astimezone(dt.UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"


class Session(Struct, rename="camel"):
    """A session that the station has kept."""

    connector_id: int
    id_tag: str
    meter_start: int
    """In Wh."""
    start: dt.datetime
    sequence_number: int
    """It names the session at this station, and grows."""
    meter_stop: int | None = None
    """In Wh."""
    stop: dt.datetime | None = None


_TOKEN: Final = re.compile(
    r"""
    (?P<json>"(?:[^"\\]|\\.)*")
    | \\?'(?P<text>[^'\\]*)\\?'
    | (?P<key>\w+)(?=\s*:)
    | (?P<rest>\w+|[^\w"'\\]+)
    """,
    re.VERBOSE,
)
"""A text in double quotes, one in single quotes, a bare key, and all else."""


class Sessions(Struct, frozen=True):
    """All sessions of a period."""

    sessions: list[Session]

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Raises ValueError for what is no list of sessions."""
        return cls(msgspec.json.decode(_as_json(text), type=list[Session], strict=False))


def _as_json(text: str) -> str:
    parts, at = [], 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            raise ValueError(f"unexpected {text[at]!r} at {at}")
        kind, found = token.lastgroup, token[token.lastgroup or 0]
        parts.append(msgspec.json.encode(found).decode() if kind in {"text", "key"} else found)
        at = token.end()
    return "".join(parts)


override_schedule: Final[BareCommand[Any]] = BareCommand(VENDOR_ID, "OverrideSchedule")
"""Charge now, whatever the schedule of the station says."""

list_sessions: Final = Command(VENDOR_ID, "ListEaseeSessions", Period, Sessions)
"""Ask for the sessions that began in a period."""

import_sessions: Final = Command(VENDOR_ID, "ImportEaseeSessions", Period, str)
"""Import the sessions of a period. The answer is the station's text."""
