"""What must hold of the order in which stations' requests were handled (`docs/scaling.md`).

It is read from the journal of the workers (`tests/faults/spread.py`):

* A request was begun for the first time after all that the broker had taken before it.
* No worker began anything twice, or went back: what comes to it again gets the stored answer.
* Of each station one request was at work at a time. A worker that dies never ends what it has
  begun, and the next worker goes on from there; it may not go on beyond it. A worker that has lost
  its connection ends it, and the next may have begun with it meanwhile.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

import msgspec


class Line(msgspec.Struct, frozen=True):
    """What a worker has noted."""

    word: str
    worker: int
    station: str
    number: int

    @classmethod
    def read(cls, text: str) -> "Line":
        word, worker, station, number = text.split()
        return cls(word, int(worker), station, int(number))


class _AtWork(msgspec.Struct):
    number: int
    taken_over: bool = False
    """Whether another worker has gone on from there, or from before."""


def out_of_order(
    lines: Iterable[str], *, sure: AbstractSet[int], expired: AbstractSet[int], sessions_end: bool
) -> list[str]:
    """What is wrong with a journal, in words.

    Args:
        lines: of the journal.
        sure: numbers of the requests that the broker took in this order, as far as is known.
        expired: numbers of those whose time was over before they were answered: nobody need go on
            from them.
        sessions_end: whether workers that live may have lost their connections.

    """
    stations: dict[str, list[Line]] = defaultdict(list)
    for line in map(Line.read, lines):
        stations[line.station].append(line)
    found = [] if stations else ["nothing was handled in order"]
    for station in stations.values():
        found += _first_runs(station, sure)
        found += _runs_of_each_worker(station, sure)
        found += _together(station, sure - expired, sessions_end=sessions_end)
    return found


def _first_runs(lines: Sequence[Line], sure: AbstractSet[int]) -> list[str]:
    found = []
    begun: set[int] = set()
    furthest = 0
    for line in lines:
        if line.word != "begins" or line.number in begun or line.number not in sure:
            continue
        begun.add(line.number)
        if line.number < furthest:
            found.append(f"{line.station}: {line.number} was begun after {furthest}")
        furthest = max(furthest, line.number)
    return found


def _runs_of_each_worker(lines: Sequence[Line], sure: AbstractSet[int]) -> list[str]:
    found = []
    last: dict[int, int] = {}
    for line in lines:
        if line.word != "begins" or line.number not in sure:
            continue
        before = last.get(line.worker, 0)
        if line.number <= before:
            found.append(f"{line.station}: the worker that had begun {before} began {line.number}")
        last[line.worker] = line.number
    return found


def _together(
    lines: Sequence[Line], waited_for: AbstractSet[int], *, sessions_end: bool
) -> list[str]:
    found = []
    ended = {(line.worker, line.number) for line in lines if line.word == "ends"}
    at_work: dict[int, _AtWork] = {}
    for line in lines:
        if line.word == "ends":
            at_work.pop(line.worker, None)
            continue
        for worker, other in at_work.items():
            lives = (worker, other.number) in ended
            if worker == line.worker or (lives and not sessions_end):
                found.append(f"{line.station}: {line.number} was begun beside {other.number}")
            elif line.number <= other.number or (line.worker, other.number) in ended:
                other.taken_over = True  # in the second case, with the stored answer
            elif not other.taken_over and other.number in waited_for:
                other.taken_over = True
                found.append(
                    f"{line.station}: {line.number} was begun before the end of {other.number}"
                )
        at_work[line.worker] = _AtWork(line.number)
    return found
