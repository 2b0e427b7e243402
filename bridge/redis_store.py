"""Replies kept in Redis, for a fleet of workers. Needs the extra ``redis``.

A request is one key. It holds the empty string while a worker handles it, for the time of a lease, so that a worker that
dies does not hold it for ever; then the reply. Every call is bounded in time: a store that hangs must not keep stations waiting.
"""

from types import TracebackType
from typing import Final, Self

import redis.asyncio

from bridge.idempotency import TTL, Begun, Key, Running
from bridge.outcome import Kind, Reply

LEASE: Final = 120.0
"""Seconds a request belongs to the worker that began it: longer than a handler may take."""
TIMEOUT: Final = 0.5
"""Seconds a call to Redis may take. It answers in less than a millisecond, or something is wrong."""
PREFIX: Final = "dtbridge:reply:"

_KINDS: Final = {Kind.RESPONSE: b"R", Kind.CALL_ERROR: b"E"}
_KIND_OF: Final = {mark[0]: kind for kind, mark in _KINDS.items()}


class RedisStore:
    """A :class:`~bridge.idempotency.Store` that many workers share."""

    def __init__(self, url: str, *, ttl: float = TTL, lease: float = LEASE, timeout: float = TIMEOUT) -> None:
        """`ttl`, `lease` and `timeout` in seconds. Connects with the first call."""
        self._ttl = round(ttl * 1000)
        self._lease = round(lease * 1000)
        self._redis = redis.asyncio.Redis.from_url(url, socket_timeout=timeout, socket_connect_timeout=timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._redis.aclose()

    async def begin(self, key: Key) -> Begun:
        name = _name(key)
        if await self._redis.set(name, b"", nx=True, px=self._lease):
            return None
        kept = await self._redis.get(name)
        if not isinstance(kept, bytes):  # its lease ended between the two
            return None
        return Reply(kept[1:], _KIND_OF[kept[0]]) if kept else Running.ELSEWHERE

    async def finish(self, key: Key, reply: Reply) -> None:
        await self._redis.set(_name(key), _KINDS[reply.kind] + reply.body, px=self._ttl)

    async def forget(self, key: Key) -> None:
        await self._redis.delete(_name(key))


def _name(key: Key) -> str:
    station_id, message_id, checksum = key
    return f"{PREFIX}{checksum:08x}:{message_id}:{station_id}"
