"""What `dtbridge topology migrate` says before it begins, and when it has ended."""

from bridge.cli.topology_words import (
    NAMED,
    about_partitions,
    ending,
    given_up,
    still_consumed,
    unknown_vendors,
    waits,
    weakening,
)
from bridge.rabbitmq.difference import Change, Finding, Mark
from bridge.rabbitmq.management import LiveQueue, MessageStats, Rate
from bridge.rabbitmq.migrating import Outcome
from bridge.rabbitmq.waiting import expected


def a_queue(name: str, in_hand: int, rate: float, kind: str = "classic") -> LiveQueue:
    stats = MessageStats(ack_details=Rate(rate))
    return LiveQueue(name, type=kind, messages_unacknowledged=in_hand, message_stats=stats)


def a_finding(name: str, *changes: Change) -> Finding:
    return Finding(mark=Mark.DIFFERENT, kind="queue", name=name, changes=changes)


def test_the_wait_is_what_is_in_hand_by_how_fast_it_is_settled() -> None:
    assert expected(a_queue("a", 66, 10.0)).seconds == 66 / 10 + 3
    assert expected(a_queue("a", 0, 0.0)).seconds == 3
    assert expected(a_queue("a", 0, 0.0, "quorum")).seconds == 9
    assert expected(a_queue("a", 5, 0.0)).seconds is None


def test_it_says_before_it_asks_how_long_requests_will_wait_the_longest_first() -> None:
    told = waits(
        map(
            expected,
            [
                a_queue("idle", 0, 0.0),
                a_queue("quick", 2, 400.0),
                a_queue("hung\x1b", 3, 0.0),
                a_queue("busy", 161, 8.05),
            ],
        ),
        20.0,
    )
    assert told[:4] == [
        "Requests that come meanwhile wait:",
        (
            "  hung\N{REPLACEMENT CHARACTER}: until it is given up (20 s): 3 in hand, and none of "
            "them has been settled lately"
        ),
        "  busy: some 23 s (161 in hand, 8.1 settled a second; do it when less is in hand)",
        "  quick: some 3 s (2 in hand, 400.0 settled a second)",
    ]
    assert "--patience" in told[4]
    assert len(waits([expected(a_queue("quick", 2, 400.0))], 20.0)) == 2
    assert waits([expected(a_queue("idle", 0, 0.0))], 20.0) == []
    many = waits([expected(a_queue(f"q{n}", 1, 1.0)) for n in range(99)], 20.0)
    assert many[-1] == "  and 89 queues whose wait is shorter"


def test_it_says_what_would_be_lost_and_that_quorum_queues_can_stay() -> None:
    quorum = Change("x-queue-type", "quorum", "classic")
    limit = Change("x-delivery-limit", 20, None)
    told = weakening([a_finding("a", limit, quorum), a_finding("b", limit, quorum)])
    assert told.startswith(
        "this takes the copies on other nodes, the delivery limit from 2 queues (a, b), which is "
        "done with --weaken only; "
    )
    assert "start workers with --queue-type quorum" in told
    bound = weakening([a_finding("a", Change("x-max-length", 5, None))])
    assert bound == (
        "this takes the bound of its length from 1 queue (a), which is done with --weaken only"
    )
    assert weakening([a_finding("a", Change("x-queue-type", "classic", "quorum"))]) == ""
    assert weakening([a_finding("a", Change("x-delivery-limit", 5, 20))]) == ""


def test_the_end_tells_waits_of_what_was_given_up_and_of_an_earlier_run() -> None:
    assert ending(Outcome(["a"], waited=1.84)) == "Migrated: 1. Requests waited 1.8 s at most."
    failed = Outcome([], {"a": "late"}, waited=21.3, found=150, found_age=43.4)
    assert ending(failed) == (
        "Migrated: 0. Left as they were: 1. Requests waited 21.3 s at most; 150 requests that an "
        "interrupted run had left beside longer, up to 43 s."
    )
    assert ending(Outcome(found=1)).endswith(
        "; 1 request that an interrupted run had left beside longer."
    )
    assert given_up(failed) == "1 queue is as it was: a: late"
    many = given_up(Outcome(given_up={f"q{n}": "late" for n in range(NAMED + 2)}))
    assert many.startswith("22 queues are as they were: q0: late; ")
    assert many.endswith("; and 2 more")


def test_the_end_tells_no_wait_where_none_was_measured() -> None:
    assert ending(Outcome(["a"])) == "Migrated: 1."
    assert about_partitions(Outcome(["a"])) == []


def test_the_end_tells_what_requests_to_other_partitions_wait_for() -> None:
    outcome = Outcome(["a"], held=8.24, waiting=["a"], still_consumed=["a:1-ordered.0"])
    assert about_partitions(outcome) == [
        "New partitions were held for 8.2 s, for the old ones to be drained.",
        (
            "Requests wait, because nobody consumes the new partitions of a yet: start workers "
            "with the new number."
        ),
    ]
    assert still_consumed(outcome) == (
        "1 old partition is empty, and workers that were started with that number still consume "
        "it: a:1-ordered.0; when they are stopped, run this again, which deletes it"
    )
    two = Outcome(still_consumed=["a:2.0", "a:2.1"])
    assert still_consumed(two).startswith("2 old partitions are empty, ")


def test_of_an_unknown_vendor_the_known_ones_are_told() -> None:
    assert unknown_vendors(["nope"], ["com.alpha", "EN+"]) == (
        "no router given is for the vendor 'nope': they are for com.alpha, EN+"
    )
    many = unknown_vendors(["nope"], [f"v{n}" for n in range(99)])
    assert many.endswith("v19 and 79 more")
