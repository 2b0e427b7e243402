"""From a request and its outcome to an event: what is told, what is not, and where it goes."""

import asyncio
import json
import re
import time
from typing import Any

import pytest

from bridge import Call, CallError, DataTransferResponse, Rejected, Router, StatusInfo
from bridge.dialects.dialect import Foreign
from bridge.dialects.native import Native
from bridge.idempotency.guard import Guard, Once
from bridge.idempotency.memory import MemoryStore
from bridge.ocpp import OcppVersion
from bridge.request.chain import chain
from bridge.request.counting import of_other, of_reply
from bridge.request.incoming import Request
from bridge.request.outcome import (
    Dropped,
    Failure,
    Kind,
    Late,
    Outcome,
    Reason,
    Reply,
    Retry,
    RetryLater,
    overloaded,
)
from bridge.routing.router import Routes
from bridge.telemetry.counts import WorkerCounts
from bridge.telemetry.events import BODY_AT_MOST, EventMode
from bridge.telemetry.outcomes import Counted
from bridge.transport import Delivery, Properties, Publishing
from bridge.worker.dispatch import Dispatcher
from bridge.worker.events import EventRecorder
from bridge.worker.intake import Intake
from bridge.worker.shared_queue import Part
from tests.support import UNTIL_SETTLED, Kept, a_request, payload

ACCEPTED = Reply(b'{"status":"Accepted","data":1}')


class Outside:
    """Whoever takes events, or does not."""

    def __init__(self) -> None:
        self.publishings: list[Publishing] = []
        self.takes = True

    def emit(self, publishing: Publishing) -> bool:
        if self.takes:
            self.publishings.append(publishing)
        return self.takes

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(publishing.body) for publishing in self.publishings]

    @property
    def keys(self) -> list[str]:
        return [publishing.routing_key for publishing in self.publishings]


@pytest.fixture
def outside() -> Outside:
    return Outside()


class Recorder:
    """Is told an outcome, and how it is counted, as an intake tells it."""

    def __init__(self, made: EventRecorder) -> None:
        self.made = made

    def settled(self, request: Request, outcome: Outcome) -> None:
        if request.absorbed:
            counted: int = Counted.ABSORBED
        else:
            counted = of_reply(outcome) if isinstance(outcome, Reply) else of_other(outcome)
        self.made.settled(request, outcome, counted)


def recorder(
    outside: Outside,
    mode: EventMode = EventMode.ALL,
    *,
    bodies: bool = False,
    vendors: tuple[str, ...] = ("v",),
    counts: WorkerCounts | None = None,
) -> Recorder:
    return Recorder(
        EventRecorder(
            mode,
            bodies=bodies,
            exchange="datatransfer.events",
            vendor_ids=vendors,
            emit=outside.emit,
            counts=WorkerCounts() if counts is None else counts,
            worker="dtbridge@host:1",
        )
    )


# ---- outcomes ----


OUTCOMES: list[tuple[Outcome, str, dict[str, str]]] = [
    (ACCEPTED, "accepted", {"status": "Accepted"}),
    (Reply(b'{"status":"Rejected"}'), "rejected", {"status": "Rejected"}),
    (
        Reply(b'{"status":"Rejected","statusInfo":{"reasonCode":"InvalidData"}}'),
        "rejected",
        {"status": "Rejected", "code": "InvalidData"},
    ),
    (Reply(b'{"status":"UnknownVendorId"}'), "unknown_vendor", {"status": "UnknownVendorId"}),
    (Reply(b'{"status":"UnknownMessageId"}'), "unknown_message", {"status": "UnknownMessageId"}),
    (
        Reply(b'{"errorCode":"SecurityError","errorDescription":"no"}', Kind.CALL_ERROR),
        "call_error",
        {"code": "SecurityError"},
    ),
    (
        Failure(b'{"errorCode":"InternalError"}', Reason.FAILED, "ValueError: secret"),
        "failed",
        {"code": "InternalError", "reason": "failed", "error": "ValueError"},
    ),
    (
        Failure(b'{"errorCode":"InternalError"}', Reason.RETRIES_EXHAUSTED, "Retry: (5, 'x')"),
        "retries_exhausted",
        {"code": "InternalError", "reason": "retries-exhausted", "error": "Retry"},
    ),
    (
        Failure(b'{"errorCode":"InternalError"}', Reason.FAILED, "the answer has 9 bytes: no"),
        "failed",
        {"code": "InternalError", "reason": "failed"},
    ),
    (
        Failure(None, Reason.BROKEN, "CallError: FormatViolation: secret"),
        "broken",
        {"reason": "broken", "error": "CallError"},
    ),
    (
        Failure(b'{"errorCode":"GenericError"}', Reason.TIMED_OUT, "TimeoutError: m.f took"),
        "timed_out",
        {"code": "GenericError", "reason": "timed-out", "error": "TimeoutError"},
    ),
    (RetryLater(5.0, "Retry: (5, 'secret')"), "retried", {"error": "Retry"}),
    (RetryLater(1.0, "another worker is handling it", counts=False), "put_off", {}),
    (Failure(None, Reason.EXPIRED, "its deadline: passed"), "expired", {"reason": "expired"}),
    (Late(), "late", {}),
    (Dropped(), "dropped", {}),
    (
        Failure(b'{"errorCode":"GenericError"}', Reason.OVERLOADED, "secret: 0.1 s were left"),
        "overloaded",
        {"code": "GenericError", "reason": "overloaded"},
    ),
    (Failure(None, Reason.FOREIGN, "secret: no frame"), "foreign", {"reason": "foreign"}),
]


@pytest.mark.parametrize(("outcome", "word", "told"), OUTCOMES, ids=lambda value: str(value)[:30])
def test_each_outcome_has_its_word_and_what_there_is_to_tell(
    outside: Outside, outcome: Outcome, word: str, told: dict[str, str]
) -> None:
    recorder(outside).settled(a_request(), outcome)
    (event,) = outside.events
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event.pop("time"))
    assert event == {
        "outcome": word,
        "station": "CP001",
        "vendor": "v",
        "message": "m",
        "ocpp_version": "ocpp2.0.1",
        "ocpp_message_id": "1",
        "worker": "dtbridge@host:1",
        **told,
    }
    assert outside.keys == [f"v.{word}"]


def test_failures_leave_out_what_was_answered_as_designed(outside: Outside) -> None:
    failures = recorder(outside, EventMode.FAILURES)
    repeated = a_request()
    repeated.absorbed = True
    failures.settled(repeated, Reply(b'{"errorCode":"SecurityError"}', Kind.CALL_ERROR))
    for outcome, _, _ in OUTCOMES:
        failures.settled(a_request(), outcome)
    told = {event["outcome"] for event in outside.events}
    assert told == {word for _, word, _ in OUTCOMES} - {"accepted", "rejected"}


def test_a_repetition_is_absorbed_whatever_its_answer_says(outside: Outside) -> None:
    request = a_request()
    request.absorbed = True
    recorder(outside).settled(request, ACCEPTED)
    (event,) = outside.events
    assert (event["outcome"], event["status"]) == ("absorbed", "Accepted")


def test_the_time_is_that_of_the_outcome_to_the_millisecond(
    outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = recorder(outside)
    for now in (1_800_000_000.0, 1_800_000_000.9999, 1_800_000_001.0075):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        told.settled(a_request(), ACCEPTED)
    assert [event["time"] for event in outside.events] == [
        "2027-01-15T08:00:00.000Z",
        "2027-01-15T08:00:00.999Z",
        "2027-01-15T08:00:01.007Z",
    ]


def test_attempt_and_redelivery_are_told(outside: Outside) -> None:
    recorder(outside).settled(a_request(attempt=3, redelivered=True), ACCEPTED)
    (event,) = outside.events
    assert (event["attempt"], event["redelivered"]) == (3, True)


# ---- durations ----


def test_waiting_handling_and_answering_are_told_apart(outside: Outside) -> None:
    request = a_request()
    now = time.monotonic()
    request.arrived, request.begun = now - 3.0, now - 2.0
    recorder(outside).settled(request, ACCEPTED)
    (event,) = outside.events
    assert event["waiting_s"] == pytest.approx(1.0)
    assert 2.0 <= event["handler_s"] < 12.0
    assert event["answer_s"] == pytest.approx(event["waiting_s"] + event["handler_s"], abs=1e-5)


def test_what_was_begun_at_once_has_not_waited(outside: Outside) -> None:
    request = a_request()
    request.arrived = request.begun = time.monotonic() - 2.0
    recorder(outside).settled(request, ACCEPTED)
    (event,) = outside.events
    assert event["waiting_s"] == 0
    assert event["handler_s"] == event["answer_s"] >= 2.0


@pytest.mark.parametrize(
    "outcome", [overloaded(a_request(), "no time"), Dropped(), Failure(None, Reason.EXPIRED)]
)
def test_what_was_not_begun_has_no_handlers_time(outside: Outside, outcome: Outcome) -> None:
    request = a_request()
    request.arrived = time.monotonic() - 2.0
    recorder(outside).settled(request, outcome)
    (event,) = outside.events
    assert "handler_s" not in event
    assert event["waiting_s"] == event["answer_s"] >= 2.0


# ---- what stations write ----


@pytest.mark.parametrize(
    ("vendor", "key"),
    [
        ("com.acme", "com.acme.accepted"),
        ("COM.Acme", "com.acme.accepted"),
        ("EN+", "en_2b.accepted"),
        ("other", "_6fther.accepted"),
        ("elsewhere", "other.accepted"),
        ("#.*", "other.accepted"),
    ],
)
def test_the_key_is_the_vendors_own_or_that_of_all_others(
    outside: Outside, vendor: str, key: str
) -> None:
    told = recorder(outside, vendors=("com.acme", "EN+", "Other"))
    for _ in range(2):
        told.settled(a_request(payload(vendor)), ACCEPTED)
    assert outside.keys == [key] * 2
    assert [event["vendor"] for event in outside.events] == [vendor] * 2
    first, second = outside.publishings
    assert first.routing_key is second.routing_key  # so that its frame is the last one again


def test_spellings_of_vendors_are_not_remembered_without_bound(outside: Outside) -> None:
    told = recorder(outside, vendors=("a" * 13,))
    for number in range(2**13):
        spelled = "".join("aA"[number >> bit & 1] for bit in range(13))
        told.settled(a_request(payload(spelled)), ACCEPTED)
    assert set(outside.keys) == {f"{'a' * 13}.accepted"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b'{"vendorId":1}',
        payload("x" * 256),
        payload(message_id="x" * 51),
        b'{"vendorId":' + b"[" * 100_000,
    ],
    ids=range(8),
)
def test_what_cannot_be_read_is_told_without_vendor(outside: Outside, body: bytes) -> None:
    recorder(outside).settled(a_request(body), Failure(None, Reason.BROKEN, "CallError: no"))
    (event,) = outside.events
    assert (event.get("vendor"), event.get("message")) == (None, None)
    assert outside.keys == ["other.broken"]


def test_nothing_that_others_write_makes_an_event_long_or_unwritable(outside: Outside) -> None:
    surrogates = "\udcff" * 255
    request = a_request(payload("v" * 255, "m" * 50), ocpp_message_id="i\udc80" * 5_000)
    request.station_id = surrogates
    huge = Reply(b'{"errorCode":"%s"}' % (b"C" * 10_000), Kind.CALL_ERROR)
    counts = WorkerCounts()
    recorder(outside, counts=counts).settled(request, huge)
    error = Failure(None, Reason.FAILED, f"{'E' * 10_000}: text")
    recorder(outside, counts=counts).settled(request, error)
    first, second = outside.events
    assert first["station"] == "?" * 255
    assert first["ocpp_message_id"] == "i?" * 18
    assert first["code"] == "C" * 50
    assert "error" not in second
    assert all(len(publishing.body) < 1_500 for publishing in outside.publishings)
    assert counts.events_dropped == 0


def test_no_control_character_leaves_as_it_is(outside: Outside) -> None:
    recorder(outside).settled(a_request(payload("\x1b[2J\n", "\x00\x07")), ACCEPTED)
    assert not [byte for byte in outside.publishings[0].body if byte < 32]


# ---- bodies ----


def test_bodies_stay_here_unless_they_are_asked_for(outside: Outside) -> None:
    recorder(outside).settled(a_request(payload(data="secret")), Reply(b'{"status":"Accepted"}'))
    assert b"secret" not in outside.publishings[0].body


def test_bodies_are_text_byte_by_byte(outside: Outside) -> None:
    body = '{ "vendorId":"v", "data":"\u00e9\\u0000" }'.encode()
    recorder(outside, bodies=True).settled(a_request(body), ACCEPTED)
    (event,) = outside.events
    assert event["request"].encode() == body
    assert event["answer"].encode() == ACCEPTED.body


def test_bodies_that_are_not_text_are_told_in_base64(outside: Outside) -> None:
    recorder(outside, bodies=True).settled(a_request(b"\xff\xfe"), Reply(b'{"data":"\xff"}'))
    (event,) = outside.events
    assert (event["request_base64"], event["answer_base64"]) == ("//4=", "eyJkYXRhIjoi/yJ9")


@pytest.mark.parametrize(("size", "told"), [(BODY_AT_MOST, True), (BODY_AT_MOST + 1, False)])
def test_of_a_body_that_is_too_large_only_the_size_is_told(
    outside: Outside, size: int, told: bool
) -> None:
    body = payload(data="x" * (size - len(payload(data=""))))
    recorder(outside, bodies=True).settled(a_request(body), Reply(body))
    (event,) = outside.events
    assert ("request" in event, "answer" in event) == (told, told)
    sizes = event.get("request_size"), event.get("answer_size")
    assert sizes == ((None, None) if told else (size, size))


def test_what_has_no_answer_has_no_answers_body(outside: Outside) -> None:
    recorder(outside, bodies=True).settled(a_request(), Late())
    assert "answer" not in outside.events[0]


# ---- publishing ----


def test_an_event_is_transient_and_named_by_the_message_it_is_about(outside: Outside) -> None:
    recorder(outside).settled(a_request(ocpp_message_id="4711"), ACCEPTED)
    (publishing,) = outside.publishings
    assert (publishing.exchange, publishing.mandatory) == ("datatransfer.events", False)
    assert publishing.correlation_id == "4711"
    assert publishing.properties == Properties(
        content_type="application/json", delivery_mode=1, type="DataTransferEvent"
    )


def test_what_is_not_taken_is_counted(outside: Outside) -> None:
    counts = WorkerCounts()
    outside.takes = False
    told = recorder(outside, counts=counts)
    for _ in range(3):
        told.settled(a_request(), ACCEPTED)
    assert counts == WorkerCounts(events_dropped=3)


def test_a_fault_of_ours_costs_the_event_alone(
    outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = WorkerCounts()

    def breaks(_: Publishing) -> bool:
        raise RuntimeError("no")

    monkeypatch.setattr(outside, "emit", breaks)
    recorder(outside, counts=counts).settled(a_request(), ACCEPTED)
    assert counts == WorkerCounts(events_dropped=1)


# ---- on the way of a request ----


class Bench:
    """An intake with a guard, and handlers."""

    def __init__(self, outside: Outside, *, concurrency: int = 10) -> None:
        self.router = Router("v")
        self.counts = WorkerCounts()
        self.once = Once(MemoryStore(), on_absorbed=lambda: None, on_store_error=lambda: None)
        self.intake = Intake(
            "datatransfer.v",
            dialect=Native(),
            counts=self.counts,
            prefetch=100,
            concurrency=concurrency,
            lacks=lambda _: False,
            worker="dtbridge@host:1",
            told=recorder(outside, counts=self.counts).made.settled,
        )
        chain(self.intake, Guard(self.once), Dispatcher(Routes([self.router])))

    async def handle(self, message: str, ocpp_message_id: str = "1", **headers: Any) -> Kept:
        source = self.deliver(message, ocpp_message_id, **headers)
        async with asyncio.timeout(UNTIL_SETTLED):
            await source.settled.wait()
        return source

    def deliver(self, message: str, ocpp_message_id: str = "1", **headers: Any) -> Kept:
        properties = Properties(
            headers={"ocpp-station-id": "CP001", "ocpp-connection-id": "c"} | headers,
            correlation_id="c",
            reply_to="amq.gen-1",
            message_id=ocpp_message_id,
        )
        source = Kept("datatransfer", "v", False, properties, payload(message_id=message))
        self.intake.on_delivery(source)
        return source


async def test_every_request_that_is_settled_is_told_once(outside: Outside) -> None:
    bench = Bench(outside)

    @bench.router.on("Answer")
    async def answer(call: Call) -> str:
        return "done"

    @bench.router.on("Reject")
    async def reject(call: Call) -> DataTransferResponse:
        return DataTransferResponse("Rejected", status_info=StatusInfo("Busy"))

    @bench.router.on("Raise")
    async def raises(call: Call) -> None:
        raise Rejected("No")

    @bench.router.on("Refuse")
    async def refuse(call: Call) -> None:
        raise CallError("SecurityError", "secret")

    @bench.router.on("Break")
    def break_(call: Call) -> None:
        raise ValueError("secret")

    @bench.router.on("Later")
    async def later(call: Call) -> None:
        raise Retry(5, "secret")

    messages = ["Answer", "Answer", "Reject", "Raise", "Refuse", "Break", "Later", "Nobody"]
    for number, message in enumerate(messages):
        await bench.handle(message, str(max(1, number)))
    await bench.handle("Answer", "9", **{"ocpp-deadline": 1_000_000_000_000})
    assert [(event["outcome"], event.get("code")) for event in outside.events] == [
        ("accepted", None),
        ("absorbed", None),
        ("rejected", "Busy"),
        ("rejected", "No"),
        ("call_error", "SecurityError"),
        ("failed", "InternalError"),
        ("retried", None),
        ("unknown_message", None),
        ("expired", None),
    ]
    assert all("answer_s" in event for event in outside.events)
    assert b"secret" not in b"".join(publishing.body for publishing in outside.publishings)


async def test_who_waits_for_another_delivery_of_its_request_is_absorbed(outside: Outside) -> None:
    bench = Bench(outside)
    go = asyncio.Event()

    @bench.router.on("Wait")
    async def wait(call: Call) -> None:
        await go.wait()

    first, second = bench.deliver("Wait"), bench.deliver("Wait")
    go.set()
    async with asyncio.timeout(UNTIL_SETTLED):
        await first.settled.wait()
        await second.settled.wait()
    assert [event["outcome"] for event in outside.events] == ["accepted", "absorbed"]


async def test_what_waits_for_a_handler_says_how_long(outside: Outside) -> None:
    bench = Bench(outside, concurrency=1)
    go = asyncio.Event()

    @bench.router.on("Wait")
    async def wait(call: Call) -> None:
        await go.wait()

    first, second = bench.deliver("Wait", "1"), bench.deliver("Wait", "2")
    await asyncio.sleep(0.05)  # what is measured is a time
    go.set()
    async with asyncio.timeout(UNTIL_SETTLED):
        await first.settled.wait()
        await second.settled.wait()
    begun, waited = outside.events
    assert begun["waiting_s"] < 0.05 <= begun["handler_s"]
    assert waited["waiting_s"] >= 0.05 > waited["handler_s"]


async def test_an_answer_that_the_broker_never_takes_is_told_as_a_failure(outside: Outside) -> None:
    bench = Bench(outside)

    @bench.router.default
    async def answer(call: Call) -> str:
        return "done"

    source = await bench.handle("Answer")
    again = Kept("datatransfer", "v", False, source.properties, source.body)
    bench.intake.on_impossible(again, "it is too large")
    assert [event["outcome"] for event in outside.events] == ["accepted", "failed"]


async def test_a_message_that_is_no_request_is_told_as_foreign(outside: Outside) -> None:
    part = Part(
        "shared",
        dialect=Native(),
        counts=WorkerCounts(),
        prefetch=10,
        concurrency=10,
        lacks=lambda _: False,
        worker="dtbridge@host:1",
        told=recorder(outside).made.settled,
    )
    source = Kept("amq.topic", "ocpp16.x", False, Properties(), b"no frame")
    part.refuse(a_request(b"no frame", source=source), Foreign("secret: it is no frame"))
    (event,) = outside.events
    assert (event["outcome"], event["reason"]) == ("foreign", "foreign")
    assert outside.keys == ["other.foreign"]


def test_a_request_of_any_version_is_told_with_it(outside: Outside) -> None:
    for version in OcppVersion:
        recorder(outside).settled(a_request(version=version), ACCEPTED)
    assert [event["ocpp_version"] for event in outside.events] == [*OcppVersion]


def test_a_request_that_is_hard_to_read_is_told_as_any_other(outside: Outside) -> None:
    request = Request(
        body=b"",
        station_id="",
        version=OcppVersion.V1_6,
        ocpp_message_id=None,
        deadline=None,
        attempt=1,
        redelivered=False,
        reply_wanted=False,
        source=Delivery("", "", False, Properties(), b""),
    )
    recorder(outside).settled(request, Dropped())
    assert set(outside.events[0]) == {"time", "outcome", "ocpp_version", "worker"}
