"""Sentry's SDK, with a transport of the test, gets the failures of handlers, and finds them."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from bridge import Call
from bridge.telemetry import trackers
from bridge.telemetry.trackers import tell_sentry
from bridge.transport import Verdict
from tests.unit.worker.test_intake import Bench, delivery


class Kept(Transport):
    """Keeps events instead of sending them."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        event = envelope.get_event()
        if event is not None:
            self.events.append(dict(event))


@pytest.fixture
def sentry() -> Iterator[Kept]:
    kept = Kept()
    sentry_sdk.init(transport=kept, default_integrations=True, auto_enabling_integrations=False)
    yield kept
    sentry_sdk.init()


async def handled(router_on: Any, bench: Bench) -> None:
    bench.on("m", router_on)
    source = delivery()
    bench.intake.on_delivery(source)
    await bench.settled(source)
    assert source.verdict is Verdict.ACK


async def fails(call: Call) -> None:
    secret = "a local variable"  # noqa: F841 - the tracker shows it
    raise ZeroDivisionError("in a coroutine")


def fails_in_a_thread(call: Call) -> None:
    raise ZeroDivisionError("in a thread")


@pytest.mark.parametrize("function", [fails, fails_in_a_thread])
async def test_an_exception_of_a_handler_is_an_event_with_tags(sentry: Kept, function: Any) -> None:
    await handled(function, Bench())
    (event,) = sentry.events
    (exception,) = event["exception"]["values"]
    assert exception["type"] == "ZeroDivisionError"
    assert exception["stacktrace"]["frames"][0]["function"] == function.__name__
    tags = {key: event["tags"][key] for key in ("station", "vendor", "message")}
    assert tags == {"station": "CP001", "vendor": "v", "message": "m"}
    assert event["extra"]["bridge"]["handler"].endswith(f".{function.__name__}")
    assert event["level"] == "error"


async def reports(call: Call) -> None:
    sentry_sdk.capture_message("by itself")


def logs(call: Call) -> None:
    logging.getLogger("shop").error("by itself")


@pytest.mark.parametrize("function", [reports, logs])
async def test_what_a_handler_reports_by_itself_has_the_tags_too(
    sentry: Kept, function: Any
) -> None:
    tell_sentry()
    await handled(function, Bench())
    (event,) = sentry.events
    assert event["tags"]["vendor"] == "v"
    assert event["tags"]["correlation_id"] == "c"


async def test_nothing_is_tagged_where_nothing_is_handled(sentry: Kept) -> None:
    tell_sentry()
    sentry_sdk.capture_message("elsewhere")
    (event,) = sentry.events
    assert "vendor" not in event.get("tags", {})


def test_the_sdk_is_told_once() -> None:
    tell_sentry()
    tell_sentry()
    assert len(trackers._told) == 1
