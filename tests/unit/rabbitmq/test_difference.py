"""What a topology wants and a broker does not have, has otherwise, or has besides."""

import msgspec
import pytest

from bridge.dialects.names import Names
from bridge.dialects.native import Native
from bridge.dialects.partitions import Partitions
from bridge.dialects.topology import (
    DELIVERY_LIMIT,
    Exchange,
    Purpose,
    Queue,
    QueueBinding,
    QueueType,
    Topology,
    of_other_type,
    worker_topology,
)
from bridge.rabbitmq.difference import (
    ASIDE,
    Change,
    Difference,
    Finding,
    Live,
    Mark,
    compare,
    compare_exchange,
    compare_queue,
    losses,
    table,
)
from bridge.rabbitmq.management import LiveExchange, LiveQueue

NAMES = Names()
QUORUM = worker_topology(Native(), ["acme"])
CLASSIC = worker_topology(Native(), ["acme"], queue_type=QueueType.CLASSIC)
VENDORS = NAMES.vendor_queue("acme")


def as_declared(topology: Topology, *besides: LiveQueue) -> Live:
    queues = {
        each.name: LiveQueue(each.name, type="quorum", arguments=each.arguments)
        for each in topology.queues
    }
    return Live(
        {
            each.name: LiveExchange(
                each.name, each.kind, durable=each.durable, arguments=each.arguments
            )
            for each in topology.exchanges
        },
        queues | {each.name: each for each in besides},
        frozenset(
            (each.exchange, each.routing_key, table(each.arguments), each.queue)
            for each in topology.bindings
        ),
        frozenset(
            (each.exchange, each.routing_key, table(each.arguments), each.to)
            for each in topology.ways
        ),
    )


def difference(live: Live, topology: Topology = QUORUM) -> Difference:
    return compare(topology, live, prefix="datatransfer", requests=NAMES.requests)


def only(found: Difference) -> Finding:
    [finding] = found.findings
    return finding


def test_what_is_as_it_was_declared_does_not_differ() -> None:
    found = difference(as_declared(QUORUM))
    assert found.findings == ()
    assert found.fine == len(QUORUM.parts)


def test_of_an_empty_broker_everything_is_missing() -> None:
    found = difference(Live({}, {}, frozenset()))
    assert {each.mark for each in found.findings} == {Mark.MISSING}
    assert len(found.findings) == len(QUORUM.parts)
    assert found.fine == 0


def test_every_argument_that_differs_is_named() -> None:
    found = difference(as_declared(CLASSIC))
    by_name = {each.name: each for each in found.findings}
    control = {part.name for part in QUORUM.control}
    assert by_name.keys() == {queue.name for queue in QUORUM.queues} - control
    assert {each.mark for each in found.findings} == {Mark.DIFFERENT}
    changes = by_name[VENDORS].changes
    assert Change("x-queue-type", "classic", "quorum") in changes
    assert Change("x-delivery-limit", None, DELIVERY_LIMIT) in changes
    assert len(changes) == 5
    assert by_name[VENDORS].todo.startswith("`dtbridge topology migrate`")


def queue(**arguments: object) -> LiveQueue:
    [wanted] = [each for each in QUORUM.queues if each.name == VENDORS]
    kept = {**wanted.arguments, **arguments}
    return LiveQueue(
        VENDORS, arguments={name: value for name, value in kept.items() if value is not None}
    )


WANTED = next(each for each in QUORUM.queues if each.name == VENDORS)


@pytest.mark.parametrize(
    ("live", "told"),
    [
        (queue(**{"x-queue-type": "classic"}), "migrate` changes that without losing a message."),
        (queue(**{"x-delivery-limit": 5}), "migrate` changes that without losing a message."),
        (queue(**{"x-delivery-limit": None}), "A policy can set delivery-limit as well"),
        (queue(**{"x-max-length": 5}), "if it is told to weaken queues: what is lost is the bound"),
        (
            msgspec.structs.replace(
                queue(**{"x-delivery-limit": None}),
                policy="limits",
                effective_policy_definition={"delivery-limit": DELIVERY_LIMIT},
            ),
            "The policy limits sets the same",
        ),
    ],
)
def test_it_is_said_what_a_policy_can_do_and_what_only_a_migration(
    live: LiveQueue, told: str
) -> None:
    found = compare_queue(WANTED, live)
    assert found is not None
    assert told in found.todo


def test_nobody_is_told_to_make_a_quorum_queue_classic() -> None:
    live = {each.name: each for each in as_declared(QUORUM).queues.values()}
    for wanted in CLASSIC.queues:
        found = compare_queue(wanted, live[wanted.name])
        if wanted.purpose is Purpose.CONTROL:
            assert found is None
            continue
        assert found is not None
        assert found.todo.startswith("It is quorum already: start with queue type quorum")
        assert "the copies on other nodes" in losses(found.changes)
        assert "the delivery limit" in losses(found.changes)
    for wanted in QUORUM.queues:
        weaker = LiveQueue(wanted.name, arguments=of_other_type(wanted).arguments)
        found = compare_queue(wanted, weaker)
        assert found is not None
        assert losses(found.changes) == []


@pytest.mark.parametrize("name", ["durable", "auto_delete", "exclusive"])
def test_a_queue_that_does_not_stay_differs(name: str) -> None:
    live = queue()
    found = compare_queue(WANTED, msgspec.structs.replace(live, **{name: not getattr(live, name)}))
    assert found is not None
    assert [change.name for change in found.changes] == [name]


@pytest.mark.parametrize(
    ("live", "change"),
    [
        (LiveExchange("x", "topic"), Change("type", "topic", "direct")),
        (LiveExchange("x", "direct", durable=False), Change("durable", False, True)),
        (LiveExchange("x", "direct", internal=True), Change("internal", True, False)),
        (
            LiveExchange("x", "direct", arguments={"alternate-exchange": "y"}),
            Change("alternate-exchange", "y", None),
        ),
    ],
)
def test_an_exchange_of_another_kind_differs(live: LiveExchange, change: Change) -> None:
    wanted = Exchange("x", "direct", QUORUM.exchanges[0].purpose)
    found = compare_exchange(wanted, live)
    assert found is not None
    assert found.changes == (change,)


def test_a_binding_that_is_missing_is_named_with_its_key() -> None:
    live = as_declared(QUORUM)
    without = frozenset(each for each in live.bindings if each[3] != VENDORS)
    found = only(difference(msgspec.structs.replace(live, bindings=without)))
    assert (found.mark, found.kind) == (Mark.MISSING, "binding")
    assert found.name == "datatransfer -[acme]-> datatransfer.acme"


OLD = LiveQueue(
    "datatransfer.old", arguments={"x-dead-letter-exchange": "datatransfer.dead"}, messages=3
)


def with_old(*, bound: bool = True, consumers: int = 0) -> Live:
    live = as_declared(QUORUM, msgspec.structs.replace(OLD, consumers=consumers))
    who = {OLD.name: ["dtbridge@host:1 consume"]} if consumers else {}
    more = {("datatransfer", "old", "{}", OLD.name)} if bound else set()
    return msgspec.structs.replace(live, bindings=live.bindings | more, consumers=who)


@pytest.mark.parametrize("bound", [True, False])
def test_a_vendors_queue_that_no_router_handles_is_retired(bound: bool) -> None:
    found = only(difference(with_old(bound=bound)))
    assert (found.mark, found.name, found.messages) == (Mark.RETIRED, OLD.name, 3)
    assert found.bound_to == (("datatransfer by old",) if bound else ())
    assert "can be pruned" in found.todo


def test_one_that_workers_consume_is_not_retired() -> None:
    found = only(difference(with_old(consumers=1)))
    assert (found.mark, found.consumers) == (Mark.UNKNOWN, ("dtbridge@host:1 consume",))


def test_a_consumer_that_has_ended_holds_no_queue() -> None:
    """The broker lists it for a while, without the name of its connection."""
    live = msgspec.structs.replace(with_old(consumers=1), consumers={OLD.name: []})
    found = only(difference(live))
    assert (found.mark, found.consumers) == (Mark.RETIRED, ())


def test_a_queue_that_gets_copies_of_a_vendors_requests_is_not_retired() -> None:
    live = as_declared(QUORUM, LiveQueue("datatransfer.audit"))
    copied = live.bindings | {("datatransfer", "acme", "{}", "datatransfer.audit")}
    assert only(difference(msgspec.structs.replace(live, bindings=copied))).mark is Mark.UNKNOWN


def test_a_queue_of_somebody_else_is_not_retired() -> None:
    live = as_declared(QUORUM, LiveQueue("datatransfer.theirs"))
    assert only(difference(live)).mark is Mark.UNKNOWN


def test_a_queue_of_a_connection_that_looks_on_is_not_reported() -> None:
    live = as_declared(QUORUM, LiveQueue("amq.gen-1", exclusive=True))
    copied = live.bindings | {("datatransfer", "acme", "{}", "amq.gen-1")}
    assert difference(msgspec.structs.replace(live, bindings=copied)).findings == ()


def test_reply_queues_of_gateways_are_none_of_its_business() -> None:
    live = as_declared(QUORUM, LiveQueue("datatransfer.replies.gateway-1"))
    assert difference(live).findings == ()


def test_a_migration_that_was_interrupted_is_named() -> None:
    live = as_declared(QUORUM, LiveQueue("datatransfer.acme:migrating", messages=7))
    found = only(difference(live))
    assert (found.mark, found.messages) == (Mark.DIFFERENT, 7)
    assert "goes on with it" in found.todo


def test_names_that_are_known_are_not_reported() -> None:
    live = as_declared(QUORUM, LiveQueue("datatransfer-web-ocpp.ocpp16"))
    known = frozenset({"datatransfer-web-ocpp.ocpp16"})
    found = compare(QUORUM, live, prefix="datatransfer", requests=NAMES.requests, known=known)
    assert found.findings == ()


def test_parts_keep_their_order() -> None:
    kinds = {Exchange: "exchange", Queue: "queue", QueueBinding: "binding"}
    found = difference(Live({}, {}, frozenset()))
    assert [each.kind for each in found.findings] == [kinds[type(part)] for part in QUORUM.parts]


def test_vendors_that_are_paused_are_named_and_nothing_differs() -> None:
    live = as_declared(QUORUM)
    bound = {(NAMES.paused, key, table({}), NAMES.paused) for key in ("en_2b", "acme")}
    live = msgspec.structs.replace(live, bindings=live.bindings | bound)
    found = difference(live)
    assert found.findings == ()
    assert found.paused == ("acme", "en+")


SPREAD = worker_topology(Native(), ["acme"], partitions={"acme": Partitions(2)})


def test_partitions_that_are_as_declared_do_not_differ() -> None:
    found = difference(as_declared(SPREAD), SPREAD)
    assert found.findings == ()
    assert found.fine == len(SPREAD.parts)


@pytest.mark.parametrize("wanted", [QUORUM, SPREAD], ids=["to one", "to several"])
def test_another_number_is_to_be_migrated_and_its_binding_not_to_be_made(
    wanted: Topology,
) -> None:
    other = SPREAD if wanted is QUORUM else QUORUM
    found = difference(as_declared(other), wanted)
    different = {each.name: each for each in found.of(Mark.DIFFERENT)}
    binding = different[f"datatransfer -[acme]-> {VENDORS}{'' if wanted is QUORUM else ':2'}"]
    assert binding.bound_to == (f"{VENDORS}:2" if wanted is QUORUM else VENDORS,)
    assert {each.partitions_of for each in different.values()} == {VENDORS}
    assert all("dtbridge topology migrate" in each.todo for each in different.values())
    missing = {each.name for each in found.of(Mark.MISSING)}
    assert not any(name.startswith("datatransfer -[") for name in missing)


def test_what_is_left_of_another_number_is_named_with_who_consumes_it() -> None:
    left = LiveQueue(f"{VENDORS}:4.0", consumers=1, messages=3)
    live = as_declared(SPREAD, left)
    exchanges = {
        **live.exchanges,
        f"{VENDORS}:4": LiveExchange(f"{VENDORS}:4", "x-consistent-hash"),
    }
    live = msgspec.structs.replace(live, exchanges=exchanges, consumers={left.name: ["w@host:1"]})
    found = difference(live, SPREAD)
    queue, exchange = found.findings
    assert (queue.name, queue.mark, queue.messages) == (left.name, Mark.DIFFERENT, 3)
    assert queue.consumers == ("w@host:1",)
    assert (exchange.name, exchange.partitions_of) == (f"{VENDORS}:4", VENDORS)


def test_a_change_that_was_interrupted_is_to_be_migrated() -> None:
    live = as_declared(SPREAD)
    gate = f"{VENDORS}:2{ASIDE}"
    ways = live.ways | {("datatransfer", "acme", "{}", gate)}
    found = difference(msgspec.structs.replace(live, ways=ways), SPREAD)
    assert only(found).bound_to == (gate,)


def test_the_partitions_of_a_vendor_that_nobody_handles_are_retired() -> None:
    plan = worker_topology(
        Native(), ["acme", "gone"], partitions={"gone": Partitions(1, ordered=True)}
    )
    found = difference(as_declared(plan))
    assert {each.name: each.mark for each in found.findings} == {
        "datatransfer.gone": Mark.RETIRED,
        "datatransfer.gone:1-ordered.0": Mark.RETIRED,
    }
