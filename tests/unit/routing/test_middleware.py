"""What stands around a handler sees all that becomes of it, and may change it."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from bridge import Call, CallError, CallNext, ErrorCode, Rejected, Retry, Router
from bridge.ocpp import DEFAULT_VERSION, decode_response
from bridge.request.outcome import Failure, Kind, Late, Outcome, Reason, Reply, RetryLater
from bridge.telemetry.exceptions import qualified_name
from tests.support import UNTIL_SETTLED, Settled, a_dispatcher, a_request, dispatched, payload

HOW = ("async", "thread")
HELD: ContextVar[str] = ContextVar("held", default="nothing")


class Steps:
    """Middleware and a handler that tell when they are at work."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def middleware(self, name: str) -> Callable[[Call, Any, CallNext], Any]:
        async def middleware(call: Call, data: Any, call_next: CallNext) -> Any:
            self.steps.append(f"{name} in")
            try:
                return await call_next(call, data)
            except BaseException as error:
                self.steps.append(f"{name} {type(error).__name__}")
                raise
            finally:
                self.steps.append(f"{name} out")

        return middleware


def register(router: Router, how: str, body: Callable[[Call, Any], Any]) -> None:
    if how == "thread":

        @router.on("m")
        def in_thread(call: Call, data: Any) -> Any:
            return body(call, data)

    else:

        @router.on("m")
        async def on_loop(call: Call, data: Any) -> Any:
            return body(call, data)


def answer_of(outcome: Outcome) -> Any:
    assert isinstance(outcome, Reply)
    assert outcome.kind is Kind.RESPONSE
    return decode_response(outcome.body, DEFAULT_VERSION).data


def raising(error: BaseException) -> Callable[[Call, Any], Any]:
    def body(call: Call, data: Any) -> Any:
        raise error

    return body


@pytest.mark.parametrize("how", HOW)
async def test_the_first_is_outermost_and_that_of_an_including_router_before_all(how: str) -> None:
    steps = Steps()
    inner, outer = Router("v"), Router("v")
    register(inner, how, lambda call, data: steps.steps.append("handler"))
    inner.middleware(steps.middleware("c"))
    outer.include(inner)
    outer.middleware(steps.middleware("a"))
    outer.middleware(steps.middleware("b"))
    assert isinstance(await dispatched(outer, a_request()), Reply)
    assert steps.steps == [
        *("a in", "b in", "c in"),
        "handler",
        *("c out", "b out", "a out"),
    ]


@pytest.mark.parametrize("how", HOW)
async def test_it_changes_data_and_answer_and_lends_its_context(how: str) -> None:
    router = Router("v")
    register(router, how, lambda call, data: [data, HELD.get(), call.state])

    @router.middleware
    async def changing(call: Call, data: Any, call_next: CallNext) -> Any:
        HELD.set("a connection")
        answer = await call_next(call.with_state("its own"), data + 1)
        return [*answer, threading.current_thread() is threading.main_thread()]

    outcome = await dispatched(router, a_request(payload(data=1)))
    assert answer_of(outcome) == [2, "a connection", "its own", True]
    assert HELD.get() == "nothing"


@pytest.mark.parametrize("how", HOW)
async def test_it_answers_in_place_of_the_handler(how: str) -> None:
    router = Router("v")
    register(router, how, raising(AssertionError("called")))

    @router.middleware
    async def authorised(call: Call, data: Any, call_next: CallNext) -> Any:
        raise Rejected("NotAllowed")

    outcome = await dispatched(router, a_request())
    assert isinstance(outcome, Reply)
    assert decode_response(outcome.body, DEFAULT_VERSION).status == "Rejected"


@pytest.mark.parametrize("how", HOW)
async def test_a_handler_without_data_is_given_none(how: str) -> None:
    router = Router("v")
    seen = []

    @router.middleware
    async def looking(call: Call, data: Any, call_next: CallNext) -> Any:
        seen.append(data)
        return await call_next(call, data)

    if how == "thread":

        @router.on("m")
        def plain(call: Call) -> str:
            return call.station_id

    else:

        @router.on("m")
        async def waiting(call: Call) -> str:
            return call.station_id

    assert answer_of(await dispatched(router, a_request(payload(data=1)))) == "CP001"
    assert seen == [None]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Retry(5), RetryLater),
        (Rejected("No"), Reply),
        (CallError(ErrorCode.GENERIC_ERROR, "x"), Reply),
        (KeyError("x"), Failure),
    ],
)
async def test_what_a_handler_raises_passes_through(
    how: str, error: Exception, expected: type
) -> None:
    steps = Steps()
    router = Router("v")
    register(router, how, raising(error))
    router.middleware(steps.middleware("a"))
    outcome = await dispatched(router, a_request())
    assert isinstance(outcome, expected)
    assert steps.steps == ["a in", f"a {type(error).__name__}", "a out"]
    if isinstance(outcome, Failure):
        assert outcome.raised is not None
        expected_name = "in_thread" if how == "thread" else "on_loop"
        assert qualified_name(outcome.raised.handler).endswith(expected_name)
        assert "in body" in outcome.raised.at


@pytest.mark.parametrize("how", HOW)
async def test_its_own_error_is_a_failure_that_says_where(how: str) -> None:
    router = Router("v")
    register(router, how, lambda call, data: data)

    @router.middleware
    async def broken(call: Call, data: Any, call_next: CallNext) -> Any:
        await call_next(call, data)
        raise KeyError("secret")

    outcome = await dispatched(router, a_request())
    assert isinstance(outcome, Failure)
    assert outcome.raised is not None
    assert "in broken" in outcome.raised.at


async def test_one_that_asks_the_process_to_exit_fails_and_leaves_its_thread_free() -> None:
    router = Router("v")
    register(router, "thread", lambda call, data: data)

    @router.middleware
    async def leaving(call: Call, data: Any, call_next: CallNext) -> Any:
        raise SystemExit(3)

    settled = Settled()
    dispatcher = a_dispatcher(router, settled, threads=1)
    dispatcher.dispatch(a_request())
    outcome = await settled.first()
    assert isinstance(outcome, Failure)
    assert "the middleware raised SystemExit: 3" in outcome.error
    async with asyncio.timeout(UNTIL_SETTLED):
        while dispatcher.threads.busy:
            await asyncio.sleep(0)
    dispatcher.close()


async def test_it_is_cancelled_when_the_time_of_handler_and_middleware_is_over() -> None:
    steps = Steps()
    router = Router("v", timeout=0.05)
    router.middleware(steps.middleware("a"))

    @router.on("m")
    async def forever(call: Call) -> None:
        await asyncio.Event().wait()

    outcome = await dispatched(router, a_request())
    assert isinstance(outcome, Failure)
    assert outcome.reason is Reason.TIMED_OUT
    await asyncio.sleep(0)
    assert steps.steps == ["a in", "a CancelledError", "a out"]


async def test_an_answer_after_the_deadline_is_late() -> None:
    router = Router("v")

    @router.on("m")
    async def prompt(call: Call) -> None: ...

    @router.middleware
    async def slow(call: Call, data: Any, call_next: CallNext) -> Any:
        await call_next(call, data)
        time.sleep(0.06)  # noqa: ASYNC251 - so that no timer comes between

    outcome = await dispatched(router, a_request(deadline=time.time() + 0.05))
    assert isinstance(outcome, Late)


async def test_a_thread_is_stuck_until_its_function_returns_and_its_middleware_is_told() -> None:
    steps = Steps()
    returns = threading.Event()
    router = Router("v", timeout=0.05)
    router.middleware(steps.middleware("a"))

    @router.on("m")
    def stuck(call: Call) -> None:
        returns.wait(UNTIL_SETTLED)

    settled = Settled()
    dispatcher = a_dispatcher(router, settled, threads=1)
    dispatcher.dispatch(a_request())
    outcome = await settled.first()
    assert isinstance(outcome, Failure)
    assert "1 of its vendor's 1 threads are stuck" in outcome.error
    async with asyncio.timeout(UNTIL_SETTLED):
        while len(steps.steps) < 3:
            await asyncio.sleep(0)
    assert steps.steps == ["a in", "a CancelledError", "a out"]
    assert (dispatcher.threads.busy, dispatcher.threads.stuck) == (1, 1)
    returns.set()
    async with asyncio.timeout(UNTIL_SETTLED):
        while dispatcher.threads.busy:
            await asyncio.sleep(0)
    dispatcher.close()


async def test_middleware_that_runs_out_of_time_leaves_its_thread_free() -> None:
    router = Router("v", timeout=0.05)

    @router.middleware
    async def slow(call: Call, data: Any, call_next: CallNext) -> Any:
        await asyncio.Event().wait()

    @router.on("m")
    def never(call: Call) -> None:
        raise AssertionError("called")

    settled = Settled()
    dispatcher = a_dispatcher(router, settled, threads=1)
    dispatcher.dispatch(a_request())
    outcome = await settled.first()
    assert isinstance(outcome, Failure)
    assert "stuck" not in outcome.error
    async with asyncio.timeout(UNTIL_SETTLED):
        while dispatcher.threads.busy:
            await asyncio.sleep(0)
    dispatcher.close()


async def test_as_many_functions_with_middleware_run_at_a_time_as_there_are_threads() -> None:
    at_work, most = 0, 0
    lock = threading.Lock()
    router = Router("v")

    @router.middleware
    async def through(call: Call, data: Any, call_next: CallNext) -> Any:
        return await call_next(call, data)

    @router.on("m")
    def counting(call: Call) -> None:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        time.sleep(0.01)
        with lock:
            at_work -= 1

    settled = Settled()
    dispatcher = a_dispatcher(router, settled, threads=2)
    for _ in range(8):
        dispatcher.dispatch(a_request())
    assert (dispatcher.threads.busy, dispatcher.threads.waiting) == (2, 6)
    await settled.until(8)
    assert most == 2
    dispatcher.close()


async def test_data_that_does_not_fit_does_not_come_to_middleware() -> None:
    router = Router("v")

    @router.middleware
    async def never(call: Call, data: Any, call_next: CallNext) -> Any:
        raise AssertionError("called")

    @router.on("m")
    async def number(call: Call, data: int) -> None: ...

    outcome = await dispatched(router, a_request(payload(data="x")))
    assert isinstance(outcome, Reply)
    assert decode_response(outcome.body, DEFAULT_VERSION).status == "Rejected"


async def test_an_object_that_can_be_called_is_named_in_a_failure() -> None:
    class Thing:
        async def __call__(self, call: Call) -> None:
            raise KeyError("x")

        def __repr__(self) -> str:
            return "<thing>"

    steps = Steps()
    router = Router("v")
    router.on("m")(Thing())
    router.middleware(steps.middleware("a"))
    outcome = await dispatched(router, a_request())
    assert isinstance(outcome, Failure)
    assert outcome.raised is not None
    assert qualified_name(outcome.raised.handler).endswith("<thing>")
