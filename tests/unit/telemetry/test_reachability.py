"""Whether a store can be reached is found out by asking it, again and again."""

import asyncio
import time
from collections.abc import Callable

import pytest

from bridge.idempotency.memory import MemoryStore
from bridge.telemetry.reachability import Pingable, Reachability

PATIENCE = 10.0


class Store:
    """Answers, raises or hangs, as the test says."""

    def __init__(self) -> None:
        self.problem: BaseException | None = None
        self.hangs = False
        self.asked = 0

    async def ping(self, timeout: float) -> None:
        self.asked += 1
        if self.hangs:
            async with asyncio.timeout(timeout):
                await asyncio.Event().wait()
        if self.problem is not None:
            raise self.problem


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
async def store() -> Store:
    return Store()


async def test_it_follows_the_store_down_and_up_again(store: Store) -> None:
    assert isinstance(store, Pingable)
    async with Reachability(store, every=0.01, patience=0.05) as reachability:
        await until(lambda: reachability.check().ok)
        store.problem = ConnectionError("refused")
        await until(lambda: not reachability.check().ok)
        assert reachability.check().reason == "refused"
        store.problem = ConnectionRefusedError("refused")
        await until(lambda: reachability.check().reason == "ConnectionRefusedError: refused")
        store.problem = None
        await until(lambda: reachability.check().ok)
        store.hangs = True
        await until(lambda: not reachability.check().ok)
        assert reachability.check().reason == "it does not answer within 0.05 s"
        store.hangs = False
        await until(lambda: reachability.check().ok)


async def test_before_the_first_answer_it_is_not_reached(store: Store) -> None:
    store.hangs = True
    async with Reachability(store) as reachability:
        assert not reachability.check().ok
    asked = store.asked
    await asyncio.sleep(0)
    assert store.asked == asked


async def test_an_answer_that_a_blocked_loop_could_not_hear_is_not_missed(store: Store) -> None:
    async with Reachability(store, every=0.01, patience=0.5) as reachability:
        await until(lambda: reachability.check().ok)
        store.hangs = True
        asked = store.asked
        await until(lambda: store.asked > asked)
        store.hangs = False
        time.sleep(2.0)  # noqa: ASYNC251 - the loop is to be blocked
        asked = store.asked
        await until(lambda: store.asked > asked)
        assert reachability.check().ok


def test_a_store_in_memory_is_not_asked() -> None:
    assert not isinstance(MemoryStore(), Pingable)
