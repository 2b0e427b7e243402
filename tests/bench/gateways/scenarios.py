"""What is measured of gateways.

Within a scenario the entries take turns, so that what changes on the machine meets them all.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from tests.bench.gateways.subjects import ECHO, OCPP, Subject
from tests.bench.tables import Entry, Scenario

Kind = Literal["up", "down", "storm", "idle", "tls"]


class Fleet(msgspec.Struct, frozen=True):
    """The stations of one measurement, and what they do."""

    kind: Kind
    stations: int
    moving: int = 0
    """Of the stations: those that lose their connections in a storm, and come back."""


class Sizes(msgspec.Struct, frozen=True):
    """How many stations there are in each scenario, and how quickly things come."""

    up: Sequence[int] = (1, 200, 5_000, 20_000)
    down: Sequence[int] = (200, 5_000)
    moving: int = 20_000
    others: int = 1_000
    """Stations that go on while those that move come back."""
    idle: int = 5_000
    tls: int = 500

    def within(self, most: int) -> "Sizes":
        """The same with no more stations than `most` at a time."""
        return Sizes(
            up=sorted({min(count, most) for count in self.up}),
            down=sorted({min(count, most) for count in self.down}),
            moving=max(1, min(self.moving, most - self.others)),
            others=min(self.others, most - 1),
            idle=min(self.idle, most),
            tls=min(self.tls, most),
        )


class Pace(msgspec.Struct, frozen=True):
    """How long to measure, and how often."""

    rounds: int = 2
    seconds: float = 3.0
    """Seconds that are counted in each measurement."""
    outstanding: int = 200
    """CALLs under way at a time, of one station each."""
    rate: float = 200.0
    """CALLs a second of the stations that do not move, in a storm."""
    within: float = 10.0
    """Seconds in which those that move come back."""

    @property
    def warmup(self) -> float:
        """Seconds before each count."""
        return min(1.0, self.seconds / 2)


def _named(count: int) -> str:
    return f"{count:,} station{'' if count == 1 else 's'}"


def _entries(
    subjects: Sequence[Subject], counts: Sequence[int], job: Callable[[int], Fleet], against: str
) -> tuple[Entry[Fleet], ...]:
    """All subjects for each number of stations, compared with one of them."""
    return tuple(
        Entry(
            f"{subject.name}, {_named(count)}",
            subject.name,
            job(count),
            None if subject.name == against else f"{against}, {_named(count)}",
        )
        for count in counts
        for subject in subjects
    )


def all_scenarios(subjects: Sequence[Subject], sizes: Sizes, pace: Pace) -> list[Scenario[Fleet]]:
    """All scenarios, in the order in which they run."""
    whole = [subject for subject in subjects if subject.has_csms]

    def kind(name: Kind) -> Callable[[int], Fleet]:
        return lambda count: Fleet(name, count)

    def storm(moving: int) -> Fleet:
        return Fleet("storm", moving + sizes.others, moving)

    return [
        Scenario(
            "up",
            f"Station → CSMS, 250 bytes, {pace.outstanding} outstanding",
            _entries(subjects, sizes.up, kind("up"), OCPP),
        ),
        Scenario(
            "down",
            f"CSMS → station, 250 bytes, {pace.outstanding} outstanding",
            _entries(whole, sizes.down, kind("down"), OCPP),
        ),
        Scenario(
            "storm",
            f"So many come back within {pace.within:g} s, while {sizes.others:,} others send "
            f"{pace.rate:,.0f} CALLs/s",
            _entries(subjects, [sizes.moving], storm, ECHO),
        ),
        Scenario(
            "idle",
            "Memory of stations that are connected",
            _entries(subjects, [sizes.idle], kind("idle"), ECHO),
        ),
        Scenario(
            "tls",
            "Memory of stations that are connected over TLS",
            _entries(subjects, [sizes.tls], kind("tls"), ECHO),
        ),
    ]
