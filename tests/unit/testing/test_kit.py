"""A whole bridge in a test."""

import asyncio
import time
import traceback
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bridge import (
    Call,
    CallError,
    Client,
    DataTransferRequest,
    DataTransferResponse,
    HandlerError,
    NoAnswer,
    Rejected,
    Retry,
    RetryPolicy,
    Router,
    Settings,
    StationOffline,
    TopologyError,
)
from bridge.ocpp import OcppVersion
from bridge.request.outcome import Reply, RetryLater
from bridge.testing import TestBridge, assert_accepted, assert_rejected

runs: list[Call] = []


def make_router() -> Router:
    router = Router("com.acme")

    @router.on("Echo")
    async def echo(call: Call, data: Any) -> Any:
        runs.append(call)
        return data

    @router.on("Thread")
    def thread(call: Call) -> str:
        time.sleep(0.002)
        return "done"

    @router.on("Reject")
    async def reject(call: Call) -> None:
        raise Rejected("NoTariff", "there is none")

    @router.on("Fail")
    async def fail(call: Call) -> None:
        raise KeyError("the tariff")

    @router.on("Down")
    async def down(call: Call) -> int:
        if call.attempt < 3:
            raise Retry(5, "the database is down") from ConnectionError("no database")
        return call.attempt

    @router.on("Hopeless", retry=RetryPolicy(attempts=2))
    async def hopeless(call: Call) -> None:
        raise Retry(1, "down for good")

    @router.on("Slow", timeout=20)
    async def slow(call: Call) -> None:
        await asyncio.sleep(60)

    @router.on("Wait")
    async def wait(call: Call) -> bool:
        runs.append(call)
        await asyncio.sleep(10)
        return call.redelivered

    return router


@pytest.fixture
async def bridge() -> AsyncIterator[TestBridge]:
    runs.clear()
    async with TestBridge(make_router()) as bridge:
        yield bridge


# ---- requests of stations ----


async def test_a_request_is_answered_and_nothing_is_left(bridge: TestBridge) -> None:
    response = await bridge.data_transfer("CS-1", "com.acme", "Echo", {"a": [1]})
    assert response == DataTransferResponse("Accepted", {"a": [1]})
    assert not bridge.broker.queues["datatransfer.com.acme"].ready
    bridge.assert_no_dead_letters()
    assert bridge.worker.intakes[0].in_hand == 0
    (tried,) = bridge.tries
    assert (tried.station_id, tried.vendor_id, tried.message_id) == ("CS-1", "com.acme", "Echo")
    assert isinstance(tried.outcome, Reply)


async def test_the_handler_sees_the_request_as_it_was_described(bridge: TestBridge) -> None:
    await bridge.data_transfer(
        "CS-2",
        "com.acme",
        "Echo",
        {"a": 1},
        version="ocpp1.6",
        attempt=2,
        deadline=2_000_000_000.25,
        ocpp_message_id="m-7",
        headers={"traceparent": "00-1", "own": 3},
    )
    (call,) = runs
    assert (call.station_id, call.ocpp_version) == ("CS-2", OcppVersion.V1_6)
    assert (call.attempt, call.deadline, call.ocpp_message_id) == (2, 2_000_000_000.25, "m-7")
    assert call.headers["own"] == 3
    await bridge.data_transfer("CS-2", "com.acme", "Echo", 1, timeout=7)
    assert 6.5 < (runs[1].remaining or 0) <= 7


async def test_what_cannot_be_meant_is_refused(bridge: TestBridge) -> None:
    with pytest.raises(ValueError, match="not both"):
        await bridge.data_transfer("CS-1", "com.acme", deadline=1.0, timeout=1.0)
    with pytest.raises(ValueError, match="counts from 1"):
        await bridge.data_transfer("CS-1", "com.acme", attempt=0)
    with pytest.raises(ValueError, match="ocpp1"):
        await bridge.data_transfer("CS-1", "com.acme", version="ocpp1.5")


async def test_many_at_a_time_get_each_its_own_answer(bridge: TestBridge) -> None:
    asked = [bridge.data_transfer(f"CS-{n}", "com.acme", "Echo", n) for n in range(300)]
    assert [response.data for response in await asyncio.gather(*asked)] == [*range(300)]


async def test_answers_are_asserted(bridge: TestBridge) -> None:
    response = await bridge.data_transfer("CS-1", "com.acme", "Reject")
    assert_rejected(response)
    assert_rejected(response, "NoTariff")
    assert_accepted(await bridge.data_transfer("CS-1", "com.acme", "Echo", 1), 1)
    assert (await bridge.data_transfer("CS-1", "org.nobody")).status == "UnknownVendorId"


# ---- failures ----


async def test_what_a_handler_raised_comes_out_with_its_traceback(bridge: TestBridge) -> None:
    with pytest.raises(CallError, match="InternalError") as failed:
        await bridge.data_transfer("CS-1", "com.acme", "Fail")
    cause = failed.value.__cause__
    assert isinstance(cause, KeyError)
    assert 'raise KeyError("the tariff")' in "".join(traceback.format_exception(cause))
    assert failed.value.__notes__ == ["CS-1 com.acme/Fail, try 1: failed (KeyError: 'the tariff')"]
    letter = bridge.assert_dead_letter("com.acme", "Fail", reason="failed", error="KeyError")
    assert (letter.station, letter.attempts) == ("CS-1", 1)


async def test_a_failure_that_nobody_waits_for_comes_out_too(bridge: TestBridge) -> None:
    with pytest.raises(CallError) as failed:
        await bridge.notify("CS-1", "com.acme", "Fail")
    assert isinstance(failed.value.__cause__, KeyError)
    bridge.assert_dead_letter(reason="failed")
    tried = await bridge.notify("CS-1", "com.acme", "Echo", 1)
    assert isinstance(tried.outcome, Reply)
    assert runs[-1].deadline is None
    tried = await bridge.notify("CS-1", "com.acme", "Down")
    assert isinstance(tried.error, Retry)
    await bridge.clock.advance(10)
    assert [type(each.outcome) for each in bridge.tries[-3:]] == [RetryLater, RetryLater, Reply]


async def test_an_error_that_the_handler_chose_has_no_failure_behind_it() -> None:
    router = Router("com.acme")

    @router.on("Refuse")
    async def refuse(call: Call) -> None:
        raise CallError("SecurityError", "no")

    async with TestBridge([router]) as bridge:
        with pytest.raises(CallError, match="SecurityError: no") as refused:
            await bridge.data_transfer("CS-1", "com.acme", "Refuse")
        assert refused.value.__cause__ is None
        bridge.assert_no_dead_letters()


# ---- time ----


async def test_retries_come_when_the_clock_is_moved(bridge: TestBridge) -> None:
    began = time.perf_counter()
    asking = asyncio.create_task(bridge.data_transfer("CS-1", "com.acme", "Down"))
    await bridge.clock.advance(4.5)
    assert len(bridge.tries) == 1
    await bridge.clock.advance(1)
    assert len(bridge.tries) == 2
    await bridge.clock.advance(5)
    assert (await asking).data == 3
    assert time.perf_counter() - began < 3
    retries = bridge.assert_retried("com.acme", "down", station_id="CS-1", times=2, after=5)
    assert isinstance(retries[0].error, Retry)
    assert isinstance(retries[0].error.__cause__, ConnectionError)
    bridge.assert_no_dead_letters()


async def test_the_clock_is_moved_as_far_as_an_answer_takes(bridge: TestBridge) -> None:
    response = await bridge.clock.until(bridge.data_transfer("CS-1", "com.acme", "Down"))
    assert response.data == 3
    assert 9 < bridge.clock.moved < 12
    response = await bridge.clock.until(bridge.data_transfer("CS-1", "com.acme", "Thread"))
    assert response.data == "done"


async def test_without_a_try_left_it_is_a_dead_letter(bridge: TestBridge) -> None:
    with pytest.raises(CallError) as failed:
        await bridge.clock.until(bridge.data_transfer("CS-1", "com.acme", "Hopeless"))
    assert isinstance(failed.value.__cause__, Retry)
    assert len(failed.value.__notes__) == 2
    bridge.assert_dead_letter("com.acme", "Hopeless", reason="retries-exhausted", attempts=2)


async def test_a_later_try_is_the_last_one(bridge: TestBridge) -> None:
    with pytest.raises(CallError):
        await bridge.data_transfer("CS-1", "com.acme", "Hopeless", attempt=2)
    bridge.assert_dead_letter(reason="retries-exhausted", attempts=2)


async def test_a_handler_that_takes_too_long_is_timed_out(bridge: TestBridge) -> None:
    with pytest.raises(CallError, match="GenericError"):
        await bridge.clock.until(bridge.data_transfer("CS-1", "com.acme", "Slow"))
    assert 19 < bridge.clock.moved < 21
    bridge.assert_dead_letter(reason="timed-out", error="took longer than 20 s")


async def test_nobody_is_answered_after_the_deadline(bridge: TestBridge) -> None:
    began = time.perf_counter()
    with pytest.raises(NoAnswer) as late:
        await bridge.clock.until(bridge.data_transfer("CS-1", "com.acme", "Slow", timeout=8))
    assert time.perf_counter() - began < 3
    assert 7 < bridge.clock.moved < 9
    assert "expired" in late.value.__notes__[0]
    bridge.assert_dead_letter(reason="expired", message_id="Slow")


async def test_what_comes_after_its_deadline_is_given_up_at_once(bridge: TestBridge) -> None:
    began = time.perf_counter()
    with pytest.raises(NoAnswer, match="has not answered"):
        await bridge.data_transfer("CS-1", "com.acme", "Echo", 1, deadline=time.time() - 1)
    assert time.perf_counter() - began < 0.5
    assert runs == []
    bridge.assert_dead_letter("com.acme", "Echo", reason="expired")


async def test_stored_replies_age_by_the_clock(bridge: TestBridge) -> None:
    async def ask() -> DataTransferResponse:
        return await bridge.data_transfer(
            "CS-1", "com.acme", "Echo", 1, ocpp_message_id="1", connection_id="c", timeout=9_000
        )

    assert await ask() == await ask()
    assert len(runs) == 1
    await bridge.clock.advance(1_300)
    await ask()
    assert len(runs) == 2


# ---- what the broker does ----


async def test_what_is_in_hand_when_connections_are_cut_is_delivered_again(
    bridge: TestBridge,
) -> None:
    asking = asyncio.create_task(bridge.data_transfer("CS-1", "com.acme", "Wait"))
    await bridge.clock.advance(1)
    await bridge.cut()
    await bridge.clock.advance(10)
    assert (await asking).data is False, "the run that was at work has answered both"
    assert len(runs) == 1
    bridge.assert_no_dead_letters()


async def test_without_a_store_it_is_handled_again_and_told_so() -> None:
    class Forgetful:
        def begin(self, key: object) -> None: ...

        def finish(self, key: object, reply: Reply) -> None: ...

        def forget(self, key: object) -> None: ...

    runs.clear()
    async with TestBridge(make_router(), store=Forgetful()) as bridge:
        asking = asyncio.create_task(bridge.data_transfer("CS-1", "com.acme", "Wait"))
        await bridge.clock.advance(1)
        await bridge.cut()
        await bridge.clock.advance(10)
        await asking
        assert [call.redelivered for call in runs][:2] == [False, True]


async def test_a_paused_vendors_requests_wait_and_expire(bridge: TestBridge) -> None:
    bridge.broker.pause("com.acme")
    await bridge.clock.rest()
    asking = asyncio.create_task(bridge.data_transfer("CS-1", "com.acme", "Echo", 1, timeout=5))
    await bridge.clock.advance(6)
    with pytest.raises(NoAnswer):
        await asking
    assert bridge.tries == []
    bridge.assert_dead_letter(reason="expired", error="nobody took it in its time")


# ---- the other direction ----


async def test_the_csms_reaches_a_station_while_it_is_connected(bridge: TestBridge) -> None:
    with pytest.raises(StationOffline):
        await bridge.send_to_station("CS-1", "com.acme", "Show", {"text": "Hi"})
    async with bridge.station("CS-1", version="ocpp1.6") as station:
        response = await bridge.send_to_station("CS-1", "com.acme", "Show", {"text": "Hi"})
        assert response == DataTransferResponse("Accepted")
        assert station.received == [DataTransferRequest("com.acme", "Show", '{"text":"Hi"}')]
        assert (await station.data_transfer("com.acme", "Echo", {"a": 1})).data == '{"a":1}'
        assert runs[-1].ocpp_version is OcppVersion.V1_6
    with pytest.raises(StationOffline):
        await bridge.send_to_station("CS-1", "com.acme", "Show", {"text": "Hi"})


async def test_a_station_answers_as_its_handler_says(bridge: TestBridge) -> None:
    async def answer(request: DataTransferRequest) -> DataTransferResponse:
        if request.message_id == "Hang":
            await asyncio.sleep(100)
        return DataTransferResponse("Rejected", request.data)

    async with bridge.station("CS-1", answer):
        response = await bridge.send_to_station("CS-1", "com.acme", "Show", [1])
        assert (response.status, response.data) == ("Rejected", [1])
        with pytest.raises(NoAnswer):
            await bridge.clock.until(bridge.send_to_station("CS-1", "com.acme", "Hang", timeout=50))


async def test_code_that_has_a_client_is_given_one(bridge: TestBridge) -> None:
    assert await bridge.client() is await bridge.client()
    async with Client(transport=bridge.transport()) as client, bridge.station("CS-1"):
        request = DataTransferRequest("com.acme", "Show")
        assert (await client.send_to_station("CS-1", request)).status == "Accepted"


# ---- its life ----


async def test_what_keeps_the_worker_from_starting_comes_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(HandlerError, match="two routers"):
        TestBridge([Router("a"), Router("A")])
    bridge = TestBridge(Router("a"))
    monkeypatch.setattr(bridge.broker, "declare", lambda _: None)  # nothing is there
    with pytest.raises(TopologyError, match=r"queue 'datatransfer\.a' cannot be consumed"):
        async with bridge:
            raise AssertionError("it has started")


async def test_a_handler_that_never_ends_does_not_outlive_its_test() -> None:
    ended: list[bool] = []
    router = Router("com.acme")

    @router.on("Hang")
    async def hang(call: Call) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async with TestBridge(router, settings=Settings(drain_timeout=0.05)) as bridge:
        asking = asyncio.create_task(bridge.data_transfer("CS-1", "com.acme", "Hang"))
        await bridge.clock.rest()
    assert ended == [True]
    asking.cancel()


async def test_an_ordered_vendor_is_run_as_such() -> None:
    router = Router("com.acme", partitions=3, ordered=True)
    order: list[int] = []

    @router.on("Step")
    async def step(call: Call, data: int) -> int:
        await asyncio.sleep(0.001 * (5 - data))
        order.append(data)
        return data

    async with TestBridge(router) as bridge:
        asked = (bridge.data_transfer("CS-1", "com.acme", "Step", n) for n in range(5))
        answers = await bridge.clock.until(asyncio.gather(*asked))
    assert [answer.data for answer in answers] == order == [0, 1, 2, 3, 4]


# ---- assertions that fail ----


async def test_an_assertion_that_fails_tells_what_happened(bridge: TestBridge) -> None:
    with pytest.raises(CallError):
        await bridge.data_transfer("CS-1", "com.acme", "Fail")
    await bridge.data_transfer("CS-2", "com.acme", "Echo", 1)
    with pytest.raises(AssertionError) as failed:
        bridge.assert_no_dead_letters()
    text = str(failed.value)
    assert "expected no dead letters: 1" in text
    assert "- CS-1 com.acme/Fail, try 1: failed (KeyError: 'the tariff')" in text
    assert '- CS-2 com.acme/Echo, try 1: answered {"status":"Accepted","data":1}' in text
    assert isinstance(failed.value.__cause__, KeyError)
    with pytest.raises(AssertionError, match=r"not CS-1 com\.acme/Fail.*its reason is 'failed'"):
        bridge.assert_dead_letter(reason="expired")
    with pytest.raises(AssertionError, match="tried again of message 'Echo': 0"):
        bridge.assert_retried(message_id="Echo")
    with pytest.raises(AssertionError, match="with error 'IndexError': none"):
        bridge.assert_dead_letter(error="IndexError")
