"""Which dead letters are wanted, and the words in which people say it."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from bridge.dead_letters.letter import ID_LENGTH, REASONS, DeadLetter


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Takes the dead letters that meet every condition given."""

    vendor: str | None = None
    """The vendorId. As everywhere, the case of ASCII letters does not matter."""
    message: str | None = None
    """The messageId, likewise. The empty text: requests without one."""
    station: str | None = None
    reasons: frozenset[str] = frozenset()
    """Any of these; empty: any at all."""
    older_than: float | None = None
    """Seconds since it was given up. If that is not known, it is neither older nor newer."""
    newer_than: float | None = None
    """Seconds, likewise."""
    since: datetime | None = None
    """Given up then or later. With a time zone."""
    until: datetime | None = None
    """Given up before. With a time zone."""
    replayed: bool = False
    """Only those that have been replayed, and have come back."""
    ids: frozenset[str] = frozenset()
    """Any of these, whole; empty: any at all."""

    def takes(self, letter: DeadLetter, now: datetime) -> bool:
        """Whether the dead letter is wanted. `now`: with a time zone."""
        return (
            (self.vendor is None or _folded(letter.vendor) == _folded(self.vendor))
            and (self.message is None or _folded(letter.message) == _folded(self.message))
            and (self.station is None or letter.station == self.station)
            and (not self.reasons or letter.reason in self.reasons)
            and (not self.replayed or letter.replayed > 0)
            and (not self.ids or letter.id in self.ids)
            and self._takes_time(letter.failed_at, now)
        )

    def span(self, now: datetime) -> tuple[datetime | None, datetime | None]:
        """The times that are wanted, from the first on and before the second. None: no bound.

        Raises ValueError with a sentence if there are none.
        """
        ages = (self.newer_than, self.older_than)
        newer, older = (None if age is None else now - timedelta(seconds=age) for age in ages)
        first = max((each for each in (self.since, newer) if each is not None), default=None)
        last = min((each for each in (self.until, older) if each is not None), default=None)
        if first is not None and last is not None and first >= last:
            raise ValueError(
                f"no time is from {spoken(first)} on (since, newer than) and before "
                f"{spoken(last)} (until, older than)"
            )
        return first, last

    def _takes_time(self, failed_at: datetime | None, now: datetime) -> bool:
        conditions = self.older_than, self.newer_than, self.since, self.until
        if failed_at is None:
            return not any(condition is not None for condition in conditions)
        age = (now - failed_at).total_seconds()
        return (
            (self.older_than is None or age > self.older_than)
            and (self.newer_than is None or age < self.newer_than)
            and (self.since is None or failed_at >= self.since)
            and (self.until is None or failed_at < self.until)
        )


def _folded(text: str) -> bytes:
    """For comparison: bytes.lower() changes ASCII letters alone."""
    return text.encode("utf-8", "surrogatepass").lower()


_AGE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_age(text: str) -> float:
    """The seconds of an age such as ``90s``, ``15m``, ``2h`` or ``7d``.

    Raises ValueError with a sentence.
    """
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{text!r} is not an age: expected a number and s, m, h or d, "
            "for example 90s, 15m, 2h or 7d"
        )
    return float(match[1]) * _SECONDS[match[2]]


def spoken(moment: datetime) -> str:
    """A time as people read it, in UTC and to the second."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


_DAYS_AGO: Final = {"today": 0, "yesterday": 1}


_DAY: Final = re.compile(r"(today|yesterday|[0-9]{4}-[0-9]{2}-[0-9]{2})(z|[+-][0-9]{2}:?[0-9]{2})?")


def parse_time(text: str, now: datetime) -> datetime:
    """The beginning of a day, or a time: ``yesterday``, ``2026-03-01``, ``2026-03-01T14:30``.

    In UTC, unless it has an offset of its own (``+01:00``). `now`: with a time zone. Raises
    ValueError with a sentence.
    """
    told = text.strip()
    try:
        if (day := _DAY.fullmatch(told.lower())) is not None:
            zone = (day[2] or "z").upper()
            if day[1] not in _DAYS_AGO:
                return datetime.fromisoformat(f"{day[1]}T00:00{zone}").astimezone(UTC)
            there = now.astimezone(datetime.fromisoformat(f"2000-01-01T00:00{zone}").tzinfo)
            today = there.replace(hour=0, minute=0, second=0, microsecond=0)
            return (today - timedelta(days=_DAYS_AGO[day[1]])).astimezone(UTC)
        moment = datetime.fromisoformat(told)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is not a time: expected today, yesterday, 2026-03-01 or 2026-03-01T14:30; "
            "that is UTC, unless an offset follows: yesterday+01:00, 2026-03-01T14:30+01:00"
        ) from None


def parse_reasons(words: list[str]) -> frozenset[str]:
    """Check reasons. Raises ValueError with a sentence that lists them all."""
    for word in words:
        if word not in REASONS:
            raise ValueError(f"{word!r} is no reason: expected {', '.join(REASONS)}")
    return frozenset(words)


_ID: Final = re.compile(rf"[0-9a-f]{{1,{ID_LENGTH}}}")


def parse_id(text: str) -> str:
    """Check the beginning of an id. Raises ValueError with a sentence."""
    prefix = text.strip().lower()
    if not _ID.fullmatch(prefix):
        raise ValueError(
            f"{text!r} is not an id, nor how one begins: "
            f"expected up to {ID_LENGTH} hexadecimal digits"
        )
    return prefix
