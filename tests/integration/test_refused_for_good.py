"""A publishing that the broker will never take costs itself alone, whoever caused it."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from bridge import Call, Router
from bridge.client.client import Client
from bridge.client.errors import NotAccepted
from bridge.gateway import GatewayLink, Reply
from bridge.ocpp import CallError
from bridge.testing.rabbitmq import PrivateBroker
from bridge.transport import Confirm, Delivery, Properties, Publishing, Subscription
from tests.integration.support import (
    NAMES,
    PATIENCE,
    WatchedTransport,
    Working,
    dead_letters,
    ready,
    request,
    working,
)

QUEUE = NAMES.vendor_queue("v")
MOST = 1024 * 1024
FORGED = "amq.rabbitmq.reply-to.g1h2AA5yZXBseUAxMjM0NTY3OAAACwAAAAAAAAAAAQ==.a2V5"
"""A process of the node reply@12345678, which is not in the cluster."""


def limit(broker: PrivateBroker, size: int) -> None:
    broker.eval(
        f"application:set_env(rabbit, max_message_size, {size}),"
        f" persistent_term:put(max_message_size, {size})"
    )


@pytest.fixture
def small(breakable_broker: PrivateBroker) -> Iterator[str]:
    """A virtual host of a broker that takes messages of 1 MiB at most."""
    before = breakable_broker.eval("application:get_env(rabbit, max_message_size, 16777216)")
    limit(breakable_broker, MOST)
    try:
        yield breakable_broker.add_vhost("small")
    finally:
        breakable_broker.delete_vhost("small")
        limit(breakable_broker, int(before))


class Asker:
    """Asks in plain AMQP, and counts every answer."""

    def __init__(self, url: str) -> None:
        self.transport = WatchedTransport(url, name="asker")
        self.answers: Counter[str] = Counter()
        self._news = asyncio.Event()

    async def start(self) -> None:
        def take(delivery: Delivery) -> None:
            self.answers[delivery.properties.correlation_id or ""] += 1
            self._news.set()

        await self.transport.start([Subscription("", 0, take, no_ack=True)], lambda *_: None)

    def ask(self, name: str, message: str = "m", reply_to: str | None = None) -> None:
        properties = Properties(
            headers={"ocpp-station-id": "CP"},
            correlation_id=name,
            reply_to=reply_to or self.transport.reply_queue,
            delivery_mode=2,
        )
        body = b'{"vendorId":"v","messageId":"%b","data":"%b"}' % (message.encode(), name.encode())
        self.transport.publish(Publishing("v", body, properties, NAMES.requests), lambda _: None)

    async def until(self, claim: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not claim():
                self._news.clear()
                await self._news.wait()


class Vendor:
    """Answers at once, when it is told to, or with 2 MB."""

    def __init__(self) -> None:
        self.router = Router("v", timeout=PATIENCE)
        self.open = asyncio.Event()
        self.entered = asyncio.Semaphore(0)
        self.handled: Counter[str] = Counter()

        @self.router.on("m")
        async def at_once(call: Call, data: str) -> str:
            self.handled[data] += 1
            return data

        @self.router.on("waits")
        async def when_told(call: Call, data: str) -> str:
            self.handled[data] += 1
            self.entered.release()
            await self.open.wait()
            return data

        @self.router.on("large")
        async def large(call: Call, data: str) -> str:
            self.handled[data] += 1
            await self.open.wait()
            return "x" * 2 * MOST

    async def admit(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE):
            for _ in range(count):
                await self.entered.acquire()


@contextlib.asynccontextmanager
async def asking(url: str) -> AsyncIterator[tuple[Vendor, Working, Asker]]:
    vendor, asker = Vendor(), Asker(url)
    async with working(url, vendor.router) as it:
        await asker.start()
        try:
            yield vendor, it, asker
        finally:
            await asker.transport.close()


async def test_an_answer_too_large_for_the_broker_fails_and_its_neighbours_are_answered_once(
    small: str,
) -> None:
    async with asking(small) as (vendor, it, asker):
        names = [f"near {number}" for number in range(20)]
        for name in names[:10]:
            asker.ask(name, "waits")
        for name in ("large 1", "large 2"):
            asker.ask(name, "large")
        for name in names[10:]:
            asker.ask(name, "waits")
        await vendor.admit(20)
        vendor.open.set()
        await asker.until(lambda: len(asker.answers) == 22)
        asker.ask("later", "large")  # by now the limit is known
        await asker.until(lambda: len(asker.answers) == 23)
        assert set(asker.answers.values()) == {1}
        assert set(vendor.handled.values()) == {1}
        assert it.transport.sessions == 1
    dead = await dead_letters(small)
    size = 2 * MOST + len('{"status":"Accepted","data":""}')
    refused = f"406 PRECONDITION_FAILED - message size {size} is larger than configured max size"
    assert [str(letter.headers["dtbridge-error"]) for letter in dead] == [
        f"the broker does not take the answer: {refused} {MOST}",
        *2 * [f"the broker does not take the answer: {size} bytes, and the broker takes {MOST}"],
    ]
    assert await ready(small, QUEUE) == {QUEUE: 0}


async def test_whoever_waits_for_an_answer_too_large_for_the_broker_gets_a_call_error(
    small: str,
) -> None:
    vendor = Vendor()
    vendor.open.set()
    transport = WatchedTransport(small, name="client")
    async with (
        working(small, vendor.router),
        Client(transport=transport, timeout=PATIENCE) as client,
    ):
        with pytest.raises(CallError, match="InternalError"):
            await client.data_transfer("CP", request(message_id="large", data="x"))
        too_large = request(data="x" * 2 * MOST)
        for _ in range(2):
            with pytest.raises(NotAccepted, match="larger than the broker allows"):
                await client.data_transfer("CP", too_large)
        assert (await client.data_transfer("CP", request(data="y"))).data == "y"
        assert transport.sessions == 1


async def test_a_forged_direct_reply_to_costs_nobody_else_his_answer(amqp_url: str) -> None:
    async with asking(amqp_url) as (vendor, it, asker):
        asker.ask("waits", "waits")
        await vendor.admit(1)
        for number in range(4):
            asker.ask(f"forged {number}", reply_to=f"{FORGED}{number:04}")
            asker.ask(f"honest {number}")
        await asker.until(lambda: len(asker.answers) == 4)
        vendor.open.set()
        await asker.until(lambda: asker.answers["waits"] == 1)
        assert await it.transport.drain(PATIENCE) == 0
        assert it.transport.sessions == 1
        assert set(vendor.handled.values()) == {1}
        assert set(asker.answers.values()) == {1}
    assert await ready(amqp_url, QUEUE, NAMES.dead) == {QUEUE: 0, NAMES.dead: 0}


async def test_whatever_the_broker_refuses_for_good_is_found_among_all_that_were_on_their_way(
    amqp_url: str,
) -> None:
    """Here a user_id that is not ours, which nothing that the bridge itself makes has."""
    vendor = Vendor()
    async with working(amqp_url, vendor.router) as it:
        fates: list[list[Confirm]] = []
        for number in range(20):
            properties = Properties(user_id="nobody" if number in {5, 12} else None)
            fates.append([])
            it.transport.publish(Publishing("x", b"", properties), fates[-1].append)
        done = asyncio.Event()
        it.transport.publish(
            Publishing("x", b"", Properties(user_id="nobody")), lambda _: done.set()
        )
        async with asyncio.timeout(PATIENCE):
            await done.wait()
        expected = [Confirm.CONFIRMED] * 20
        expected[5] = expected[12] = Confirm.IMPOSSIBLE
        assert fates == [[fate] for fate in expected]
        assert it.transport.sessions == 1


async def test_a_stations_answer_too_large_for_the_broker_is_a_call_error_for_the_csms(
    small: str,
) -> None:
    class Station:
        async def on_payload(self, payload: bytes, timeout: float) -> Reply:
            large = b"large" in payload
            return Reply(b'{"status":"Accepted","data":"%b"}' % (b"x" * (2 * MOST if large else 1)))

    transport = WatchedTransport(small, name="gateway")
    async with (
        working(small, Vendor().router),
        GatewayLink(transport=transport, timeout=PATIENCE) as link,
        Client(small, timeout=PATIENCE) as client,
    ):
        await link.connect_station("CP1", "ocpp2.0.1", Station())
        with pytest.raises(CallError, match="InternalError"):
            await client.send_to_station("CP1", request(message_id="large"))
        assert (await client.send_to_station("CP1", request())).data == "x"
        assert transport.sessions == 1
