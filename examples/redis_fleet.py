"""A fleet of workers that answers each request once, whichever of them it comes to.

It shows what a fleet shares: replies, in Redis, so that a request that comes again to another
worker gets the reply of the first. On each machine, as many workers as you like:

    pip install 'datatransfer-bridge[redis]'
    export DTBRIDGE_AMQP_URL=amqp://user:password@broker
    export DTBRIDGE_IDEMPOTENCY=redis://redis:6379/0
    COUPON_STORE=redis://redis:6379/1 dtbridge run examples.redis_fleet:router --processes 4

The handler has an effect that must not be had twice: it hands out coupons, each once. The workers
share those in Redis, too, by a client of the handler's own. That the station's request is known
again, its gateway sees to (docs/contract.md, "Which requests are the same"). A worker that is
killed between effect and reply has had the effect: where that matters, have both in one database.
"""

import os
from collections.abc import AsyncIterator

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisUnreachable
from redis.exceptions import TimeoutError as RedisTooSlow

from bridge import Call, Rejected, RetryPolicy, Router

router = Router("com.acme.coupons", retry=RetryPolicy(on=(RedisUnreachable, RedisTooSlow)))


class Wanted(msgspec.Struct, rename="camel"):
    campaign: str


class Coupon(msgspec.Struct, rename="camel"):
    campaign: str
    number: int


class Coupons:
    """Coupons of all campaigns: there are ten thousand of each."""

    def __init__(self, store: Redis) -> None:
        self._store = store

    @router.method("TakeCoupon")
    async def take(self, call: Call, data: Wanted) -> Coupon:
        number: int = await self._store.incr(f"coupons:{data.campaign}")
        if number > 10_000:
            raise Rejected("NoCouponLeft", f"all coupons of {data.campaign} are taken")
        return Coupon(data.campaign, number)


@router.lifespan
async def open_coupons() -> AsyncIterator[Coupons]:
    async with Redis.from_url(os.environ["COUPON_STORE"], socket_timeout=2) as store:
        yield Coupons(store)
