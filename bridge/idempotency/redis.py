"""Replies kept in Redis, for a fleet of workers. Needs the extra ``redis``.

A request is one key. While the request is handled, the key holds the mark of the worker that does
so; then it holds the reply. The mark is a lease, so that a worker that dies does not keep the
request for ever. Every call is bounded in time: a store that hangs must not keep stations waiting.
A call that got no answer in time may have been carried out all the same; a worker that then finds
its own mark takes the request for its own.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, Self
from urllib.parse import unquote, urlsplit

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from bridge.idempotency.store import TTL, Begun, Key, Running
from bridge.request.outcome import Kind, Reply

LEASE: Final = 10.0
"""Seconds that a request belongs to the worker that began it, unless the worker renews the lease.
If the worker dies, the request waits that long, and then still has time: the least patient CSMS in
the field waits 20 s."""
RENEWALS: Final = 3
"""Renewals in the time of a lease: two of them may fail."""
TIMEOUT: Final = 2.0
"""Seconds that a call may take. Redis answers in less than a millisecond; the rest is for a worker
that is given a full prefetch at once, on a machine that is busy with something else."""
CONNECTIONS: Final = 20
"""Connections to Redis at most. Each does some thousand calls a second; more calls wait their
turn."""
PREFIX: Final = "dtbridge:reply:"

_MARK: Final = b"?"
"""How the mark of a worker begins. No reply begins so."""
_KINDS: Final = {Kind.RESPONSE: b"R", Kind.CALL_ERROR: b"E"}
_KIND_OF: Final = {mark[0]: kind for kind, mark in _KINDS.items()}


class _Login(redis.CredentialProvider):
    """User and password of a URL that may have others by the next connection."""

    def __init__(self, url: str, url_again: Callable[[], str]) -> None:
        self._url = url
        self._url_again = url_again

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        with contextlib.suppress(ValueError):
            self._url = await asyncio.to_thread(self._url_again)
        parts = urlsplit(self._url)
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        if not password:
            return ()  # type: ignore[return-value]  # the library takes it: there is no login
        return (user, password) if user else (password,)


def _without_login(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


class RedisStore:
    """A :class:`~bridge.idempotency.store.Store` that many workers share."""

    def __init__(
        self,
        url: str,
        *,
        ttl: float = TTL,
        lease: float = LEASE,
        timeout: float = TIMEOUT,
        url_again: Callable[[], str] | None = None,
    ) -> None:
        """`url`: ``redis://HOST:PORT/DB``, ``rediss://…`` or ``unix:///…``.

        `url_again`: called at each connection for the URL as it is now, in a thread; its user and
        password count. It may raise ValueError: then those before count. None: `url` does not
        change. `ttl`: seconds that a reply is kept. `lease`: seconds that a request belongs to a
        worker without renewal. `timeout`: seconds that a call may take; then it raises
        TimeoutError. Connects with the first call.
        """
        self._ttl = round(ttl * 1000)
        self._lease = round(lease * 1000)
        self._timeout = timeout
        self._provider = None if url_again is None else _Login(url, url_again)
        self._url = url if self._provider is None else _without_login(url)
        # The library's own pool would try three times, with pauses of seconds, and fail from its
        # hundredth connection on.
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            self._url,
            max_connections=CONNECTIONS,
            credential_provider=self._provider,
            timeout=timeout,
            socket_timeout=timeout,  # the library can miss a cancellation, and wait for this
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
        )
        self._redis = redis.asyncio.Redis.from_pool(pool)
        self._probe: redis.asyncio.Redis | None = None
        """For :meth:`ping`: the connections for requests may all be taken."""
        self._mark = _MARK + secrets.token_hex(8).encode()
        self._running: set[bytes] = set()
        self._doubtful: dict[bytes, float] = {}
        """Keys that may hold our mark although we do not handle their request, because a call for
        them failed; with the time of the failure, by the monotonic clock."""
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
        if self._probe is not None:
            await self._probe.aclose()

    async def ping(self, timeout: float) -> None:
        """As :meth:`~bridge.telemetry.reachability.Pingable.ping`."""
        if self._probe is None:
            self._probe = redis.asyncio.Redis.from_url(
                self._url,
                max_connections=1,
                credential_provider=self._provider,
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
                retry=Retry(NoBackoff(), 0),
            )
        try:
            async with asyncio.timeout(timeout):
                await self._probe.ping()
        except redis.TimeoutError as error:
            raise TimeoutError from error

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
        """Note that a call that raises may have been carried out, or not."""
        try:
            yield
        except BaseException:
            now = time.monotonic()
            while self._doubtful and next(iter(self._doubtful.values())) < now - self._lease / 1000:
                del self._doubtful[next(iter(self._doubtful))]  # the mark is gone by now
            self._doubtful[name] = now
            raise

    async def _renew(self) -> None:
        """Renew the leases: a handler may take longer than one. A worker that died renews none."""
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
