"""The suites for stores find what is broken. Our own stores are tried by them where they stand."""

import asyncio
from typing import ClassVar

import pytest

from bridge.idempotency.memory import MemoryStore
from bridge.idempotency.store import Begun, Key, Running
from bridge.request.outcome import Kind, Reply
from bridge.testing.conformance import SharedStoreSuite, StoreSuite
from tests.unit.testing.conformance.playing import failing


async def test_a_store_that_keeps_its_promises_passes() -> None:
    assert await failing(StoreSuite, store=MemoryStore) == set()


class KeepsNothing(MemoryStore):
    def finish(self, key: Key, reply: Reply) -> None:
        self.forget(key)


class ForgetsNothing(MemoryStore):
    def forget(self, key: Key) -> None: ...


class TakesAllForResponses(MemoryStore):
    def finish(self, key: Key, reply: Reply) -> None:
        super().finish(key, Reply(reply.body, Kind.RESPONSE))


class CutsReplies(MemoryStore):
    def finish(self, key: Key, reply: Reply) -> None:
        super().finish(key, Reply(reply.body[:65_535], reply.kind))


class TakesCasesForOne(MemoryStore):
    def begin(self, key: Key) -> Begun:
        return super().begin(str(key).lower())

    def finish(self, key: Key, reply: Reply) -> None:
        super().finish(str(key).lower(), reply)


class ForgetsAll(MemoryStore):
    def forget(self, key: Key) -> None:
        self._young.clear()


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (KeepsNothing, "test_a_worker_answers_a_repetition_from_it"),
        (ForgetsNothing, "test_what_is_forgotten_may_be_handled_again"),
        (TakesAllForResponses, "test_a_reply_is_kept_as_it_was"),
        (CutsReplies, "test_a_reply_is_kept_as_it_was"),
        (TakesCasesForOne, "test_each_key_is_one_of_its_own"),
        (ForgetsAll, "test_what_was_never_begun_can_be_forgotten"),
    ],
)
async def test_a_store_that_breaks_one_is_found(broken: type[MemoryStore], test: str) -> None:
    assert test in await failing(StoreSuite, store=broken)


async def test_stores_that_share_nothing_are_found() -> None:
    found = await failing(SharedStoreSuite, store=MemoryStore, other=MemoryStore)
    assert {
        "test_what_one_keeps_another_is_given",
        "test_what_one_has_forgotten_another_may_handle",
        "test_of_many_who_ask_at_a_time_one_may_begin",
    } == found


class Races:
    """Looks first, and takes later."""

    taken: ClassVar[dict[Key, Begun]] = {}

    async def begin(self, key: Key) -> Begun:
        found = self.taken.get(key)
        await asyncio.sleep(0)
        self.taken.setdefault(key, Running.ELSEWHERE)
        return found

    async def finish(self, key: Key, reply: Reply) -> None:
        self.taken[key] = reply

    async def forget(self, key: Key) -> None:
        self.taken.pop(key, None)


async def test_a_store_in_which_two_may_begin_is_found() -> None:
    found = await failing(SharedStoreSuite, store=Races, other=Races)
    assert "test_of_many_who_ask_at_a_time_one_may_begin" in found
