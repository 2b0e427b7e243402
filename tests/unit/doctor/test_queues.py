"""Findings about what lies in the queues, and who takes it."""

from typing import Any

import msgspec

from bridge.doctor import queues
from bridge.doctor.facts import Vendors
from bridge.doctor.findings import Level
from bridge.rabbitmq.management import ClusterStats, LiveQueue, Overview
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


def broker(**changes: dict[str, Any]) -> dict[str, Any]:
    return {"broker": a_broker(parts=seen(PLAN, **changes)), "management": None}


def test_requests_that_nobody_takes_break() -> None:
    found = worst(
        queues.check_consumers, **broker(datatransfer_acme={"consumers": 0, "messages": 7})
    )
    assert found.level is Level.FAIL
    assert "7 requests wait" in found.sentence
    empty = broker(datatransfer_acme={"consumers": 0})
    assert worst(queues.check_consumers, **empty).sentence == "nobody takes from datatransfer.acme"


def test_no_worker_at_all_is_one_warning() -> None:
    parts = tuple(msgspec.structs.replace(part, consumers=0) for part in seen(PLAN))
    assert told(queues.check_consumers, broker=a_broker(parts=parts), management=None) == [
        (Level.WARN, "no worker consumes")
    ]


def test_a_backlog() -> None:
    found = worst(
        queues.check_backlog, **broker(datatransfer_acme={"messages": 5_000, "consumers": 2})
    )
    assert "5,000 requests wait in queue datatransfer.acme (2 consumers)" in found.sentence
    assert told(queues.check_backlog, **broker(datatransfer_acme={"messages": 12})) == [
        (Level.OK, "12 requests wait")
    ]


def test_dead_letters_by_their_number_and_who_takes_them() -> None:
    found = findings(
        queues.check_dead_letters, **broker(datatransfer_dead={"messages": 3, "consumers": 1})
    )
    assert [each.level for each in found] == [Level.WARN, Level.WARN]
    assert "dtbridge dead list" in found[0].advice
    nearly_full = broker(datatransfer_dead={"messages": 900_000})
    assert worst(queues.check_dead_letters, **nearly_full).level is Level.FAIL


def test_what_no_queue_took() -> None:
    stats = Overview("4.1.3", message_stats=ClusterStats(drop_unroutable=4))
    found = worst(queues.check_unroutable, management=a_management(overview=stats))
    assert found.sentence.startswith("4 publishings that no queue took")


def test_events_that_nobody_listens_to_are_not_lost() -> None:
    stats = Overview("4.1.3", message_stats=ClusterStats(drop_unroutable=48_022))
    management = a_management(overview=stats, unheard=48_022)
    assert told(queues.check_unroutable, management=management) == []
    found = worst(queues.check_unroutable, management=a_management(overview=stats, unheard=48_000))
    assert found.sentence.startswith("22 publishings that no queue took")
    assert found.sentence.endswith(", besides 48,000 events")


def test_queues_that_no_router_is_for() -> None:
    others = {
        "datatransfer.gone": LiveQueue("datatransfer.gone", messages_ready=3),
        "datatransfer.busy": LiveQueue("datatransfer.busy", consumers=1),
        "datatransfer.replies.gw": LiveQueue("datatransfer.replies.gw"),
        "datatransfer.mine": LiveQueue("datatransfer.mine", exclusive=True),
    }
    management = a_management(queues=live(PLAN) | others)
    found = worst(queues.check_strangers, management=management)
    assert found.sentence == (
        "nobody takes from queue datatransfer.gone, and no router given here is for it: stations "
        "get no answer (3 requests wait)"
    )
    for vendors in (None, Vendors(error="broken")):
        assert told(queues.check_strangers, management=management, vendors=vendors) == []
