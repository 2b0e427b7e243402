"""What the log says of failures: once, with all that it takes to mend them, and within bounds."""

import asyncio
import dataclasses
import gc
import json
import logging
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from bridge import Call, Retry, RetryPolicy
from bridge.request.failures import Failures
from bridge.request.outcome import Failure, Reason
from bridge.telemetry.logs import get_logger
from bridge.telemetry.storms import FULL, SHORT
from tests.support import a_request
from tests.unit.worker.test_intake import Bench, delivery

SECRET = "the password is 1234"


def connect() -> None:
    raise ConnectionRefusedError("no route")


async def fails(call: Call) -> None:
    raise ValueError(SECRET)


async def fails_later(call: Call) -> None:
    await asyncio.sleep(0)
    raise ValueError(SECRET)


def fails_in_a_thread(call: Call) -> None:
    raise ValueError(SECRET)


def returns_what_fails(call: Call) -> Any:
    return fails(call)


async def answers_nonsense(call: Call) -> object:
    return object()


async def retries(call: Call) -> None:
    try:
        connect()
    except ConnectionError as error:
        raise Retry(0.25, "the database is down") from error


async def handled(function: Callable[..., Any], times: int = 1) -> tuple[Bench, list[Any]]:
    bench = Bench()
    bench.on("m", function)
    sources = [
        delivery(traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01") for _ in range(times)
    ]
    for source in sources:
        bench.intake.on_delivery(source)
    await bench.settled(*sources)
    return bench, sources


def told_by(record: logging.LogRecord) -> dict[str, Any]:
    """The parts of a record of the bridge."""
    parts: dict[str, Any] = record.__dict__["bridge"]
    return parts


def records(caplog: pytest.LogCaptureFixture, event: str) -> list[logging.LogRecord]:
    return [each for each in caplog.records if getattr(each, "bridge", {}).get("event") == event]


FAILING = [fails, fails_later, fails_in_a_thread]


@pytest.mark.parametrize("function", FAILING)
async def test_an_exception_is_one_record_with_all_that_it_takes(
    function: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    await handled(function)
    (record,) = records(caplog, "request dead-lettered")
    assert record.levelname == "ERROR"
    told = told_by(record)
    line = function.__code__.co_firstlineno
    raised = line + (2 if function is fails_later else 1)
    assert told == {
        "event": "request dead-lettered",
        "reason": "failed",
        "error": f"ValueError: {SECRET}",
        "at": f"{__file__}:{raised} in {function.__name__}",
        "handler": f"{__name__}.{function.__name__}",
        "defined_at": f"{__file__}:{line}",
        "station": "CP001",
        "vendor": "v",
        "message": "m",
        "correlation_id": "c",
        "trace_id": "a" * 32,
        "ocpp_message_id": "",
        "attempt": 1,
        "queue": "datatransfer.v",
    }
    assert record.exc_info is not None
    frames = record.exc_info[2]
    assert frames is not None
    assert frames.tb_frame.f_code is function.__code__
    assert record.exc_info[1].args == (SECRET,)  # type: ignore[union-attr] # there is one


async def test_an_exception_that_cannot_be_changed_is_told_like_any_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @dataclasses.dataclass(frozen=True)
    class FrozenError(Exception):
        code: int

    async def fails_for_good(call: Call) -> None:
        await asyncio.sleep(0)
        raise FrozenError(7)

    await handled(fails_for_good)
    (record,) = records(caplog, "request dead-lettered")
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], FrozenError)


async def test_an_answer_that_cannot_be_sent_has_its_record_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await handled(answers_nonsense)
    (record,) = records(caplog, "request dead-lettered")
    assert told_by(record)["handler"] == f"{__name__}.answers_nonsense"
    assert record.exc_info is not None


@pytest.mark.parametrize("function", [*FAILING, returns_what_fails, retries])
async def test_the_station_is_told_no_word_of_it(function: Callable[..., Any]) -> None:
    _, (source,) = await handled(function)
    if source.reply is None:
        assert function is retries
        return
    sent = f"{source.reply.body!r} {source.reply.properties!r}"
    assert "1234" not in sent
    assert "ValueError" not in sent
    assert json.loads(source.reply.body)["errorDetails"] == {}


class Held:
    """What a handler works with."""


@pytest.mark.parametrize("function", FAILING)
async def test_nothing_holds_the_frames_of_a_handler_afterwards(
    function: Callable[..., Any],
) -> None:
    seen: list[weakref.ref[Held]] = []

    def note() -> Held:
        held = Held()
        seen.append(weakref.ref(held))
        return held

    async def fails(call: Call) -> None:
        held = note()
        raise ValueError(held)

    async def fails_later(call: Call) -> None:
        held = note()
        await asyncio.sleep(0)
        raise ValueError(held)

    def fails_in_a_thread(call: Call) -> None:
        held = note()
        raise ValueError(held)

    alike = {each.__name__: each for each in (fails, fails_later, fails_in_a_thread)}
    logger = logging.getLogger("bridge.worker")
    logger.setLevel(logging.CRITICAL)  # pytest keeps records, and they the exceptions
    gc.collect()
    gc.disable()
    try:
        await handled(alike[function.__name__])
        for _ in range(3):
            await asyncio.sleep(0)
        assert [ref() for ref in seen] == [None]
    finally:
        gc.enable()
        logger.setLevel(logging.NOTSET)


async def test_a_retry_is_told_with_its_reason_its_cause_and_its_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    await handled(retries)
    (record,) = records(caplog, "request will be tried again")
    assert (record.levelname, record.exc_info) == ("INFO", None)
    told = told_by(record)
    assert told["reason"] == (
        "Retry: (0.25, 'the database is down'), because of ConnectionRefusedError: no route"
    )
    assert told["after_s"] == 0.25
    assert told["next_try"].endswith("+00:00")
    assert told["handler"] == f"{__name__}.retries"


async def test_at_debug_it_has_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    await handled(retries)
    (record,) = records(caplog, "request will be tried again")
    assert record.exc_text or record.exc_info
    assert "in connect" in caplog.text


async def test_when_no_try_is_left_the_cause_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.router.on("m", retry=RetryPolicy(attempts=1))(retries)
    source = delivery()
    bench.intake.on_delivery(source)
    await bench.settled(source)
    (record,) = records(caplog, "request dead-lettered")
    assert told_by(record)["reason"] == "retries-exhausted"
    assert "in connect" in caplog.text
    assert "direct cause" in caplog.text
    assert source.copy is not None
    headers = source.copy.properties.headers or {}
    assert "ConnectionRefusedError: no route" in headers["dtbridge-error"]
    assert f"({__file__}:" in headers["dtbridge-error"]


async def test_a_storm_is_bounded_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    bench, _ = await handled(fails, SHORT + 30)
    found = records(caplog, "request dead-lettered")
    assert len(found) == SHORT
    assert sum(record.exc_info is not None for record in found) == FULL
    assert told_by(found[-1])["in_this_minute"] == SHORT
    assert f"{__file__}:" in told_by(found[-1])["at"]
    assert "in the first 5 records of this cause" in told_by(found[-1])["traceback"]
    assert "traceback" not in told_by(found[0])
    bench.intake.void()
    (left_out,) = records(caplog, "records left out")
    told = told_by(left_out)
    assert told["count"] == 30
    assert f"{__name__}.fails ValueError" in told["like"]


async def test_what_no_exception_caused_is_a_warning_and_bounded_as_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures = Failures(get_logger("bridge.worker"), queue="q")
    for _ in range(2 * SHORT):
        failures.failed(a_request(), Failure(None, Reason.BROKEN, "no JSON"))
    failures.close()
    found = records(caplog, "request dead-lettered")
    assert len(found) == SHORT
    assert {record.levelname for record in found} == {"WARNING"}
    assert "handler" not in told_by(found[0])
