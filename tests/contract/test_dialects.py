"""The decision table once more, as other gateways publish it and read its answers.

A worker runs on each broker, in each dialect.
"""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar, Protocol

import msgspec
import pytest

from bridge import Call, Router
from bridge.dialects import CitrineOs, WebOcpp
from bridge.dialects.dialect import Dialect
from bridge.idempotency.memory import MemoryStore
from bridge.idempotency.store import Store
from bridge.ocpp import OcppVersion
from bridge.transport import Binding, Properties, Publishing, State
from bridge.worker.worker import Settings, Worker
from tests.contract.sides import NAMES, PATIENCE, Received, Side
from tests.contract.test_decision_table import (
    REPLIES,
    TABLE,
    V16,
    V201,
    VERSIONS,
    Row,
    acme,
    counting,
    settled,
    until,
)

STATION = "CP001"
INBOX = "queue-of-the-station"


class Gateway(Protocol):
    """A gateway that is not ours: what it publishes, and what it makes of an answer."""

    dialect: Dialect

    @property
    def station(self) -> Binding:
        """How its station's queue is bound."""

    def queue(self, version: OcppVersion) -> str:
        """Of ours, where its requests of a version come."""

    def request(
        self, payload: bytes, version: OcppVersion, message_id: str, seconds: float | None = None
    ) -> Publishing:
        """`seconds`: until the deadline."""

    def check(self, answer: Received, version: OcppVersion, message_id: str) -> Any:
        """The payload of an answer, or the body of an error in the native form.

        Everything around it is checked.
        """


class WebOcppGateway:
    """The plugin."""

    KEYS: ClassVar = {
        OcppVersion.V1_6: "ocpp16",
        OcppVersion.V2_0_1: "ocpp201",
        OcppVersion.V2_1: "ocpp21",
    }

    def __init__(self, patience: float = 30.0) -> None:
        self.dialect: Dialect = WebOcpp(patience=patience)
        self._patience = patience

    @property
    def station(self) -> Binding:
        return Binding("amq.topic", STATION)

    def queue(self, version: OcppVersion) -> str:
        return f"datatransfer-web-ocpp.{self.KEYS[version]}"

    def request(
        self, payload: bytes, version: OcppVersion, message_id: str, seconds: float | None = None
    ) -> Publishing:
        frame = b'[2,"%b","DataTransfer",%b]' % (message_id.encode(), payload)
        properties = Properties(
            content_type="application/json",
            delivery_mode=1,
            correlation_id=message_id,
            reply_to=STATION,
            type="DataTransfer",
        )
        return Publishing(f"{self.KEYS[version]}.DataTransfer.req", frame, properties, "amq.topic")

    def check(self, answer: Received, version: OcppVersion, message_id: str) -> Any:
        properties = answer.properties
        assert (answer.exchange, answer.routing_key) == ("amq.topic", STATION)
        assert (properties.content_type, properties.correlation_id, properties.delivery_mode) == (
            "application/json",
            message_id,
            1,
        )
        assert (properties.headers, properties.reply_to, properties.type) == (None, None, None)
        assert 0 < int(properties.expiration or 0) <= self._patience * 1000
        frame = json.loads(answer.body)
        assert frame[1] == message_id
        if frame[0] == 3:
            assert len(frame) == 3
            return frame[2]
        kind, _, code, description, details = frame
        assert kind == 4
        return {"errorCode": code, "errorDescription": description, "errorDetails": details}


class CitrineGateway:
    """CitrineOS, in its first version and its second."""

    def __init__(self, name: str, *, underscore: bool) -> None:
        self.dialect: Dialect = CitrineOs()
        self._name = name
        self._underscore = "_" if underscore else ""
        self._context: dict[str, Any] = {}

    @property
    def station(self) -> Binding:
        filters = {"tenantId": "1", self._name: STATION, "state": "2", "origin": "csms"}
        return Binding("citrineos", "", {"x-match": "all", **filters})

    def queue(self, version: OcppVersion) -> str:
        return "datatransfer-citrineos"

    def request(
        self, payload: bytes, version: OcppVersion, message_id: str, seconds: float | None = None
    ) -> Publishing:
        received = time.time() if seconds is None else time.time() + seconds - 20.0
        timestamp = (
            datetime.fromtimestamp(received, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z")
        )
        self._context = {
            self._name: STATION,
            "correlationId": message_id,
            "tenantId": 1,
            "timestamp": timestamp,
        }
        routing = {"origin": "cs", "eventGroup": "router", "action": "DataTransfer"}
        envelope = {**routing, "context": self._context, "state": 1, "protocol": version.value}
        named = {f"{self._underscore}{name}": value for name, value in envelope.items()}
        body = json.dumps(named)[:-1].encode() + b', "%bpayload": %b}' % (
            self._underscore.encode(),
            payload,
        )
        headers = {**routing, "state": "1", **self._context, "tenantId": "1"}
        properties = Properties(
            content_type="application/json", content_encoding="utf-8", headers=headers
        )
        return Publishing("", body, properties, "citrineos")

    def check(self, answer: Received, version: OcppVersion, message_id: str) -> Any:
        properties = answer.properties
        assert (answer.exchange, answer.routing_key) == ("citrineos", "")
        assert (properties.content_type, properties.content_encoding) == (
            "application/json",
            "utf-8",
        )
        assert (properties.correlation_id, properties.reply_to, properties.message_id) == (
            None,
            None,
            None,
        )
        assert 0 < int(properties.expiration or 0) <= 20_000
        routing = {"origin": "csms", "eventGroup": "router", "action": "DataTransfer"}
        assert properties.headers == {**routing, "state": "2", **self._context, "tenantId": "1"}
        body = json.loads(answer.body)
        payload = body.pop("payload")
        assert body == {**routing, "context": self._context, "state": 2, "protocol": version.value}
        if payload.get("name") != "OcppError":
            return payload
        assert payload["_messageId"] == message_id
        assert payload.keys() == {"name", "_messageId", "_errorCode", "_errorDetails", "message"}
        return {
            "errorCode": payload["_errorCode"],
            "errorDescription": payload["message"],
            "errorDetails": payload["_errorDetails"],
        }


GATEWAYS: dict[str, Callable[..., Gateway]] = {
    "web-ocpp": WebOcppGateway,
    "citrineos": lambda: CitrineGateway("stationId", underscore=False),
    "citrineos, from a module": lambda: CitrineGateway("stationId", underscore=True),
    "citrineos 2": lambda: CitrineGateway("ocppConnectionName", underscore=False),
}


@pytest.fixture(params=["web-ocpp", "citrineos"])
def gateway(request: pytest.FixtureRequest) -> Gateway:
    return GATEWAYS[request.param]()


@asynccontextmanager
async def working(
    side: Side, gateway: Gateway, settings: Settings, *routers: Router, store: Store | None = None
) -> AsyncIterator[Worker]:
    """A worker that has settled everything when it ends, and a station's queue beside it."""
    await side.declare_dialect(gateway.dialect)
    await side.make_queue(INBOX)
    await side.bind(INBOX, gateway.station)
    worker = Worker(
        routers, side.transport(), dialect=gateway.dialect, settings=settings, store=store
    )
    running = asyncio.create_task(worker.run())
    try:
        await until(lambda: worker.state is State.CONSUMING or running.done())
        yield worker
    finally:
        worker.stop()
        assert await running == 0, "requests were left unsettled"


async def nothing_left(side: Side, gateway: Gateway) -> None:
    names = gateway.dialect.names
    for queue in (
        *(queue.name for queue in gateway.dialect.queues),
        names.dead,
        names.retry(0.1),
        names.retry(0.25),
        INBOX,
    ):
        assert await side.left(queue) == 0, f"something is left in {queue}"


# ---- the table ----

APPLIES = [
    row
    for row in TABLE
    if row.reply_to == REPLIES  # there is no such property in the others
    and not row.headers
    and row.situation != "the payload is not JSON"  # then nothing is: see below
    and (row.seconds or 0) < 1_000
]


def payload_of(row: Row) -> bytes:
    fields = {"vendorId": row.vendor_id, "messageId": row.message_id, "data": row.data}
    return row.body or msgspec.json.encode(
        {name: value for name, value in fields.items() if value is not msgspec.UNSET}
    )


def check_dead_letter(
    dead: Received, row: Row, version: OcppVersion, asked: Publishing, gateway: Gateway
) -> None:
    assert dead.body == asked.body
    given = asked.properties
    # The message id is the foreign hand's: its library adds one.
    changed = {
        "headers": dead.properties.headers,
        "delivery_mode": 2,
        "message_id": dead.properties.message_id,
    }
    assert dead.properties == msgspec.structs.replace(given, **changed)
    headers = dict(dead.headers)
    assert headers.pop("dtbridge-error").startswith(row.error)
    assert re.fullmatch(r"dtbridge@.+:\d+", headers.pop("dtbridge-worker"))
    assert headers.pop("dtbridge-first-try") <= headers.pop("dtbridge-failed-at")
    headers.pop("ocpp-deadline", None)
    assert headers == {
        **(given.headers or {}),
        "dtbridge-reason": "expired" if row.reason == "rejected" else row.reason,
        "dtbridge-attempt": row.attempts,
        "dtbridge-vendor": "com.Acme",
        "dtbridge-message": row.message_id,
        "dtbridge-exchange": "",
        "dtbridge-routing-key": gateway.queue(version),
        "ocpp-station-id": STATION,
        "ocpp-version": version.value,
    }


PLAYED = [
    pytest.param(name, row, id=f"{name}, {row.situation}")
    for name in GATEWAYS
    for row in APPLIES
    if name != "web-ocpp"
    or (row.seconds or 0) >= 0  # the plugin does not say when it had a request: none arrives late
]


@pytest.mark.parametrize(("name", "row"), PLAYED)
async def test_what_a_request_gets(side: Side, name: str, row: Row) -> None:
    patience = {} if name != "web-ocpp" or row.seconds is None else {"patience": row.seconds}
    gateway = GATEWAYS[name](**patience)
    async with working(side, gateway, row.settings, acme) as worker:
        for number, version in enumerate(VERSIONS, 1):
            asked = gateway.request(payload_of(row), version, "m-1", row.seconds)
            await side.put(asked)
            if row.answer is not None:
                got = gateway.check(await side.take(INBOX), version, "m-1")
                expected = row.answer(version) if callable(row.answer) else row.answer
                assert got == (json.loads(expected) if isinstance(expected, bytes) else expected)
                assert ("errorCode" in got) is row.is_error
            if row.dead:
                check_dead_letter(await side.take(NAMES.dead), row, version, asked, gateway)
            await settled(worker, number)
    await nothing_left(side, gateway)


# ---- the same request again ----

PAYLOAD = b'{"vendorId":"com.acme","messageId":"m","data":"1"}'


async def test_a_request_that_comes_again_is_joined_in_hand_and_a_new_one_after_its_answer(
    side: Side, gateway: Gateway
) -> None:
    """These gateways do not tell a station's connections apart."""
    router, calls, go_on = counting()
    async with working(side, gateway, Settings(), router, store=MemoryStore()) as worker:
        request = gateway.request(PAYLOAD, V201, "m-1")
        for _ in range(2):
            await side.put(request)
        await until(lambda: worker.counts.received == 2)
        go_on.set()
        for _ in range(2):
            assert gateway.check(await side.take(INBOX), V201, "m-1") == {
                "status": "Accepted",
                "data": "done",
            }
        assert len(calls) == 1
        await side.put(gateway.request(PAYLOAD, V201, "m-1"))
        gateway.check(await side.take(INBOX), V201, "m-1")
        assert len(calls) == 2
        assert (worker.counts.absorbed, worker.counts.replied) == (1, 3)
    await nothing_left(side, gateway)


async def test_a_request_redelivered_after_a_lost_connection_is_answered_by_the_run_that_goes_on(
    side: Side, gateway: Gateway
) -> None:
    router, calls, go_on = counting()
    async with working(side, gateway, Settings(), router, store=MemoryStore()) as worker:
        await side.put(gateway.request(PAYLOAD, V201, "m-1"))
        await until(lambda: len(calls) == 1)
        side.cut(worker._transport)
        await until(lambda: worker.counts.received == 2)
        go_on.set()
        assert gateway.check(await side.take(INBOX), V201, "m-1") == {
            "status": "Accepted",
            "data": "done",
        }
        assert len(calls) == 1
    await nothing_left(side, gateway)


# ---- one queue for all vendors ----


def hanging(vendor_id: str, **settings: Any) -> tuple[Router, asyncio.Event]:
    router = Router(vendor_id, **settings)
    gate = asyncio.Event()

    @router.default
    async def handler(call: Call) -> str:
        await gate.wait()
        return "at last"

    return router, gate


async def test_a_vendor_that_hangs_holds_up_no_other_and_is_answered_when_it_works_again(
    side: Side, gateway: Gateway
) -> None:
    """Before each request of the quick vendor stand forty of the slow one; ten may be in hand."""
    slow, gate = hanging("slow", concurrency=2)
    quick = Router("quick")

    @quick.default
    async def answers(call: Call) -> str:
        return "at once"

    expected = {f"slow-{number}" for number in range(40)}
    async with working(
        side, gateway, Settings(max_in_flight=10 * len(gateway.dialect.queues)), slow, quick
    ) as worker:
        for name in sorted(expected):
            await side.put(gateway.request(b'{"vendorId":"slow"}', V16, name))
        for number in range(5):
            name = f"quick-{number}"
            await side.put(gateway.request(b'{"vendorId":"quick"}', V16, name))
            assert gateway.check(await side.take(INBOX), V16, name) == {
                "status": "Accepted",
                "data": "at once",
            }
        assert worker.counts.put_off >= 30
        gate.set()
        answered = set()
        for _ in expected:
            answer = await side.take(INBOX)
            answered |= {name for name in expected if f'"{name}"'.encode() in answer.body}
            assert b"at last" in answer.body
        assert answered == expected
        assert worker.counts.failed == 0
    await nothing_left(side, gateway)


async def test_what_waits_for_another_try_is_seen_by_nobody_else_on_the_gateways_exchange(
    side: Side, gateway: Gateway
) -> None:
    everything = {
        "web-ocpp": Binding("amq.topic", "#"),
        "citrineos": Binding("citrineos", "", {"x-match": "all"}),
    }
    async with working(side, gateway, Settings(), acme):
        await side.make_queue("tap")
        await side.bind("tap", everything[gateway.dialect.name])
        asked = gateway.request(
            b'{"vendorId":"com.acme","messageId":"RetryOnce"}', V201, "m-1", PATIENCE
        )
        await side.put(asked)
        assert gateway.check(await side.take(INBOX), V201, "m-1") == {
            "status": "Accepted",
            "data": "at try 2",
        }
        assert (await side.take("tap")).body == asked.body
        gateway.check(await side.take("tap"), V201, "m-1")
        assert await side.left("tap") == 0


# ---- what is no request ----


def foreign(gateway: Gateway) -> list[Publishing]:
    """Messages that reach the queue and are none of ours, or cannot be read."""
    asked = gateway.request(PAYLOAD, V201, "m-1")
    direct = msgspec.structs.replace(asked, exchange="", routing_key=gateway.queue(V201))
    bare = Properties(content_type="application/json")
    odd = Properties(
        headers={"action": 7, "origin": ["cs"], "state": 1, "stationId": bytearray(b"\xff")},
        correlation_id="",
    )
    bodies = [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"[3]",
        b"\xff" * 1_000_000,
        b"[" * 50_000,
        b'{"state":1}',
    ]
    return [
        *(Publishing(direct.routing_key, body, bare) for body in bodies),
        *(Publishing(direct.routing_key, body, odd) for body in bodies),
        Publishing(direct.routing_key, b'[3,"m-1",{}]', asked.properties),
        Publishing(direct.routing_key, b'[6,"m-1","DataTransfer",{}]', asked.properties),
        Publishing(direct.routing_key, b'[2,"m-1","Heartbeat",{}]', asked.properties),
        Publishing(direct.routing_key, asked.body.replace(b"DataTransfer", b"Heartbeat"), bare),
        Publishing(
            direct.routing_key, asked.body.replace(b'"cs"', b'"csms"').replace(b"[2,", b"[4,"), bare
        ),
    ]


async def test_foreign_messages_are_kept_with_a_reason_and_the_requests_between_them_are_answered(
    side: Side, gateway: Gateway
) -> None:
    messages = foreign(gateway)
    async with working(side, gateway, Settings(), acme) as worker:
        for number, message in enumerate(messages):
            await side.put(message)
            name = f"good-{number}"
            await side.put(
                gateway.request(b'{"vendorId":"com.acme","messageId":"Nothing"}', V201, name)
            )
        good = 0
        while good < len(messages):
            good += b"good-" in (await side.take(INBOX)).body
        kept = [await side.take(NAMES.dead) for _ in messages]
        assert {letter.headers["dtbridge-reason"] for letter in kept} == {"foreign"}
        assert all(letter.headers["dtbridge-error"] for letter in kept)
        assert sorted(letter.body for letter in kept) == sorted(
            message.body for message in messages
        )
        assert worker.counts.foreign == len(messages)
        assert worker.counts.received == 2 * len(messages)
    for queue in (*(queue.name for queue in gateway.dialect.queues), NAMES.dead):
        assert await side.left(queue) == 0
