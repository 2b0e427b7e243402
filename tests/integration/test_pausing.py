"""A vendor is paused in a whole fleet: under load, across restarts, without rights, in an alarm."""

import asyncio
import contextlib
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable

import aio_pika
import pytest

from bridge import Call, Router
from bridge.client.client import Client
from bridge.dialects.names import vendor_key
from bridge.dialects.topology import Mode
from bridge.rabbitmq import pausing
from bridge.rabbitmq.changing import open_changes
from bridge.rabbitmq.switching import Switch
from bridge.rabbitmq.urls import parse_urls
from bridge.testing.rabbitmq import PrivateBroker
from bridge.transport import State
from tests.integration.support import (
    NAMES,
    PATIENCE,
    ROOT,
    WorkerProcess,
    Working,
    add_user,
    clean_environment,
    ready,
    request,
    working,
)
from tests.integration.test_session import memory_alarm
from tests.support import payload

LOAD = "tests.integration.load_vendors:routers"
SLOW = NAMES.vendor_queue("slow")
REPLIES = "datatransfer.replies.pausing"
REQUESTS = 1_000


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.02)


def starting(url: str, *arguments: str) -> "subprocess.Popen[str]":
    """`dtbridge …` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "bridge", *arguments],
        env=clean_environment({"DTBRIDGE_AMQP_URL": url}),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


async def dtbridge(url: str, *arguments: str) -> str:
    """Run it to its end, and return what it says. It must succeed."""
    process = starting(url, *arguments)
    said, _ = await asyncio.to_thread(process.communicate)
    assert process.returncode == 0, said
    return said


@contextlib.asynccontextmanager
async def switch(url: str) -> AsyncIterator[Switch]:
    async with open_changes(parse_urls([url]), "test") as changes:
        yield Switch(changes, NAMES)


class Station:
    """Publishes requests that outlive the broker, and keeps count of their answers."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.answers: Counter[str] = Counter()

    async def ask(self, vendor: str, count: int) -> None:
        async with await aio_pika.connect(self._url) as connection, connection.channel() as channel:
            await channel.declare_queue(REPLIES, durable=True)
            exchange = await channel.get_exchange(NAMES.requests)
            for number in range(count):
                message = aio_pika.Message(
                    payload(vendor, "m", number),
                    delivery_mode=2,
                    correlation_id=str(number),
                    reply_to=REPLIES,
                    message_id=str(number),
                    headers={"ocpp-station-id": "CP1"},
                )
                await exchange.publish(message, vendor_key(vendor))

    async def collect(self) -> int:
        """Take the answers that have come. Returns how many there are in all."""
        async with await aio_pika.connect(self._url) as connection, connection.channel() as channel:
            queue = await channel.declare_queue(REPLIES, durable=True)
            while (message := await queue.get(fail=False, no_ack=True)) is not None:
                assert message.correlation_id is not None
                self.answers[message.correlation_id] += 1
        return self.answers.total()


def loaded(url: str) -> WorkerProcess:
    return WorkerProcess(LOAD, url, concurrency=1, prefetch=50, access_log="true")


async def settled(station: Station, url: str) -> tuple[int, int]:
    """Answers and requests in the queue, when they do not change any more."""
    before, now = None, (0, 0)
    while before != now:
        await asyncio.sleep(0.5)
        before, now = now, (await station.collect(), (await ready(url, SLOW))[SLOW])
    return now


async def test_a_fleet_pauses_under_load_and_across_restarts_and_loses_nothing(
    breakable_broker: PrivateBroker,
) -> None:
    url = breakable_broker.add_vhost("paused-fleet")
    station = Station(url)
    async with loaded(url) as first:
        async with loaded(url) as second:
            await station.ask("slow", REQUESTS)
            await asyncio.to_thread(first.until, "request", 20)
            said = await dtbridge(url, "pause", "SLOW")
            assert "no worker takes its requests" in said
            for worker in (first, second):
                paused = await asyncio.to_thread(worker.until, "vendor paused")
                assert (paused["vendor"], paused["level"]) == ("slow", "warning")
            answered, waiting = await settled(station, url)
            assert answered + waiting == REQUESTS
            assert answered >= 20
            assert waiting > 0
            async with Client(url, timeout=PATIENCE) as client:
                answer = await client.data_transfer("CP1", request("hostile", "Text", "there"))
                assert answer.data == "there"
            await asyncio.to_thread(breakable_broker.restart)
            for worker in (first, second):
                await asyncio.to_thread(worker.until, "consuming", 2)
        async with loaded(url) as third:
            await asyncio.to_thread(third.until, "vendor paused")
            assert await settled(station, url) == (answered, waiting)
            assert "slow" in await dtbridge(url, "paused", "slow", "hostile")
            said = await dtbridge(url, "resume", "slow")
            assert "1 consumer takes" in said or "2 consumers take" in said  # both by now, or one
            for worker in (first, third):
                resumed = await asyncio.to_thread(worker.until, "vendor resumed")
                assert resumed["vendor"] == "slow"
            async with asyncio.timeout(PATIENCE):
                while await station.collect() < REQUESTS:
                    await asyncio.sleep(0.1)
            assert await settled(station, url) == (REQUESTS, 0)
    assert set(station.answers.values()) == {1}


async def test_a_command_that_is_killed_has_paused_it_or_not_and_the_workers_know_which(
    amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pausing, "LOOK_EVERY", 0.3)
    router = Router("v")
    router.default(_done)
    random_ = random.Random(7)
    async with working(amqp_url, router) as it:
        for number in range(8):
            command = "pause" if number % 2 == 0 else "resume"
            process = starting(amqp_url, command, "v")
            await asyncio.sleep(random_.uniform(0.3, 1.2))
            process.kill()
            process.communicate()
            async with switch(amqp_url) as operator:
                truth = await operator.are_paused(["v"]) == {"v"}
            await until_paused(it, truth)
        async with switch(amqp_url) as operator:
            await operator.resume("v")
        await until_paused(it, False)


async def until_paused(it: Working, paused: bool) -> None:
    await until(lambda: it.worker.intakes[0].paused is paused)


async def _done(call: Call) -> str:
    return "done"


async def test_a_worker_that_may_declare_nothing_obeys_within_seconds(
    breakable_broker: PrivateBroker,
) -> None:
    url = breakable_broker.add_vhost("paused-least")
    router = Router("v")
    router.default(_done)
    async with working(url, router):
        """Somebody else has declared everything."""
    rights = ["^$", r"^(datatransfer.*|amq\.default)$", "^datatransfer.*$"]
    add_user(breakable_broker, "least", "least", "paused-least", rights)
    its_url = url.replace("guest:guest", "least:least")
    async with working(its_url, router, mode=Mode.VERIFY) as it:
        assert "no worker takes its requests" in await dtbridge(url, "pause", "v")
        assert it.worker.intakes[0].paused
        assert it.transport.history.count(State.CONSUMING) == 1
        await dtbridge(url, "resume", "v")
        assert not it.worker.intakes[0].paused


async def test_a_worker_that_cannot_know_goes_on_and_says_so_once(
    breakable_broker: PrivateBroker, caplog: pytest.LogCaptureFixture
) -> None:
    url = breakable_broker.add_vhost("paused-unknown")
    router = Router("v")
    router.default(_done)
    async with working(url, router):
        """Somebody else has declared everything."""
    rights = ["^$", r"^(datatransfer(\..*)?|amq\.default)$", r"^datatransfer(\..*)?$"]
    add_user(breakable_broker, "deaf", "deaf", "paused-unknown", rights)
    its_url = url.replace("guest:guest", "deaf:deaf")
    async with switch(url) as operator:
        await operator.pause("v")
    async with (
        working(its_url, router, mode=Mode.VERIFY) as it,
        Client(url, timeout=PATIENCE) as client,
    ):
        assert (await client.data_transfer("CP1", request())).data == "done"
        assert not it.worker.intakes[0].paused
        process = starting(url, "pause", "v", "--timeout", "0.5")
        said, _ = await asyncio.to_thread(process.communicate)
        assert process.returncode == 1
        assert "1 consumer takes still its requests" in said
    assert caplog.text.count("vendors cannot be paused") == 1


async def test_a_worker_that_starts_in_an_alarm_handles_nothing_of_a_paused_vendor_after_it(
    breakable_broker: PrivateBroker,
) -> None:
    url = breakable_broker.add_vhost("paused-alarm")
    paused, other = Router("v"), Router("w")
    handled: list[str] = []

    async def handle(call: Call) -> None:
        handled.append(call.request.vendor_id)

    paused.default(handle)
    other.default(handle)
    async with working(url, paused, other):
        """It declares."""
    async with switch(url) as operator:
        await operator.pause("v")
    station = Station(url)
    await station.ask("v", 5)
    await station.ask("w", 5)
    with contextlib.ExitStack() as stack:
        stack.enter_context(memory_alarm(breakable_broker))
        async with working(url, paused, other) as it:
            await it.transport.until(State.BLOCKED)
            assert handled == []
            await asyncio.to_thread(stack.close)
            await until(lambda: len(handled) == 5)
            await until(lambda: it.worker.intakes[0].paused)
            assert handled == ["w"] * 5
            async with switch(url) as operator:
                await operator.resume("v")
            await until(lambda: len(handled) == 10)


async def test_what_waits_too_long_expires_in_the_queue_as_ever(amqp_url: str) -> None:
    router = Router("v")
    router.default(_done)
    async with working(amqp_url, router), Client(amqp_url, timeout=0.5) as client:
        await dtbridge(amqp_url, "pause", "v")
        with pytest.raises(Exception, match="no answer"):
            await client.data_transfer("CP1", request())
        async with asyncio.timeout(PATIENCE):
            while (await ready(amqp_url, NAMES.dead))[NAMES.dead] != 1:
                await asyncio.sleep(0.1)
        assert await ready(amqp_url, NAMES.vendor_queue("v")) == {NAMES.vendor_queue("v"): 0}
        await dtbridge(amqp_url, "resume", "v")


async def test_the_audit_does_not_miss_the_consumer_of_a_paused_vendor(
    amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.rabbitmq.watch.AUDIT", 0.1)
    router = Router("v")
    router.default(_done)
    async with working(amqp_url, router) as it:
        async with switch(amqp_url) as operator:
            await operator.pause("v")
            await until(lambda: it.worker.intakes[0].paused)
            await Station(amqp_url).ask("v", 3)
            await asyncio.sleep(1.0)  # ten audits
            assert it.transport.history.count(State.CONSUMING) == 1
            for _ in range(20):
                await operator.resume("v")
                await operator.pause("v")
            await operator.resume("v")
        await until(lambda: not it.worker.intakes[0].paused)
        async with asyncio.timeout(PATIENCE):
            while (await ready(amqp_url, NAMES.vendor_queue("v")))[NAMES.vendor_queue("v")]:
                await asyncio.sleep(0.05)
        assert it.transport.history.count(State.CONSUMING) == 1


async def test_the_rate_of_a_router_holds_and_what_is_beyond_waits_in_the_queue(
    amqp_url: str,
) -> None:
    router = Router("v", rate=20.0)
    router.default(_done)
    station = Station(amqp_url)
    async with working(amqp_url, router) as it:
        since = time.monotonic()
        await station.ask("v", 150)
        assert it.worker.intakes[0].prefetch == 100
        await asyncio.sleep(2.0)
        assert 20 <= await station.collect() <= 20 * (time.monotonic() - since) + 3
        assert it.worker.intakes[0].in_hand <= 100
        async with asyncio.timeout(PATIENCE):
            while await station.collect() < 150:
                await asyncio.sleep(0.1)
    assert set(station.answers.values()) == {1}
