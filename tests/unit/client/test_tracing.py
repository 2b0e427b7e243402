"""The spans of questions, in both directions; their trace arrives where they are answered."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from bridge import Call, CallError, Client, NoAnswer, Router, StationOffline, Worker
from bridge.dialects.citrineos import CitrineOs
from bridge.dialects.native import Native
from bridge.dialects.topology import worker_topology
from bridge.dialects.web_ocpp import WebOcpp
from bridge.gateway import GatewayLink
from bridge.gateway.stations import LARGEST
from bridge.ocpp import DataTransferRequest, DataTransferResponse, OcppVersion
from bridge.testing import MemoryBroker
from bridge.testing.memory_transport import MemoryTransport

router = Router("v")


@router.on("Value")
async def value(call: Call) -> str | None:
    return call.traceparent


@router.on("Fails")
async def fails(call: Call) -> None:
    raise ValueError("no")


@router.on("Hangs", timeout=60)
async def hangs(call: Call) -> None:
    await asyncio.Event().wait()


class World:
    """A worker, a gateway and a client, each traced, and all their spans."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.broker = MemoryBroker()
        self.broker.declare(worker_topology(Native(), ["v"]))
        traced: dict[str, Any] = {"tracer_provider": self.provider}
        self.worker = Worker([router], MemoryTransport(self.broker), **traced)
        self.client = Client(transport=MemoryTransport(self.broker), **traced)
        self.link = GatewayLink(transport=MemoryTransport(self.broker), **traced)

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def span(self, name: str) -> dict[str, Any]:
        return dict(self.spans[name].attributes or {})

    def parent_of(self, name: str) -> str | None:
        """The name of the span that is the parent of another."""
        parent = self.spans[name].parent
        if parent is None:
            return None
        (found,) = [
            span.name for span in self.spans.values() if span.context.span_id == parent.span_id
        ]
        return found


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    running = asyncio.create_task(world.worker.run())
    async with world.client, world.link:
        yield world
    world.worker.stop()
    await running


async def test_a_question_is_a_producers_span_and_the_parent_of_its_handling(world: World) -> None:
    answer = await world.client.data_transfer("CP1", DataTransferRequest("v", "Value"))
    assert world.parent_of("process datatransfer.v") == "send datatransfer"
    assert world.spans["send datatransfer"].kind is SpanKind.PRODUCER
    told = world.span("send datatransfer")
    assert told["messaging.destination.name"] == "datatransfer:v"
    assert told["messaging.operation.type"] == "send"
    assert (told["ocpp.station.id"], told["ocpp.status"]) == ("CP1", "Accepted")
    assert told["messaging.message.id"] == told["messaging.message.conversation_id"]
    assert str(answer.data).split("-")[2] == (
        f"{world.spans['process datatransfer.v'].context.span_id:016x}"
    )


async def test_it_belongs_to_the_span_in_which_it_is_asked(world: World) -> None:
    with world.provider.get_tracer("shop").start_as_current_span("own"):
        await world.client.data_transfer("CP1", DataTransferRequest("v", "Value"))
    assert world.parent_of("send datatransfer") == "own"


@pytest.mark.parametrize(
    ("message", "error", "kind"),
    [
        ("Fails", CallError, "InternalError"),
        ("Hangs", NoAnswer, "bridge.client.errors.NoAnswer"),
    ],
)
async def test_a_question_without_a_good_answer_has_failed(
    world: World, message: str, error: type[Exception], kind: str
) -> None:
    with pytest.raises(error):
        await world.client.data_transfer("CP1", DataTransferRequest("v", message), timeout=0.2)
    span = world.spans["send datatransfer"]
    assert span.status.status_code is StatusCode.ERROR
    assert world.span("send datatransfer")["error.type"] == kind


async def test_a_stations_call_is_a_span_of_its_gateway(world: World) -> None:
    await world.link.forward(
        "CP1", "ocpp1.6", b'{"vendorId":"v","messageId":"Value"}', message_id="id-1"
    )
    assert world.parent_of("DataTransfer") is None
    assert world.parent_of("send datatransfer") == "DataTransfer"
    assert world.parent_of("process datatransfer.v") == "send datatransfer"
    assert world.spans["DataTransfer"].kind is SpanKind.SERVER
    assert world.span("DataTransfer") == {
        "ocpp.action": "DataTransfer",
        "ocpp.station.id": "CP1",
        "ocpp.version": "ocpp1.6",
        "ocpp.vendor_id": "v",
        "ocpp.call.id": "id-1",
        "ocpp.outcome": "response",
        "ocpp.status": "Accepted",
    }


async def test_a_call_that_is_abandoned_ends_its_spans(world: World) -> None:
    forwarding = world.link.start_forward(
        "CP1",
        OcppVersion.V1_6,
        b'{"vendorId":"v","messageId":"Hangs"}',
        message_id="id-1",
        timeout=10.0,
        on_reply=lambda _: None,
    )
    assert world.spans == {}
    forwarding.abandon()
    for name in ("send datatransfer", "DataTransfer"):
        assert world.span(name)["error.type"] == "asyncio.exceptions.CancelledError"
    assert world.parent_of("send datatransfer") == "DataTransfer"


async def test_a_call_that_cannot_be_sent_is_a_failure(world: World) -> None:
    await world.link.forward("CP1", "ocpp1.6", b" " * (LARGEST + 1), message_id="id-1")
    assert world.span("DataTransfer")["error.type"] == "bridge.ocpp.errors.CallError"
    assert world.spans["DataTransfer"].status.status_code is StatusCode.ERROR
    assert "send datatransfer" not in world.spans


@pytest.mark.parametrize("kind", ["async def", "def"])
async def test_the_other_direction(world: World, kind: str) -> None:
    def answer(_: DataTransferRequest) -> DataTransferResponse:
        with world.provider.get_tracer("shop").start_as_current_span("own"):
            return DataTransferResponse("Accepted")

    async def answer_async(request: DataTransferRequest) -> DataTransferResponse:
        await asyncio.sleep(0)
        return answer(request)

    handler: Any = answer if kind == "def" else answer_async
    await world.link.connect_station("CP1", "ocpp2.0.1", handler)
    await world.client.send_to_station("CP1", DataTransferRequest("v", "m"))
    assert world.parent_of("own") == "process datatransfer.stations"
    assert world.parent_of("process datatransfer.stations") == "send datatransfer.stations"
    told = world.span("process datatransfer.stations")
    assert (told["ocpp.station.id"], told["ocpp.outcome"]) == ("CP1", "accepted")
    await world.link.disconnect_station("CP1")


async def test_a_station_that_is_not_there_is_a_failure(world: World) -> None:
    with pytest.raises(StationOffline):
        await world.client.send_to_station("CP9", DataTransferRequest("v", "m"))
    assert world.span("send datatransfer.stations")["error.type"] == (
        "bridge.client.errors.StationOffline"
    )


async def test_without_a_provider_there_is_no_trace_in_a_message() -> None:
    seen: list[Any] = []
    broker = MemoryBroker()
    broker.declare(worker_topology(Native(), ["v"]))
    own = Router("v")

    @own.default
    async def look(call: Call) -> None:
        seen.append(call.traceparent)

    worker = Worker([own], MemoryTransport(broker))
    running = asyncio.create_task(worker.run())
    async with Client(transport=MemoryTransport(broker)) as client:
        await client.data_transfer("CP1", DataTransferRequest("v", "m"))
    worker.stop()
    await running
    assert seen == [None]


@pytest.mark.parametrize("dialect", [CitrineOs(), WebOcpp()], ids=lambda dialect: dialect.name)
async def test_a_foreign_gateway_is_sent_the_trace_as_well(dialect: Any) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    broker = MemoryBroker()
    broker.declare(worker_topology(dialect, ["v"]))
    transport = MemoryTransport(broker)
    sent: list[Any] = []
    publish = transport.publish

    def keeping(publishing: Any, on_confirm: Any) -> None:
        sent.append(publishing)
        publish(publishing, on_confirm)

    transport.publish = keeping  # type: ignore[method-assign] # to see what is sent
    async with Client(transport=transport, dialect=dialect, tracer_provider=provider) as client:
        with pytest.raises((NoAnswer, StationOffline)):
            await client.send_to_station("CP1", DataTransferRequest("v", "m"), timeout=0.05)
    (span,) = exporter.get_finished_spans()
    headers = sent[0].properties.headers
    assert headers["traceparent"].split("-")[2] == f"{span.context.span_id:016x}"
