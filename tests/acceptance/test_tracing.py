"""Traces of real processes, as an OTLP receiver gets them."""

import asyncio
import json
import threading
import time
import urllib.parse
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.acceptance.command import dtbridge
from tests.integration.raw_station import raw_station
from tests.integration.support import GatewayProcess, WorkerProcess
from tests.otlp_receiver import Received, Receiver

VENDOR = """
import asyncio, logging
from opentelemetry import trace
from bridge import Call, Router

router = Router("com.acme")
tracer = trace.get_tracer("shop")

@router.on("Async")
async def waits(call: Call) -> str:
    await asyncio.sleep(0)
    with tracer.start_as_current_span("own of async"):
        logging.getLogger("shop").warning("at work")
    return "done"

@router.on("Thread")
def thread(call: Call) -> str:
    with tracer.start_as_current_span("own of thread"):
        return "done"

@router.on("Fails")
async def fails(call: Call) -> None:
    raise LookupError("nothing there")
"""

PASSWORD = b"1234567890abcdef"
PROCESS = "process datatransfer.com.acme"
SEND = "send datatransfer"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "vendor.py").write_text(VENDOR)
    return tmp_path


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def asking(receiver: Receiver) -> dict[str, str]:
    """What has a command send its spans there, soon."""
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}


def worker(url: str, folder: Path, environment: dict[str, str]) -> WorkerProcess:
    process = WorkerProcess("vendor:router", url, folder=folder)
    process._environment |= environment
    return process


def ask(url: str, message: str, environment: dict[str, str], *more: str) -> str:
    arguments = ["--station", "CP1", "--vendor", "com.acme", "--message", message]
    done = dtbridge("send", *arguments, *more, "--amqp-url", url, settings=environment)
    return done.stdout + done.stderr


def chain(spans: dict[str, Received], *names: str) -> None:
    """Check that each span is the parent of the next, in one trace."""
    for above, below in pairwise(names):
        assert spans[below].parent_id == spans[above].span_id, (above, below)
        assert spans[below].trace_id == spans[above].trace_id


async def test_a_stations_call_is_one_trace_through_gateway_worker_and_handler(
    amqp_url: str, folder: Path, receiver: Receiver
) -> None:
    environment = asking(receiver)
    gateway = GatewayProcess(amqp_url, station_password=PASSWORD.decode())
    gateway._environment |= environment | {"OTEL_SERVICE_NAME": "gate"}
    async with worker(amqp_url, folder, environment) as running, gateway:
        url = f"{gateway.url}/CP1"
        async with raw_station(url, password=PASSWORD) as station:
            for message in ("Async", "Thread"):
                answer = await station.call(
                    "DataTransfer", {"vendorId": "com.acme", "messageId": message}
                )
                assert answer[2] == {"status": "Accepted", "data": "done"}
                own = f"own of {message.lower()}"
                spans = await asyncio.to_thread(receiver.until, "DataTransfer", SEND, PROCESS, own)
                while spans[PROCESS].attributes["ocpp.message_id"] != message or (
                    spans["DataTransfer"].trace_id != spans[own].trace_id
                    or spans[SEND].trace_id != spans[own].trace_id
                ):
                    await asyncio.sleep(0.05)
                    spans = await asyncio.to_thread(receiver.until, own)
                chain(spans, "DataTransfer", SEND, PROCESS, own)
        line = await asyncio.to_thread(running.until, "at work")
    assert spans["DataTransfer"].parent_id == ""
    assert (spans["DataTransfer"].kind, spans["DataTransfer"].service) == ("SERVER", "gate")
    assert (spans[SEND].kind, spans[SEND].service) == ("PRODUCER", "gate")
    assert (spans[PROCESS].kind, spans[PROCESS].service) == ("CONSUMER", "dtbridge")
    assert spans[PROCESS].links == [spans[SEND].span_id]
    assert receiver.paths == {"/v1/traces"}
    broker = urllib.parse.urlsplit(amqp_url)
    at = {"server.address": broker.hostname, "server.port": broker.port}
    sent = spans[SEND].attributes
    assert at.items() <= sent.items()
    assert sent["messaging.destination.name"] == "datatransfer:com.acme"
    processed = spans[PROCESS].attributes
    assert isinstance(processed.pop("messaging.rabbitmq.message.delivery_tag"), int)
    assert processed == {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "datatransfer:com.acme:datatransfer.com.acme",
        "messaging.destination.template": "datatransfer.com.acme",
        "messaging.rabbitmq.destination.routing_key": "com.acme",
        "messaging.message.id": sent["messaging.message.id"],
        "messaging.message.conversation_id": sent["messaging.message.conversation_id"],
        "messaging.message.body.size": sent["messaging.message.body.size"],
        "ocpp.station.id": "CP1",
        "ocpp.version": "ocpp2.0.1",
        "ocpp.vendor_id": "com.acme",
        "ocpp.message_id": "Thread",
        "ocpp.attempt": 1,
        "ocpp.outcome": "accepted",
        "ocpp.status": "Accepted",
        **at,
    }
    assert (line["station"], line["vendor"], line["message"]) == ("CP1", "com.acme", "Async")
    assert line["trace_id"] in {span.trace_id for span in receiver.spans}


async def test_the_other_direction_and_the_end_of_a_short_command(
    amqp_url: str, receiver: Receiver
) -> None:
    environment = asking(receiver) | {"OTEL_BSP_SCHEDULE_DELAY": "60000"}  # so the end must send
    gateway = GatewayProcess(amqp_url, station_password=PASSWORD.decode())
    gateway._environment |= environment
    arguments = ["--station", "CP1", "--vendor", "v", "--amqp-url", amqp_url]
    async with gateway, raw_station(f"{gateway.url}/CP1", password=PASSWORD) as station:
        asked = asyncio.create_task(
            asyncio.to_thread(dtbridge, "send-to-station", *arguments, settings=environment)
        )
        kind, message_id, *_ = await station.hear()
        assert kind == 2
        await station.say([3, message_id, {"status": "Accepted"}])
        done = await asked
    assert json.loads(done.stdout) == {"status": "Accepted"}
    spans = receiver.until("send datatransfer.stations", "process datatransfer.stations")
    chain(spans, "send datatransfer.stations", "process datatransfer.stations")


def test_a_failure_is_seen_in_its_trace(amqp_url: str, folder: Path, receiver: Receiver) -> None:
    environment = asking(receiver)
    with worker(amqp_url, folder, environment) as running:
        ask(amqp_url, "Fails", environment)
        line = running.until("request dead-lettered")
    spans = receiver.until(PROCESS, SEND)
    chain(spans, SEND, PROCESS)
    assert spans[PROCESS].status == spans[SEND].status == 2
    assert spans[PROCESS].attributes["error.type"] == "LookupError"
    assert spans[PROCESS].events == ["exception"]
    assert spans[SEND].attributes["error.type"] == "InternalError"
    assert line["trace_id"] == spans[PROCESS].trace_id
    assert line["level"] == "error"
    assert 'vendor.py", line' in line["exception"]


@pytest.mark.parametrize("off", ["OTEL_SDK_DISABLED", "nothing is set"])
def test_off_nothing_is_sent_and_nothing_imported(
    amqp_url: str, folder: Path, receiver: Receiver, off: str
) -> None:
    (folder / "vendor.py").write_text(
        "import sys\nfrom bridge import Call, Router\nrouter = Router('com.acme')\n"
        "@router.default\nasync def loaded(call: Call) -> list[str]:\n"
        "    return [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    environment = asking(receiver) | {off: "true"} if off.isupper() else {}
    with worker(amqp_url, folder, environment):
        told = ask(amqp_url, "Any", environment)
    assert json.loads(told) == {"status": "Accepted", "data": []}
    assert receiver.spans == []


def test_a_receiver_that_hangs_holds_up_no_end(amqp_url: str, folder: Path) -> None:
    class Hangs(Receiver):
        def take(self, path: str, body: bytes) -> None:
            let_go.wait(60)

    let_go = threading.Event()
    with Hangs() as hangs:
        try:
            with worker(amqp_url, folder, asking(hangs)) as running:
                ask(amqp_url, "Async", {})
                began = time.monotonic()
            assert time.monotonic() - began < 8.0
            assert running.until("the last traces were not sent")
        finally:
            let_go.set()


def test_without_the_extra_one_line_says_what_to_install(amqp_url: str, folder: Path) -> None:
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "class Blocker:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'opentelemetry':\n"
        "            raise ModuleNotFoundError(f'{name} is not installed', name=name)\n"
        "sys.meta_path.insert(0, Blocker())\n"
    )
    (folder / "vendor.py").write_text(
        "from bridge import Call, Router\nrouter = Router('com.acme')\n"
        "@router.default\nasync def a(call: Call) -> str:\n    return 'done'\n"
    )
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        "PYTHONPATH": str(folder),
    }
    with worker(amqp_url, folder, environment) as running:
        assert "done" in ask(amqp_url, "Any", {})
    (line,) = [each for each in running.log if each.get("event") == "requests are not traced"]
    assert line["level"] == "warning"
    assert "pip install 'datatransfer-bridge[otel]'" in line["hint"]
