"""A request is counted when it comes and when it is settled, under its handler's names."""

import time
from typing import Any

import msgspec
import pytest

from bridge import Call, Router
from bridge.request.incoming import Request
from bridge.telemetry import ticks
from bridge.telemetry.measures import Tally
from bridge.telemetry.outcomes import KINDS, Counted
from bridge.transport import Delivery, Properties
from bridge.worker import ledger as module
from bridge.worker.ledger import OTHER, Ledger, tallies
from tests.support import a_request


def a_router() -> Router:
    router = Router("Com.Acme")

    async def handler(call: Call) -> None: ...

    router.on("SetTariff")(handler)
    router.on()(handler)
    router.default(handler)
    return router


def counted(tally: Tally) -> dict[str, int]:
    return {kind: number for kind, number in tally.counts.items() if number}


def test_each_handler_has_a_tally_under_the_names_that_its_router_spells() -> None:
    router, other = a_router(), Router("other vendor")
    found = tallies([router, other])
    assert [tally.labels for tally in found.values()] == [
        ("Com.Acme", "SetTariff"),
        ("Com.Acme", "(no messageId)"),
        ("Com.Acme", "(default)"),
    ]
    assert set(found) == {handler for _, handler in router.handlers()}


def test_a_name_that_has_no_utf_8_can_still_be_scraped() -> None:
    router = Router("v\ud800")
    router.default(lambda call: None)
    (tally,) = tallies([router]).values()
    assert tally.labels == ("v?", "(default)")
    assert Ledger("v\ud800").vendor == "v?"


def test_a_request_without_a_handler_is_counted_as_other() -> None:
    ledger = Ledger("v")
    request = a_request()
    ledger.arrived(request)
    ledger.settled(request, Counted.UNKNOWN_MESSAGE)
    assert ledger.tally.labels == ("v", OTHER)
    assert counted(ledger.tally) == {"unknown_message": 1}
    assert ledger.tally.seconds.count == 0  # nothing ran
    assert ledger.answers.count == 1
    assert (ledger.received, ledger.redelivered) == (1, 0)


def test_a_request_with_a_handler_is_counted_there_and_its_time_too() -> None:
    ledger, tally = Ledger("v"), Tally(("v", "m"), KINDS)
    request = a_request()
    ledger.arrived(request)
    assert request.arrived is not None
    request.tally = tally
    request.begun, request.ended = request.arrived + 2.0, request.arrived + 9.0
    ledger.settled(request, Counted.ACCEPTED)
    assert counted(tally) == {"accepted": 1}
    assert not counted(ledger.tally)
    assert tally.seconds.sum == pytest.approx(7.0)
    assert ledger.answers.sum == pytest.approx(9.0)


def test_the_time_of_a_handler_that_did_not_return_goes_on_until_it_is_settled() -> None:
    ledger, tally = Ledger("v"), Tally(("v", "m"), KINDS)
    request = a_request()
    ledger.arrived(request)
    request.tally, request.begun = tally, ticks.now() - 20.0
    ledger.settled(request, Counted.TIMED_OUT)
    assert 20.0 <= tally.seconds.sum < 30.0


@pytest.mark.parametrize("kind", Counted)
def test_only_what_was_answered_has_a_time_to_its_answer(kind: Counted) -> None:
    ledger = Ledger("v")
    request = a_request()
    ledger.arrived(request)
    ledger.settled(request, kind)
    unanswered = {"EXPIRED", "BROKEN", "FOREIGN", "LATE", "DROPPED", "RETRIED", "PUT_OFF"}
    assert ledger.answers.count == (kind.name not in unanswered)


def timed(
    timestamp: int | None,
    *,
    attempt: int = 1,
    redelivered: bool = False,
    headers: dict[str, Any] | None = None,
) -> Request:
    properties = Properties(timestamp=timestamp, headers=headers)
    delivery = Delivery("", "v", redelivered, properties, b"{}")
    return a_request(source=delivery, attempt=attempt, redelivered=redelivered)


def test_the_time_in_the_queue_is_measured_where_the_message_says_when_it_was_sent() -> None:
    ledger = Ledger("v")
    now = int(time.time())
    ledger.arrived(timed(now - 100))
    assert 100.0 <= ledger.lag.sum < 110.0
    ledger.arrived(timed(now + 1_000))  # its gateway's clock is ahead
    assert ledger.lag.sum < 110.0
    ledger.arrived(timed(now, headers={"ocpp-station-id": "CP"}))
    assert ledger.lag.count == 3
    paused = timed(now, headers={"dtbridge-first-try": 1})
    for request in (timed(None), timed(now, attempt=2), timed(now, redelivered=True), paused):
        ledger.arrived(request)
    assert ledger.lag.count == 3
    assert (ledger.received, ledger.redelivered) == (7, 1)


@pytest.mark.parametrize("timestamp", [0, 2**63 - 1, 2**64 - 1])
def test_any_timestamp_is_taken(timestamp: int) -> None:
    ledger = Ledger("v")
    ledger.arrived(timed(timestamp))
    assert ledger.lag.count == 1


def test_causes_and_reasons_are_counted() -> None:
    ledger = Ledger("v")
    for reason in ("failed", "expired", "failed"):
        ledger.dead_lettered(reason)
    ledger.not_sent("forbidden")
    assert (ledger.dead, ledger.unsent) == ({"failed": 2, "expired": 1}, {"forbidden": 1})


def test_for_the_benchmark_nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert module.wanted()
    monkeypatch.setenv("DTBRIDGE_BENCH_UNCOUNTED", "1")
    assert not module.wanted()
    ledger = Ledger("v", counts=False)
    request = a_request(redelivered=True)
    before = msgspec.structs.asdict(request)
    ledger.arrived(request)
    ledger.settled(request, Counted.ACCEPTED)
    assert msgspec.structs.asdict(request) == before
    assert not counted(ledger.tally)
    assert (ledger.received, ledger.redelivered, ledger.answers.count) == (0, 0, 0)
