"""Plain ``def`` handlers: each in a context of its own, and never waited for in vain."""

import asyncio
import threading
import time
from contextvars import ContextVar
from typing import Any

import pytest

from bridge import Call, Router
from bridge.request.outcome import Failure, Reason, Reply
from bridge.telemetry.counts import WorkerCounts
from bridge.worker import threads
from tests.support import UNTIL_SETTLED, Settled, a_dispatcher, a_request, payload

SHORT = 0.05
WHO: ContextVar[str] = ContextVar("WHO", default="nobody")


class Bench:
    """A dispatcher with one thread, and a handler `hangs` that keeps it until it is let go."""

    def __init__(self, *, timeout: float, patience: float = 0.0, threads: int = 1) -> None:
        """`patience`: seconds that `quick` waits for a thread; 0: as `timeout`."""
        self.threads: list[threading.Thread] = []
        self.let_go = threading.Event()
        self.begun = threading.Semaphore(0)
        self.counts = WorkerCounts()
        self.settled = Settled()
        self.called: list[str] = []
        router = Router("v")

        @router.on("hangs", timeout=timeout)
        def hangs(call: Call) -> None:
            self.threads.append(threading.current_thread())
            self.begun.release()
            self.let_go.wait(UNTIL_SETTLED)

        @router.on("m", timeout=patience or timeout)
        def quick(call: Call) -> str:
            self.called.append(call.station_id)
            return "done"

        self.dispatcher = a_dispatcher(router, self.settled, threads=threads, counts=self.counts)

    async def hang(self) -> None:
        self.dispatcher.dispatch(a_request(payload(message_id="hangs")))
        assert await asyncio.to_thread(self.begun.acquire, timeout=UNTIL_SETTLED)

    def close(self) -> None:
        self.let_go.set()
        self.dispatcher.close()


def failure(outcome: Any) -> Failure:
    assert isinstance(outcome, Failure)
    return outcome


async def test_each_call_runs_in_a_copy_of_the_context() -> None:
    router = Router("v")

    @router.on("m")
    def handler(call: Call) -> str:
        before = WHO.get()
        WHO.set("an earlier request")
        return before

    settled = Settled()
    WHO.set("the caller")
    dispatcher = a_dispatcher(router, settled, threads=1)
    for _ in range(3):
        dispatcher.dispatch(a_request())
    await settled.until(3)
    dispatcher.close()
    assert settled.outcomes == [Reply(b'{"status":"Accepted","data":"the caller"}')] * 3
    assert WHO.get() == "the caller"


async def test_what_no_thread_came_free_for_was_not_begun_and_says_so() -> None:
    bench = Bench(timeout=SHORT, patience=10 * SHORT)
    await bench.hang()
    bench.dispatcher.dispatch(a_request())
    await bench.settled.until(2)
    hung, waited = map(failure, bench.settled.outcomes)
    assert hung.reason is Reason.TIMED_OUT
    assert "cannot be stopped; 1 of its vendor's 1 threads are stuck" in hung.error
    assert waited.reason is Reason.OVERLOADED
    assert waited.error.startswith("none of its vendor's 1 threads came free within 0.5 s")
    assert "(1 are stuck): " in waited.error
    assert waited.error.endswith("quick was not begun")
    assert waited.body is not None
    bench.let_go.set()
    await asyncio.to_thread(bench.threads[0].join, SHORT)  # it would take up what waits
    bench.close()
    assert not bench.called
    assert bench.counts.stuck == 1


async def test_the_time_of_a_handler_counts_from_when_its_thread_begins() -> None:
    timeout = 1.0
    bench = Bench(timeout=timeout)
    asyncio.get_running_loop().call_later(timeout / 2, bench.let_go.set)
    await bench.hang()
    before = time.monotonic()
    bench.dispatcher.dispatch(a_request())
    await bench.settled.until(2)
    assert time.monotonic() - before >= timeout / 4
    assert all(isinstance(outcome, Reply) for outcome in bench.settled.outcomes)
    bench.close()


async def test_how_long_requests_wait_for_a_thread_is_measured_and_told_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "LONG_WAIT", 0.0)
    bench = Bench(timeout=UNTIL_SETTLED)
    await bench.hang()
    for _ in range(2):
        bench.dispatcher.dispatch(a_request())
    pool = bench.dispatcher.threads
    assert (pool.count, pool.busy, pool.waiting) == (1, 1, 2)
    bench.let_go.set()
    await bench.settled.until(3)
    bench.close()
    assert (pool.waits.count, pool.waiting) == (3, 0)
    assert pool.waits.sum > 0
    (record,) = [each for each in caplog.records if "all threads are busy" in each.msg]
    told = record.__dict__["bridge"]
    assert (told["threads"], told["waiting"]) == (1, 1)
    assert told["handler"].endswith("quick")


async def test_a_deadline_that_passes_while_it_waits_for_a_thread_expires_it() -> None:
    bench = Bench(timeout=UNTIL_SETTLED)
    await bench.hang()
    bench.dispatcher.dispatch(a_request(deadline=time.time() + SHORT))
    outcome = failure(await bench.settled.first())
    assert "was not begun" in outcome.error
    # The clocks may differ by a millisecond.
    assert (outcome.body is None) is (outcome.reason is Reason.EXPIRED)
    bench.close()


async def test_a_thread_that_returns_after_all_is_used_again() -> None:
    bench = Bench(timeout=SHORT)
    await bench.hang()
    await bench.settled.until(1)
    bench.let_go.set()
    while len(bench.settled.outcomes) < 2 or not isinstance(bench.settled.outcomes[-1], Reply):
        count = len(bench.settled.outcomes)
        bench.dispatcher.dispatch(a_request())
        await bench.settled.until(count + 1)
    assert bench.called
    bench.close()


async def test_when_all_are_stuck_one_line_says_so(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(timeout=SHORT, threads=2)
    await bench.hang()
    await bench.hang()
    for _ in range(3):
        bench.dispatcher.dispatch(a_request())
    await bench.settled.until(5)
    bench.close()
    lines = [line for line in caplog.messages if line.startswith("all threads are stuck")]
    assert len(lines) == 1
    assert bench.counts.stuck == 2


async def test_closing_returns_at_once_and_what_waits_for_a_thread_never_runs() -> None:
    bench = Bench(timeout=UNTIL_SETTLED)
    await bench.hang()
    for _ in range(3):
        bench.dispatcher.dispatch(a_request())
    before = time.monotonic()
    bench.dispatcher.close()
    assert time.monotonic() - before < UNTIL_SETTLED / 2  # not as long as the handler takes
    bench.let_go.set()
    (thread,) = bench.threads
    await asyncio.to_thread(thread.join, UNTIL_SETTLED)
    assert not thread.is_alive()
    await asyncio.sleep(SHORT)  # what it has told the loop
    assert not bench.called
    assert not bench.settled.outcomes
    assert not bench.dispatcher.waiting


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, StopIteration])
async def test_what_would_end_a_loop_is_a_failure_in_a_thread(kind: type[BaseException]) -> None:
    router = Router("v")

    @router.on("m")
    def handler(call: Call) -> None:
        raise kind("of its own")

    settled = Settled()
    dispatcher = a_dispatcher(router, settled)
    dispatcher.dispatch(a_request())
    outcome = failure(await settled.first())
    dispatcher.close()
    assert outcome.reason is Reason.FAILED
    assert f"the handler raised {kind.__name__}: of its own" in outcome.error


async def test_an_answer_that_came_while_the_loop_was_held_up_counts() -> None:
    """The neighbour that held it up must not cost this one its answer."""
    timeout = 0.2
    answered = threading.Event()
    router = Router("v")

    @router.on("m", timeout=timeout)
    def handler(call: Call) -> str:
        answered.set()
        return "in time"

    settled = Settled()
    dispatcher = a_dispatcher(router, settled)
    dispatcher.dispatch(a_request())
    await asyncio.sleep(0)  # on 3.11 its timer is set in the next turn
    assert answered.wait(UNTIL_SETTLED)
    time.sleep(2 * timeout)  # noqa: ASYNC251 - the neighbour
    assert await settled.first() == Reply(b'{"status":"Accepted","data":"in time"}')
    dispatcher.close()


async def test_an_answer_from_a_handler_that_blocked_the_loop_too_long_counts() -> None:
    """Its effect has been had, and somebody waits: only what is still at work runs out of time."""
    router = Router("v")

    @router.on("m", timeout=SHORT)
    async def blocks(call: Call) -> str:
        await asyncio.sleep(0)
        time.sleep(3 * SHORT)  # noqa: ASYNC251 - that is what it is for
        return "late, but here"

    settled = Settled()
    dispatcher = a_dispatcher(router, settled)
    dispatcher.dispatch(a_request())
    assert await settled.first() == Reply(b'{"status":"Accepted","data":"late, but here"}')
    dispatcher.close()
