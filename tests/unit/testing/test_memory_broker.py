"""What the in-memory twin does beyond the promises that it shares with the real broker, and `ask`."""

import asyncio
from typing import Any

import pytest
from msgspec import UNSET

from bridge import Call, CallError, DataTransferResponse, Rejected, Retry, Router, StatusInfo
from bridge.client.client import Client
from bridge.dialects.names import Names
from bridge.dialects.topology import DELIVERY_LIMIT, Topology
from bridge.ocpp import DataTransferRequest, ErrorCode, OcppVersion
from bridge.testing import memory_broker as testing
from bridge.testing.ask import ask
from bridge.testing.memory_broker import MemoryBroker, declare_topology
from bridge.testing.memory_transport import MemoryTransport
from bridge.transport import Confirm, Properties, Publishing
from bridge.worker.worker import Worker

# ---- ask ----


@pytest.fixture
def router() -> Router:
    router = Router("com.acme")

    @router.on("Echo")
    async def echo(call: Call, data: Any) -> Any:
        return {"station": call.station_id, "version": call.ocpp_version, "data": data}

    @router.on("Reject")
    def reject(call: Call) -> None:
        raise Rejected("No", "because")

    @router.on("Refuse")
    async def refuse(call: Call) -> None:
        raise CallError(ErrorCode.SECURITY_ERROR, "no")

    @router.on("Break")
    async def break_(call: Call) -> None:
        raise ValueError("the cause")

    @router.on("Later")
    async def later(call: Call) -> None:
        raise Retry(5, "db down")

    return router


async def test_ask_returns_the_answer_as_the_station_would_see_it(router: Router) -> None:
    answer = await ask(router, "COM.ACME", "echo", {"a": 1}, version="ocpp2.1", station_id="CP7")
    assert answer == DataTransferResponse(
        "Accepted", {"station": "CP7", "version": "ocpp2.1", "data": {"a": 1}}
    )
    in_1_6 = await ask([router], "com.acme", "Echo", [1], version=OcppVersion.V1_6)
    assert in_1_6.data == '{"station":"CP001","version":"ocpp1.6","data":"[1]"}'


async def test_ask_knows_every_answer(router: Router) -> None:
    assert (await ask(router, "x")).status == "UnknownVendorId"
    assert (await ask(router, "com.acme")) == DataTransferResponse("UnknownMessageId", UNSET)
    assert (await ask(router, "com.acme", "Reject")).status_info == StatusInfo("No", "because")
    with pytest.raises(CallError, match="SecurityError: no"):
        await ask(router, "com.acme", "Refuse")
    with pytest.raises(Retry) as retry:
        await ask(router, "com.acme", "Later")
    assert retry.value.after == 5


async def test_ask_tells_in_a_note_what_a_station_is_not_told(router: Router) -> None:
    with pytest.raises(
        CallError, match="InternalError: The request could not be processed"
    ) as caught:
        await ask(router, "com.acme", "Break")
    assert caught.value.__notes__ == ["ValueError: the cause"]


async def test_asking_can_be_given_up(router: Router) -> None:
    cancelled = asyncio.Event()

    @router.on("Hang")
    async def hang(call: Call) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ask(router, "com.acme", "Hang"), 0.01)
    await asyncio.wait_for(cancelled.wait(), 1)


# ---- the twin ----


def put(broker: MemoryBroker, queue: str, body: bytes = b"", **fields: Any) -> Confirm:
    expiration = fields.pop("expiration", None)
    return broker.publish(Publishing(queue, body, Properties(expiration=expiration), **fields))


async def after(seconds: float) -> None:
    fired = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, fired.set)
    await fired.wait()


async def test_its_topology_is_the_brokers() -> None:
    broker = MemoryBroker()
    names = Names("acme")
    declare_topology(broker, names, ["EN+", "dead"])
    declare_topology(broker, names, ["EN+", "dead"])
    topology = Topology(names, ["EN+", "dead"])
    assert topology.queue_arguments["x-delivery-limit"] == DELIVERY_LIMIT == 20
    delays = {
        f"acme.retry.{number}": number
        for number in (100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000)
    }
    assert set(broker.queues) == {
        "acme.dead",
        "acme.unknown-vendor",
        "acme.en_2b",
        "acme._64ead",
        *delays,
    }
    for name, number in delays.items():
        arguments = topology.retry_arguments(number / 1000)
        assert (arguments["x-message-ttl"], arguments["x-dead-letter-exchange"]) == (
            number + 30_000,
            "acme",
        )
        queue = broker.queues[name]
        assert (queue._message_ttl, queue._dead_letter_exchange) == (number / 1000 + 30, "acme")
    assert put(broker, "en_2b", exchange="acme") is Confirm.CONFIRMED
    assert put(broker, "dead", exchange="acme") is Confirm.CONFIRMED
    assert put(broker, "nobody", exchange="acme", mandatory=True) is Confirm.CONFIRMED
    assert put(broker, "CP001", exchange="acme.stations", mandatory=True) is Confirm.RETURNED
    assert {name: len(queue.ready) for name, queue in broker.queues.items() if queue.ready} == {
        "acme.unknown-vendor": 1,
        "acme.en_2b": 1,
        "acme._64ead": 1,
    }


async def test_what_no_worker_takes_from_a_retry_queue_comes_back_by_its_own_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(testing, "GRACE", 0.0)
    broker = MemoryBroker()
    declare_topology(broker, Names(), ["v", "w"])
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
    assert dead.properties.headers == {
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
    with pytest.raises(ValueError, match="direct, fanout, topic, headers, not x-delayed-message"):
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


async def test_a_worker_and_a_client_meet_on_it(router: Router) -> None:
    broker = MemoryBroker()
    declare_topology(broker, Names(), ["com.acme"])
    worker = Worker([router], MemoryTransport(broker))
    running = asyncio.create_task(worker.run())
    async with Client(transport=MemoryTransport(broker)) as client:
        answers = await asyncio.gather(
            *(
                client.data_transfer("CP1", DataTransferRequest("com.acme", "Echo", n))
                for n in range(50)
            )
        )
        assert [answer.data["data"] for answer in answers] == list(range(50))
        unknown = await client.data_transfer("CP1", DataTransferRequest("nobody"))
        assert unknown.status == "UnknownVendorId"
        broker.cut()
        after_the_cut = await client.data_transfer("CP1", DataTransferRequest("com.acme", "Echo"))
        assert after_the_cut.status == "Accepted"
    worker.stop()
    assert await running == 0
    assert all(not queue.ready for queue in broker.queues.values())
