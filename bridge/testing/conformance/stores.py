"""What a store of replies must keep: :class:`bridge.idempotency.Store`."""

import asyncio
import inspect
from typing import Any, Final

import pytest

from bridge.idempotency.store import Key, Running, Store
from bridge.request.incoming import Call
from bridge.request.outcome import Kind, Reply
from bridge.routing.router import Router
from bridge.testing.kit import TestBridge

KEY: Final = "00000007:1:1:CP001"
OTHER: Final = "00000007:1:2:CP001"
REPLY: Final = Reply(b'{"status":"Accepted"}')

_REPLIES: Final = {
    "a response": REPLY,
    "a CALLERROR": Reply(b'{"errorCode":"InternalError"}', Kind.CALL_ERROR),
    "large": Reply(b'"%b"' % (b"x" * 200_000)),
    "any bytes": Reply(bytes(range(256))),
}
_KEYS: Final = {
    "parts that are split elsewhere": ("1:a:b:m", "1:a:m:b", "2:a:b:m"),
    "half of a surrogate pair": ("1:CP\udcff:m", "1:CP\udcfe:m"),
    "long": (f"1:{'🔌' * 255}:m", f"1:{'🔌' * 254}:m"),
    "commands": ("1:a b\r\nDEL x:m", "1:a b\r\nDEL y:m", "1:*:m"),
    "cases": ("1:cp1:m", "1:CP1:m"),
}


async def _result(called: Any) -> Any:
    """What a method of a store returns: stores are plain, or their methods are coroutines."""
    return await called if inspect.isawaitable(called) else called


class StoreSuite:
    """For any store. It asks for a fixture `store`: an empty :class:`~bridge.idempotency.Store`."""

    pytestmark = pytest.mark.asyncio

    async def test_a_request_is_nobodys_then_running_then_answered(self, store: Store) -> None:
        assert await _result(store.begin(KEY)) is None
        assert await _result(store.begin(KEY)) is Running.HERE
        assert await _result(store.begin(OTHER)) is None
        assert await _result(store.finish(KEY, REPLY)) is None
        assert await _result(store.begin(KEY)) == REPLY
        assert await _result(store.begin(KEY)) == REPLY
        assert await _result(store.begin(OTHER)) is Running.HERE

    async def test_what_is_forgotten_may_be_handled_again(self, store: Store) -> None:
        await _result(store.begin(KEY))
        assert await _result(store.forget(KEY)) is None
        assert await _result(store.begin(KEY)) is None
        assert await _result(store.begin(KEY)) is Running.HERE

    async def test_what_was_never_begun_can_be_forgotten(self, store: Store) -> None:
        await _result(store.begin(OTHER))
        await _result(store.forget(KEY))
        assert await _result(store.begin(KEY)) is None
        assert await _result(store.begin(OTHER)) is Running.HERE

    @pytest.mark.parametrize("reply", [*_REPLIES.values()], ids=[*_REPLIES])
    async def test_a_reply_is_kept_as_it_was(self, store: Store, reply: Reply) -> None:
        await _result(store.begin(KEY))
        await _result(store.finish(KEY, reply))
        kept = await _result(store.begin(KEY))
        assert (bytes(kept.body), kept.kind) == (reply.body, reply.kind)

    @pytest.mark.parametrize("keys", [*_KEYS.values()], ids=[*_KEYS])
    async def test_each_key_is_one_of_its_own(self, store: Store, keys: tuple[Key, ...]) -> None:
        assert [await _result(store.begin(key)) for key in keys] == [None] * len(keys)
        await _result(store.finish(keys[0], REPLY))
        found = [await _result(store.begin(key)) for key in keys]
        assert found == [REPLY, *[Running.HERE] * (len(keys) - 1)]

    async def test_many_at_a_time_are_not_mixed_up(self, store: Store) -> None:
        replies = {f"1:CP{number}:m": Reply(b"%d" % number) for number in range(500)}

        async def handle(key: Key, reply: Reply) -> Any:
            assert await _result(store.begin(key)) is None
            await _result(store.finish(key, reply))
            return await _result(store.begin(key))

        kept = await asyncio.gather(*(handle(key, reply) for key, reply in replies.items()))
        assert kept == [*replies.values()]

    async def test_a_worker_answers_a_repetition_from_it(self, store: Store) -> None:
        router = Router("com.acme")
        runs: list[Call] = []

        @router.on("Count")
        async def count(call: Call) -> int:
            runs.append(call)
            return len(runs)

        async with TestBridge(router, store=store) as bridge:

            async def ask(message_id: str) -> Any:
                answer = await bridge.data_transfer(
                    "CP001", "com.acme", "Count", ocpp_message_id=message_id, connection_id="c"
                )
                return answer.data

            assert [await ask("1"), await ask("1"), await ask("2")] == [1, 1, 2]
            assert bridge.worker.counts.absorbed == 1
            assert bridge.worker.counts.store_errors == 0


class SharedStoreSuite(StoreSuite):
    """For a store that processes share.

    It asks for a second fixture, `other`: another store, with the same replies, as another worker
    has it.
    """

    async def test_what_one_keeps_another_is_given(self, store: Store, other: Store) -> None:
        assert await _result(store.begin(KEY)) is None
        assert await _result(other.begin(KEY)) is Running.ELSEWHERE
        assert await _result(store.begin(KEY)) is Running.HERE
        await _result(store.finish(KEY, REPLY))
        assert await _result(other.begin(KEY)) == REPLY
        assert await _result(store.begin(KEY)) == REPLY

    async def test_what_one_has_forgotten_another_may_handle(
        self, store: Store, other: Store
    ) -> None:
        await _result(store.begin(KEY))
        await _result(store.forget(KEY))
        assert await _result(other.begin(KEY)) is None
        assert await _result(store.begin(KEY)) is Running.ELSEWHERE

    async def test_of_many_who_ask_at_a_time_one_may_begin(
        self, store: Store, other: Store
    ) -> None:
        calls = [_result(each.begin(KEY)) for _ in range(20) for each in (store, other)]
        begun = await asyncio.gather(*calls)
        assert begun.count(None) == 1
        assert {*begun} <= {None, Running.HERE, Running.ELSEWHERE}
