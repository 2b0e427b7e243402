"""The store of replies, if it is a Redis."""

import asyncio
import contextlib
import statistics
import time
from collections.abc import Iterator
from typing import Any, Final, cast

from bridge.doctor.facts import StoreSeen, Surroundings
from bridge.doctor.findings import Check, Finding, fail, ok, warn

TIMEOUT: Final = 2.0
"""Seconds for one call, as a worker waits."""
CALLS: Final = 5
SLOW: Final = 0.02
"""Seconds of a call from which on it is worth a word: each request waits for two of them."""
NEARLY: Final = 0.8
"""Part of the memory."""


async def see_store(url: str) -> StoreSeen:
    """Look at the Redis at `url`. Needs the extra ``redis``; never raises for a Redis's fault."""
    import redis.asyncio
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    client = redis.asyncio.Redis.from_url(
        url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=Retry(NoBackoff(), 0)
    )
    try:
        async with asyncio.timeout(3 * TIMEOUT):
            await cast(Any, client.ping())  # connects
            times = []
            for _ in range(CALLS):
                began = time.perf_counter()
                await cast(Any, client.ping())
                times.append(time.perf_counter() - began)
            told = await _info(client)
    except TimeoutError:
        return StoreSeen(error="it does not answer in time")
    except (redis.RedisError, OSError) as error:
        return StoreSeen(error=str(error)[:300] or type(error).__name__)
    finally:
        with contextlib.suppress(redis.RedisError, OSError, TimeoutError):
            async with asyncio.timeout(TIMEOUT):
                await client.aclose()
    kept = [
        name
        for name, kept in (
            ("aof", told.get("aof_enabled") == 1),
            ("rdb", bool(told.get("rdb_last_save_time")) and bool(told.get("saves"))),
        )
        if kept
    ]
    return StoreSeen(
        version=str(told.get("redis_version", "")),
        seconds=statistics.median(times),
        used=int(told.get("used_memory", 0)),
        limit=int(told.get("maxmemory", 0)),
        policy=str(told.get("maxmemory_policy", "")),
        evicted=int(told.get("evicted_keys", 0)),
        persistence=" and ".join(kept),
        role=str(told.get("role", "")),
    )


async def _info(client: Any) -> dict[str, Any]:
    """What ``INFO`` tells; a user may lack the right to it, and all of it is optional."""
    import redis

    told: dict[str, Any] = {}
    with contextlib.suppress(redis.ResponseError):
        told |= await client.info()
    with contextlib.suppress(redis.ResponseError):
        told["saves"] = (await client.config_get("save")).get("save", "")
    return told


# ---- checks ----


def check_store(known: Surroundings) -> Iterator[Finding]:
    if known.store is None:
        if known.store_kind == "none":
            yield warn(
                "store",
                "no replies are kept (--idempotency none): what is redelivered is handled again",
                "use memory, or redis://… for a fleet",
            )
        else:
            yield ok("store", "replies are kept in the memory of each worker")
        return
    store = known.store
    if store.error:
        yield fail(
            "store",
            f"the Redis of --idempotency cannot be used: {store.error}",
            "requests are handled all the same, without protection from repetitions; check that "
            "it runs, and host, port, password and rights in the URL",
        )
        return
    if store.seconds > SLOW:
        yield warn(
            "store",
            f"a call to Redis takes {store.seconds * 1000:.1f} ms, and each request waits for two",
            "put Redis nearer to the workers, and look at its SLOWLOG",
        )
    else:
        yield ok("store", f"Redis {store.version} answers in {store.seconds * 1000:.1f} ms")
    if store.role == "slave":
        yield fail(
            "store", "this Redis is a replica and takes no writes", "name the primary in the URL"
        )
    yield from _memory(store)
    if store.version and not store.persistence:
        yield ok(
            "store",
            "Redis keeps nothing on disk: after its restart, replies of the last ten minutes are "
            "not known",
        )


def _memory(store: StoreSeen) -> Iterator[Finding]:
    if store.limit and store.used > NEARLY * store.limit:
        yield warn(
            "store",
            f"Redis uses {store.used:,} of {store.limit:,} bytes",
            "raise maxmemory: replies are kept for ten minutes",
        )
    if store.limit and store.policy.startswith("allkeys-"):
        yield warn(
            "store",
            f"maxmemory-policy is {store.policy}: what other programs keep may push out replies, "
            "and these what they keep",
            "set volatile-ttl or noeviction, and memory enough",
        )
    elif store.policy:
        limit = f"maxmemory {store.limit:,} bytes" if store.limit else "maxmemory is not set"
        yield ok("store", f"{limit}, maxmemory-policy {store.policy}")
    if store.evicted:
        yield warn(
            "store",
            f"Redis has evicted {store.evicted:,} keys for lack of memory since it was started",
            "raise maxmemory: a reply that is evicted protects from no repetition",
        )


CHECKS: Final[tuple[Check[Surroundings], ...]] = (check_store,)
