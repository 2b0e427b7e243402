"""A line for each request, whatever became of it, and no payload unless its vendor is named."""

import asyncio
import logging
import re
from typing import Any

import pytest

from bridge import Call, Retry, Router, Settings, Worker
from bridge.client.client import Client
from bridge.dialects.native import Native
from bridge.dialects.topology import worker_topology
from bridge.ocpp import CallError, DataTransferRequest
from bridge.request.outcome import overloaded
from bridge.testing import MemoryBroker
from bridge.testing.memory_transport import MemoryTransport
from bridge.worker.access_log import LONGEST
from tests.support import Kept, a_request

router = Router("v")
other = Router("other")


@router.on("Value")
async def value(call: Call) -> str:
    await asyncio.sleep(0.01)
    return "done"


@router.on("Fails")
def fails(call: Call) -> None:
    raise ValueError("no")


@router.on("Later")
async def later(call: Call) -> str:
    if call.attempt == 1:
        raise Retry(0.1)
    return "at last"


@other.default
async def echo(call: Call, data: Any) -> Any:
    return data


async def lines_of(
    caplog: pytest.LogCaptureFixture, *asked: tuple[str, str, Any], **settings: Any
) -> list[dict[str, Any]]:
    """The lines that these requests leave."""
    caplog.set_level(logging.INFO)
    broker = MemoryBroker()
    broker.declare(worker_topology(Native(), ["v", "other"]))
    worker = Worker(
        [router, other],
        MemoryTransport(broker),
        settings=Settings(drain_timeout=5.0, **settings),
    )
    running = asyncio.create_task(worker.run())
    async with Client(transport=MemoryTransport(broker)) as client:
        for vendor, message, data in asked:
            try:
                await client.data_transfer("CP1", DataTransferRequest(vendor, message, data))
            except CallError:
                continue
    worker.stop()
    await running
    return [
        record.__dict__["bridge"] for record in caplog.records if record.name == "bridge.access"
    ]


async def test_a_line_says_what_became_of_a_request_and_when(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answered, failed, again, at_last, unknown = await lines_of(
        caplog,
        ("v", "Value", None),
        ("v", "Fails", None),
        ("v", "Later", None),
        ("nobody", "m", None),
        access_log=True,
    )
    assert answered["event"] == "request"
    assert answered["answer_ms"] >= answered["handler_ms"] >= 9.0
    assert answered["answer_ms"] == pytest.approx(
        answered["waited_ms"] + answered["handler_ms"], abs=0.01
    )
    assert (answered["station"], answered["vendor"], answered["message"]) == ("CP1", "v", "Value")
    assert (answered["outcome"], answered["status"], answered["attempt"]) == (
        "accepted",
        "Accepted",
        1,
    )
    assert (failed["outcome"], failed["error_code"]) == ("failed", "InternalError")
    assert (again["outcome"], again["attempt"]) == ("retried", 1)
    assert (at_last["outcome"], at_last["attempt"]) == ("accepted", 2)
    assert (unknown["status"], unknown["vendor"]) == ("UnknownVendorId", "nobody")
    assert not {"payload", "answer"} & {key for line in (answered, failed) for key in line}


async def test_payloads_are_those_of_the_vendors_that_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    (line,) = await lines_of(
        caplog,
        ("v", "Value", "hidden"),
        ("other", "m", "\x1b[2J" + "x" * 3 * LONGEST),
        log_payloads=["OTHER"],
    )
    assert line["vendor"] == "other"
    assert re.search(r"… and [\d,]+ bytes more$", line["payload"])
    assert len(line["payload"]) < LONGEST + 100
    assert line["answer"].startswith('{"status":"Accepted"')
    assert "hidden" not in caplog.text


async def test_off_there_are_no_lines_and_nothing_in_the_way(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert await lines_of(caplog, ("v", "Value", None)) == []
    worker = Worker([router], MemoryTransport(MemoryBroker()))
    assert {intake._told for intake in worker.intakes} == {None}


async def test_a_request_that_is_not_begun_has_its_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    worker = Worker([router], MemoryTransport(MemoryBroker()), settings=Settings(access_log=True))
    intake = worker.intakes[0]
    request = a_request()
    request.source = Kept("datatransfer", "v", False, request.source.properties, request.body)
    intake._running += 1
    intake.settled(request, overloaded(request, "no time"))
    (line,) = [each.__dict__["bridge"] for each in caplog.records if each.name == "bridge.access"]
    assert line["outcome"] == "overloaded"
    assert "handler_ms" not in line
