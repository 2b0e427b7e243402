"""What lines are told of the request that is handled: read lazily, bounded, and true."""

import asyncio
import contextvars
import json
import logging
import sys
from typing import Any

import pytest
import structlog

from bridge import Call, Router, current_call
from bridge.ocpp import OcppVersion, decode_request
from bridge.request.incoming import Request
from bridge.telemetry import logs
from bridge.telemetry.handled import HANDLED, LONGEST, facts, valid_traceparent
from bridge.telemetry.logs import LogFormat, formatter, get_logger
from bridge.transport import Delivery, Properties
from tests.support import a_request, dispatched, payload

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def traced(body: bytes | None = None, **headers: object) -> Request:
    body = payload() if body is None else body
    properties = Properties(correlation_id="c-1", headers={"traceparent": PARENT} | headers)
    return a_request(body, source=Delivery("", "", False, properties, body))


EXPECTED = {
    "station": "CP001",
    "vendor": "v",
    "message": "m",
    "correlation_id": "c-1",
    "trace_id": "0af7651916cd43dd8448eb211c80319c",
}


@pytest.mark.parametrize(
    "value",
    [
        PARENT,
        PARENT[:-2] + "00",
        "cc" + PARENT[2:] + "-what-the-future-brings",
    ],
)
def test_a_valid_traceparent_is_taken(value: str) -> None:
    assert valid_traceparent(value) == value


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        PARENT.encode(),
        "",
        "ff" + PARENT[2:],
        PARENT.upper(),
        PARENT + "-more",
        PARENT + "\n",
        "cc" + PARENT[2:] + "more",
        "cc" + PARENT[2:] + "-" + "x" * 600,
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        PARENT[:-1],
        "\x1b[2J",
    ],
)
def test_a_malformed_one_is_ignored(value: object) -> None:
    assert valid_traceparent(value) is None


def test_a_call_shows_its_traceparent_and_its_correlation_id() -> None:
    request = traced()
    call = Call(request, decode_request(request.body, request.version))
    assert (call.traceparent, call.correlation_id) == (PARENT, "c-1")
    broken = traced(traceparent="00-nonsense")
    assert Call(broken, decode_request(broken.body, broken.version)).traceparent is None
    assert Call(a_request(), decode_request(payload(), OcppVersion.V2_0_1)).traceparent is None


@pytest.mark.parametrize("waits", [False, True])
async def test_the_facts_are_there_while_an_async_handler_runs_and_not_after(waits: bool) -> None:
    seen = []
    router = Router("v")

    @router.on("m")
    async def handle(call: Call) -> None:
        if waits:
            await asyncio.sleep(0)
        assert current_call() is call
        seen.append(facts())
        seen.append(await asyncio.create_task(in_a_task_of_its_own()))

    async def in_a_task_of_its_own() -> dict[str, str]:
        return facts()

    await dispatched(router, traced())
    assert seen == [EXPECTED, EXPECTED]
    assert facts() == {}
    assert current_call() is None


async def test_so_they_are_in_the_thread_of_a_def_handler_also_if_it_waited_for_one() -> None:
    seen = []
    router = Router("v", threads=1)

    @router.on("m")
    def handle(call: Call) -> None:
        seen.append((call.station_id, facts()))

    await asyncio.gather(*(dispatched(router, traced()) for _ in range(3)))
    assert seen == [("CP001", EXPECTED)] * 3


async def test_what_a_def_handler_returns_to_be_awaited_has_them_too() -> None:
    seen = []
    router = Router("v")

    async def later() -> None:
        seen.append(facts())

    @router.on("m")
    def handle(call: Call) -> Any:
        return later()

    await dispatched(router, traced())
    assert seen == [EXPECTED]


def test_they_are_bounded_and_can_be_written() -> None:
    request = traced(payload("v" * 255))
    request.station_id = "\udcff" + "s" * 1000
    call = Call(request, decode_request(request.body, request.version))
    context = contextvars.copy_context()
    context.run(HANDLED.set, call)
    told = context.run(facts)
    assert told["station"].startswith("?s")
    assert len(told["station"]) == LONGEST
    assert len(told["vendor"]) == 255


@pytest.mark.parametrize("library", ["logging", "structlog", "ours"])
async def test_lines_of_a_handler_carry_them(
    library: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(LogFormat.JSON, sys.stderr))
    logger = logging.getLogger("shop")
    ours = logging.getLogger("bridge.shop")
    for each in (logger, ours):
        monkeypatch.setattr(each, "handlers", [handler])
        monkeypatch.setattr(each, "propagate", False)
        each.setLevel(logging.INFO)
    structured: Any = structlog.wrap_logger(
        logger,
        processors=[*logs._SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    writers: dict[str, Any] = {
        "logging": logger,
        "structlog": structured,
        "ours": get_logger("bridge.shop"),
    }
    router = Router("v")

    @router.on("m")
    def handle(call: Call) -> None:
        writers[library].info("sold a kWh")

    await dispatched(router, traced())
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert line["event"] == "sold a kWh"
    assert EXPECTED.items() <= line.items()
