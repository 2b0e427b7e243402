"""What the suite for transports is made of."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import pytest_asyncio

from bridge.testing.conformance.sides import NAMES, PATIENCE, Log, Side
from bridge.transport import (
    Confirm,
    Properties,
    Publishing,
    Subscription,
    Transport,
)

VENDOR = "v"
QUEUE = NAMES.vendor_queue(VENDOR)
OTHER = "datatransfer.other"
REPLIES = "datatransfer.replies.test"

Started = Callable[..., AbstractAsyncContextManager[tuple[Transport, Log]]]


def to(
    queue: str, body: bytes = b"", *, mandatory: bool = False, expiration: str | None = None
) -> Publishing:
    return Publishing(
        queue, body, Properties(delivery_mode=2, expiration=expiration), mandatory=mandatory
    )


async def confirmed(transport: Transport, publishing: Publishing) -> Confirm:
    future: asyncio.Future[Confirm] = asyncio.get_running_loop().create_future()
    transport.publish(publishing, future.set_result)
    async with asyncio.timeout(PATIENCE):
        return await future


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


def starting(side: Side) -> Started:
    """Starts transports that consume from the vendor's queue, or from others."""

    @asynccontextmanager
    async def start(*queues: str, prefetch: int = 10) -> AsyncIterator[tuple[Transport, Log]]:
        log = Log()
        transport = side.transport()
        try:
            subscriptions = [
                Subscription(queue, prefetch, log.on_delivery) for queue in queues or (QUEUE,)
            ]
            await transport.start(subscriptions, log.on_state)
            yield transport, log
        finally:
            await transport.close()

    return start


class TransportBase:
    """What the parts of the suite have in common."""

    pytestmark = pytest.mark.asyncio

    @pytest.fixture
    def started(self, side: Side) -> Started:
        return starting(side)

    @pytest_asyncio.fixture(autouse=True)
    async def topology(self, side: Side) -> None:
        await side.declare(VENDOR)
