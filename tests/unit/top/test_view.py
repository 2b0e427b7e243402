"""Rows made of two scrapes of a fleet."""

import msgspec
import pytest

from bridge.dialects.names import Names
from bridge.top.samples import read_exposition
from bridge.top.scraping import Answer
from bridge.top.view import (
    BrokerCounts,
    QueueDepth,
    Sort,
    VendorRow,
    View,
    by_vendor,
    duration,
    make_view,
    number,
    queues_of,
    vendors_of,
)
from tests.unit.top.exposition import a_worker

NAMES = Names()
NOTHING = BrokerCounts()


def answer(at: float, text: str) -> Answer:
    return Answer(read_exposition(text, at))


def view(
    before: dict[str, Answer],
    after: dict[str, Answer],
    broker: BrokerCounts = NOTHING,
    sort: Sort = Sort.RATE,
) -> View:
    return make_view(before, after, broker, NAMES, sort, wall=1_100.0)


def vendor(found: View, name: str = "acme") -> VendorRow:
    [row] = [row for row in found.vendors if row.vendor == name]
    return row


def test_a_fleet_is_the_sum_of_its_workers_between_two_readings() -> None:
    before = {
        "a:1": answer(10.0, a_worker(accepted=100, fast=100)),
        "b:1": answer(10.5, a_worker(accepted=200, fast=200)),
    }
    after = {
        "a:1": answer(12.0, a_worker(accepted=120, failed=4, fast=120, running=3, dead=4)),
        "b:1": answer(12.5, a_worker(accepted=220, fast=220, slow=20, running=1, waiting=2)),
    }
    found = view(before, after)
    row = vendor(found)
    assert row.rate == 22.0
    assert row.failures == 2.0
    assert row.outcomes == {"accepted": 20.0, "failed": 2.0}
    assert row.answer_p50 == pytest.approx(0.00775)
    assert row.answer_p99 == pytest.approx(9.73)
    assert (row.in_hand, row.running, row.waiting, row.concurrency) == (6, 4, 2, 20)
    assert (row.dead, row.dead_by) == (4, {"failed": 4})
    assert found.seconds == 2.0
    assert [(worker.name, worker.rate, worker.up) for worker in found.workers] == [
        ("a:1", 12.0, 100.0),
        ("b:1", 10.0, 100.0),
    ]
    assert found.workers[0].processor == pytest.approx(0.1)
    assert found.workers[0].memory == 50 * 2**20


def test_a_first_reading_has_no_rates() -> None:
    row = vendor(view({}, {"a:1": answer(1.0, a_worker(accepted=9, fast=9, running=1))}))
    assert (row.rate, row.failures, row.answer_p99, row.running) == (None, None, None, 1)


def test_a_silent_worker_is_shown_with_its_reason_and_hides_no_other() -> None:
    before = {"a:1": answer(1.0, a_worker()), "b:1": answer(1.0, a_worker())}
    after = {"a:1": Answer(error="it does not answer"), "b:1": answer(2.0, a_worker(accepted=5))}
    found = view(before, after)
    assert [(worker.name, worker.error) for worker in found.workers] == [
        ("a:1", "it does not answer"),
        ("b:1", ""),
    ]
    assert vendor(found).rate == 5.0


def test_the_processes_of_a_supervisor_are_rows_of_their_own() -> None:
    text = a_worker(process="1", state="consuming") + a_worker(process="2", state="blocked")
    found = view({}, {"a:1": answer(1.0, text)})
    assert [(worker.name, worker.state) for worker in found.workers] == [
        ("a:1 1", "consuming"),
        ("a:1 2", "blocked"),
    ]


def test_the_brokers_counts_stand_beside_the_workers() -> None:
    broker = BrokerCounts(
        {
            "datatransfer.acme": QueueDepth(1_240, 2, 400, 12.5),
            "datatransfer.gone": QueueDepth(7, 0),
            "datatransfer.dead": QueueDepth(31),
            "datatransfer.unknown-vendor": QueueDepth(2, 1),
            "datatransfer.retry.1000": QueueDepth(9),
            "strange": QueueDepth(9),
        },
        "management",
    )
    found = view({}, {"a:1": answer(1.0, a_worker())}, broker)
    assert (found.dead_letters, found.unknown_vendor) == (31, 2)
    assert {row.vendor: row.backlog for row in found.vendors} == {"acme": 1_240, "(gone)": 7}
    assert vendor(found).oldest == 12.5
    assert vendor(found, "(gone)").why == "nobody takes from its queue"


def test_why_a_vendor_is_slow_is_said() -> None:
    before = {"a:1": answer(1.0, a_worker())}
    after = {"a:1": answer(2.0, a_worker(accepted=9, failed=3, slow=12, running=10, waiting=4))}
    assert vendor(view(before, after)).why == (
        "all handlers are busy, and 4 requests wait; GetTariff takes 9.9s (p99); 3.0/s failed"
    )
    idle = {"b:1": answer(2.0, a_worker())}
    assert vendor(view(before, after | idle)).why.startswith(
        "all handlers are busy in 1 of 2 processes, and 4 requests wait"
    )
    assert vendor(view(before, before)).why == ""


@pytest.mark.parametrize(
    ("sort", "first"),
    [(Sort.RATE, "busy"), (Sort.P99, "slow"), (Sort.WAITING, "slow"), (Sort.VENDOR, "busy")],
)
def test_vendors_are_sorted(sort: Sort, first: str) -> None:
    busy = a_worker(vendor="busy", accepted=100, fast=100)
    slow = a_worker(vendor="slow", accepted=1, slow=1, waiting=3)
    before = {
        "a:1": answer(1.0, a_worker(vendor="busy")),
        "b:1": answer(1.0, a_worker(vendor="slow")),
    }
    found = view(before, {"a:1": answer(2.0, busy), "b:1": answer(2.0, slow)}, sort=sort)
    assert found.vendors[0].vendor == first


def test_the_vendors_that_the_broker_is_asked_for_are_those_of_the_workers() -> None:
    answers = {"a:1": answer(1.0, a_worker(vendor="b")), "b:1": answer(1.0, a_worker(vendor="a"))}
    assert vendors_of(answers) == ["a", "b"]


def test_a_view_is_json() -> None:
    found = view({}, {"a:1": answer(1.0, a_worker(accepted=1))})
    assert msgspec.json.decode(msgspec.json.encode(found), type=View) == found


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0004, "0.4ms"), (0.035, "35ms"), (2.13, "2.1s"), (45, "45s"), (119, "119s"),
        (200, "3m"), (7_300, "2h"), (180_000, "2d"),
    ],
)  # fmt: skip
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (3, "3"), (3.21, "3.2"), (9.97, "10"), (412.4, "412"), (999.9, "1.0k"),
        (9_870, "9.9k"), (120_400, "120k"), (3_100_000, "3.1M"), (5e9, "5G"),
    ],
)  # fmt: skip
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_the_partitions_of_a_vendor_are_one() -> None:
    counts = {
        "datatransfer.acme": QueueDepth(0, 2, 0, None, 0.5),
        "datatransfer.acme:2.0": QueueDepth(5, 2, 1, 3.0, 10.0),
        "datatransfer.acme:2.1": QueueDepth(7, 2, None, 9.0, None),
        "datatransfer.acme.2.1": QueueDepth(1),
    }
    assert by_vendor(counts) == {
        "datatransfer.acme": QueueDepth(12, 2, 1, 9.0, 10.5),
        "datatransfer.acme.2.1": QueueDepth(1),
    }


def test_the_queues_that_the_broker_is_asked_for_are_all_that_workers_consume() -> None:
    text = a_worker() + '\ndtbridge_partitions_info{vendor="acme",label="2-ordered"} 1\n'
    answers = {"a:1": answer(1.0, text)}
    assert queues_of(answers, Names()) == [
        "datatransfer.unknown-vendor",
        "datatransfer.acme",
        "datatransfer.acme:2-ordered.0",
        "datatransfer.acme:2-ordered.1",
    ]
