"""Which queues a worker consumes for a vendor."""

from bridge.dialects.native import Native
from bridge.dialects.partitions import ONE_QUEUE, Partitions
from bridge.telemetry.counts import WorkerCounts
from bridge.worker.intake import Intake
from bridge.worker.subscribing import subscriptions


def an_intake(prefetch: int) -> Intake:
    return Intake(
        "q",
        dialect=Native(),
        counts=WorkerCounts(),
        prefetch=prefetch,
        concurrency=1,
        lacks=lambda _: False,
        worker="w",
    )


def test_a_vendor_with_one_queue_has_one_subscription() -> None:
    intake = an_intake(200)
    [only] = subscriptions(intake, ONE_QUEUE, 0)
    assert (only.queue, only.prefetch, only.in_order, only.priority) == ("q", 200, False, 0)


def test_partitions_share_the_prefetch_and_have_one_intake() -> None:
    intake = an_intake(200)
    found = subscriptions(intake, Partitions(4), 7)
    assert [each.queue for each in found] == ["q", "q:4.0", "q:4.1", "q:4.2", "q:4.3"]
    assert {each.prefetch for each in found} == {50}
    assert {each.priority for each in found} == {7}
    assert {each.on_delivery for each in found} == {intake.on_delivery}


def test_each_partition_has_one_in_hand_at_least() -> None:
    assert {each.prefetch for each in subscriptions(an_intake(2), Partitions(4), 0)} == {1}


def test_what_comes_by_name_is_in_no_order() -> None:
    own, *partitions = subscriptions(an_intake(9), Partitions(2, ordered=True), 0)
    assert not own.in_order
    assert all(each.in_order for each in partitions)
