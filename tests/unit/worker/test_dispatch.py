"""Every request gets exactly one outcome, whatever its body, its handler and its deadline."""

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from typing import Any

import msgspec
import pytest
from msgspec import Raw, Struct

from bridge import (
    Call,
    CallError,
    CallNext,
    DataTransferResponse,
    Rejected,
    Retry,
    Router,
    StatusInfo,
)
from bridge.ocpp import ErrorCode, OcppVersion, decode_call_error, decode_response
from bridge.request.outcome import Dropped, Failure, Kind, Late, Outcome, Reason, Reply, RetryLater
from bridge.worker.dispatch import Expired
from tests.support import UNTIL_SETTLED, Settled, a_dispatcher, a_request, dispatched, payload

VERSIONS = tuple(OcppVersion)
V16, V20, V201, V21 = VERSIONS


class Tariff(Struct):
    price: float


class Broken(Struct):
    """Its own code breaks."""

    def __post_init__(self) -> None:
        raise KeyError("secret")


class BrokenZone(tzinfo):
    def utcoffset(self, moment: datetime | None) -> timedelta:
        raise KeyError("secret")

    dst = utcoffset

    def tzname(self, moment: datetime | None) -> str:
        return "broken"


def answers(value: Any) -> Callable[..., Any]:
    """A handler that returns `value`, or raises it."""

    async def handler(call: Call) -> Any:
        if isinstance(value, BaseException):
            raise value
        return value

    return handler


def router_of(function: Callable[..., Any], *, timeout: float = 20.0) -> Router:
    router = Router("v", timeout=timeout)
    router.on("m")(function)
    return router


def response(outcome: Outcome, version: OcppVersion) -> DataTransferResponse:
    assert isinstance(outcome, Reply)
    assert outcome.kind is Kind.RESPONSE
    return decode_response(outcome.body, version, strict=True)


def refusal(outcome: Outcome, version: OcppVersion) -> CallError:
    """A CALLERROR that is an answer like any other."""
    assert isinstance(outcome, Reply)
    assert outcome.kind is Kind.CALL_ERROR
    error = decode_call_error(outcome.body)
    assert error.for_version(version) in msgspec.json.decode(outcome.body)["errorCode"]
    return error


def failure(outcome: Outcome, reason: Reason, code: ErrorCode) -> Failure:
    assert isinstance(outcome, Failure)
    assert outcome.reason is reason
    assert outcome.body is not None
    assert decode_call_error(outcome.body).code is code
    return outcome


# ---- answers ----


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("value", "body", "body_1_6"),
    [
        (None, b'{"status":"Accepted"}', None),
        ("text", b'{"status":"Accepted","data":"text"}', None),
        (b"a;b", b'{"status":"Accepted","data":"a;b"}', None),
        (
            Tariff(1.5),
            b'{"status":"Accepted","data":{"price":1.5}}',
            rb'{"status":"Accepted","data":"{\"price\":1.5}"}',
        ),
        (
            [1, None],
            b'{"status":"Accepted","data":[1,null]}',
            b'{"status":"Accepted","data":"[1,null]"}',
        ),
        (
            Raw(b'{ "b":1, "a":null }'),
            b'{"status":"Accepted","data":{ "b":1, "a":null }}',
            rb'{"status":"Accepted","data":"{ \"b\":1, \"a\":null }"}',
        ),
        (False, b'{"status":"Accepted","data":false}', b'{"status":"Accepted","data":"false"}'),
    ],
)
async def test_what_a_handler_returns_is_accepted_with_it_as_data(
    value: Any, body: bytes, body_1_6: bytes | None, version: OcppVersion
) -> None:
    outcome = await dispatched(router_of(answers(value)), a_request(version=version))
    assert outcome == Reply(body_1_6 if version is V16 and body_1_6 is not None else body)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_response_is_sent_as_it_is(version: OcppVersion) -> None:
    own = DataTransferResponse("Rejected", "why", StatusInfo("Code"))
    sent = response(await dispatched(router_of(answers(own)), a_request(version=version)), version)
    assert (sent.status, sent.data) == ("Rejected", "why")
    assert sent.status_info == (StatusInfo("Code") if version in {V201, V21} else None)


@pytest.mark.parametrize(
    "value",
    [
        DataTransferResponse("accepted"),
        DataTransferResponse("Accepted", status_info=StatusInfo("x" * 21)),
        DataTransferResponse("Accepted", object()),
        object(),
        Raw(b"{"),
        b"\xff",
        "\ud800",
        datetime(2026, 1, 1, tzinfo=BrokenZone()),
        (number for number in range(3)),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_an_answer_that_cannot_be_sent_is_our_fault(value: Any) -> None:
    failure(
        await dispatched(router_of(answers(value)), a_request()),
        Reason.FAILED,
        ErrorCode.INTERNAL_ERROR,
    )


async def test_an_answer_that_is_too_big_is_our_fault() -> None:
    body = payload()
    fits = await dispatched(router_of(answers("x" * 100)), a_request(body), max_body=131)
    assert isinstance(fits, Reply)
    assert len(fits.body) == 131
    too_big = await dispatched(router_of(answers("x" * 101)), a_request(body), max_body=131)
    assert "132 bytes" in failure(too_big, Reason.FAILED, ErrorCode.INTERNAL_ERROR).error


# ---- requests ----


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_unknown_vendor_and_message_are_told_so(version: OcppVersion) -> None:
    router = router_of(answers(None))
    for vendor_id, message_id, status in (
        ("w", "m", b"UnknownVendorId"),
        ("v", "n", b"UnknownMessageId"),
        ("v", None, b"UnknownMessageId"),
        ("v", "", b"UnknownMessageId"),
    ):
        request = a_request(payload(vendor_id, message_id), version=version)
        assert await dispatched(router, request) == Reply(b'{"status":"%b"}' % status)


async def test_a_handler_is_told_of_its_request() -> None:
    seen: list[Call] = []

    async def handler(call: Call, data: Any) -> None:
        seen.append(call)

    deadline = time.time() + 60
    body = payload("V", "M", {"a": None})
    await dispatched(
        router_of(handler),
        a_request(body, version=V21, deadline=deadline, attempt=2, redelivered=True),
    )
    (call,) = seen
    assert (call.station_id, call.vendor_id, call.message_id, call.ocpp_version) == (
        "CP001",
        "V",
        "M",
        V21,
    )
    assert (call.ocpp_message_id, call.deadline, call.attempt, call.redelivered) == (
        "1",
        deadline,
        2,
        True,
    )
    assert call.remaining is not None
    assert 50 < call.remaining <= 60
    assert call.request.data == {"a": None}
    assert repr(call) == "<Call V M from CP001 attempt=2>"


@pytest.mark.parametrize("version", VERSIONS)
async def test_data_that_does_not_fit_is_rejected_with_the_path_of_the_fault(
    version: OcppVersion,
) -> None:
    async def handler(call: Call, data: Tariff) -> None:
        raise AssertionError("called with data that does not fit")

    request = a_request(payload(data={"price": "x"}), version=version)
    sent = response(await dispatched(router_of(handler), request), version)
    assert sent.status == "Rejected"
    expected = StatusInfo("InvalidData", "data.price: expected a number, got a string")
    assert sent.status_info == (expected if version in {V201, V21} else None)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", ErrorCode.FORMAT_VIOLATION),
        (b"{", ErrorCode.FORMAT_VIOLATION),
        (b"\xff\xfe", ErrorCode.FORMAT_VIOLATION),
        (b"[]", ErrorCode.TYPE_CONSTRAINT_VIOLATION),
        (b"{}", ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION),
        (b'{"vendorId":1}', ErrorCode.TYPE_CONSTRAINT_VIOLATION),
        (payload("v" * 256), ErrorCode.PROPERTY_CONSTRAINT_VIOLATION),
        (payload("v", "m" * 51), ErrorCode.PROPERTY_CONSTRAINT_VIOLATION),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_a_broken_payload_is_refused_in_the_words_of_its_version(
    body: bytes, code: ErrorCode, version: OcppVersion
) -> None:
    assert (
        refusal(
            await dispatched(router_of(answers(None)), a_request(body, version=version)), version
        ).code
        is code
    )


async def test_a_body_is_taken_up_to_the_limit() -> None:
    body = payload()
    at_the_limit = await dispatched(router_of(answers(None)), a_request(body), max_body=len(body))
    assert at_the_limit == Reply(b'{"status":"Accepted"}')
    error = refusal(
        await dispatched(router_of(answers(None)), a_request(body), max_body=len(body) - 1), V201
    )
    assert error.code is ErrorCode.PROPERTY_CONSTRAINT_VIOLATION
    assert error.description == f"payload: {len(body)} bytes, and at most {len(body) - 1} are taken"


async def test_a_message_that_breaks_the_contract_is_refused_with_its_fault() -> None:
    error = refusal(
        await dispatched(router_of(answers(None)), a_request(fault="header x: wrong")), V201
    )
    assert (error.code, error.description) == (ErrorCode.PROTOCOL_ERROR, "header x: wrong")


async def test_strict_refuses_unknown_fields_and_otherwise_they_are_ignored() -> None:
    request = a_request(b'{"vendorId":"v","messageId":"m","more":1}')
    assert await dispatched(router_of(answers(None)), request) == Reply(b'{"status":"Accepted"}')
    error = refusal(await dispatched(router_of(answers(None)), request, strict=True), V201)
    assert (error.code, error.description) == (ErrorCode.FORMAT_VIOLATION, "more: unknown field")


# ---- what handlers raise ----


class Odd(BaseException):
    """Not even an Exception."""


class Untold(Exception):
    def __str__(self) -> str:
        raise KeyError("secret")


async def suspended(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


@pytest.mark.parametrize(
    "error",
    [
        ValueError("secret"),
        TimeoutError("secret"),
        StopIteration("secret"),
        StopAsyncIteration("secret"),
        asyncio.CancelledError("secret"),
        GeneratorExit("secret"),
        RecursionError("secret"),
        BaseExceptionGroup("secret", [Odd()]),
        Odd("secret"),
        Untold("secret"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("kind", ["at once", "suspended", "in a thread", "coroutine from a thread"])
async def test_any_exception_is_a_failure_and_its_text_stays_here(
    error: BaseException, kind: str
) -> None:
    async def waits(call: Call) -> None:
        await suspended(error)

    def plain(call: Call) -> None:
        raise error

    def returns_coroutine(call: Call) -> Any:
        return suspended(error)

    handlers = {
        "at once": answers(error),
        "suspended": waits,
        "in a thread": plain,
        "coroutine from a thread": returns_coroutine,
    }
    outcome = await dispatched(router_of(handlers[kind]), a_request())
    failed = failure(outcome, Reason.FAILED, ErrorCode.INTERNAL_ERROR)
    assert b"secret" not in (failed.body or b"")


async def test_a_function_that_raises_before_it_is_a_coroutine_is_a_failure() -> None:
    class Raises:
        """Decorated so that it seems to be a coroutine function."""

        async def __call__(self, call: Call) -> None: ...

    handler = Raises()
    router = router_of(handler)
    Raises.__call__ = lambda *_: 1 / 0  # type: ignore[method-assign, assignment]
    failure(await dispatched(router, a_request()), Reason.FAILED, ErrorCode.INTERNAL_ERROR)


async def test_a_type_that_raises_while_it_is_decoded_is_a_failure() -> None:
    async def handler(call: Call, data: Broken) -> None: ...

    outcome = await dispatched(router_of(handler), a_request(payload(data={})))
    assert "KeyError" in failure(outcome, Reason.FAILED, ErrorCode.INTERNAL_ERROR).error


@pytest.mark.parametrize("plain", [False, True])
async def test_rejected_retry_and_call_error_are_answers(plain: bool) -> None:
    def router(error: Exception) -> Router:
        def raises(call: Call) -> None:
            raise error

        return router_of(raises if plain else answers(error))

    sent = response(await dispatched(router(Rejected("No", "because")), a_request()), V201)
    assert (sent.status, sent.status_info) == ("Rejected", StatusInfo("No", "because"))
    error = refusal(
        await dispatched(router(CallError("SecurityError", "no")), a_request(version=V16)), V16
    )
    assert error.code is ErrorCode.SECURITY_ERROR
    later = await dispatched(router(Retry(2.0, "db down")), a_request())
    assert isinstance(later, RetryLater)
    assert later.after == 2.5
    exhausted = await dispatched(router(Retry(2.0)), a_request(deadline=time.time() + 1.0))
    failure(exhausted, Reason.RETRIES_EXHAUSTED, ErrorCode.INTERNAL_ERROR)


async def test_a_plain_function_runs_in_a_thread_and_what_it_returns_is_awaited() -> None:
    async def later(value: Any) -> Any:
        await asyncio.sleep(0)
        return value

    def handler(call: Call) -> Any:
        assert threading.current_thread() is not threading.main_thread()
        return later("from a thread")

    outcome = await dispatched(router_of(handler), a_request())
    assert outcome == Reply(b'{"status":"Accepted","data":"from a thread"}')


async def test_at_most_threads_plain_functions_run_at_a_time() -> None:
    lock = threading.Lock()
    running, most = 0, 0
    together = threading.Barrier(2)
    threads: set[str] = set()

    def handler(call: Call) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            threads.add(threading.current_thread().name)
        together.wait(UNTIL_SETTLED)
        with lock:
            running -= 1

    settled = Settled()
    dispatcher = a_dispatcher(router_of(handler), settled, threads=2)
    for _ in range(6):
        dispatcher.dispatch(a_request())
    await settled.until(6)
    dispatcher.close()
    assert most == 2
    assert len(threads) == 2
    assert all(name.startswith("handler") for name in threads), "threads of its own"
    assert set(settled.outcomes) == {Reply(b'{"status":"Accepted"}')}


# ---- time ----

SHORT = 0.02
"""Seconds that a handler may take which is to run out of them."""


async def test_a_handler_that_takes_too_long_is_cancelled() -> None:
    cancelled = asyncio.Event()

    async def handler(call: Call) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    outcome = await dispatched(router_of(handler, timeout=SHORT), a_request())
    assert (
        "handler took longer than 0.02 s"
        in failure(outcome, Reason.TIMED_OUT, ErrorCode.GENERIC_ERROR).error
    )
    async with asyncio.timeout(UNTIL_SETTLED):
        await cancelled.wait()


@pytest.mark.parametrize("end", [None, ValueError("too late"), Odd("too late")])
async def test_a_handler_that_ignores_its_cancellation_is_answered_for_in_time(
    end: BaseException | None,
) -> None:
    go_on = asyncio.Event()
    ended = asyncio.Event()

    async def handler(call: Call) -> None:
        while not go_on.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go_on.wait()
        ended.set()
        if end is not None:
            raise end

    settled = Settled()
    dispatcher = a_dispatcher(router_of(handler, timeout=SHORT), settled)
    dispatcher.dispatch(a_request())
    failure(await settled.first(), Reason.TIMED_OUT, ErrorCode.GENERIC_ERROR)
    assert not dispatcher.waiting
    go_on.set()
    await ended.wait()
    await asyncio.sleep(0)
    assert len(settled.outcomes) == 1


async def test_a_thread_that_takes_too_long_is_answered_for_in_time() -> None:
    release = threading.Event()

    def handler(call: Call) -> None:
        release.wait(UNTIL_SETTLED)

    outcome = await dispatched(router_of(handler, timeout=SHORT), a_request())
    release.set()
    failure(outcome, Reason.TIMED_OUT, ErrorCode.GENERIC_ERROR)


async def test_the_deadline_bounds_a_handler_and_then_nobody_is_told() -> None:
    async def handler(call: Call) -> None:
        await asyncio.Event().wait()

    outcome = await dispatched(router_of(handler), a_request(deadline=time.time() + SHORT))
    assert isinstance(outcome, Failure)
    assert outcome.reason in {
        Reason.EXPIRED,
        Reason.TIMED_OUT,
    }  # the two clocks may differ by a millisecond
    assert (outcome.body is None) is (outcome.reason is Reason.EXPIRED)


async def test_a_handler_that_ends_after_the_deadline_is_late() -> None:
    async def handler(call: Call) -> str:
        time.sleep((call.remaining or 0.0) + 0.001)  # noqa: ASYNC251 - the handler that blocks the loop
        return "too late"

    assert await dispatched(router_of(handler), a_request(deadline=time.time() + SHORT)) == Late()


def forbidden(call: Call) -> None:
    raise AssertionError("called though its deadline had passed")


async def test_an_expired_request_is_kept_dropped_or_handled_as_configured() -> None:
    expired = a_request(deadline=time.time() - 1)
    kept = await dispatched(router_of(forbidden), expired)
    assert isinstance(kept, Failure)
    assert (kept.body, kept.reason) == (None, Reason.EXPIRED)
    assert kept == await dispatched(router_of(forbidden), expired, expired=Expired.DEAD_LETTER)
    assert await dispatched(router_of(forbidden), expired, expired=Expired.DROP) == Dropped()


async def test_what_is_expired_is_not_even_read() -> None:
    for body, fault in ((b"{", None), (payload(), "header x: wrong")):
        outcome = await dispatched(router_of(forbidden), a_request(body, deadline=1.0, fault=fault))
        assert isinstance(outcome, Failure)
        assert outcome.reason is Reason.EXPIRED


@pytest.mark.parametrize("kind", ["at once", "suspended", "in a thread"])
async def test_an_expired_request_that_is_to_be_handled_is_given_its_time(kind: str) -> None:
    done = threading.Event()

    async def at_once(call: Call) -> None:
        done.set()

    async def waits(call: Call) -> None:
        await asyncio.sleep(SHORT)
        done.set()

    def plain(call: Call) -> None:
        time.sleep(SHORT)
        done.set()

    handler = {"at once": at_once, "suspended": waits, "in a thread": plain}[kind]
    request = a_request(deadline=time.time() - 1)
    assert await dispatched(router_of(handler), request, expired=Expired.HANDLE) == Late()
    assert done.is_set()


async def test_an_expired_request_that_is_to_be_handled_can_still_run_out_of_time() -> None:
    async def handler(call: Call) -> None:
        await asyncio.Event().wait()

    request = a_request(deadline=time.time() - 1)
    outcome = await dispatched(router_of(handler, timeout=SHORT), request, expired=Expired.HANDLE)
    assert isinstance(outcome, Failure)
    assert outcome.body is None


async def test_closing_stops_handlers_and_settles_nothing() -> None:
    cancelled = asyncio.Event()

    async def handler(call: Call) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    settled = Settled()
    dispatcher = a_dispatcher(router_of(handler), settled)
    dispatcher.dispatch(a_request())
    await asyncio.sleep(0)
    assert len(dispatcher.waiting) == 1
    dispatcher.close()
    await cancelled.wait()
    await asyncio.sleep(0)
    assert not dispatcher.waiting
    assert not settled.outcomes


@pytest.mark.skipif(
    sys.version_info < (3, 12),
    reason="before 3.12 no handler starts within dispatch; see test_command",
)
async def test_a_handler_that_exits_at_once_is_a_failure_like_any_other() -> None:
    router = Router("v")

    @router.on("m")
    async def exits(call: Call) -> None:
        raise SystemExit(3)

    outcome = await dispatched(router, a_request())
    assert isinstance(outcome, Failure)
    assert "SystemExit" in outcome.error


class Interrupting(Struct):
    """Its own code raises what no `except Exception` catches."""

    kind: str

    def __post_init__(self) -> None:
        raise {"exit": SystemExit, "interrupt": KeyboardInterrupt, "odd": Odd}[self.kind]("own")


class InterruptingZone(BrokenZone):
    def utcoffset(self, moment: datetime | None) -> timedelta:
        raise KeyboardInterrupt("own")


class Mute(Exception):
    def __str__(self) -> str:
        raise SystemExit("own")


@pytest.mark.parametrize("kind", ["exit", "interrupt", "odd"])
async def test_whatever_a_type_raises_while_it_is_decoded_is_a_failure(kind: str) -> None:
    router = Router("v")

    @router.on("m")
    async def handler(call: Call, data: Interrupting) -> None: ...

    request = a_request(payload(data={"kind": kind}), version=V201)
    failure(await dispatched(router, request), Reason.FAILED, ErrorCode.INTERNAL_ERROR)


@pytest.mark.parametrize("version", VERSIONS)
async def test_whatever_an_answer_raises_while_it_is_encoded_is_a_failure(
    version: OcppVersion,
) -> None:
    answer = datetime(2026, 1, 1, tzinfo=InterruptingZone())
    outcome = await dispatched(router_of(answers(answer)), a_request(version=version))
    failure(outcome, Reason.FAILED, ErrorCode.INTERNAL_ERROR)


async def test_an_error_whose_text_raises_whatever_it_likes_is_a_failure() -> None:
    outcome = await dispatched(router_of(answers(Mute())), a_request())
    assert "Mute: (its text cannot be had)" in (
        failure(outcome, Reason.FAILED, ErrorCode.INTERNAL_ERROR).error
    )


async def test_a_decorator_that_raises_whatever_it_likes_is_a_failure() -> None:
    class Decorated:
        async def __call__(self, call: Call) -> None: ...

    router = Router("v")
    router.on("m")(Decorated())

    def raises(self: Decorated, call: Call) -> None:
        raise Odd("before it is a coroutine")

    Decorated.__call__ = raises  # type: ignore[method-assign,assignment]
    failure(await dispatched(router, a_request()), Reason.FAILED, ErrorCode.INTERNAL_ERROR)


async def test_a_handler_is_not_measured_with_what_others_hold_it_up_for() -> None:
    router = Router("v")

    @router.on("blocks")
    async def blocks(call: Call) -> None:
        time.sleep(0.2)  # noqa: ASYNC251 - the loop is to be blocked

    @router.on("m")
    async def answers(call: Call) -> str:
        return "done"

    @router.on("waits")
    async def waits(call: Call) -> str:
        await asyncio.sleep(0.01)
        return "done"

    settled = Settled()
    dispatcher = a_dispatcher(router, settled)
    asyncio.get_running_loop().call_soon(time.sleep, 0.2)
    requests = [
        a_request(payload(message_id=name)) for name in ("m", "blocks", "m", "waits", "blocks", "m")
    ]
    for request in requests:
        request.arrived = time.monotonic()  # so it is measured
        dispatcher.dispatch(request)
    await settled.until(len(requests))
    took = [(each.ended or 0.0) - (each.begun or 0.0) for each in requests]
    assert all(seconds < 0.15 for at, seconds in enumerate(took) if at in (0, 2, 5))
    assert all(0.2 <= took[at] < 0.35 for at in (1, 4))
    dispatcher.close()


# ---- a middleware that keeps replies ----


@pytest.mark.parametrize(
    "outcome",
    [Reply(b'{"status":"Rejected"}'), Reply(b"{}", Kind.CALL_ERROR), RetryLater(0.5, counts=False)],
)
async def test_what_a_middleware_has_kept_is_the_outcome_as_it_is(outcome: Outcome) -> None:
    router = router_of(answers("not asked"))

    @router.middleware
    async def keeping(call: Call, data: Any, call_next: CallNext) -> Any:
        return outcome

    assert await dispatched(router, a_request()) is outcome
    late = a_request(deadline=time.time() - 1.0)
    assert await dispatched(router, late, expired=Expired.HANDLE) == Late()
