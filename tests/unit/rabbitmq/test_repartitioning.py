"""What a plan says of the way of a vendor's requests."""

from bridge.dialects.native import Native
from bridge.dialects.partitions import Partitions
from bridge.dialects.topology import worker_topology
from bridge.rabbitmq.repartitioning import ways_of
from bridge.transport import Binding

PLAN = worker_topology(
    Native(),
    ["one", "four", "line"],
    partitions={"four": Partitions(4), "line": Partitions(1, ordered=True)},
)
ONE, FOUR, LINE = ways_of(PLAN, "datatransfer")


def test_a_vendor_with_one_queue_has_it_as_its_end() -> None:
    assert (ONE.end, ONE.label, ONE.exchange) == ("datatransfer.one", "", None)
    assert [queue.name for queue in ONE.queues] == ["datatransfer.one"]
    assert ONE.source == Binding("datatransfer", "one")
    assert ONE.gate == "datatransfer.one:1:migrating"


def test_partitions_have_an_exchange_as_their_end() -> None:
    assert (FOUR.end, FOUR.label, FOUR.ordered) == ("datatransfer.four:4", "4", False)
    assert FOUR.own.name == "datatransfer.four"
    assert [queue.name for queue in FOUR.queues] == [
        f"datatransfer.four:4.{number}" for number in range(4)
    ]
    assert {binding.exchange for binding in FOUR.bindings} == {FOUR.end}
    assert FOUR.gate == "datatransfer.four:4:migrating"


def test_a_plan_says_whether_the_order_is_kept() -> None:
    assert LINE.ordered
    assert LINE.end == "datatransfer.line:1-ordered"
