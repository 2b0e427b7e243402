"""A blocked event loop is not taken for a silent broker, and a handler's answer stays an answer."""

import asyncio
import time
from collections.abc import Callable

import pytest
import uvloop

from bridge import Call, CallError, Router
from bridge.client.client import Client
from bridge.rabbitmq import watch
from bridge.transport import State
from tests.integration.support import PATIENCE, WorkerProcess, dead_letters, request, working

HEARTBEAT = 2
"""Seconds. A broker that gets none closes the connection after two or three of them."""
VENDOR = "tests.acceptance.blocking_vendors:router"
router = Router("v", timeout=PATIENCE)


@router.on("block")
async def blocks_the_loop(call: Call, seconds: float) -> str:
    time.sleep(seconds)  # noqa: ASYNC251 - that is what it is for
    return "done"


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_what_a_blocked_loop_has_not_heard_is_not_missed(
    amqp_url: str,
    monkeypatch: pytest.MonkeyPatch,
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """The broker sends heartbeats all the while. uvloop runs timers before it reads."""
    heartbeat = 4  # it sends one every 2 s, and itself waits for at least 8 s
    monkeypatch.setattr(watch, "SILENCE", 1.0)  # heartbeats, so less than the loop is blocked
    url = f"{amqp_url}?heartbeat={heartbeat}"

    async def block() -> list[State]:
        async with working(url, router) as worker, Client(amqp_url, timeout=PATIENCE) as client:
            for _ in range(2):
                answer = await client.data_transfer("CP", request(data=4.6, message_id="block"))
                assert answer.data == "done"
            await asyncio.sleep(heartbeat / 2)  # the watch has looked
            return worker.transport.history.copy()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(block()) == [State.CONNECTING, State.CONSUMING]


async def test_a_broker_that_got_no_heartbeats_leaves_and_the_reason_names_the_block(
    amqp_url: str,
) -> None:
    url = f"{amqp_url}?heartbeat={HEARTBEAT}"
    async with (
        WorkerProcess(VENDOR, url) as worker,
        Client(amqp_url, timeout=PATIENCE) as client,
    ):
        answer = await client.data_transfer("CP", request("blocking", "block", 10))
        assert answer.data == "done"  # the stored reply: the request was delivered again
        await asyncio.to_thread(worker.until, "consuming", 2)
    (reason,) = [
        line["reason"]
        for line in worker.log
        if line["event"] == "connecting" and line["level"] == "warning"
    ]
    assert "the event loop had been blocked for " in reason
    assert reason.endswith(", so that the broker got no heartbeats")
    returns = [line for line in worker.log if line["event"] == "the handler returns"]
    assert len(returns) == 1


async def test_a_blocked_loop_makes_no_time_out_of_an_answer_that_is_there(amqp_url: str) -> None:
    """The time-out of this vendor is half a second."""
    async with WorkerProcess(VENDOR, amqp_url), Client(amqp_url, timeout=PATIENCE) as client:
        answer = await client.data_transfer("CP", request("blocking", "block", 1.5))
        assert answer.data == "done"
        with pytest.raises(CallError, match="GenericError"):
            await client.data_transfer("CP", request("blocking", "block and wait", 1.5))
    (letter,) = await dead_letters(amqp_url)
    assert letter.headers["dtbridge-reason"] == "timed-out"


async def test_an_answer_after_the_deadline_is_late(amqp_url: str) -> None:
    async with WorkerProcess(VENDOR, amqp_url) as worker:
        async with Client(amqp_url, timeout=1.0) as client:
            with pytest.raises(TimeoutError):
                await client.data_transfer("CP", request("blocking", "block", 2.0))
        await asyncio.to_thread(worker.until, "the handler returns")
    assert worker.counts["late"] == 1
