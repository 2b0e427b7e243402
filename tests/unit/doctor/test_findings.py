"""All checks together: silent where all is well, and no advice without a fault."""

import pytest

from bridge.dialects.topology import QueueType
from bridge.doctor.findings import Finding, Level, examine, queues, some, spoken
from bridge.doctor.looking import CHECKS
from bridge.rabbitmq.probing import BrokerSeen, HostSeen
from tests.unit.doctor.surroundings import a_plan, surroundings


def test_where_all_is_well_nothing_is_to_be_done() -> None:
    found = list(examine(CHECKS, surroundings()))
    assert [each for each in found if each.level is not Level.OK] == []
    assert len({finding.check for finding in found}) > 10


def test_classic_queues_are_well_too_but_for_poison() -> None:
    plan = a_plan(QueueType.CLASSIC)
    found = list(examine(CHECKS, surroundings(plan=plan, queue_type=QueueType.CLASSIC)))
    assert {(each.level, each.check) for each in found if each.level is not Level.OK} == {
        (Level.WARN, "delivery-limit")
    }


def test_without_a_broker_only_what_is_known_is_told() -> None:
    broker = BrokerSeen((HostSeen("amqp://a/", "refused", 2),))
    found = list(examine(CHECKS, surroundings(broker=broker, management=None)))
    [bad] = [each for each in found if each.level is not Level.OK]
    assert bad.sentence == "no broker at amqp://a/: refused"
    assert {"queue", "topology", "rights", "consumers", "backlog"}.isdisjoint(
        finding.check for finding in found
    )


def test_each_finding_that_is_not_ok_says_what_to_do() -> None:
    found: list[Finding] = list(examine(CHECKS, surroundings(management=None)))
    for finding in found:
        assert (finding.level in {Level.OK, Level.UNKNOWN}) or finding.advice
        assert finding.sentence


@pytest.mark.parametrize(
    ("names", "text"),
    [((), ""), (("a",), "a"), (("a", "b", "c"), "a, b and 1 more")],
)
def test_a_long_list_of_names_is_cut(names: tuple[str, ...], text: str) -> None:
    assert some(names, 2) == text


def test_queues_are_named_and_durations_spoken_as_people_do() -> None:
    assert queues(["a"]) == "queue a"
    assert queues(["a", "b"]) == "queues a, b"
    assert [
        spoken(each) for each in (86_400_000, 1_209_600_000, 1_000, 60_000, 120_000, 1_500)
    ] == [
        "24 h",
        "14 days",
        "1 s",
        "60 s",
        "2 min",
        "1.5 s",
    ]
