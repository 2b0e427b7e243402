"""Whatever arrives in a dialect: one verdict a delivery, and an answer its gateway can read."""

import asyncio
import json
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.client.requester import read_response
from bridge.dead_letters.letter import everything, read, replayed
from bridge.dialects import CitrineOs, WebOcpp
from bridge.dialects.dialect import Dialect
from bridge.ocpp import CallError, OcppVersion
from bridge.rabbitmq.frames.writing import Encoder
from bridge.request.chain import chain
from bridge.telemetry.counts import WorkerCounts
from bridge.transport import Delivery, Properties, Publishing, Verdict
from bridge.worker.dispatch import Dispatcher
from bridge.worker.shared_queue import Part, Sorter
from tests.properties.test_dispatch import (
    MANY,
    ROUTES,
    bodies,
    header_values,
    json_values,
    mostly,
    properties,
    short,
)

VERSIONS = ["ocpp1.6", "ocpp2.0", "ocpp2.0.1", "ocpp2.1"]
ids = mostly(
    st.just(b'"m-1"'),
    st.sampled_from([b"17", b'""', b"null", b'"' + b"i" * 37 + b'"', b'"\xff"', rb'"\ud800"']),
)

HEADER_NAMES = [
    "ocpp-deadline",
    "dtbridge-attempt",
    "dtbridge-first-try",
    "dtbridge-replayed",
    "ocpp-station-id",
]
CITRINE_NAMES = [
    "stationId",
    "ocppConnectionName",
    "correlationId",
    "tenantId",
    "timestamp",
    "action",
    "origin",
    "state",
    "eventGroup",
    "ocpp-deadline",
    "dtbridge-replayed",
]


class Once(Delivery, eq=False, gc=True):
    """A delivery that takes one verdict, and only what AMQP can carry."""

    verdicts: list[Verdict]
    replies: list[Publishing]

    def settle(
        self, verdict: Verdict, reply: Publishing | None = None, copy: Publishing | None = None
    ) -> None:
        if copy is not None:
            Encoder().publish(2, copy)  # raises ValueError, as a transport does
            assert copy.body == self.body
        if reply is not None:
            Encoder().publish(2, reply)
            self.replies.append(reply)
        self.verdicts.append(verdict)


async def settled(dialect: Dialect, delivery: Delivery) -> Once:
    """What becomes of a delivery. No handler here retries or waits for ever."""
    escaped: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: escaped.append(context))
    counts = WorkerCounts()

    def part(name: str) -> Part:
        part = Part(
            name,
            dialect=dialect,
            counts=counts,
            prefetch=4,
            concurrency=2,
            lacks=lambda _: False,
            worker="dtbridge@host:1",
        )
        chain(part, Dispatcher(ROUTES))
        return part

    parts = {"v": part("v"), "w": part("w")}
    fields = (
        delivery.exchange,
        delivery.routing_key,
        delivery.redelivered,
        delivery.properties,
        delivery.body,
    )
    once = Once(*fields, [], [])
    Sorter(dialect, parts, part("rest"), counts).on_delivery(once)
    for _ in range(6):
        await asyncio.sleep(0)
    assert not escaped
    assert len(once.verdicts) == 1
    assert len(once.replies) <= 1
    return once


# ---- rabbitmq-web-ocpp ----


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """Almost a CALL: elements wrong, missing, too many, or cut off."""
    elements = [
        draw(
            mostly(
                st.just(b"2"),
                st.sampled_from(
                    [b"3", b"4", b"5", b"6", b"9", b'"2"', b"2.0", b"null", b"1" * 5_000]
                ),
            )
        ),
        draw(ids),
        draw(
            mostly(
                st.just(b'"DataTransfer"'),
                st.sampled_from([b'"Heartbeat"', b"7", b'"\xff"', b"{}"]),
            )
        ),
        draw(bodies),
    ]
    count = draw(mostly(st.just(4), st.integers(0, 6)))
    frame = b"[" + b",".join([*elements, b"1", b"{}"][:count]) + b"]"
    return frame[: draw(mostly(st.just(len(frame)), st.integers(0, len(frame))))]


keys = st.sampled_from(
    [
        *(f"ocpp{digits}.DataTransfer.req" for digits in ("16", "20", "201", "21")),
        "datatransfer-web-ocpp.ocpp16",
    ]
)
web_properties = st.builds(
    Properties,
    content_type=st.just("application/json"),
    headers=mostly(st.none(), st.dictionaries(st.sampled_from(HEADER_NAMES), header_values)),
    delivery_mode=st.sampled_from([1, 2]),
    correlation_id=mostly(st.just("m-1"), st.none() | short),
    reply_to=mostly(st.just("CP-1"), st.none() | short | st.just("ocpp16.x")),
    type=st.just("DataTransfer"),
)  # fmt: skip


@MANY
@given(
    mostly(frames(), st.binary(max_size=60)),
    mostly(keys, short),
    mostly(web_properties, properties),
)
@example(
    b'[2,"m-1","DataTransfer",{"vendorId":"v","messageId":"any","data":"\xff"}]',
    "ocpp16.DataTransfer.req",
    Properties(reply_to="CP-1"),
)
@example(
    b'[2,"m-1","DataTransfer",{}]',
    "ocpp16.DataTransfer.req",
    Properties(reply_to="CP-1", headers={"ocpp-deadline": 2**63 - 1}),
)
def test_any_message_of_web_ocpp_is_settled_once_and_answered_in_its_form(
    body: bytes, key: str, given_properties: Properties
) -> None:
    once = asyncio.run(
        settled(WebOcpp(), Delivery("amq.topic", key, False, given_properties, body))
    )
    for reply in once.replies:
        assert (reply.exchange, reply.routing_key) == ("amq.topic", given_properties.reply_to)
        assert 0 <= int(reply.expiration or -1) < 2**32
        kind, message_id, *rest = msgspec.json.decode(reply.body, type=list[msgspec.Raw])
        assert msgspec.json.decode(message_id, type=str) == reply.correlation_id
        assert (bytes(kind), len(rest)) in {(b"3", 1), (b"4", 3)}


# ---- CitrineOS ----

PARTS = {
    "origin": "cs",
    "eventGroup": "router",
    "action": "DataTransfer",
    "context": {
        "stationId": "CP-1",
        "correlationId": "m-1",
        "tenantId": 1,
        "timestamp": "2026-01-01T00:00:00.000Z",
    },
    "state": 1,
    "protocol": "ocpp2.0.1",
}
contexts = st.fixed_dictionaries(
    {},
    optional={
        name: mostly(st.just("CP-1"), json_values)
        for name in (
            "stationId",
            "ocppConnectionName",
            "correlationId",
            "tenantId",
            "timestamp",
            "more",
        )
    },
)


@st.composite
def envelopes(draw: st.DrawFn) -> bytes:
    """Almost a message of the router: parts wrong, missing, in the other spelling, or cut off."""
    parts: dict[str, Any] = {**PARTS, "protocol": draw(st.sampled_from(VERSIONS))}
    for name in draw(mostly(st.just([]), st.lists(st.sampled_from([*PARTS]), max_size=2))):
        parts[name] = draw(contexts if name == "context" else json_values)
    for name in draw(mostly(st.just([]), st.lists(st.sampled_from([*PARTS]), max_size=2))):
        parts.pop(name, None)
    underscore = draw(st.sampled_from(["", "_"]))
    text = json.dumps({f"{underscore}{name}": value for name, value in parts.items()}).encode()
    payload = draw(bodies)
    body = (text[:-1] if len(text) > 2 else b'{"a":1') + b',"%bpayload":%b}' % (
        underscore.encode(),
        payload,
    )
    return body[: draw(mostly(st.just(len(body)), st.integers(0, len(body))))]


citrine_headers = st.dictionaries(
    st.sampled_from(CITRINE_NAMES),
    mostly(short, header_values),
)  # fmt: skip


@MANY
@given(mostly(envelopes(), st.binary(max_size=60)), citrine_headers)
@example(b"{", {"stationId": "\udcff", "correlationId": "\udcff"})
@example(b"{", {"stationId": "é" * 128, "correlationId": "x", "timestamp": "x" * 300})
def test_any_message_of_citrineos_is_settled_once_and_answered_in_its_form(
    body: bytes, headers: dict[str, Any]
) -> None:
    given_properties = Properties(
        content_type="application/json", content_encoding="utf-8", headers=headers
    )
    once = asyncio.run(
        settled(CitrineOs(patience=1e9), Delivery("citrineos", "", False, given_properties, body))
    )
    for reply in once.replies:
        assert (reply.exchange, reply.routing_key) == ("citrineos", "")
        assert 0 <= int(reply.properties.expiration or -1) < 2**32
        told = msgspec.json.decode(reply.body, type=dict[str, msgspec.Raw])
        fixed = {name: msgspec.json.decode(told[name]) for name in ("origin", "action", "state")}
        assert fixed == {"origin": "csms", "action": "DataTransfer", "state": 2}
        sent = reply.properties.headers or {}
        assert {name: sent[name] for name in fixed} == {
            "origin": "csms",
            "action": "DataTransfer",
            "state": "2",
        }
        assert all(type(value) is str and value.encode() for value in sent.values())
        assert {"stationId", "ocppConnectionName"} & sent.keys()
        assert isinstance(msgspec.json.decode(told["context"]), dict)


# ---- the answers of stations ----

results = frames().map(
    lambda frame: frame.replace(b'[2,"m-1","DataTransfer"', b'[3,"m-1"').replace(b"[2", b"[4")
)
told = envelopes().map(lambda body: body.replace(b'"state": 1', b'"state": 2'))
reply_keys = st.sampled_from(
    ["ocpp16.response.conf", "ocpp201.DataTransfer.conf", "ocpp21.NotImplemented.error"]
)


@MANY
@given(
    mostly(results | told, bodies | frames() | st.binary(max_size=60)),
    mostly(reply_keys, short),
    properties,
)
def test_any_message_is_an_answer_of_a_station_or_none_in_every_dialect(
    body: bytes, key: str, given_properties: Properties
) -> None:
    for dialect in (WebOcpp(), CitrineOs()):
        reply = dialect.read_station_reply(Delivery("x", key, False, given_properties, body))
        if reply is not None:
            assert isinstance(reply.properties.correlation_id, str)
            assert reply.properties.type in {"DataTransferResponse", "CallError"}
            try:
                response = read_response(reply, OcppVersion.V2_1)
            except CallError:
                continue
            assert response.status


# ---- dead letters ----


@MANY
@given(frames() | envelopes() | bodies, properties)
def test_any_form_of_dead_letter_is_read_shown_and_replayed(
    body: bytes, given_properties: Properties
) -> None:
    delivery = Delivery("datatransfer.dead", "k", False, given_properties, body)
    letter = read(delivery)
    json.dumps(msgspec.to_builtins(everything(delivery, letter)))
    again = replayed(delivery, letter)
    assert (again is not None) == letter.replayable
    if again is not None:
        assert again.body == body
