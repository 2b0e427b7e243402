"""Whatever arrives: one outcome per request, one verdict per delivery, and no escaping error."""

import asyncio
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Raw, Struct

from bridge import (
    Call,
    CallError,
    DataTransferRequest,
    DataTransferResponse,
    Rejected,
    Retry,
    Router,
)
from bridge.dialects.names import Names, vendor_key
from bridge.dialects.native import Native
from bridge.ocpp import OcppVersion, decode_call_error, decode_response
from bridge.rabbitmq.frames.writing import Encoder
from bridge.request.chain import chain
from bridge.request.incoming import Request
from bridge.request.outcome import Dropped, Failure, Kind, Late, Outcome, Reply, RetryLater
from bridge.request.retry import DELAYS
from bridge.routing.router import Routes
from bridge.telemetry.counts import WorkerCounts
from bridge.testing import MemoryBroker, MemoryTransport, worker_topology
from bridge.transport import Confirm, Delivery, Properties, Publishing, Subscription, Verdict
from bridge.worker.dispatch import Dispatcher, Expired
from bridge.worker.intake import Intake

MANY = settings(max_examples=300)
SOME = settings(max_examples=60)


class Tariff(Struct):
    price: float
    note: str | None = None


class Csms:
    async def on_data_transfer(
        self, charging_station_id: str, request: DataTransferRequest
    ) -> DataTransferResponse:
        return DataTransferResponse("Accepted", request.data)


def make_routers() -> list[Router]:
    """Every kind of handler that needs no thread, for the vendors "v" and "w"."""
    router = Router("v")

    @router.on("struct")
    async def struct(call: Call, data: Tariff) -> Tariff:
        return data

    @router.on("structs")
    async def structs(call: Call, data: list[Tariff] | None) -> Any:
        return data

    @router.on("text")
    async def text(call: Call, data: str) -> str:
        return data

    @router.on("bytes")
    async def octets(call: Call, data: bytes) -> bytes:
        return data

    @router.on("raw")
    async def raw(call: Call, data: Raw) -> Raw:
        return data

    @router.on("any")
    async def anything(call: Call, data: Any) -> Any:
        return data

    @router.on("waits")
    async def waits(call: Call, data: Any = None) -> Any:
        await asyncio.sleep(0)
        return [data]

    @router.on("request")
    async def request(call: Call) -> Any:
        return [call.request.data, repr(call), call.remaining]

    @router.on("reject")
    async def reject(call: Call, data: Any) -> None:
        raise Rejected(str(data), str(data))

    @router.on("refuse")
    async def refuse(call: Call, data: Any) -> None:
        raise CallError(str(data), str(data), {"data": data})

    @router.on("retry")
    async def retry(call: Call) -> None:
        raise Retry(after=0.0)

    @router.default
    async def breaks(call: Call) -> None:
        raise ValueError(call.message_id)

    other = Router("w")
    other.mount(Csms())
    return [router, other]


ROUTES = Routes(make_routers())
MESSAGES = [
    "struct",
    "structs",
    "text",
    "bytes",
    "raw",
    "any",
    "waits",
    "request",
    "reject",
    "refuse",
    "retry",
    "x",
    "",
]

# ---- bodies ----

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
DEEP = 3_000
odd_json = st.sampled_from(
    [
        "[" * DEEP + "]" * DEEP,
        '{"a":' * DEEP + "1" + "}" * DEEP,
        "[" * DEEP,
        "1e999",
        "-1e-999",
        "1" * 5_000,
        "-0",
        "01",
        "1.",
        "NaN",
        "Infinity",
        r'"\ud800"',
        r'"\udc00\ud800"',
        r'"\u0000"',
        '"\\"',
        '"\x00"',
        '{"price":1,"price":"x"}',
        '{"price":1e400}',
        '{"price":1,"note":"\\ud83d"}',
        '"{\\"price\\":1}"',
        '"' + '\\"' * 1_000 + '"',
        '""',
        " ",
        "",
        "\ufeff1",
        "tru",
    ]
)
data_json = (
    st.sampled_from(
        [
            b'{"price":1}',
            b'[{"price":2,"note":"n"}]',
            b'"text"',
            b'"{\\"price\\":1}"',
            b"null",
            b"12",
        ]
    )
    | st.binary(max_size=30)
    | json_values.map(lambda value: json.dumps(value).encode())
    | json_values.map(lambda value: json.dumps(json.dumps(value)).encode())
    | odd_json.map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.sampled_from(
        [b'"\xff"', b'"\xed\xa0\x80"', b'{"price":1,"note":"\xc3"}', b'["\xf8\x88\x80\x80\x80"]']
    )
)
ids = st.sampled_from(
    [
        b'"v"',
        b'"V"',
        b'"w"',
        b'"x"',
        b"null",
        b"1",
        b'"\xff"',
        rb'"\ud800"',
        b'""',
        b'"' + b"v" * 256 + b'"',
    ]
)
good_messages = st.sampled_from([f'"{message}"'.encode() for message in MESSAGES])
odd_messages = st.sampled_from([b"null", b"[]", b'"\xff"', b'"' + b"m" * 51 + b'"'])


def mostly(usual: st.SearchStrategy[Any], odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Nine times in ten the usual."""
    return st.integers(0, 9).flatmap(lambda number: odd if number == 9 else usual)


@st.composite
def near_misses(draw: st.DrawFn) -> bytes:
    """Almost a DataTransferRequest: fields wrong, missing, twice, or cut off."""
    fields = [
        b'"vendorId":' + draw(mostly(st.just(b'"v"'), ids)),
        b'"messageId":' + draw(mostly(good_messages, odd_messages)),
        b'"data":' + draw(data_json),
    ]
    fields += draw(
        mostly(
            st.just([]),
            st.lists(st.sampled_from([*fields, b'"customData":{}', b'"more":1', b""]), max_size=2),
        )
    )
    body = b"{" + b",".join(fields) + b"}"
    return body[: draw(mostly(st.just(len(body)), st.integers(0, len(body))))]


bodies = mostly(near_misses(), st.binary(max_size=60) | data_json)
versions = st.sampled_from(OcppVersion)


def check(outcome: Outcome, version: OcppVersion) -> None:
    """Every answer is one that its version has words for."""
    match outcome:
        case Reply(body, Kind.RESPONSE):
            decode_response(_without_data(body), version, strict=True)
        case Reply(body, Kind.CALL_ERROR) | Failure(bytes(body)):
            decode_call_error(body)
            body.decode()
        case Failure(None) | RetryLater() | Late() | Dropped():
            pass
        case _:
            raise AssertionError(outcome)


def _without_data(body: bytes) -> bytes:
    """The data may hold numbers that only the vendor can read."""
    fields = msgspec.json.decode(body, type=dict[str, Raw])
    fields.pop("data", None)
    return msgspec.json.encode(fields)


async def outcomes_of(
    request: Request, *, strict: bool, expired: Expired = Expired.DEAD_LETTER
) -> list[Outcome]:
    """Everything that `settle` is told for one request."""
    outcomes: list[Outcome] = []
    escaped: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: escaped.append(context))
    dispatcher = Dispatcher(ROUTES, strict=strict, expired=expired)
    dispatcher.settle = lambda _, outcome: outcomes.append(outcome)
    dispatcher.dispatch(request)
    for _ in range(6):
        await asyncio.sleep(0)
    dispatcher.close()
    assert not escaped
    return outcomes


STATION = {"ocpp-station-id": "CP001"}


@MANY
@given(bodies, versions, st.booleans())
@example(b'{"vendorId":"v","messageId":"request","data":1e999}', OcppVersion.V1_6, False)
@example(b'{"vendorId":"v","messageId":"text","data":"\xff"}', OcppVersion.V2_0_1, False)
def test_any_body_gets_exactly_one_outcome(body: bytes, version: OcppVersion, strict: bool) -> None:
    headers = {**STATION, "ocpp-version": version.value}
    delivery = Delivery("datatransfer", "v", False, Properties(headers=headers), body)
    request = Native().request(delivery)
    assert request.fault is None
    (outcome,) = asyncio.run(outcomes_of(request, strict=strict))
    check(outcome, version)


# ---- properties ----

short = st.text(st.characters(codec="utf-8"), max_size=20) | st.text(max_size=10)
integers = st.integers(-(2**63), 2**63 - 1)
header_values = st.recursive(  # what a broker can deliver, and no other value
    st.none()
    | st.booleans()
    | integers
    | st.floats()
    | short
    | st.binary(max_size=10)
    | st.datetimes(datetime(1970, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the strategy adds the zone
    | st.builds(
        lambda number, scale: Decimal(number).scaleb(-scale),
        st.integers(-(2**31), 2**31 - 1),
        st.integers(0, 9),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(short, inner, max_size=3),
    max_leaves=5,
)
NAMES_OF_HEADERS = [
    "ocpp-station-id",
    "ocpp-version",
    "ocpp-deadline",
    "dtbridge-attempt",
    "traceparent",
    "tracestate",
    "CC",
]
headers = st.dictionaries(st.sampled_from(NAMES_OF_HEADERS) | short, header_values, max_size=7)
good_headers = st.fixed_dictionaries(
    {"ocpp-station-id": mostly(st.just("CP001"), short)},
    optional={
        "ocpp-version": st.sampled_from([version.value for version in OcppVersion]),
        "ocpp-deadline": st.sampled_from([2**62, 2**63 - 1, 4 * 10**12]) | integers,
        "dtbridge-attempt": st.integers(1, 10),
        "dtbridge-first-try": header_values,
        "x-death": header_values,
        "CCS": header_values,
        "traceparent": header_values,
        "tracestate": header_values,
    },
)
reply_tos = (
    st.none()
    | st.sampled_from(["", "amq.gen-1", "amq.rabbitmq.reply-to.x", "datatransfer.dead", "amq.gen-"])
    | short
)
properties = st.builds(
    Properties,
    content_type=st.none() | short,
    headers=mostly(good_headers, st.none() | headers),
    delivery_mode=st.none() | st.integers(0, 255),
    correlation_id=mostly(st.just("c"), st.none() | short),
    reply_to=reply_tos,
    message_id=st.none() | short,
    type=st.none() | short,
    user_id=st.none() | short,
)


@MANY
@given(properties, st.booleans(), st.sampled_from(MESSAGES), st.sampled_from(Expired))
@example(
    Properties(
        headers={**STATION, "ocpp-deadline": 2**63 - 1}, reply_to="amq.gen-1", correlation_id="c"
    ),
    False,
    "any",
    Expired.DROP,
)
@example(
    Properties(headers={**STATION, "dtbridge-attempt": 2**63 - 1}), False, "retry", Expired.DROP
)
def test_any_properties_get_exactly_one_outcome_and_a_reply_the_broker_takes(
    given_properties: Properties, redelivered: bool, message_id: str, expired: Expired
) -> None:
    body = msgspec.json.encode({"vendorId": "v", "messageId": message_id, "data": "d"})
    contract = Native()
    request = contract.request(Delivery("datatransfer", "v", redelivered, given_properties, body))
    (outcome,) = asyncio.run(outcomes_of(request, strict=False, expired=expired))
    check(outcome, request.version)
    if request.reply_wanted and isinstance(outcome, Reply):
        publishing = contract.reply(request, outcome.body, outcome.kind)
        if publishing is not None:
            check_sendable(publishing, given_properties)


def check_sendable(publishing: Publishing, asked: Properties) -> None:
    """To the default exchange, only what is named copied, and nothing that closes a channel."""
    assert publishing.exchange == ""
    assert publishing.routing_key == asked.reply_to
    assert publishing.routing_key.startswith(
        ("amq.gen-", "amq.rabbitmq.reply-to.", "datatransfer.replies.")
    )
    reply = publishing.properties
    assert set(reply.headers or {}) <= {"ocpp-station-id", "traceparent", "tracestate"}
    assert all(type(value) is str and len(value) <= 512 for value in (reply.headers or {}).values())
    assert (publishing.correlation_id or reply.correlation_id) == (asked.correlation_id or None)
    expiration = publishing.expiration or reply.expiration
    assert expiration is None or 0 <= int(expiration) < 2**32
    assert (reply.user_id, reply.reply_to) == (None, None)


# ---- deliveries ----


class Counting(Delivery, eq=False, gc=True):
    """A delivery that counts its verdicts before it passes them on."""

    source: Delivery
    verdicts: list[Verdict]

    copies: list[Publishing]

    def settle(
        self, verdict: Verdict, reply: Publishing | None = None, copy: Publishing | None = None
    ) -> None:
        if copy is not None:
            check_copy(
                copy, self.source
            )  # raises ValueError, as a transport does, for headers that no broker delivers
            self.copies.append(copy)
        self.verdicts.append(verdict)
        self.source.settle(verdict, reply, copy)


def check_copy(copy: Publishing, source: Delivery) -> None:
    """AMQP can carry it, without the broker's own headers; what makes the request is as it was."""
    Encoder().publish(2, copy)
    headers, own = copy.properties.headers or {}, source.properties.headers or {}
    assert copy.body == source.body
    assert copy.mandatory
    assert (copy.properties.expiration, copy.properties.user_id, copy.expiration) == (
        None,
        None,
        None,
    )
    assert not any(name in {"CC", "BCC"} or name.startswith("x-") for name in headers)
    for name in ("reply_to", "correlation_id", "message_id", "type", "content_type"):
        assert getattr(copy.properties, name) == getattr(source.properties, name)
    for name, value in own.items():
        if name not in {"CC", "BCC", "ocpp-station-id"} and not name.startswith(
            ("x-", "dtbridge-")
        ):
            assert [headers[name]] == [value]  # which NaN is as well, if it is the same object


@SOME
@given(
    st.lists(st.tuples(properties, bodies, st.booleans()), max_size=12),
    st.integers(1, 4),
    st.integers(1, 4),
    st.booleans(),
    st.integers(0, 8),
)
def test_every_delivery_is_settled_exactly_once(
    messages: list[tuple[Properties, bytes, bool]],
    prefetch: int,
    concurrency: int,
    strict: bool,
    turns_before_cut: int,
) -> None:
    """Over a connection that is cut once, a delivery that is not settled by then comes again."""
    asyncio.run(
        _settled_exactly_once(messages, prefetch, concurrency, turns_before_cut, strict=strict)
    )


async def _settled_exactly_once(
    messages: list[tuple[Properties, bytes, bool]],
    prefetch: int,
    concurrency: int,
    turns_before_cut: int,
    *,
    strict: bool,
) -> None:
    escaped: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: escaped.append(context))
    names = Names()
    broker = MemoryBroker()
    broker.declare(worker_topology(Native(names), ["v", "w"]))
    broker.declare_queue("amq.gen-1")
    queue = names.vendor_queue("v")
    delivered: list[Counting] = []
    intake = Intake(
        queue,
        dialect=Native(names),
        counts=WorkerCounts(),
        prefetch=prefetch,
        concurrency=concurrency,
        lacks=lambda _: False,
        worker="dtbridge@host:1",
    )
    dispatcher = Dispatcher(ROUTES, strict=strict)
    chain(intake, dispatcher)

    def on_delivery(source: Delivery) -> None:
        fields = (
            source.exchange,
            source.routing_key,
            source.redelivered,
            source.properties,
            source.body,
        )
        delivery = Counting(*fields, source, [], [])
        delivered.append(delivery)
        intake.on_delivery(delivery)

    transport = MemoryTransport(broker)
    await transport.start([Subscription(queue, prefetch, on_delivery)], lambda *_: None)
    for given_properties, body, persistent in messages:
        without = msgspec.structs.replace(
            given_properties, expiration=None, delivery_mode=2 if persistent else 1
        )
        assert (
            broker.publish(Publishing(vendor_key("v"), body, without, names.requests))
            is Confirm.CONFIRMED
        )
    for _ in range(turns_before_cut):
        await asyncio.sleep(0)
    broker.cut()
    intake.void()
    for _ in range(500):
        await asyncio.sleep(0)
    assert await transport.drain(0.5) == 0
    dispatcher.close()
    intake.void()
    await transport.close()
    assert not escaped
    assert not broker.queues[queue].ready
    assert all(len(delivery.verdicts) <= 1 for delivery in delivered)
    last_of_each = {id(delivery.source.message): delivery for delivery in delivered}  # type: ignore[attr-defined]
    assert len(last_of_each) == len(messages)
    assert all(len(delivery.verdicts) == 1 for delivery in last_of_each.values())
    # What was given up, or is to be tried again, is kept elsewhere: each copy as often as it was
    # made.
    kept = sum(len(delivery.copies) for delivery in last_of_each.values())
    rejected = len(
        [delivery for delivery in last_of_each.values() if delivery.verdicts == [Verdict.REJECT]]
    )
    elsewhere = [broker.queues[name] for name in (names.dead, *map(names.retry, DELAYS))]
    assert sum(len(queue.ready) for queue in elsewhere) >= kept + rejected
