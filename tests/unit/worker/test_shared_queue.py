"""A queue that all vendors share: who gets what of it, and what is no request."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from bridge import Call, Router
from bridge.dialects import WebOcpp
from bridge.request.chain import chain
from bridge.routing.router import Routes, fold
from bridge.telemetry.counts import WorkerCounts
from bridge.transport import Properties, Verdict
from bridge.worker.dispatch import Dispatcher
from bridge.worker.room import LARGE
from bridge.worker.shared_queue import QUIET, Part, Sorter
from tests.support import UNTIL_SETTLED, Kept, payload


def delivery(
    vendor_id: str = "v", number: int = 1, *, body: bytes | None = None, **headers: Any
) -> Kept:
    properties = Properties(
        headers={name.replace("_", "-"): value for name, value in headers.items()} or None,
        correlation_id=str(number),
        reply_to="CP1",
        type="DataTransfer",
    )
    frame = (
        b'[2,"%d","DataTransfer",%b]' % (number, payload(vendor_id, "m")) if body is None else body
    )
    return Kept("amq.topic", "ocpp16.DataTransfer.req", False, properties, frame)


class Bench:
    """A sorter over the parts of some vendors, each with its share."""

    def __init__(
        self, *vendor_ids: str, share: int = 4, concurrency: int = 2, lacks: tuple[str, ...] = ()
    ) -> None:
        self.counts = WorkerCounts()
        self.dialect = WebOcpp()
        self.routers = {vendor_id: Router(vendor_id) for vendor_id in vendor_ids}
        routes = Routes(self.routers.values())
        self.dispatchers: list[Dispatcher] = []

        def part(name: str) -> Part:
            part = Part(
                name,
                dialect=self.dialect,
                counts=self.counts,
                prefetch=share,
                concurrency=concurrency,
                lacks=lacks.__contains__,
                worker="dtbridge@host:1",
            )
            self.dispatchers.append(Dispatcher(routes))
            chain(part, self.dispatchers[-1])
            return part

        self.parts = {fold(vendor_id): part(vendor_id) for vendor_id in vendor_ids}
        self.rest = part("rest")
        self.sorter = Sorter(self.dialect, self.parts, self.rest, self.counts)

    def on(self, vendor_id: str, function: Callable[..., Any]) -> None:
        self.routers[vendor_id].default(function)

    def close(self) -> None:
        for dispatcher in self.dispatchers:
            dispatcher.close()

    async def settled(self, *deliveries: Kept) -> None:
        async with asyncio.timeout(UNTIL_SETTLED):
            for one in deliveries:
                await one.settled.wait()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(UNTIL_SETTLED):
        while not condition():
            await asyncio.sleep(0)


async def accepts(call: Call) -> None: ...


async def hangs(call: Call) -> None:
    await asyncio.Event().wait()


def answer(source: Kept) -> Any:
    assert source.reply is not None
    return json.loads(source.reply.body)


# ---- sorting ----


async def test_a_request_goes_to_its_vendors_part_whatever_the_case_of_its_letters() -> None:
    bench = Bench("com.Acme", "EN+")
    bench.on("com.Acme", accepts)
    bench.on("EN+", hangs)
    accepted, hanging = delivery("COM.ACME"), delivery("en+")
    bench.sorter.on_delivery(hanging)
    bench.sorter.on_delivery(accepted)
    await bench.settled(accepted)
    assert answer(accepted) == [3, "1", {"status": "Accepted"}]
    assert (bench.parts["com.acme"].running, bench.parts["en+"].running) == (0, 1)
    bench.close()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'[2,"1","DataTransfer",{"vendorId":"nobody"}]', [3, "1", {"status": "UnknownVendorId"}]),
        (
            b'[2,"1","DataTransfer",{"messageId":"m"}]',
            [4, "1", "OccurenceConstraintViolation", "vendorId: required field is missing", {}],
        ),
        (
            b'[2,"1","DataTransfer",{"vendorId":7}]',
            [4, "1", "TypeConstraintViolation", "vendorId: expected a string, got an integer", {}],
        ),
        (
            b'[2,"1","DataTransfer",[]]',
            [4, "1", "TypeConstraintViolation", "payload: expected an object, got an array", {}],
        ),
    ],
)
async def test_what_no_vendor_of_ours_is_named_in_is_answered_too(
    body: bytes, expected: Any
) -> None:
    bench = Bench("v")
    source = delivery(body=body)
    bench.sorter.on_delivery(source)
    await bench.settled(source)
    assert (source.verdict, answer(source)) == (Verdict.ACK, expected)
    assert bench.counts == WorkerCounts(received=1, replied=1)


# ---- shares ----


async def test_a_vendor_that_hangs_holds_its_share_and_the_others_come_through() -> None:
    bench = Bench("slow", "quick", share=4, concurrency=2)
    bench.on("slow", hangs)
    bench.on("quick", accepts)
    slow = [delivery("slow", number) for number in range(20)]
    for source in slow:
        bench.sorter.on_delivery(source)
    part = bench.parts["slow"]
    assert (part.running, part.waiting) == (2, 2)
    assert [source.verdict for source in slow[:4]] == [None] * 4
    for source in slow[4:]:
        assert (source.verdict, source.reply) == (Verdict.ACK, None)
        assert source.copy is not None
        assert source.copy.exchange == "datatransfer-web-ocpp.retry.250"
        assert source.copy.routing_key == "datatransfer-web-ocpp.ocpp16"
        assert (source.copy.properties.headers or {})["dtbridge-attempt"] == 1
    quick = delivery("quick")
    bench.sorter.on_delivery(quick)
    await bench.settled(quick)
    assert answer(quick) == [3, "1", {"status": "Accepted"}]
    assert bench.counts == WorkerCounts(received=21, replied=1, put_off=16)
    bench.close()


async def test_a_share_is_free_again_when_handlers_finish() -> None:
    bench = Bench("v", share=3, concurrency=2)
    gate = asyncio.Event()

    async def waits(call: Call) -> None:
        await gate.wait()

    bench.on("v", waits)
    first = [delivery(number=number) for number in range(3)]
    for source in first:
        bench.sorter.on_delivery(source)
    gate.set()
    await bench.settled(*first)
    more = delivery(number=9)
    bench.sorter.on_delivery(more)
    await bench.settled(more)
    assert answer(more) == [3, "9", {"status": "Accepted"}]
    assert bench.counts.put_off == 0


@pytest.mark.parametrize(
    ("age", "delay"),
    [(0, 250), (0.4, 250), (1.0, 500), (2.1, 1_000), (6, 2_500), (11, 5_000), (18, 10_000)],
)
async def test_each_round_is_longer_than_the_one_before(age: float, delay: int) -> None:
    bench = Bench("v", share=1, concurrency=1)
    bench.on("v", hangs)
    bench.sorter.on_delivery(delivery())
    now = time.time()
    source = delivery(
        dtbridge_first_try=int((now - age) * 1000), ocpp_deadline=int((now + 30) * 1000)
    )
    bench.sorter.on_delivery(source)
    assert source.copy is not None
    assert source.copy.exchange == f"datatransfer-web-ocpp.retry.{delay}"
    headers = source.copy.properties.headers or {}
    assert headers["dtbridge-first-try"] == int((now - age) * 1000)
    assert headers["ocpp-deadline"] == int((now + 30) * 1000)
    bench.close()


async def test_a_request_without_time_for_another_round_is_answered_and_kept() -> None:
    bench = Bench("v", share=1, concurrency=1)
    bench.on("v", hangs)
    bench.sorter.on_delivery(delivery())
    source = delivery(number=2, ocpp_deadline=int((time.time() + 0.2) * 1000))
    bench.sorter.on_delivery(source)
    await bench.settled(source)
    assert answer(source) == [4, "2", "GenericError", "The request took too long to process.", {}]
    assert source.copy is not None
    assert source.copy.exchange == "datatransfer.dead"
    assert (source.copy.properties.headers or {})["dtbridge-reason"] == "overloaded"
    assert (bench.counts.overloaded, bench.counts.failed, bench.counts.replied) == (1, 1, 1)
    assert bench.parts["v"].running == 1
    bench.close()


async def test_a_replayed_request_that_nobody_waits_for_goes_round_like_others() -> None:
    """It has no deadline, so there is always time for another round."""
    bench = Bench("v", share=1, concurrency=1)
    bench.on("v", hangs)
    bench.sorter.on_delivery(delivery())
    source = delivery(number=2, dtbridge_replayed=1, ocpp_station_id="CP001")
    bench.sorter.on_delivery(source)
    await bench.settled(source)
    assert (source.verdict, source.reply) == (Verdict.ACK, None)
    assert source.copy is not None
    assert source.copy.exchange == "datatransfer-web-ocpp.retry.250"
    assert (bench.counts.put_off, bench.counts.overloaded) == (1, 0)
    bench.close()


async def test_without_delay_queues_what_is_too_much_waits_here_and_counts_as_in_hand() -> None:
    bench = Bench("v", share=2, concurrency=1, lacks=("datatransfer-web-ocpp.retry.250",))
    bench.on("v", hangs)
    sources = [delivery(number=number) for number in range(3)]
    for source in sources:
        bench.sorter.on_delivery(source)
    extra = sources[2]
    assert not extra.settled.is_set()
    await bench.settled(extra)
    assert (extra.verdict, extra.copy) == (Verdict.REQUEUE, None)
    bench.close()


async def test_what_has_expired_is_kept_by_the_bridge_itself_with_its_story() -> None:
    bench = Bench("v")
    bench.on("v", accepts)
    source = delivery(ocpp_deadline=int(time.time() * 1000) - 1)
    bench.sorter.on_delivery(source)
    await bench.settled(source)
    assert (source.verdict, source.reply) == (Verdict.ACK, None)
    assert source.copy is not None
    headers = source.copy.properties.headers or {}
    assert (headers["dtbridge-reason"], headers["ocpp-station-id"]) == ("expired", "CP1")


# ---- what is no request ----


async def test_a_foreign_message_is_kept_with_the_reason_and_not_answered() -> None:
    bench = Bench("v")
    source = delivery(body=b'[3,"1",{}]')
    bench.sorter.on_delivery(source)
    assert (source.verdict, source.reply) == (Verdict.ACK, None)
    assert source.copy is not None
    assert (source.copy.exchange, source.copy.body, source.copy.mandatory) == (
        "datatransfer.dead",
        source.body,
        True,
    )
    headers = source.copy.properties.headers or {}
    assert (headers["dtbridge-reason"], headers["dtbridge-error"]) == (
        "foreign",
        "a CallResult, not a CALL",
    )
    assert bench.counts == WorkerCounts(received=1, foreign=1)


async def test_a_broken_call_is_kept_and_answered() -> None:
    bench = Bench("v")
    source = delivery(body=b'[2,"1","DataTransfer"')
    bench.sorter.on_delivery(source)
    assert source.verdict is Verdict.ACK
    assert source.copy is not None
    assert answer(source)[:3] == [4, "1", "FormationViolation"]
    assert bench.counts == WorkerCounts(received=1, foreign=1, replied=1)


@pytest.mark.parametrize(("lacks", "sendable"), [(("datatransfer.dead",), True), ((), False)])
async def test_a_foreign_message_of_which_no_copy_can_be_made_is_rejected(
    lacks: tuple[str, ...], sendable: bool
) -> None:
    bench = Bench("v", lacks=lacks)
    source = delivery(body=b"{")
    source.sendable = sendable
    bench.sorter.on_delivery(source)
    assert (source.verdict, source.copy) == (Verdict.REJECT, None)
    assert answer(source)[0] == 4


async def test_a_flood_of_foreign_messages_is_not_one_of_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1000.0
    monkeypatch.setattr("bridge.worker.shared_queue.time.monotonic", lambda: now)
    bench = Bench("v")
    for _ in range(100):
        bench.sorter.on_delivery(delivery(body=b"nonsense"))
    now += QUIET
    bench.sorter.on_delivery(delivery(body=b"nonsense"))
    lines = [record.__dict__["bridge"] for record in caplog.records]
    told = [
        (line["event"], line["so_far"], line["size"])
        for line in lines
        if line["event"] == "foreign message"
    ]
    assert told == [("foreign message", 1, 8), ("foreign message", 101, 8)]
    assert bench.counts.foreign == 101


# ---- counted ----


async def test_each_delivery_of_a_shared_queue_is_counted_as_its_vendors() -> None:
    bench = Bench("slow", share=1, concurrency=1)
    bench.on("slow", hangs)
    foreign = delivery(body=b"no frame")
    unknown = delivery("nobody")
    late = delivery("slow", 2, ocpp_deadline=int((time.time() + 0.1) * 1000))
    for source in (delivery("slow"), delivery("SLOW", 3), late, unknown, foreign):
        bench.sorter.on_delivery(source)
    await bench.settled(late, unknown, foreign)
    slow, rest = bench.parts["slow"].ledger, bench.rest.ledger
    assert {kind: number for kind, number in slow.tally.counts.items() if number} == {
        "put_off": 1,
        "overloaded": 1,
    }
    assert {kind: number for kind, number in rest.tally.counts.items() if number} == {
        "unknown_vendor": 1,
        "foreign": 1,
    }
    assert (slow.received, rest.received) == (3, 2)
    assert (slow.dead, rest.dead) == ({"overloaded": 1}, {"foreign": 1})
    bench.close()


async def test_a_large_request_without_time_for_another_round_is_answered_too() -> None:
    bench = Bench("v", share=1, concurrency=1)
    bench.on("v", hangs)
    bench.sorter.on_delivery(delivery())
    frame = b'[2,"2","DataTransfer",%b]' % payload("v", "m", "x" * 2 * LARGE)
    source = delivery(body=frame, number=2, ocpp_deadline=int((time.time() + 0.2) * 1000))
    bench.sorter.on_delivery(source)
    await bench.settled(source)
    assert answer(source)[2] == "GenericError"
    bench.close()
