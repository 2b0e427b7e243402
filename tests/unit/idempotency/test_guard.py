"""Each request handled once: the guard before the dispatcher."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from bridge import Call, Rejected, Retry, Router
from bridge.idempotency.guard import BUSY_RETRY, Guard, Once
from bridge.idempotency.memory import MemoryStore
from bridge.idempotency.store import Begun, Key, Running
from bridge.ocpp import OcppVersion
from bridge.request.chain import Dispatch, chain
from bridge.request.incoming import Request
from bridge.request.outcome import (
    Dropped,
    Failure,
    Kind,
    Late,
    Outcome,
    Reason,
    Reply,
    RetryLater,
)
from bridge.request.retry import DELAYS, RetryPolicy
from bridge.routing.router import Routes
from bridge.worker.dispatch import Dispatcher, Expired
from tests.support import UNTIL_SETTLED, a_request, payload


class NetworkStore:
    """A memory store behind a network: each call takes a turn, and fails when it is told to."""

    def __init__(self) -> None:
        self.memory = MemoryStore()
        self.down = False
        self.calls: list[str] = []

    async def _call(self, name: str) -> None:
        self.calls.append(name)
        await asyncio.sleep(0)
        if self.down:
            raise ConnectionError("no store")

    async def begin(self, key: Key) -> Begun:
        await self._call("begin")
        return self.memory.begin(key)

    async def finish(self, key: Key, reply: Reply) -> None:
        await self._call("finish")
        self.memory.finish(key, reply)

    async def forget(self, key: Key) -> None:
        await self._call("forget")
        self.memory.forget(key)


class PlainStore(MemoryStore):
    """One that fails when it is told to."""

    down = False

    def _check(self) -> None:
        if self.down:
            raise ConnectionError("no store")

    def begin(self, key: Key) -> Begun:
        self._check()
        return super().begin(key)

    def finish(self, key: Key, reply: Reply) -> None:
        self._check()
        super().finish(key, reply)

    def forget(self, key: Key) -> None:
        self._check()
        super().forget(key)


class Bench:
    """A guard, what its requests were settled with, and how often their handler ran."""

    def __init__(self, store: Any, **settings: Any) -> None:
        self.store = store
        self.runs = 0
        self.absorbed = 0
        self.store_errors = 0
        self.outcomes: list[tuple[Request, Outcome]] = []
        self.next: Dispatch
        self.go_on = asyncio.Event()
        self.result: Callable[[], Any] = lambda: "done"
        self._changed = asyncio.Event()
        self.once = Once(store, on_absorbed=self._count_absorbed, on_store_error=self._count_error)
        router = Router("v", retry=RetryPolicy(jitter=0))
        router.on("m", timeout=settings.pop("timeout", 20.0))(self._handler)
        routes = Routes([router])
        self.guard = Guard(self.once)
        self.dispatcher = Dispatcher(routes, **settings)
        chain(self, self.guard, self.dispatcher)

    async def _handler(self, call: Call, data: Any = None) -> Any:
        self.runs += 1
        await self.go_on.wait()
        return self.result()

    def _count_absorbed(self) -> None:
        self.absorbed += 1

    def _count_error(self) -> None:
        self.store_errors += 1

    def settled(self, request: Request, outcome: Outcome) -> None:
        self.outcomes.append((request, outcome))
        self._changed.set()

    def send(self, count: int = 1, **fields: Any) -> list[Request]:
        requests = [a_request(**fields) for _ in range(count)]
        for request in requests:
            self.next(request)
        return requests

    async def until(self, count: int) -> list[Outcome]:
        """The outcomes, once there are so many, and no more."""
        async with asyncio.timeout(UNTIL_SETTLED):
            while len(self.outcomes) < count:
                self._changed.clear()
                await self._changed.wait()
        await turns()
        assert len(self.outcomes) == count
        return [outcome for _, outcome in self.outcomes]


async def turns(count: int = 8) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


DONE = Reply(b'{"status":"Accepted","data":"done"}')


@pytest.fixture(params=[MemoryStore, NetworkStore])
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(request.param())


async def test_the_first_delivery_runs_and_those_that_come_meanwhile_get_its_reply(
    bench: Bench,
) -> None:
    requests = bench.send(3)
    await turns()
    assert (bench.runs, bench.outcomes) == (1, [])
    bench.go_on.set()
    assert await bench.until(3) == [DONE] * 3
    assert {id(request) for request, _ in bench.outcomes} == set(map(id, requests))
    assert (bench.runs, bench.absorbed, bench.once.followers) == (1, 2, {})


async def test_a_delivery_that_comes_later_is_given_the_stored_reply(bench: Bench) -> None:
    bench.go_on.set()
    bench.send()
    await bench.until(1)
    bench.send(2, redelivered=True)
    assert await bench.until(3) == [DONE] * 3
    assert (bench.runs, bench.absorbed) == (1, 2)


def response(error: Exception) -> Callable[[], Any]:
    def raises() -> None:
        raise error

    return raises


async def test_rejections_are_replies_and_stored(bench: Bench) -> None:
    bench.go_on.set()
    bench.result = response(Rejected("No"))
    bench.send()
    await bench.until(1)
    bench.send()
    first, second = await bench.until(2)
    assert first == second
    assert isinstance(first, Reply)
    assert bench.runs == 1


async def test_the_same_message_id_is_another_request_with_another_payload_or_station(
    bench: Bench,
) -> None:
    bench.go_on.set()
    first = a_request(payload(data=1))
    other_payload = a_request(payload(data=2))
    other_station = msgspec.structs.replace(first, station_id="CP002")
    other_id = a_request(payload(data=1), ocpp_message_id="2")
    colons = [
        msgspec.structs.replace(
            a_request(payload(data=1), ocpp_message_id=message_id), station_id=station_id
        )
        for message_id, station_id in (("a:b", "c"), ("a", "b:c"))
    ]
    other_version = a_request(
        payload(data=1), version=OcppVersion.V1_6
    )  # its answer may be written in another way
    for request in (first, other_payload, other_station, other_id, other_version, *colons):
        bench.guard.dispatch(request)
    assert await bench.until(7) == [DONE] * 7
    assert (bench.runs, bench.absorbed) == (7, 0)


@pytest.mark.parametrize(
    "origin", ["another", ("c1", None), ("c1", 1), ("c2", 1), ("user", "connection"), None]
)
async def test_the_same_message_is_another_request_from_another_origin(
    bench: Bench, origin: Any
) -> None:
    bench.go_on.set()
    bench.send()
    bench.send(origin=origin)
    bench.send()
    bench.send(origin=origin)
    assert await bench.until(4) == [DONE] * 4
    assert (bench.runs, bench.absorbed) == (2, 2)


async def test_what_nobody_tells_apart_is_a_new_request_each_time_it_comes_after_the_answer(
    bench: Bench,
) -> None:
    bench.go_on.set()
    bench.result = lambda: bench.runs
    for number in range(1, 4):
        bench.send(told_apart=False)
        assert (await bench.until(number))[-1] == Reply(b'{"status":"Accepted","data":%d}' % number)
    assert (bench.runs, bench.absorbed) == (3, 0)


@pytest.mark.parametrize("again", [{"redelivered": True}, {"first_try": 1.0}])
async def test_what_is_sent_again_gets_the_latest_reply_even_if_nobody_tells_it_apart(
    bench: Bench, again: dict[str, Any]
) -> None:
    bench.go_on.set()
    bench.result = lambda: bench.runs
    bench.send(told_apart=False)
    await bench.until(1)
    bench.send(told_apart=False)
    await bench.until(2)
    bench.send(told_apart=False, **again)
    assert (await bench.until(3))[2] == Reply(b'{"status":"Accepted","data":2}')
    assert (bench.runs, bench.absorbed) == (2, 1)


async def test_what_comes_again_while_it_is_handled_anew_waits_for_that_and_not_the_old_reply(
    bench: Bench,
) -> None:
    bench.go_on.set()
    bench.result = lambda: bench.runs
    bench.send(told_apart=False)
    await bench.until(1)
    bench.go_on.clear()
    bench.send(told_apart=False)
    await turns()
    bench.send(told_apart=False)
    bench.send(told_apart=False, redelivered=True)
    await turns()
    assert len(bench.outcomes) == 1
    bench.go_on.set()
    assert (await bench.until(4))[1:] == [Reply(b'{"status":"Accepted","data":2}')] * 3
    assert (bench.runs, bench.absorbed) == (2, 2)


@pytest.mark.parametrize("message_id", [None, ""])
async def test_a_request_without_a_message_id_has_no_repetition(
    bench: Bench, message_id: str | None
) -> None:
    bench.go_on.set()
    bench.send(2, ocpp_message_id=message_id)
    assert await bench.until(2) == [DONE] * 2
    assert bench.runs == 2


async def test_a_message_that_breaks_the_contract_is_not_stored(bench: Bench) -> None:
    bench.send(2, fault="header x: wrong")
    for outcome in await bench.until(2):
        assert isinstance(outcome, Reply)
        assert outcome.kind is Kind.CALL_ERROR
    bench.go_on.set()
    bench.send()
    assert (await bench.until(3))[2] == DONE


async def test_a_failure_is_one_dead_letter_and_told_to_all_who_wait(bench: Bench) -> None:
    bench.result = response(ValueError("broken"))
    bench.send(3)
    await turns()
    bench.go_on.set()
    leader, *followers = await bench.until(3)
    assert isinstance(leader, Failure)
    assert leader.reason is Reason.FAILED
    assert followers == [Reply(leader.body or b"", Kind.CALL_ERROR)] * 2
    assert bench.absorbed == 2


async def test_a_failure_is_not_stored_and_the_request_may_be_handled_again(bench: Bench) -> None:
    bench.go_on.set()
    bench.result = response(ValueError("broken"))
    bench.send()
    await bench.until(1)
    bench.result = lambda: "done"
    bench.send()
    assert (await bench.until(2))[1] == DONE
    assert bench.runs == 2


async def test_all_who_wait_for_a_request_that_is_tried_again_are_tried_again(bench: Bench) -> None:
    bench.result = response(Retry(5))
    bench.send(2)
    await turns()
    bench.go_on.set()
    outcomes = await bench.until(2)
    assert [type(outcome) for outcome in outcomes] == [RetryLater, RetryLater]
    assert {outcome.after for outcome in outcomes if isinstance(outcome, RetryLater)} == {5.0}
    assert bench.absorbed == 0
    bench.result = lambda: "done"
    bench.send(2, attempt=2)
    assert (await bench.until(4))[2:] == [DONE, DONE]
    assert bench.runs == 2


SHORT = 0.05


async def test_one_whose_deadline_is_open_is_tried_again_when_the_one_it_waited_for_had_no_time(
    bench: Bench,
) -> None:
    """The first ends at its deadline, without an answer; somebody still waits for the last."""
    first = bench.send(2, deadline=time.time() + 60)
    bench.send(deadline=time.time() + 60)
    await turns()
    (race,) = bench.dispatcher.waiting
    for request in first:
        request.deadline = time.time() - 1  # their time passes
    race.lose()  # as its timer would end it
    leader, early, open_ = await bench.until(3)
    assert isinstance(leader, Failure)
    if leader.body is None:  # its timer may fire a millisecond before the deadline
        assert early == Late()
        assert isinstance(open_, RetryLater)
        assert (open_.after, open_.counts) == (DELAYS[0], False)
    else:
        assert open_ == Reply(leader.body, Kind.CALL_ERROR)


@pytest.mark.parametrize(
    "outcome", [Late(), Dropped(), Failure(None, Reason.EXPIRED)], ids=lambda o: type(o).__name__
)
async def test_an_outcome_without_an_answer_leaves_nobody_in_vain(outcome: Outcome) -> None:
    bench = Bench(MemoryStore())
    bench.send()
    (late,) = bench.send(deadline=time.time() - 1)
    (open_,) = bench.send(deadline=time.time() + 60)
    (without,) = bench.send()
    await turns()
    ((key, _),) = bench.once.followers.items()
    bench.once.tell_followers(key, outcome)
    again = RetryLater(DELAYS[0], "the one it waited for had no time left", counts=False)
    assert bench.outcomes == [(late, Late()), (open_, again), (without, again)]
    assert bench.absorbed == 1
    bench.dispatcher.close()


@pytest.mark.parametrize(
    "outcome", [DONE, Failure(b"{}", Reason.FAILED)], ids=lambda o: type(o).__name__
)
async def test_a_reply_too_late_for_one_who_waited_is_not_sent(outcome: Outcome) -> None:
    bench = Bench(MemoryStore())
    bench.send()
    (late,) = bench.send(deadline=time.time() - 1)
    await turns()
    ((key, _),) = bench.once.followers.items()
    bench.once.tell_followers(key, outcome)
    assert bench.outcomes == [(late, Late())]
    bench.dispatcher.close()


async def test_a_stored_reply_is_not_sent_after_the_deadline_and_the_request_is_done(
    bench: Bench,
) -> None:
    bench.go_on.set()
    bench.send()
    await bench.until(1)
    bench.send(deadline=time.time() - 1)
    assert (await bench.until(2))[1] == Late()
    assert bench.runs == 1


async def test_an_expired_request_that_was_never_handled_is_given_up(bench: Bench) -> None:
    for number in (1, 2):
        bench.send(deadline=time.time() - 1)
        outcome = (await bench.until(number))[-1]
        assert isinstance(outcome, Failure)
        assert outcome.reason is Reason.EXPIRED
    assert bench.runs == 0


async def test_expired_requests_that_are_to_be_handled_are_handled_once() -> None:
    bench = Bench(MemoryStore(), expired=Expired.HANDLE)
    bench.send(2, deadline=time.time() - 1)
    await turns()
    bench.go_on.set()
    assert await bench.until(2) == [Late(), Late()]
    assert bench.runs == 1


class Elsewhere(MemoryStore):
    """Another worker has the request."""

    def begin(self, key: Key) -> Begun:
        return Running.ELSEWHERE


async def test_a_request_that_another_worker_is_handling_comes_back_without_counting_as_a_try() -> (
    None
):
    bench = Bench(Elsewhere())
    bench.send()
    assert await bench.until(1) == [
        RetryLater(BUSY_RETRY, "another worker is handling it", counts=False)
    ]
    assert BUSY_RETRY in DELAYS
    assert (bench.runs, bench.absorbed) == (0, 0)


# ---- stores that fail ----


@pytest.fixture(params=[PlainStore, NetworkStore])
def failing(request: pytest.FixtureRequest) -> Bench:
    return Bench(request.param())


async def test_without_its_store_a_request_is_handled_and_that_is_counted(failing: Bench) -> None:
    failing.store.down = True
    failing.go_on.set()
    failing.send(2)
    assert await failing.until(2) == [DONE, DONE]
    assert (failing.runs, failing.store_errors) == (2, 2)


@pytest.mark.parametrize(
    "result", [lambda: "done", response(ValueError("broken"))], ids=["reply", "failure"]
)
async def test_a_store_that_fails_meanwhile_keeps_nobody_from_being_answered(
    failing: Bench, result: Callable[[], Any]
) -> None:
    failing.result = result
    failing.send(2)
    await turns()
    assert failing.runs == 1
    failing.store.down = True
    failing.go_on.set()
    outcomes = await failing.until(2)
    assert isinstance(outcomes[1], Reply)
    assert (failing.runs, failing.store_errors) == (1, 1)


async def test_a_store_that_has_come_back_is_used_again(
    failing: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.idempotency.guard.DOWN", 0.0)
    failing.go_on.set()
    failing.store.down = True
    failing.send()
    await failing.until(1)
    failing.store.down = False
    failing.send()
    await failing.until(2)
    failing.send()
    assert await failing.until(3) == [DONE] * 3
    assert (failing.runs, failing.store_errors, failing.absorbed) == (2, 1, 1)


async def test_a_store_that_has_just_failed_is_left_alone_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that hangs must not hold up every request."""
    monkeypatch.setattr("bridge.idempotency.guard.DOWN", 60.0)
    store = NetworkStore()
    bench = Bench(store)
    bench.go_on.set()
    store.down = True
    bench.send()
    await bench.until(1)
    calls = len(store.calls)
    bench.send()
    bench.send()
    assert await bench.until(3) == [DONE] * 3
    assert len(store.calls) == calls
    assert bench.store_errors >= 3


async def test_a_reply_is_stored_before_it_is_published() -> None:
    store = NetworkStore()
    bench = Bench(store)
    bench.go_on.set()
    bench.send()
    await bench.until(1)
    assert store.calls == ["begin", "finish"]
    ((request, _),) = bench.outcomes
    assert store.memory.begin(request.key) == DONE


# ---- the end ----


async def test_closing_settles_nothing_and_stops_what_waits_for_the_store() -> None:
    class Hanging(NetworkStore):
        async def begin(self, key: Key) -> Begun:
            await asyncio.Event().wait()
            raise AssertionError("the event was never set")

    bench = Bench(Hanging())
    bench.send()
    await turns()
    assert len(bench.once._tasks) == 1
    bench.dispatcher.close()
    bench.once.close()
    await turns()
    assert not bench.once._tasks
    assert (bench.runs, bench.outcomes) == (0, [])


async def test_closing_stops_handlers_too(bench: Bench) -> None:
    bench.send(2)
    await turns()
    bench.dispatcher.close()
    bench.once.close()
    bench.go_on.set()
    await turns()
    assert (bench.runs, bench.outcomes) == (1, [])
