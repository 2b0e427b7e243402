"""The span of a request: what it is called, where it belongs, what is active within it."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from bridge import Call, CallError, Retry, Router
from bridge.dialects.native import Native
from bridge.idempotency.guard import Guard, Once
from bridge.idempotency.memory import MemoryStore
from bridge.request.chain import chain
from bridge.request.tracing import Traced
from bridge.routing.router import Routes
from bridge.telemetry.counts import WorkerCounts
from bridge.telemetry.tracing import LONGEST, Tracing
from bridge.transport import Properties
from bridge.worker.dispatch import Dispatcher
from bridge.worker.intake import Intake
from tests.support import UNTIL_SETTLED, Kept, payload

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


class Bench:
    """An intake, a guard and a dispatcher, traced."""

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = provider or TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.router = Router("v", threads=1)
        self.intake = Intake(
            "datatransfer.v",
            dialect=Native(),
            counts=WorkerCounts(),
            prefetch=100,
            concurrency=100,
            lacks=lambda _: False,
            worker="w",
        )
        traced = Traced(
            Tracing(self.provider),
            queue="datatransfer.v",
            target="datatransfer.v",
            address=lambda: ("broker", 5672),
        )
        once = Once(MemoryStore(), on_absorbed=lambda: None, on_store_error=lambda: None)
        chain(self.intake, traced, Guard(once), Dispatcher(Routes([self.router])))

    async def handle(self, message: str, **headers: Any) -> Kept:
        (source,) = await self.handle_all(message, 1, **headers)
        return source

    async def handle_all(self, message: str, count: int, **headers: Any) -> Sequence[Kept]:
        sources = []
        for number in range(count):
            properties = Properties(
                headers={"ocpp-station-id": "CP001", **headers},
                correlation_id="c",
                reply_to="amq.gen-1",
                message_id=f"id-{number}",
            )
            body = payload(message_id=message)
            sources.append(Kept("datatransfer", "v", False, properties, body))
        for source in sources:
            self.intake.on_delivery(source)
        async with asyncio.timeout(UNTIL_SETTLED):
            for source in sources:
                await source.settled.wait()
        return sources

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}

    @property
    def process(self) -> ReadableSpan:
        return self.spans["process datatransfer.v"]


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    tracer = bench.provider.get_tracer("shop")

    @bench.router.on("At once")
    async def at_once(call: Call) -> str:
        with tracer.start_as_current_span("own"):
            return "done"

    @bench.router.on("Waits")
    async def waits(call: Call) -> str:
        await asyncio.sleep(0)
        with tracer.start_as_current_span("own"):
            await asyncio.sleep(0)
        return "done"

    @bench.router.on("Thread")
    def thread(call: Call) -> str:
        with tracer.start_as_current_span("own"):
            return "done"

    @bench.router.on("Fails")
    async def fails(call: Call) -> None:
        raise KeyError("k")

    @bench.router.on("Later")
    async def later(call: Call) -> None:
        raise Retry(1)

    @bench.router.on("Refuses")
    async def refuses(call: Call) -> None:
        raise CallError("SecurityError", "no")

    return bench


async def test_names_and_attributes_are_those_of_the_conventions(bench: Bench) -> None:
    await bench.handle("At once", traceparent=PARENT)
    span = bench.process
    assert span.kind is SpanKind.CONSUMER
    assert dict(span.attributes or {}) == {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "datatransfer:v:datatransfer.v",
        "messaging.destination.template": "datatransfer.v",
        "messaging.rabbitmq.destination.routing_key": "v",
        "messaging.message.id": "id-0",
        "messaging.message.conversation_id": "c",
        "messaging.message.body.size": len(payload(message_id="At once")),
        "server.address": "broker",
        "server.port": 5672,
        "ocpp.station.id": "CP001",
        "ocpp.version": "ocpp2.0.1",
        "ocpp.vendor_id": "v",
        "ocpp.message_id": "At once",
        "ocpp.attempt": 1,
        "ocpp.outcome": "accepted",
        "ocpp.status": "Accepted",
    }
    assert span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("message", ["At once", "Waits", "Thread"])
async def test_the_trace_goes_from_the_sender_to_the_handler_and_back(
    bench: Bench, message: str
) -> None:
    source = await bench.handle(message, traceparent=PARENT, tracestate="v=1")
    span, own = bench.process, bench.spans["own"]
    assert f"{span.context.trace_id:032x}" == TRACE
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
    assert [f"{link.context.span_id:016x}" for link in span.links] == ["b7ad6b7169203331"]
    assert own.parent is not None
    assert own.parent.span_id == span.context.span_id
    assert source.reply is not None
    headers = source.reply.properties.headers or {}
    assert headers["traceparent"] == f"00-{TRACE}-{span.context.span_id:016x}-01"
    assert headers["tracestate"] == "v=1"
    assert not trace.get_current_span().get_span_context().is_valid


async def test_threads_that_were_waited_for_have_their_own_request_s_span(bench: Bench) -> None:
    await bench.handle_all("Thread", 5)
    finished = bench.exporter.get_finished_spans()
    parents = {span.parent.span_id for span in finished if span.name == "own" and span.parent}
    processes = {span.context.span_id for span in finished if span.name != "own"}
    assert len(parents) == 5
    assert parents == processes


@pytest.mark.parametrize(
    "value", ["nonsense", "00-" + "0" * 32 + "-b7ad6b7169203331-01", 7, b"\xff", PARENT + "x" * 999]
)
async def test_a_malformed_traceparent_is_ignored(bench: Bench, value: Any) -> None:
    source = await bench.handle("At once", traceparent=value, tracestate=7)
    assert bench.process.parent is None
    assert bench.process.links == ()
    assert source.reply is not None
    headers = source.reply.properties.headers or {}
    assert headers["traceparent"].split("-")[2] == f"{bench.process.context.span_id:016x}"


async def test_what_the_sender_does_not_sample_is_not_sampled(bench: Bench) -> None:
    source = await bench.handle("At once", traceparent=PARENT[:-1] + "0")
    assert bench.spans == {}
    assert source.reply is not None
    assert source.reply.properties.headers["traceparent"].endswith("-00")  # type: ignore[index] # there are some
    assert source.reply.properties.headers["traceparent"].split("-")[1] == TRACE  # type: ignore[index] # there are some


async def test_a_failure_has_its_type_and_its_exception(bench: Bench) -> None:
    source = await bench.handle("Fails")
    span = bench.process
    assert span.status.status_code is StatusCode.ERROR
    attributes = dict(span.attributes or {})
    assert (attributes["error.type"], attributes["ocpp.outcome"]) == ("KeyError", "failed")
    assert attributes["ocpp.error_code"] == "InternalError"
    (event,) = span.events
    told = dict(event.attributes or {})
    assert (event.name, told["exception.type"], told["exception.message"]) == (
        "exception",
        "KeyError",
        "'k'",
    )
    assert "in fails" in str(told["exception.stacktrace"])
    assert source.copy is not None  # the dead letter belongs to the trace
    assert source.copy.properties.headers["traceparent"].split("-")[1] == (  # type: ignore[index] # there are some
        f"{span.context.trace_id:032x}"
    )


@pytest.mark.parametrize(
    ("message", "outcome", "kind"),
    [("Later", "retried", "bridge.request.outcome.Retry"), ("Refuses", "call_error", None)],
)
async def test_other_outcomes(bench: Bench, message: str, outcome: str, kind: str | None) -> None:
    await bench.handle(message)
    attributes = dict(bench.process.attributes or {})
    assert (attributes["ocpp.outcome"], attributes.get("error.type")) == (outcome, kind)


async def test_what_comes_from_stations_is_bounded_and_can_be_sent(bench: Bench) -> None:
    await bench.handle("At once", **{"ocpp-station-id": "\udcff" + "s" * 254})
    value = str(dict(bench.process.attributes or {})["ocpp.station.id"])
    assert value.startswith("?s")
    assert len(value) <= LONGEST


class Broken(SpanProcessor):
    def on_start(self, span: Any, parent_context: Any = None) -> None:
        raise RuntimeError("the exporter is mad")


async def test_a_fault_behind_the_api_costs_no_request(caplog: pytest.LogCaptureFixture) -> None:
    provider = TracerProvider()
    provider.add_span_processor(Broken())
    bench = Bench(provider)

    @bench.router.on("m")
    async def handle(call: Call) -> str:
        return "done"

    for source in await bench.handle_all("m", 3):
        assert source.reply is not None
        assert b"done" in source.reply.body
    assert len([line for line in caplog.messages if "a span could not be made" in line]) == 1


async def test_a_handler_sees_the_trace_that_it_is_in(bench: Bench) -> None:
    seen: list[str | None] = []

    @bench.router.on("Looks")
    async def looks(call: Call) -> None:
        seen.append(call.traceparent)

    await bench.handle("Looks", traceparent=PARENT)
    assert seen == [f"00-{TRACE}-{bench.process.context.span_id:016x}-01"]
