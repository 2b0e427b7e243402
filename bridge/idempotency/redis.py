"""Replies kept in Redis, for a fleet of workers. Needs the extra ``redis``.

A request is one key. It holds the mark of the worker that handles it, for the time of a lease, so that a worker that dies does not
hold it for ever; then the reply. Every call is bounded in time: a store that hangs must not keep stations waiting. A call
that got no answer in time may have been carried out all the same; a worker that finds its own mark after one knows what to make of it.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from bridge.idempotency.store import TTL, Begun, Key, Running
from bridge.request.outcome import Kind, Reply

LEASE: Final = 10.0
"""Seconds a request belongs to the worker that began it, unless that one renews it. So long does it wait whose worker died, and
then it still has time: the least patient CSMS in the field waits 20."""
RENEWALS: Final = 3
"""In the time of a lease: two may fail."""
TIMEOUT: Final = 2.0
"""Seconds a call may take. Redis answers in less than a millisecond; the rest is for a worker that is given a full prefetch at
once, on a machine that is busy with something else."""
CONNECTIONS: Final = 20
"""To Redis at most. Each does some thousand calls a second; more calls wait for their turn."""
PREFIX: Final = "dtbridge:reply:"

_MARK: Final = b"?"
"""How the mark of a worker begins, and no reply."""
_KINDS: Final = {Kind.RESPONSE: b"R", Kind.CALL_ERROR: b"E"}
_KIND_OF: Final = {mark[0]: kind for kind, mark in _KINDS.items()}


class RedisStore:
    """A :class:`~bridge.idempotency.store.Store` that many workers share."""

    def __init__(
        self, url: str, *, ttl: float = TTL, lease: float = LEASE, timeout: float = TIMEOUT
    ) -> None:
        """`ttl`, `lease` and `timeout` in seconds. Connects with the first call."""
        self._ttl = round(ttl * 1000)
        self._lease = round(lease * 1000)
        self._timeout = timeout
        # The library's own would try three times, with pauses of seconds, and fail from its hundredth connection on.
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=timeout,
            socket_timeout=timeout,  # the library can miss a cancellation, and then waits for its own
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
        )
        self._redis = redis.asyncio.Redis.from_pool(pool)
        self._mark = _MARK + secrets.token_hex(8).encode()
        self._running: set[bytes] = set()
        self._doubtful: dict[bytes, float] = {}
        """Keys that may hold our mark although we handle nothing: a call for them failed. With the time when that was."""
        self._renewing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._renewing = asyncio.create_task(self._renew())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
        await self._redis.aclose()

    async def begin(self, key: Key) -> Begun:
        name = _name(key)
        doubtful = self._doubtful.pop(name, None) is not None
        with self._doubting(name):
            async with asyncio.timeout(self._timeout):
                if await self._redis.set(name, self._mark, nx=True, px=self._lease):
                    self._running.add(name)
                    return None
                kept = await self._redis.get(name)
        if isinstance(kept, bytes) and kept and kept[0] in _KIND_OF:
            return Reply(kept[1:], _KIND_OF[kept[0]])
        if name in self._running:
            return Running.HERE
        if doubtful and kept == self._mark:
            self._running.add(name)
            return None
        return Running.ELSEWHERE

    async def finish(self, key: Key, reply: Reply) -> None:
        name = _name(key)
        try:
            with self._doubting(name):
                async with asyncio.timeout(self._timeout):
                    await self._redis.set(name, _KINDS[reply.kind] + reply.body, px=self._ttl)
        finally:
            self._running.discard(name)

    async def forget(self, key: Key) -> None:
        name = _name(key)
        try:
            with self._doubting(name):
                async with asyncio.timeout(self._timeout):
                    await self._redis.delete(name)
        finally:
            self._running.discard(name)

    @contextlib.contextmanager
    def _doubting(self, name: bytes) -> Iterator[None]:
        """What raises in here may have been carried out, or not."""
        try:
            yield
        except BaseException:
            now = time.monotonic()
            while self._doubtful and next(iter(self._doubtful.values())) < now - self._lease / 1000:
                del self._doubtful[next(iter(self._doubtful))]  # the mark is gone by now
            self._doubtful[name] = now
            raise

    async def _renew(self) -> None:
        """A handler may take longer than a lease; a worker that died renews none."""
        while True:
            await asyncio.sleep(self._lease / 1000 / RENEWALS)
            running = tuple(self._running)
            if not running:
                continue
            with contextlib.suppress(redis.RedisError, OSError, TimeoutError):
                async with (
                    asyncio.timeout(self._timeout),
                    self._redis.pipeline(transaction=False) as pipeline,
                ):
                    for name in running:
                        pipeline.pexpire(name, self._lease)
                    await pipeline.execute()


def _name(key: Key) -> bytes:
    # Bytes that are not UTF-8 came in as lone surrogates.
    return f"{PREFIX}{key}".encode("utf-8", "surrogatepass")
