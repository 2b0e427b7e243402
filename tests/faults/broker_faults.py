"""The broker is what breaks."""

import asyncio
from collections.abc import AsyncIterator

from bridge.dialects.names import Names
from tests.faults.catalogue import Needs, fault
from tests.faults.handlers import VENDOR
from tests.faults.load import Mix, request
from tests.faults.stage import Stage

NAMES = Names()


@fault("broker killed (SIGKILL) and back", needs=Needs.NODE)
async def killed(stage: Stage) -> AsyncIterator[None]:
    await asyncio.to_thread(stage.node.sync)
    await asyncio.to_thread(stage.node.kill)
    yield
    await asyncio.to_thread(stage.node.start)


@fault("broker restarted in order", needs=Needs.NODE, workers=1)
async def restarted(stage: Stage) -> AsyncIterator[None]:
    await asyncio.to_thread(stage.node.stop)
    yield
    await asyncio.to_thread(stage.node.start)


async def _alarm(stage: Stage, on: tuple[str, ...], off: tuple[str, ...]) -> AsyncIterator[None]:
    await stage.control_node(*on)
    try:
        yield
        if await stage.ask_node("rabbit_alarm:get_alarms()") == "[]":
            stage.complaints.append("there was no alarm")
        if not stage.said('"blocked"'):
            stage.complaints.append("no worker noticed that it was blocked")
    finally:
        await stage.control_node(*off)


@fault("memory alarm", needs=Needs.NODE, hold=3.0)
async def memory_alarm(stage: Stage) -> AsyncIterator[None]:
    on, off = ("set_vm_memory_high_watermark", "0.00001"), ("set_vm_memory_high_watermark", "0.4")
    async for _ in _alarm(stage, on, off):
        yield


@fault("disk alarm", needs=Needs.NODE, hold=3.0)
async def disk_alarm(stage: Stage) -> AsyncIterator[None]:
    on, off = ("set_disk_free_limit", "100000GB"), ("set_disk_free_limit", "1MB")
    async for _ in _alarm(stage, on, off):
        yield


@fault("queue deleted under its consumers")
async def queue_deleted(stage: Stage) -> AsyncIterator[None]:
    """The queue is empty: its messages would be deleted with it, and no worker can help that."""
    await stage.load.idle()
    channel = await stage.control()
    await channel.queue_delete(NAMES.vendor_queue(VENDOR))
    stage.now()
    stage.load.running.set()
    yield


@fault(
    "exchanges for dead letters and retries deleted",
    make=Mix({"Echo": 90, "Raise": 5, "Flaky": 5}),
    hold=2.0,
    workers=1,
)
async def exchanges_deleted(stage: Stage) -> AsyncIterator[None]:
    channel = await stage.control()
    for exchange in (NAMES.dead, NAMES.retry(0.1)):
        await channel.exchange_delete(exchange)
    stage.now()
    yield


async def _grant(stage: Stage, what: str) -> None:
    await stage.ask_node(
        f'rabbit_auth_backend_internal:set_permissions(<<"faults">>, <<"{stage.vhost}">>, '
        f'<<"{what}">>, <<"{what}">>, <<"{what}">>, <<"guest">>)'
    )


@fault("permissions revoked and granted again", needs=Needs.NODE, user="faults:faults", hold=4.0)
async def permissions_revoked(stage: Stage) -> AsyncIterator[None]:
    """The connections are ended, too: a channel remembers what it was allowed."""
    await _grant(stage, "^$")
    stage.proxies[0].reset()
    yield
    if not stage.said("ACCESS_REFUSED"):
        stage.complaints.append("no worker was refused")
    await _grant(stage, ".*")


@fault(
    "reply queues at their length limit (refused publishings)",
    reply_arguments={"x-max-length": 20, "x-overflow": "reject-publish"},
    window=20,
    hold=3.0,
)
async def replies_refused(stage: Stage) -> AsyncIterator[None]:
    stage.load.reading.clear()
    yield
    if not stage.witness.refused:
        stage.complaints.append("no publishing was refused")
    stage.load.reading.set()


async def _set_consumer_timeout(stage: Stage, milliseconds: int, tick: int) -> None:
    await stage.ask_node(
        f"application:set_env(rabbit, consumer_timeout, {milliseconds}), "
        f"application:set_env(rabbit, channel_tick_interval, {tick})"
    )
    stage.proxies[0].reset()  # channels read both when they open
    await stage.consuming()


@fault("channel closed by consumer_timeout", needs=Needs.NODE, workers=1, hold=7.0)
async def consumer_timeout(stage: Stage) -> AsyncIterator[None]:
    await _set_consumer_timeout(stage, 3000, 1000)
    for _ in range(5):
        stage.load.publish_next(
            lambda load, number, reply_to: request(load, number, reply_to, VENDOR, "Stall", 120.0)
        )
    yield
    # RabbitMQ 4.3 cancels the consumer and leaves the channel open.
    if not stage.said("timed out") + stage.said("took too long"):
        stage.complaints.append("the broker closed no channel")
    await _set_consumer_timeout(stage, 1_800_000, 60_000)
