"""Which dead letters are wanted, and the words in which people say it."""

import re
from datetime import datetime
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

    def takes(self, letter: DeadLetter, now: datetime) -> bool:
        """Whether the dead letter is wanted. `now`: with a time zone."""
        return (
            (self.vendor is None or _folded(letter.vendor) == _folded(self.vendor))
            and (self.message is None or _folded(letter.message) == _folded(self.message))
            and (self.station is None or letter.station == self.station)
            and (not self.reasons or letter.reason in self.reasons)
            and self._takes_age(letter.failed_at, now)
        )

    def _takes_age(self, failed_at: datetime | None, now: datetime) -> bool:
        if self.older_than is None and self.newer_than is None:
            return True
        if failed_at is None:
            return False
        age = (now - failed_at).total_seconds()
        return (self.older_than is None or age > self.older_than) and (
            self.newer_than is None or age < self.newer_than
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
