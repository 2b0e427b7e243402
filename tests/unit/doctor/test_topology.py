"""Findings about exchanges, queues, policies and rights."""

from typing import Any

import msgspec
import pytest

from bridge.dialects.topology import Mode, QueueType
from bridge.doctor import topology
from bridge.doctor.findings import Level
from bridge.rabbitmq.probing import PartSeen, Right
from tests.unit.doctor.surroundings import (
    a_broker,
    a_host,
    a_management,
    a_plan,
    findings,
    live,
    seen,
    told,
    worst,
)

PLAN = a_plan()


def parts(change: dict[str, Any], *names: str, is_queue: bool = True) -> tuple[PartSeen, ...]:
    return tuple(
        msgspec.structs.replace(part, **change)
        if part.is_queue is is_queue and part.name in names
        else part
        for part in seen(PLAN)
    )


def test_what_is_missing_breaks_only_who_may_not_make_it() -> None:
    broker = a_broker(parts=parts({"there": Right.REFUSED}, "datatransfer.acme"))
    for mode, level in ((Mode.DECLARE, Level.WARN), (Mode.VERIFY, Level.FAIL)):
        found = worst(topology.check_present, broker=broker, mode=mode)
        assert found.level is level
        assert found.sentence == "not there: queue datatransfer.acme"


def test_what_may_not_be_looked_at_is_said() -> None:
    broker = a_broker(parts=parts({"there": Right.UNKNOWN}, "datatransfer", is_queue=False))
    found = worst(topology.check_present, broker=broker)
    assert (found.level, found.sentence) == (
        Level.UNKNOWN,
        "this user may not look at exchange datatransfer",
    )


def policies(queue: str, **definition: Any) -> list[tuple[Level, str]]:
    change = {"effective_policy_definition": definition, "operator_policy": "ops"}
    management = a_management(queues=live(PLAN, **{queue: change}))
    return [
        (each.level, each.sentence)
        for each in findings(topology.check_delivery_limits, management=management)
        if each.level is not Level.OK
    ]


def test_a_policy_that_wears_out_dead_letters_breaks_and_one_for_requests_warns() -> None:
    [(level, sentence)] = policies("datatransfer_dead", **{"delivery-limit": 20})
    assert level is Level.FAIL
    assert "delivery limit 20 by 'ops'" in sentence
    [(level, _)] = policies("datatransfer_acme", **{"delivery-limit": 3})
    assert level is Level.WARN
    assert policies("datatransfer_acme", **{"delivery-limit": 50}) == []


def test_policies_that_delete_queues_or_messages() -> None:
    [(level, sentence)] = policies("datatransfer_acme", expires=60_000)
    assert level is Level.FAIL
    assert "unused for 60 s" in sentence
    [(level, _)] = policies("datatransfer_dead", **{"message-ttl": 1_000})
    assert level is Level.WARN


def test_what_a_policy_does_to_many_queues_is_one_finding() -> None:
    limits = {
        queue.name: msgspec.structs.replace(
            live(PLAN)[queue.name],
            effective_policy_definition={"delivery-limit": 7},
            operator_policy="ops",
        )
        for queue in PLAN.queues
    }
    found = findings(topology.check_delivery_limits, management=a_management(queues=limits))
    assert [each.level for each in found] == [Level.FAIL, Level.WARN]
    assert found[0].sentence.startswith(
        "the delivery limit 7 by 'ops' is on queues datatransfer.dead, datatransfer.retry.100, "
    )
    assert " and 6 more: what is looked at" in found[0].sentence
    assert "queues datatransfer.unknown-vendor, datatransfer.acme: each" in found[1].sentence
    classic = a_plan(QueueType.CLASSIC)
    [found_one] = findings(
        topology.check_delivery_limits, plan=classic, management=a_management(classic)
    )
    assert found_one.sentence.startswith(
        "no delivery limit on classic queues datatransfer.unknown-vendor, datatransfer.acme: "
    )


def test_a_queue_is_judged_as_it_is_and_not_as_the_options_say() -> None:
    change = {"effective_policy_definition": {"delivery-limit": 2}, "policy": "ops"}
    management = a_management(PLAN, queues=live(PLAN, datatransfer_acme=change))
    for plan in (PLAN, a_plan(QueueType.CLASSIC)):
        found = worst(topology.check_delivery_limits, plan=plan, management=management)
        assert found.sentence.startswith(
            "the delivery limit 2 by 'ops' is on queue datatransfer.ac"
        )


@pytest.mark.parametrize(("version", "breaks"), [("3.13.7", True), ("4.1.0", False)])
def test_a_quorum_queue_without_a_limit_has_one_from_rabbitmq_4_on(
    version: str, breaks: bool
) -> None:
    arguments = {"x-queue-type": "quorum"}
    management = a_management(queues=live(PLAN, datatransfer_acme={"arguments": arguments}))
    found = findings(
        topology.check_delivery_limits,
        management=management,
        broker=a_broker(hosts=(a_host(version=version),)),
    )
    assert any("no delivery limit" in each.sentence for each in found) is breaks


def test_replicas_that_are_away() -> None:
    some_away = {"members": ["a", "b", "c"], "online": ["a", "b"]}
    most_away = {"members": ["a", "b", "c"], "online": ["a"]}
    for change, level in ((some_away, Level.WARN), (most_away, Level.FAIL)):
        management = a_management(queues=live(PLAN, datatransfer_acme=change))
        assert worst(topology.check_replicas, management=management).level is level
    management = a_management(queues=live(PLAN, datatransfer_acme={"state": "down"}))
    assert "is down" in worst(topology.check_replicas, management=management).sentence


@pytest.mark.parametrize(
    ("change", "names", "is_queue", "mode", "words"),
    [
        ({"read": Right.REFUSED}, "datatransfer.acme", True, Mode.VERIFY, "may not read"),
        ({"write": Right.REFUSED}, "datatransfer.dead", False, Mode.VERIFY, "may not write"),
        ({"configure": Right.REFUSED}, "datatransfer", False, Mode.DECLARE, "may not configure"),
    ],
)
def test_rights_that_lack(
    change: dict[str, Any], names: str, is_queue: bool, mode: Mode, words: str
) -> None:
    broker = a_broker(parts=parts(change, names, is_queue=is_queue))
    found = worst(topology.check_rights, broker=broker, mode=mode)
    assert found.level is Level.FAIL
    assert f"{words} {names}" in found.sentence


def test_who_only_verifies_need_not_configure() -> None:
    blind = tuple(msgspec.structs.replace(part, configure=Right.REFUSED) for part in seen(PLAN))
    broker = a_broker(parts=blind)
    assert told(topology.check_rights, broker=broker, mode=Mode.VERIFY) == [
        (Level.OK, "this user may do what a worker needs")
    ]


def test_replies_need_the_default_exchange() -> None:
    found = worst(topology.check_rights, broker=a_broker(default_exchange=Right.REFUSED))
    assert "amq.default" in found.sentence
