"""The plan of exchanges, queues and bindings, to the last argument."""

import msgspec
import pytest

from bridge.dialects import CitrineOs, Native, WebOcpp
from bridge.dialects.dialect import Dialect
from bridge.dialects.names import Names
from bridge.dialects.partitions import Partitions
from bridge.dialects.topology import (
    Exchange,
    ExchangeBinding,
    Mode,
    Part,
    Purpose,
    Queue,
    QueueBinding,
    QueueType,
    Topology,
    gateway_topology,
    of_other_type,
    type_of,
    worker_topology,
)
from bridge.transport import Binding

RETRIES = (100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000)
"""Milliseconds."""
AT_LEAST_ONCE = {
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
    "x-consumer-disconnected-timeout": 5_000,
}
QUORUM = {
    "x-queue-type": "quorum",
    "x-dead-letter-exchange": "acme.dead",
    "x-delivery-limit": 20,
    **AT_LEAST_ONCE,
}
CLASSIC = {"x-queue-type": "classic", "x-dead-letter-exchange": "acme.dead"}

EXCHANGES = (
    Exchange("acme.unrouted", "fanout", Purpose.REQUESTS),
    Exchange("acme", "direct", Purpose.REQUESTS, arguments={"alternate-exchange": "acme.unrouted"}),
    Exchange("acme.stations", "direct", Purpose.STATIONS),
)


def kept(queue_type: str, own: str = "acme", after_retry: str = "acme") -> tuple[Part, ...]:
    """Dead letters, and the delays of the dialect whose names begin with `own`."""
    quorum = queue_type == "quorum"
    unlimited = {"x-delivery-limit": 1_000_000} if quorum else {}
    dead = {
        "x-queue-type": queue_type,
        "x-message-ttl": 1_209_600_000,  # two weeks
        "x-max-length": 1_000_000,
        **unlimited,
    }
    parts: list[Part] = [
        Exchange("acme.dead", "fanout", Purpose.DEAD),
        Queue("acme.dead", Purpose.DEAD, dead),
        QueueBinding("acme.dead", queue="acme.dead"),
    ]
    for delay in RETRIES:
        name = f"{own}.retry.{delay}"
        arguments = {
            "x-queue-type": queue_type,
            "x-dead-letter-exchange": after_retry,
            "x-message-ttl": delay + 30_000,
            **(AT_LEAST_ONCE if quorum else {}),
            **unlimited,
        }
        parts += [
            Exchange(name, "fanout", Purpose.RETRY),
            Queue(name, Purpose.RETRY, arguments),
            QueueBinding(name, queue=name),
        ]
    return tuple(parts)


@pytest.mark.parametrize(
    ("queue_type", "arguments"), [(QueueType.QUORUM, QUORUM), (QueueType.CLASSIC, CLASSIC)]
)
def test_a_native_worker_needs_a_queue_for_each_vendor(
    queue_type: QueueType, arguments: dict[str, object]
) -> None:
    plan = worker_topology(Native(Names("acme")), ["EN+", "dead"], queue_type=queue_type)
    assert plan == Topology(
        (
            *EXCHANGES,
            *kept(queue_type.value),
            Queue("acme.unknown-vendor", Purpose.REQUESTS, arguments),
            QueueBinding("acme.unrouted", queue="acme.unknown-vendor"),
            Queue("acme.en_2b", Purpose.REQUESTS, arguments),
            QueueBinding("acme", "en_2b", queue="acme.en_2b"),
            Queue("acme._64ead", Purpose.REQUESTS, arguments),
            QueueBinding("acme", "dead", queue="acme._64ead"),
        )
    )


@pytest.mark.parametrize("queue_type", QueueType)
def test_the_queues_of_web_ocpp_are_classic_whatever_the_others_are(queue_type: QueueType) -> None:
    plan = worker_topology(WebOcpp("acme", patience=2.5), ["ignored"], queue_type=queue_type)
    queues: list[Part] = []
    for protocol in ("ocpp16", "ocpp20", "ocpp201", "ocpp21"):
        name = f"acme-web-ocpp.{protocol}"
        queues += [
            Queue(name, Purpose.REQUESTS, CLASSIC | {"x-message-ttl": 2_500}),
            QueueBinding("amq.topic", f"{protocol}.DataTransfer.req", queue=name),
        ]
    assert plan == Topology(
        (
            Exchange("amq.topic", "topic", Purpose.REQUESTS),
            *kept(queue_type.value, "acme-web-ocpp", ""),
            *queues,
        )
    )
    assert [exchange.name for exchange in plan.exchanges if exchange.predeclared] == ["amq.topic"]


@pytest.mark.parametrize(
    ("queue_type", "arguments"), [(QueueType.QUORUM, QUORUM), (QueueType.CLASSIC, CLASSIC)]
)
def test_citrineos_has_one_queue_and_an_exchange_that_does_not_last(
    queue_type: QueueType, arguments: dict[str, object]
) -> None:
    plan = worker_topology(CitrineOs("acme"), queue_type=queue_type)
    headers = {"x-match": "all", "action": "DataTransfer", "origin": "cs", "state": "1"}
    assert plan == Topology(
        (
            Exchange("citrineos", "headers", Purpose.REQUESTS, durable=False),
            *kept(queue_type.value, "acme-citrineos", ""),
            Queue("acme-citrineos", Purpose.REQUESTS, arguments),
            QueueBinding("citrineos", "", headers, queue="acme-citrineos"),
        )
    )


def test_a_gateway_needs_exchanges_alone() -> None:
    assert gateway_topology(Names("acme")) == Topology(EXCHANGES)
    assert gateway_topology(Names("acme"), Mode.VERIFY) == Topology(EXCHANGES, Mode.VERIFY)


def test_a_plan_shows_its_parts_by_kind_in_their_order() -> None:
    plan = worker_topology(Native(Names("acme")), ["v"], Mode.VERIFY)
    assert plan.mode is Mode.VERIFY
    assert plan.exchanges[:4] == (*EXCHANGES, Exchange("acme.dead", "fanout", Purpose.DEAD))
    assert [queue.name for queue in plan.request_queues] == ["acme.unknown-vendor", "acme.v"]
    assert len(plan.queues) == len(plan.bindings) == 1 + len(RETRIES) + 2
    assert sorted(map(repr, plan.parts)) == sorted(
        map(repr, (*plan.exchanges, *plan.queues, *plan.bindings))
    )


@pytest.mark.parametrize(
    "dialect", [Native(Names("acme")), WebOcpp("acme"), CitrineOs("acme")], ids=lambda it: it.name
)
def test_every_part_stands_after_what_it_refers_to(dialect: Native | WebOcpp | CitrineOs) -> None:
    declared = {""}  # the default exchange
    for part in worker_topology(dialect, ["v"]).parts:
        match part:
            case Exchange(name):
                assert part.arguments.get("alternate-exchange", "") in declared
                declared.add(name)
            case Queue(name):
                assert part.arguments.get("x-dead-letter-exchange", "") in declared
                declared.add(name)
            case QueueBinding(exchange):
                assert {exchange, part.queue} <= declared


def test_a_binding_of_a_plan_is_a_binding_and_prints_as_json() -> None:
    part = QueueBinding("x", "key", queue="q")
    assert isinstance(part, Binding)
    assert msgspec.json.decode(msgspec.json.encode(part)) == {
        "exchange": "x",
        "routing_key": "key",
        "arguments": None,
        "queue": "q",
    }


def test_events_have_an_exchange_where_they_are_on_and_nobody_needs_it() -> None:
    plan = worker_topology(Native(Names("acme")), ["v"], Mode.VERIFY, events=True)
    without = worker_topology(Native(Names("acme")), ["v"], Mode.VERIFY)
    exchange = Exchange("acme.events", "topic", Purpose.EVENTS)
    assert plan == Topology((*without.parts, exchange), Mode.VERIFY)
    assert (plan.events, without.events) == (exchange, None)
    assert plan.needed == without.needed == without


@pytest.mark.parametrize("dialect", [Native(Names("acme")), WebOcpp(), CitrineOs()])
@pytest.mark.parametrize("queue_type", QueueType)
def test_what_a_queue_of_the_other_type_would_be_is_what_other_options_declare(
    dialect: Dialect, queue_type: QueueType
) -> None:
    other = next(each for each in QueueType if each is not queue_type)
    spread = {"v": Partitions(4, ordered=True)} if dialect.exchange is None else None
    queues = worker_topology(dialect, ["v", "w"], queue_type=queue_type, partitions=spread).queues
    turned = worker_topology(dialect, ["v", "w"], queue_type=other, partitions=spread).queues
    for queue, wanted in zip(queues, turned, strict=True):
        if type_of(queue) is not type_of(wanted):  # some are classic, whatever the options say
            assert of_other_type(queue) == wanted
            assert of_other_type(wanted) == queue


@pytest.mark.parametrize("ordered", [False, True])
def test_partitions_stand_behind_an_exchange_that_hashes_the_station(ordered: bool) -> None:
    spread = Partitions(2, ordered=ordered)
    plan = worker_topology(Native(Names("acme")), ["EN+"], partitions={"EN+": spread})
    label = "2-ordered" if ordered else "2"
    own = QUORUM | {"x-dead-letter-routing-key": f"en_2b:{label}"}
    each = own | ({"x-single-active-consumer": True} if ordered else {})
    hashing = {"hash-header": "ocpp-station-id", "alternate-exchange": "acme.unrouted"}
    exchange, first, second = (f"acme.en_2b:{label}{end}" for end in ("", ".0", ".1"))
    assert plan.parts[-7:] == (
        Exchange(exchange, "x-consistent-hash", Purpose.REQUESTS, arguments=hashing),
        Queue("acme.en_2b", Purpose.REQUESTS, own),
        Queue(first, Purpose.REQUESTS, each),
        QueueBinding(exchange, "1", queue=first),
        Queue(second, Purpose.REQUESTS, each),
        QueueBinding(exchange, "1", queue=second),
        ExchangeBinding("acme", "en_2b", to=exchange, guard="acme.en_2b"),
    )


def test_a_dialect_with_shared_queues_has_no_partitions() -> None:
    plan = worker_topology(WebOcpp("acme"), ["v"], partitions={"v": Partitions(2)})
    assert plan == worker_topology(WebOcpp("acme"), ["v"])
