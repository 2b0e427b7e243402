"""What the broker in memory does beyond the promises that it shares with the real one."""

import asyncio
from typing import Any

import pytest

from bridge.dialects import CitrineOs, Dialect, Native, WebOcpp, topology
from bridge.dialects.names import Names
from bridge.dialects.partitions import Partitions
from bridge.dialects.topology import worker_topology
from bridge.testing import MemoryBroker
from bridge.transport import Confirm, Properties, Publishing


def put(broker: MemoryBroker, queue: str, body: bytes = b"", **fields: Any) -> Confirm:
    expiration = fields.pop("expiration", None)
    return broker.publish(Publishing(queue, body, Properties(expiration=expiration), **fields))


async def after(seconds: float) -> None:
    fired = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, fired.set)
    await fired.wait()


async def test_it_declares_what_a_topology_says() -> None:
    broker = MemoryBroker()
    plan = worker_topology(Native(Names("acme")), ["EN+", "dead"])
    broker.declare(plan)
    broker.declare(plan)  # twice is as good as once
    assert set(broker.exchanges) == {exchange.name for exchange in plan.exchanges}
    assert set(broker.queues) == {queue.name for queue in plan.queues}
    for planned in plan.queues:
        queue, arguments = broker.queues[planned.name], planned.arguments
        assert queue._dead_letter_exchange == arguments.get("x-dead-letter-exchange")
        assert queue._delivery_limit == arguments.get("x-delivery-limit")
        ttl = arguments.get("x-message-ttl")
        assert queue._message_ttl == (None if ttl is None else ttl / 1000)
    assert put(broker, "en_2b", exchange="acme") is Confirm.CONFIRMED
    assert put(broker, "dead", exchange="acme") is Confirm.CONFIRMED
    assert put(broker, "nobody", exchange="acme", mandatory=True) is Confirm.CONFIRMED
    assert put(broker, "CP001", exchange="acme.stations", mandatory=True) is Confirm.RETURNED
    assert {name: len(queue.ready) for name, queue in broker.queues.items() if queue.ready} == {
        "acme.unknown-vendor": 1,
        "acme.en_2b": 1,
        "acme._64ead": 1,
    }


@pytest.mark.parametrize("dialect", [WebOcpp(), CitrineOs()], ids=lambda dialect: dialect.name)
def test_it_declares_a_gateways_exchange_and_binds_the_shared_queues_to_it(
    dialect: Dialect,
) -> None:
    broker = MemoryBroker()
    broker.declare(worker_topology(dialect))
    assert dialect.exchange is not None
    exchange = broker.exchanges[dialect.exchange.name]
    assert exchange.kind == dialect.exchange.kind
    bound = [each for bindings in exchange.bindings.values() for each in bindings]
    assert [(binding, queue.name) for binding, queue in bound] == [
        (queue.binding, queue.name) for queue in dialect.queues
    ]


async def test_what_no_worker_takes_from_a_retry_queue_comes_back_by_its_own_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(topology, "GRACE", 0.0)
    broker = MemoryBroker()
    broker.declare(worker_topology(Native(), ["v", "w"]))
    assert (
        put(broker, "v", b"again", exchange="datatransfer.retry.100", mandatory=True)
        is Confirm.CONFIRMED
    )
    queue = broker.queues["datatransfer.v"]
    assert not queue.ready
    await after(0.12)
    (message,) = queue.ready
    assert (message.body, message.routing_key, message.exchange) == (b"again", "v", "datatransfer")
    assert not broker.queues["datatransfer.retry.100"].ready
    assert not broker.queues["datatransfer.w"].ready


async def test_an_expired_message_leaves_when_it_has_come_to_the_head() -> None:
    broker = MemoryBroker()
    broker.declare_exchange("dead", "fanout")
    broker.bind(broker.declare_queue("graveyard").name, "dead")
    queue = broker.declare_queue("q", dead_letter_exchange="dead")
    put(broker, "q", b"stays")
    put(broker, "q", b"expires", expiration="0")
    await after(0.01)
    assert [message.body for message in queue.ready] == [b"stays", b"expires"]
    queue.ready.popleft()
    queue.hand_out()
    assert not queue.ready
    (dead,) = broker.queues["graveyard"].ready
    assert dead.body == b"expires"
    assert dead.properties.expiration is None
    headers = dead.properties.headers or {}
    (death,) = headers.pop("x-death")
    assert (death["queue"], death["reason"], death["original-expiration"]) == ("q", "expired", "0")
    assert headers == {
        "x-first-death-reason": "expired",
        "x-first-death-queue": "q",
        "x-first-death-exchange": "",
    }


async def test_without_a_dead_letter_exchange_what_expires_is_gone() -> None:
    broker = MemoryBroker()
    for name, exchange in (("none", None), ("missing", "no-such-exchange")):
        queue = broker.declare_queue(name, dead_letter_exchange=exchange)
        put(broker, name, expiration="1")
        await after(0.01)
        assert not queue.ready


def test_an_exchange_it_does_not_model_is_refused() -> None:
    with pytest.raises(
        ValueError, match="topic, headers, x-consistent-hash, not x-delayed-message"
    ):
        MemoryBroker().declare_exchange("x", "x-delayed-message")


@pytest.mark.parametrize(
    ("pattern", "takes", "refuses"),
    [
        (
            "ocpp16.DataTransfer.req",
            ["ocpp16.DataTransfer.req"],
            ["ocpp16.DataTransfer", "ocpp16.dataTransfer.req"],
        ),
        (
            "*.DataTransfer.req",
            ["ocpp16.DataTransfer.req", ".DataTransfer.req"],
            ["DataTransfer.req", "a.b.DataTransfer.req"],
        ),
        ("*", ["CP1", ""], ["CP.1"]),
        ("#", ["", "CP1", "a.b.c"], []),
        ("a.#", ["a", "a.b", "a.b.c"], ["", "ab", "b.a"]),
        ("#.c", ["c", "b.c", "a.b.c"], ["c.b", "abc"]),
        ("a.#.c", ["a.c", "a.b.c", "a.b.b.c"], ["a", "c", "a.cc"]),
        ("a+(b)", ["a+(b)"], ["aab"]),
    ],
)
def test_a_topic_is_words_between_dots(pattern: str, takes: list[str], refuses: list[str]) -> None:
    broker = MemoryBroker()
    broker.declare_exchange("x", "topic")
    broker.declare_queue("q")
    broker.bind("q", "x", pattern)
    for key, confirm in [(key, Confirm.CONFIRMED) for key in takes] + [
        (key, Confirm.RETURNED) for key in refuses
    ]:
        assert broker.publish(Publishing(key, b"", Properties(), "x", mandatory=True)) is confirm, (
            key
        )


@pytest.mark.parametrize(
    ("arguments", "takes", "refuses"),
    [
        (
            {"x-match": "all", "a": "1", "b": "2"},
            [{"a": "1", "b": "2", "c": "3"}],
            [{"a": "1"}, {"a": "1", "b": 2}, {}],
        ),
        ({"a": "1", "b": "2"}, [{"a": "1", "b": "2"}], [{"a": "1"}]),
        (
            {"x-match": "any", "a": "1", "b": "2"},
            [{"a": "1"}, {"b": "2", "c": "3"}],
            [{"a": "2"}, {}],
        ),
        ({}, [{}, {"a": "1"}], []),
    ],
)
def test_a_headers_exchange_compares_values_and_types(
    arguments: dict[str, Any], takes: list[dict[str, Any]], refuses: list[dict[str, Any]]
) -> None:
    broker = MemoryBroker()
    broker.declare_exchange("x", "headers")
    broker.declare_queue("q")
    broker.bind("q", "x", arguments=arguments)
    wanted = [(headers, Confirm.CONFIRMED) for headers in takes] + [
        (headers, Confirm.RETURNED) for headers in refuses
    ]
    for headers, confirm in wanted:
        assert (
            broker.publish(Publishing("", b"", Properties(headers=headers), "x", mandatory=True))
            is confirm
        ), headers


def test_a_queue_with_several_bindings_that_match_is_given_a_message_once() -> None:
    broker = MemoryBroker()
    broker.declare_exchange("x", "topic")
    queue = broker.declare_queue("q")
    for pattern in ("#", "a.*", "a.b"):
        broker.bind("q", "x", pattern)
    broker.publish(Publishing("a.b", b"", Properties(), "x"))
    assert len(queue.ready) == 1


async def test_a_hashing_exchange_gives_all_of_a_station_to_one_queue() -> None:
    broker = MemoryBroker()
    spread = {"v": Partitions(4)}
    broker.declare(worker_topology(Native(), ["v"], partitions=spread))
    queues = [broker.queues[name] for name in spread["v"].queues("datatransfer.v")]
    for station in ("A", "B", "C", "D", "E", "F", "G", "H") * 2:
        properties = Properties(headers={"ocpp-station-id": station})
        broker.publish(Publishing("v", b"", properties, "datatransfer"))
    stations = [
        [(message.properties.headers or {})["ocpp-station-id"] for message in queue.ready]
        for queue in queues
    ]
    assert sum(map(len, stations)) == 16
    assert sum(len(set(each)) for each in stations) == 8
    assert len([each for each in stations if each]) > 1
    assert not broker.queues["datatransfer.v"].ready


async def test_without_a_queue_behind_a_hashing_exchange_the_alternate_one_takes_it() -> None:
    broker = MemoryBroker()
    broker.declare(worker_topology(Native(), ["v"], partitions={"v": Partitions(2)}))
    for name in Partitions(2).queues("datatransfer.v"):
        broker.delete_queue(name)
    broker.publish(Publishing("v", b"", Properties(), "datatransfer"))
    assert len(broker.queues["datatransfer.unknown-vendor"].ready) == 1


def test_an_exchange_that_is_not_there_cannot_be_bound() -> None:
    broker = MemoryBroker()
    broker.declare_exchange("x")
    with pytest.raises(KeyError):
        broker.bind_exchange("y", "x", "")
