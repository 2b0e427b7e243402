"""One queue's way through the worker, seen from the broker: what is settled, how, and when."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from bridge import Call, Router
from bridge.dialects.native import Native
from bridge.request.chain import chain
from bridge.request.outcome import Retry
from bridge.routing.router import Routes
from bridge.telemetry.causes import KEPT
from bridge.telemetry.counts import WorkerCounts
from bridge.transport import Properties, Publishing, Verdict
from bridge.worker.dispatch import Dispatcher, Expired
from bridge.worker.intake import Intake
from bridge.worker.pace import Rate
from bridge.worker.room import LARGE, Room
from tests.support import UNTIL_SETTLED, Kept, payload


def delivery(message_id: str = "m", *, reply_to: str | None = "amq.gen-1", **headers: Any) -> Kept:
    properties = Properties(
        headers={
            "ocpp-station-id": "CP001",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        },
        correlation_id="c",
        reply_to=reply_to,
    )
    return Kept("datatransfer", "v", False, properties, payload(message_id=message_id))


class Bench:
    """An intake with its counts."""

    def __init__(
        self,
        *,
        concurrency: int = 10,
        expired: Expired = Expired.DEAD_LETTER,
        lacks: tuple[str, ...] = (),
        rate: float | None = None,
    ) -> None:
        self.router = Router("v")
        self.counts = WorkerCounts()
        self.dispatcher = Dispatcher(Routes([self.router]), expired=expired)
        self.intake = Intake(
            "datatransfer.v",
            dialect=Native(),
            counts=self.counts,
            prefetch=100,
            concurrency=concurrency,
            lacks=lacks.__contains__,
            worker="dtbridge@host:1",
            room=Room(100_000),
            rate=None if rate is None else Rate(rate),
        )
        chain(self.intake, self.dispatcher)

    def on(self, message_id: str, function: Callable[..., Any], *, timeout: float = 20.0) -> None:
        self.router.on(message_id, timeout=timeout)(function)

    async def settled(self, *deliveries: Kept) -> None:
        async with asyncio.timeout(UNTIL_SETTLED):
            for delivery in deliveries:
                await delivery.settled.wait()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(UNTIL_SETTLED):
        while not condition():
            await asyncio.sleep(0)


async def accepts(call: Call) -> str:
    return "done"


async def breaks(call: Call) -> None:
    raise ValueError("secret")


async def waits_for_ever(call: Call) -> None:
    await asyncio.Event().wait()


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_an_answer_is_published_and_then_acknowledged(bench: Bench) -> None:
    bench.on("m", accepts)
    source = delivery()
    bench.intake.on_delivery(source)
    await bench.settled(source)
    assert source.verdict is Verdict.ACK
    assert source.reply is not None
    assert (source.reply.routing_key, source.reply.body) == (
        "amq.gen-1",
        b'{"status":"Accepted","data":"done"}',
    )
    assert bench.counts == WorkerCounts(received=1, replied=1)
    assert bench.intake.running == 0


async def test_a_failure_is_kept_as_a_dead_letter_answered_and_then_acknowledged(
    bench: Bench,
) -> None:
    bench.on("m", breaks)
    source = delivery()
    bench.intake.on_delivery(source)
    await bench.settled(source)
    assert source.verdict is Verdict.ACK
    assert source.reply is not None
    assert source.reply.properties.type == "CallError"
    assert source.copy is not None
    assert (source.copy.exchange, source.copy.body, source.copy.mandatory) == (
        "datatransfer.dead",
        source.body,
        True,
    )
    story = source.copy.properties.headers or {}
    assert story["dtbridge-reason"] == "failed"
    assert story["dtbridge-error"].startswith(f"ValueError: secret ({__file__}:")
    assert story["dtbridge-worker"] == "dtbridge@host:1"
    assert bench.counts == WorkerCounts(received=1, replied=1, failed=1)


@pytest.mark.parametrize(("lacks", "sendable"), [(("datatransfer.dead",), True), ((), False)])
async def test_a_failure_of_which_no_copy_can_be_made_is_rejected_to_the_brokers_own_dead_letters(
    lacks: tuple[str, ...], sendable: bool
) -> None:
    bench = Bench(lacks=lacks)
    bench.on("m", breaks)
    source = delivery()
    source.sendable = sendable
    bench.intake.on_delivery(source)
    await bench.settled(source)
    assert (source.verdict, source.copy) == (Verdict.REJECT, None)
    assert source.reply is not None
    assert bench.counts == WorkerCounts(received=1, replied=1, failed=1)


FORGED = [None]
"""An x-death that no broker writes: RabbitMQ 3.10 stops dead-lettering when it has to add to it."""


@pytest.mark.parametrize(
    ("lacks", "sendable", "verdict", "kept"),
    [
        ((), True, Verdict.ACK, True),
        ((), False, Verdict.ACK, False),
        (("datatransfer.dead",), True, Verdict.ACK, False),
    ],
)
async def test_a_request_with_a_forged_x_death_is_never_rejected(
    lacks: tuple[str, ...], sendable: bool, verdict: Verdict, kept: bool
) -> None:
    bench = Bench(lacks=lacks)
    bench.on("m", breaks)
    expired = int(time.time() * 1000) - 1_000
    for source in (delivery(x_death=FORGED), delivery(x_death=FORGED, ocpp_deadline=expired)):
        source.sendable = sendable
        bench.intake.on_delivery(source)
        await bench.settled(source)
        assert (source.verdict, source.copy is not None) == (verdict, kept)
        if source.copy is not None:
            assert "x-death" not in (source.copy.properties.headers or {})


async def test_an_answer_that_cannot_be_written_costs_no_more_than_itself(bench: Bench) -> None:
    class Mute(Kept, eq=False, gc=True):
        def settle(
            self, verdict: Verdict, reply: Publishing | None = None, copy: Publishing | None = None
        ) -> None:
            if reply is not None:
                raise ValueError("properties of 5000 bytes do not fit a frame")
            super().settle(verdict, reply, copy)

    bench.on("m", accepts)
    heard = delivery()
    source = Mute("datatransfer", "v", False, heard.properties, heard.body)
    bench.intake.on_delivery(source)
    await bench.settled(source)
    assert (source.verdict, source.reply, bench.intake.running) == (Verdict.ACK, None, 0)


async def test_a_log_that_takes_utf_8_alone_keeps_no_failure_from_being_settled(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Names that are not UTF-8 reach the bridge as lone surrogates."""

    async def breaks_oddly(call: Call) -> None:
        raise ValueError("\udcff")

    bench.on("m", breaks_oddly)
    source = delivery(ocpp_station_id="CP\udcff")
    source.properties.message_id = "\udcff"
    bench.intake.on_delivery(source)
    await bench.settled(source)
    assert source.verdict is Verdict.ACK
    assert source.copy is not None
    assert (source.copy.properties.headers or {})["dtbridge-error"].startswith("ValueError: ? (")
    [line] = [record.__dict__["bridge"] for record in caplog.records]
    assert json.dumps(line, ensure_ascii=False).encode("utf-8", "strict")


@pytest.mark.parametrize(("function", "is_kept"), [(accepts, False), (breaks, True)])
async def test_where_nobody_waits_no_answer_is_published(
    bench: Bench, function: Any, is_kept: bool
) -> None:
    bench.on("m", function)
    source = delivery(reply_to=None)
    bench.intake.on_delivery(source)
    await bench.settled(source)
    assert (source.verdict, source.reply) == (Verdict.ACK, None)
    assert (source.copy is not None) is is_kept
    assert (bench.counts.unasked, bench.counts.replied) == (1, 0)


async def test_a_reply_queue_that_is_not_allowed_gets_nothing(bench: Bench) -> None:
    bench.on("m", accepts)
    source = delivery(reply_to="datatransfer.dead")
    bench.intake.on_delivery(source)
    await bench.settled(source)
    assert (source.verdict, source.reply) == (Verdict.ACK, None)
    assert (bench.counts.forbidden, bench.counts.replied) == (1, 0)


async def test_each_kind_of_reply_queue_that_is_not_allowed_is_told_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """aio-pika names anonymous queues amq_ and a random number."""
    bench.on("m", accepts)
    for reply_to in ("amq_1f", "amq_2e", "datatransfer.dead", "amq.rabbitmq.reply-to.x", "amq_3d"):
        source = delivery(reply_to=reply_to)
        bench.intake.on_delivery(source)
        await bench.settled(source)
    told = [record.__dict__["bridge"]["reason"] for record in caplog.records]
    assert len(told) == 3
    assert told[0] == (
        "the reply queue 'amq_1f' is not allowed. Allowed are amq.rabbitmq.reply-to and amq.gen-*,"
        " datatransfer.replies.*: let the broker name the queue, or allow the beginning of its name"
        " as a reply prefix"
    )
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert bench.counts.forbidden == 5


async def test_a_flood_of_reply_queues_does_not_flood_the_log(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.on("m", accepts)
    for number in range(3 * KEPT):
        source = delivery(reply_to=f"{chr(0x4E00 + number)}-")
        bench.intake.on_delivery(source)
        await bench.settled(source)
    assert len(caplog.records) == KEPT


@pytest.mark.parametrize(
    ("changes", "body", "error"),
    [
        ({"ocpp_station_id": ""}, b'{"vendorId":"v"}', "header ocpp-station-id: required"),
        ({"ocpp_deadline": 1_900_000_000}, b'{"vendorId":"v"}', "header ocpp-deadline: expected"),
        ({}, b'{"vendorId":', "payload: not valid JSON"),
        ({}, b"{}", "vendorId: required field is missing"),
        ({}, b'{"vendorId":"' + b"v" * 5_000_000 + b'"}', "payload: 5000015 bytes"),
    ],
    ids=["contract", "deadline", "JSON", "field", "size"],
)
@pytest.mark.parametrize("reply_to", [None, "amq.gen-1"])
async def test_what_is_broken_is_answered_or_kept_if_nobody_waits(
    bench: Bench, changes: dict[str, Any], body: bytes, error: str, reply_to: str | None
) -> None:
    source = delivery(reply_to=reply_to, **changes)
    source.body = body
    bench.intake.on_delivery(source)
    await bench.settled(source)
    assert source.verdict is Verdict.ACK
    if reply_to is None:
        assert (source.reply, bench.counts.failed) == (None, 1)
        assert source.copy is not None
        headers = source.copy.properties.headers or {}
        assert headers["dtbridge-reason"] == "broken"
        assert error in headers["dtbridge-error"]
    else:
        assert source.reply is not None
        assert source.reply.properties.type == "CallError"
        assert (source.copy, bench.counts.failed) == (None, 0)


@pytest.mark.parametrize(
    ("expired", "verdict", "counts"),
    [
        (Expired.DEAD_LETTER, Verdict.REJECT, WorkerCounts(received=1, failed=1)),
        (Expired.DROP, Verdict.ACK, WorkerCounts(received=1, dropped=1)),
        (Expired.HANDLE, Verdict.ACK, WorkerCounts(received=1, late=1)),
    ],
)
async def test_an_expired_request_gets_no_reply(
    expired: Expired, verdict: Verdict, counts: WorkerCounts
) -> None:
    bench = Bench(expired=expired)
    bench.on("m", accepts)
    source = delivery(ocpp_deadline=int(time.time() * 1000) - 1_000)
    bench.intake.on_delivery(source)
    await bench.settled(source)
    assert (source.verdict, source.reply, source.copy) == (verdict, None, None)
    assert bench.counts == counts


async def retries(call: Call) -> None:
    raise Retry(0.02)


async def test_a_request_waits_for_its_next_try_in_the_broker(bench: Bench) -> None:
    bench.on("m", retries)
    source = delivery()
    bench.intake.on_delivery(source)
    await bench.settled(source)
    assert (source.verdict, source.reply) == (Verdict.ACK, None)
    assert source.copy is not None
    assert (source.copy.exchange, source.copy.routing_key) == ("datatransfer.retry.100", "v")
    assert (source.copy.body, source.copy.mandatory) == (source.body, True)
    assert (source.copy.properties.headers or {})["dtbridge-attempt"] == 2
    assert bench.counts == WorkerCounts(received=1, retried=1)


@pytest.mark.parametrize(("lacks", "sendable"), [(("datatransfer.retry.100",), True), ((), False)])
async def test_a_request_that_cannot_wait_in_the_broker_is_given_back_after_its_pause(
    lacks: tuple[str, ...], sendable: bool
) -> None:
    bench = Bench(lacks=lacks)
    bench.on("m", retries)
    source = delivery()
    source.sendable = sendable
    started = asyncio.get_running_loop().time()
    bench.intake.on_delivery(source)
    await bench.settled(source)
    assert asyncio.get_running_loop().time() - started >= 0.099
    assert (source.verdict, source.reply, source.copy) == (Verdict.REQUEUE, None, None)
    assert (bench.counts.retried, bench.intake.running) == (1, 0)


async def test_a_worker_that_stops_gives_back_at_once_what_waits_in_it_for_its_next_try() -> None:
    bench = Bench(lacks=("datatransfer.retry.300000",))

    async def retries_late(call: Call) -> None:
        raise Retry(3_600)

    bench.on("m", retries_late)
    source = delivery()
    bench.intake.on_delivery(source)
    await until(lambda: bench.counts.retried == 1)
    bench.intake.give_back()
    assert source.verdict is Verdict.REQUEUE


async def test_no_more_handlers_run_than_the_concurrency_allows_and_none_is_forgotten() -> None:
    bench = Bench(concurrency=3)
    running, most = 0, 0
    order: list[str | None] = []

    async def counts(call: Call) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        order.append(call.message_id)
        await asyncio.sleep(0)
        running -= 1

    bench.router.default(counts)
    sources = [delivery(str(number)) for number in range(20)]
    for source in sources:
        bench.intake.on_delivery(source)
    assert bench.intake.running == 3
    assert bench.intake.waiting == 17
    await bench.settled(*sources)
    assert most == 3
    assert order == [str(number) for number in range(20)]
    assert (bench.intake.running, bench.intake.waiting) == (0, 0)


async def test_a_long_row_of_handlers_that_never_wait_does_not_exhaust_the_stack() -> None:
    bench = Bench(concurrency=1)
    release = asyncio.Event()

    async def first(call: Call) -> None:
        await release.wait()

    bench.on("first", first)
    sources = [delivery("first"), *(delivery("unknown") for _ in range(5_000))]
    for source in sources:
        bench.intake.on_delivery(source)
    release.set()
    await bench.settled(*sources)
    assert {source.verdict for source in sources} == {Verdict.ACK}


async def test_handlers_that_hang_hold_up_their_own_queue_alone() -> None:
    hanging, other = Bench(concurrency=1), Bench(concurrency=1)
    hanging.on("m", waits_for_ever)
    other.on("m", accepts)
    stuck, waiting, free = delivery(), delivery(), delivery()
    hanging.intake.on_delivery(stuck)
    hanging.intake.on_delivery(waiting)
    other.intake.on_delivery(free)
    await other.settled(free)
    assert (stuck.verdict, waiting.verdict) == (None, None)
    hanging.dispatcher.close()


async def test_a_lost_connection_drops_what_waits_and_lets_what_runs_end() -> None:
    bench = Bench(concurrency=1)
    release = asyncio.Event()
    handled: list[str | None] = []

    async def notes(call: Call) -> None:
        await release.wait()
        handled.append(call.message_id)

    bench.router.default(notes)
    first, second, third = delivery("1"), delivery("2"), delivery("3")
    bench.intake.on_delivery(first)
    bench.intake.on_delivery(second)
    await asyncio.sleep(0)
    bench.intake.void()
    assert bench.intake.waiting == 0
    release.set()
    await bench.settled(first)
    bench.intake.on_delivery(third)
    await bench.settled(third)
    assert handled == ["1", "3"]
    assert second.verdict is None


async def test_a_lost_connection_forgets_the_retries_that_are_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    call_later = loop.call_later
    timers: list[tuple[asyncio.TimerHandle, float]] = []

    def noted(delay: float, *call: Any) -> asyncio.TimerHandle:
        timers.append((call_later(delay, *call), delay))
        return timers[-1][0]

    monkeypatch.setattr(loop, "call_later", noted)
    bench = Bench(lacks=("datatransfer.retry.100",))
    bench.on("m", retries)
    source = delivery()
    bench.intake.on_delivery(source)
    await until(lambda: bench.counts.retried == 1)
    assert bench.intake.in_hand == 1
    (timer,) = [timer for timer, after in timers if after == 0.1]
    assert not timer.cancelled()
    bench.intake.void()
    assert (bench.intake.in_hand, timer.cancelled(), source.verdict) == (0, True, None)
    bench.intake.give_back()
    assert source.verdict is None


async def test_closing_settles_nothing_that_still_runs(bench: Bench) -> None:
    bench.on("m", waits_for_ever)
    source = delivery()
    bench.intake.on_delivery(source)
    await asyncio.sleep(0)
    bench.dispatcher.close()
    bench.intake.void()
    await asyncio.sleep(0)
    assert source.verdict is None


async def test_an_answer_that_the_broker_will_never_take_makes_its_request_a_failure(
    bench: Bench,
) -> None:
    bench.on("m", accepts)
    answered = delivery()
    bench.intake.on_delivery(answered)
    await bench.settled(answered)
    source = delivery()  # a transport gives the same again, not settled any more
    bench.intake.on_impossible(source, "406 too large")
    assert source.verdict is Verdict.ACK
    assert source.reply is not None
    assert source.reply.properties.type == "CallError"
    assert b"InternalError" in source.reply.body
    assert source.copy is not None
    story = source.copy.properties.headers or {}
    assert (story["dtbridge-reason"], story["dtbridge-error"]) == (
        "failed",
        "the broker does not take the answer: 406 too large",
    )
    assert bench.counts == WorkerCounts(received=1, replied=1, failed=1)


# ---- a vendor that is paused ----


async def test_a_pause_gives_back_what_waits_and_lets_what_runs_end() -> None:
    bench = Bench(concurrency=1)
    ended = asyncio.Event()

    async def runs(call: Call) -> str:
        await ended.wait()
        return "done"

    bench.on("m", runs)
    running, waiting = delivery(), delivery()
    bench.intake.on_delivery(running)
    bench.intake.on_delivery(waiting)
    assert bench.intake.pause() == 1
    await bench.settled(waiting)
    assert (waiting.verdict, waiting.reply) == (Verdict.REQUEUE, None)
    assert (bench.intake.running, bench.intake.waiting) == (1, 0)
    ended.set()
    await bench.settled(running)
    assert running.verdict is Verdict.ACK
    assert running.reply is not None


async def test_what_comes_while_it_is_paused_goes_back_and_after_that_is_handled(
    bench: Bench,
) -> None:
    bench.on("m", accepts)
    bench.intake.pause()
    early, late = delivery(), delivery()
    bench.intake.on_delivery(early)
    await bench.settled(early)
    assert early.verdict is Verdict.REQUEUE
    bench.intake.resume()
    bench.intake.on_delivery(late)
    await bench.settled(late)
    assert late.verdict is Verdict.ACK


async def test_paused_twice_is_paused_once(bench: Bench) -> None:
    bench.on("m", accepts)
    assert (bench.intake.pause(), bench.intake.pause()) == (0, 0)
    assert bench.intake.concurrency == 10  # it is told of as before
    bench.intake.resume()
    bench.intake.resume()
    source = delivery()
    bench.intake.on_delivery(source)
    await bench.settled(source)
    assert source.verdict is Verdict.ACK


async def test_a_large_payload_that_goes_back_leaves_its_room_to_others() -> None:
    bench = Bench(concurrency=1)
    bench.on("m", waits_for_ever)
    bench.intake.on_delivery(delivery())
    large = delivery()
    large.body = payload(message_id="m", data="x" * (LARGE + 1))
    bench.intake.on_delivery(large)
    bench.intake.pause()
    again = delivery()
    again.body = payload(message_id="m", data="x" * 90_000)
    bench.intake.on_delivery(again)  # there is room for it, so it goes back at once
    await bench.settled(large, again)
    assert (large.verdict, again.verdict) == (Verdict.REQUEUE, Verdict.REQUEUE)
    bench.dispatcher.close()


# ---- a rate ----


async def test_what_is_beyond_the_rate_waits_though_handlers_are_free() -> None:
    bench = Bench(rate=20.0)
    begun: list[float] = []

    async def notes(call: Call) -> None:
        begun.append(time.monotonic())

    bench.on("m", notes)
    sources = [delivery() for _ in range(8)]
    for source in sources:
        bench.intake.on_delivery(source)
    assert len(begun) <= 3
    assert bench.intake.waiting >= 5
    assert bench.intake.held_back >= 5
    await bench.settled(*sources)
    assert begun[-1] - begun[0] >= 5 / 20 - 0.02
    assert all(source.verdict is Verdict.ACK for source in sources)


async def test_what_is_late_while_it_waits_for_the_rate_takes_nobodys_turn() -> None:
    bench = Bench(rate=5.0)
    bench.on("m", accepts)
    first = delivery()
    soon = int((time.time() + 0.05) * 1000)
    late = [delivery(ocpp_deadline=soon) for _ in range(20)]
    last = delivery()
    for source in (first, *late, last):
        bench.intake.on_delivery(source)
    since = time.monotonic()
    await bench.settled(first, *late, last)
    assert time.monotonic() - since < 2.0  # and not 22 turns of 0.2 s
    assert last.verdict is Verdict.ACK
    assert all(source.verdict is Verdict.REJECT for source in late)


async def test_a_connection_that_is_lost_forgets_what_waited_for_the_rate() -> None:
    bench = Bench(rate=1.0)
    bench.on("m", accepts)
    for _ in range(3):
        bench.intake.on_delivery(delivery())
    bench.intake.void()
    assert bench.intake.waiting == 0
