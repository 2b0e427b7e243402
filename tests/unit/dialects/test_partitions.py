"""Names of partitions, and which vendor they are of."""

import pytest

from bridge import Router
from bridge.dialects.names import Names, vendor_key
from bridge.dialects.partitions import (
    ONE_QUEUE,
    Partitions,
    exchange_label,
    label_of,
    of_label,
    own_queue,
    partitions_of,
    why_not_in,
)

QUEUE = Names().vendor_queue("com.acme")
ALL = [Partitions(4), Partitions(1, ordered=True), Partitions(64, ordered=True)]


def test_one_queue_without_order_is_the_vendors_own() -> None:
    assert ONE_QUEUE.label == ""
    assert ONE_QUEUE.queues(QUEUE) == ONE_QUEUE.consumed(QUEUE) == (QUEUE,)


@pytest.mark.parametrize("spread", ALL, ids=lambda spread: spread.label)
def test_names_tell_the_vendor_and_the_number(spread: Partitions) -> None:
    queues = spread.queues(QUEUE)
    assert len(set(queues)) == spread.count
    assert {own_queue(queue) for queue in queues} == {QUEUE}
    assert {label_of(queue) for queue in queues} == {spread.label}
    assert exchange_label(spread.exchange(QUEUE)) == (QUEUE, spread.label)
    assert of_label(spread.label) == spread
    assert spread.consumed(QUEUE) == (QUEUE, *queues)


def test_no_number_shares_a_queue_with_another() -> None:
    names = [queue for spread in ALL for queue in spread.queues(QUEUE)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("vendor_id", ["com.acme:4.0", "com.acme.4.0", "com.acme:4", "é:1.0"])
def test_no_vendor_has_such_a_name(vendor_id: str) -> None:
    assert ":" not in vendor_key(vendor_id)
    queue = Names().vendor_queue(vendor_id)
    assert (own_queue(queue), label_of(queue)) == (queue, "")
    assert queue not in Partitions(4).consumed(QUEUE)


@pytest.mark.parametrize("text", ["", "0", "-1", "x", "4-", "4-ordered.0", "10000"])
def test_what_is_no_label_is_none(text: str) -> None:
    assert of_label(text) is None


def test_routers_say_their_partitions() -> None:
    routers = [Router("a"), Router("b", partitions=4), Router("c", ordered=True)]
    assert partitions_of(routers) == {"b": Partitions(4), "c": Partitions(1, ordered=True)}


def test_a_dialect_whose_queues_are_shared_says_why_it_has_none() -> None:
    sentence = why_not_in("citrineos", {"b": Partitions(4)})
    assert "partitions and order are for the native dialect" in sentence
    assert "'b'" in sentence
