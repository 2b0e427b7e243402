"""docs/scaling.md says what tests/bench/capacity.py works out of docs/bench."""

from itertools import pairwise

import msgspec
import pytest

from tests.bench.capacity import (
    DOCUMENT,
    FLEETS,
    WORDS,
    Assumed,
    assumptions,
    measured,
    needed,
    tables,
    written,
)


def test_the_tables_are_those_of_the_script() -> None:
    document = DOCUMENT.read_text()
    assert written(document, [*tables(measured(), Assumed())]) == document, (
        "run python -m tests.bench.capacity --write"
    )


def test_every_assumption_is_told() -> None:
    assert tuple(WORDS) == Assumed.__struct_fields__


def test_a_larger_fleet_never_needs_less() -> None:
    found = [needed(stations, measured(), Assumed()) for stations in FLEETS]
    for smaller, larger in pairwise(found):
        for name in ("cells", "peak", "workers", "gateways", "partitions_of_all"):
            assert getattr(smaller, name) <= getattr(larger, name)


def test_a_vendor_needs_partitions_when_its_queue_is_not_enough() -> None:
    found = measured()
    busy = msgspec.structs.replace(Assumed(), biggest=1.0, peak=1.0, busy=1.0)
    stations = int(found.queue_rate * 3600 / busy.per_hour)
    assert needed(stations - 1, found, busy).partitions_of_all == 1
    assert needed(stations * 3, found, busy).partitions_of_all == 3


def test_assumptions_can_be_replaced_and_no_other() -> None:
    assert assumptions(["per_hour=60"]).per_hour == 60
    with pytest.raises(ValueError, match="is none of"):
        assumptions(["stations=60"])


def test_a_document_without_a_place_for_the_tables_is_refused() -> None:
    with pytest.raises(ValueError, match="no place"):
        written("# Scaling", [])
