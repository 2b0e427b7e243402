"""Findings about vendors that are paused."""

import msgspec
import pytest

from bridge.doctor import pauses, queues, topology
from bridge.doctor.findings import Level
from bridge.rabbitmq.probing import Right
from tests.unit.doctor.surroundings import (
    NAMES,
    a_broker,
    a_management,
    a_plan,
    live,
    seen,
    told,
    worst,
)

PAUSED = {"acme": NAMES.vendor_queue("acme")}


def test_a_vendor_that_is_paused_is_a_warning_that_says_how_to_end_it() -> None:
    found = worst(pauses.check_paused, paused=PAUSED)
    assert found.level is Level.WARN
    assert "acme is paused" in found.sentence
    assert "dtbridge resume acme" in found.advice


def test_none_is_paused() -> None:
    assert told(pauses.check_paused) == [(Level.OK, "no vendor is paused")]


def test_nobody_takes_from_its_queue_and_that_is_as_it_should_be() -> None:
    parts = seen(a_plan(), datatransfer_acme={"consumers": 0, "messages": 7})
    found = told(
        queues.check_consumers, broker=a_broker(parts=parts), management=None, paused=PAUSED
    )
    assert all(level is Level.OK for level, _ in found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"write": Right.REFUSED}, "may not write to datatransfer-paused"),
        ({"there": Right.REFUSED}, "there is no exchange datatransfer-paused"),
    ],
)
def test_a_worker_that_cannot_know_is_a_warning_and_no_more(
    change: dict[str, Right], said: str
) -> None:
    parts = tuple(
        msgspec.structs.replace(part, **change) if part.name == NAMES.paused else part
        for part in seen(a_plan())
    )
    found = worst(pauses.check_paused, broker=a_broker(parts=parts))
    assert (found.level, said in found.sentence) == (Level.WARN, True)
    assert all(
        level is Level.OK
        for check in (topology.check_present, topology.check_rights)
        for level, _ in told(check, broker=a_broker(parts=parts))
    )


def test_a_policy_that_ends_all_pauses_is_found_and_one_of_limits_is_not() -> None:
    plan = a_plan()
    limits = {"effective_policy_definition": {"delivery-limit": 1, "message-ttl": 1}}
    ends = {"effective_policy_definition": {"expires": 60_000}}
    for definition, level in ((limits, Level.OK), (ends, Level.FAIL)):
        queues_there = live(plan, datatransfer_paused=definition)
        found = told(topology.check_delivery_limits, management=a_management(queues=queues_there))
        assert {each for each, _ in found} == {level}
