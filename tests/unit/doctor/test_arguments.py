"""Findings about exchanges and queues that are not what the bridge would declare."""

from typing import Any

import msgspec
import pytest

from bridge.dialects.topology import Mode, Purpose, QueueType, type_of
from bridge.doctor import arguments
from bridge.doctor.findings import Level
from bridge.rabbitmq.probing import BrokerSeen, PartSeen, Right
from tests.unit.doctor.surroundings import (
    a_broker,
    a_management,
    a_plan,
    findings,
    live,
    seen,
    told,
    worst,
)

PLAN = a_plan()
CLASSIC = a_plan(QueueType.CLASSIC)


def parts(change: dict[str, Any], *names: str) -> tuple[PartSeen, ...]:
    return tuple(
        msgspec.structs.replace(part, **change) if part.name in names and part.is_queue else part
        for part in seen(PLAN)
    )


def test_arguments_that_differ_are_told_by_the_brokers_words_or_the_api() -> None:
    words = "PRECONDITION_FAILED - inequivalent arg 'x' for queue 'q' in vhost '/': received "
    for differs, shown in (
        (words + "the value '2' of type 'signedint' but current is none", "x is not set and not 2"),
        ("who knows", "who knows"),
    ):
        broker = a_broker(parts=parts({"differs": differs}, "datatransfer.acme"))
        found = worst(arguments.check_as_planned, broker=broker, management=None)
        assert found.sentence.endswith(f": queue datatransfer.acme: {shown}")
    other = PLAN.request_queues[0].arguments | {"x-delivery-limit": 5, "x-expires": 1}
    name = PLAN.request_queues[0].name
    management = a_management(
        queues=live(PLAN, **{name.replace(".", "_").replace("-", "_"): {"arguments": other}})
    )
    found = worst(arguments.check_as_planned, management=management)
    assert found.level is Level.FAIL
    assert "x-delivery-limit is 5 and not 20" in found.sentence
    assert "x-expires is 1 and not unset" in found.sentence


def test_without_rights_and_api_arguments_are_unknown() -> None:
    blind = tuple(msgspec.structs.replace(part, configure=Right.REFUSED) for part in seen(PLAN))
    [(level, _)] = told(arguments.check_as_planned, broker=a_broker(parts=blind), management=None)
    assert level is Level.UNKNOWN


def other_type(management: bool, wanted: QueueType) -> dict[str, Any]:
    """All queues are of the type that the options do not say: by the API, or over AMQP."""
    plan, there = (PLAN, CLASSIC) if wanted is QueueType.QUORUM else (CLASSIC, PLAN)
    # That of pauses is a quorum queue in any case.
    turned = {queue.name for queue in plan.queues if queue.purpose is not Purpose.CONTROL}
    assert {type_of(queue) for queue in plan.queues if queue.name in turned} == {wanted}
    found = tuple(
        msgspec.structs.replace(part, differs="PRECONDITION_FAILED", other_type=True)
        if part.is_queue and part.name in turned
        else part
        for part in seen(plan)
    )
    broker: BrokerSeen = a_broker(parts=found)
    api = a_management(plan, queues=live(there)) if management else None
    return {"plan": plan, "broker": broker, "management": api}


@pytest.mark.parametrize("management", [True, False])
@pytest.mark.parametrize("wanted", QueueType)
def test_queues_of_the_other_type_are_one_finding_that_weakens_nothing(
    wanted: QueueType, management: bool
) -> None:
    known = other_type(management, wanted)
    [found] = findings(arguments.check_as_planned, **known)
    other = "classic" if wanted is QueueType.QUORUM else "quorum"
    assert found.level is Level.FAIL
    assert found.sentence.startswith("queues datatransfer.dead, datatransfer.retry.100, ")
    assert f" and 8 more are {other}, and the options say {wanted}: " in found.sentence
    assert "PRECONDITION_FAILED" not in found.sentence
    assert f"start workers with --queue-type {other}" in found.advice
    assert ("topology migrate" in found.advice) is (wanted is QueueType.QUORUM)


@pytest.mark.parametrize("wanted", QueueType)
def test_workers_that_verify_take_queues_of_the_other_type(wanted: QueueType) -> None:
    known = other_type(True, wanted)
    [found] = findings(arguments.check_as_planned, mode=Mode.VERIFY, **known)
    assert found.level is (Level.WARN if wanted is QueueType.QUORUM else Level.OK)


def test_what_differs_alike_is_one_finding() -> None:
    changes = {
        name: {"arguments": queue.arguments | {"x-max-length": 5}}
        for queue in PLAN.request_queues
        if (name := queue.name.replace(".", "_").replace("-", "_"))
    }
    found = worst(arguments.check_as_planned, management=a_management(queues=live(PLAN, **changes)))
    assert found.sentence.endswith(
        "queues datatransfer.unknown-vendor, datatransfer.acme: x-max-length is 5 and not unset"
    )


def test_a_classic_queue_that_was_declared_without_a_type_is_as_planned() -> None:
    change = {
        name: {"arguments": {k: v for k, v in queue.arguments.items() if k != "x-queue-type"}}
        for queue in CLASSIC.queues
        if type_of(queue) is QueueType.CLASSIC
        if (name := queue.name.replace(".", "_").replace("-", "_"))
    }
    management = a_management(CLASSIC, queues=live(CLASSIC, **change))
    assert [
        level for level, _ in told(arguments.check_as_planned, plan=CLASSIC, management=management)
    ] == [Level.OK]
