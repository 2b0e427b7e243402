"""A worker settles 100,000 requests with hostile bodies and headers, and does not grow."""

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

from bridge.rabbitmq.transport import RabbitTransport
from bridge.rabbitmq.urls import parse_urls
from bridge.transport import Confirm, Delivery, Properties, Publishing, Subscription
from tests.integration.support import NAMES, WorkerProcess, ready

COUNT = 100_000
BATCH = 20_000
SAMPLE = 20
"""One request in this many asks for an answer."""
GROWTH = 12 * 1024 * 1024
"""Bytes of memory that the worker may gain over the last 80,000 requests. A leak of 1 kB for each
would be 80 MB."""
LIMIT = 60.0
"""Seconds that the test may take."""


def valid(rng: random.Random) -> bytes:
    return b'{"vendorId":"hostile","messageId":"Read","data":{"value":%d}}' % rng.randrange(10**6)


def noise(rng: random.Random) -> bytes:
    return rng.randbytes(rng.randrange(200))


def cut(rng: random.Random) -> bytes:
    whole = valid(rng)
    return whole[: rng.randrange(len(whole))]


def flipped(rng: random.Random) -> bytes:
    whole = bytearray(valid(rng))
    whole[rng.randrange(len(whole))] = rng.randrange(256)
    return bytes(whole)


def nested(rng: random.Random) -> bytes:
    depth = rng.choice((10, 1_000, 5_000))
    return b'{"vendorId":"hostile","messageId":"Any","data":' + b"[" * depth + b"]" * depth + b"}"


def odd_value(rng: random.Random) -> bytes:
    value = rng.choice(
        (
            b"1e999",
            b"-0",
            b"9" * 5_000,
            b'"\\ud800"',
            b'"\xff"',
            b"NaN",
            b"null",
            b'""',
            b"[]",
            b'"\\u0000"',
        )
    )
    return b'{"vendorId":"hostile","messageId":"%b","data":%b}' % (
        rng.choice((b"Read", b"Text", b"Any")),
        value,
    )


def odd_shape(rng: random.Random) -> bytes:
    return rng.choice(
        (
            b"",
            b"null",
            b"[]",
            b'"hostile"',
            b"{}",
            b'{"vendorId":null}',
            b'{"vendorId":["hostile"]}',
            b'{"vendorId":"hostile","messageId":7}',
            b'{"vendorId":"hostile","vendorId":"other"}',
            b'{"vendorId":"' + b"v" * 300 + b'"}',
            b'{"vendorId":"hostile","messageId":"' + b"m" * 60 + b'"}',
            b'\xef\xbb\xbf{"vendorId":"hostile"}',
            b'{"vendorId":"hostile","customData":{"vendorId":1}}',
        )
    )


def other_vendor(rng: random.Random) -> bytes:
    return json.dumps(
        {"vendorId": chr(rng.randrange(0x20, 0xD800)) * rng.randrange(1, 255), "data": rng.random()}
    ).encode()


BODIES: list[Callable[[random.Random], bytes]] = [
    valid, noise, cut, flipped, nested, odd_value, odd_value, odd_shape, odd_shape, other_vendor,
]  # fmt: skip


def headers(rng: random.Random) -> dict[str, Any] | None:
    good = {
        "ocpp-station-id": f"CP{rng.randrange(10_000)}",
        "ocpp-version": rng.choice(("ocpp1.6", "ocpp2.0.1", "ocpp2.1")),
    }
    kind = rng.randrange(20)
    if kind == 0:
        return None
    if kind == 1:
        return good | {"ocpp-station-id": rng.choice((1, "", "x" * 100_000, b"\xff", [], None))}
    if kind == 2:
        return good | {"ocpp-version": rng.choice(("ocpp9", 2.1, "", {"a": 1}))}
    if kind == 3:
        return good | {"ocpp-deadline": rng.choice(("soon", -1, 2**63 - 1, 0, True, 1.5))}
    if kind == 4:
        return good | {
            "dtbridge-attempt": rng.choice((-1, "x", 2**62)),
            "traceparent": rng.choice((b"\x00", 7, "t" * 9_000)),
        }
    return good


def requests(rng: random.Random, count: int, reply_to: str) -> Iterator[Publishing]:
    for number in range(count):
        wanted = number % SAMPLE == 0
        properties = Properties(
            headers=headers(rng),
            correlation_id=str(number) if wanted or rng.random() < 0.5 else None,
            reply_to=reply_to if wanted else None,
            message_id=rng.choice((None, "", "1", "i" * 255)),
        )
        yield Publishing("hostile", rng.choice(BODIES)(rng), properties, NAMES.requests)


class Flood:
    """Publishes many messages and counts confirms and replies."""

    def __init__(self, url: str) -> None:
        self.transport = RabbitTransport(parse_urls([url]), name="flood")
        self.sent = self.replies = 0
        self.sentinels: set[str] = set()
        self._news = asyncio.Event()
        self.confirms: dict[Confirm, int] = dict.fromkeys(Confirm, 0)

    async def start(self) -> None:
        await self.transport.start(
            [Subscription("", 0, self._on_reply, no_ack=True)], lambda *_: None
        )

    def _on_reply(self, delivery: Delivery) -> None:
        self.replies += 1
        correlation_id = delivery.properties.correlation_id or ""
        if correlation_id.startswith("sentinel"):
            self.sentinels.add(correlation_id)
        self._news.set()

    def _on_confirm(self, confirm: Confirm) -> None:
        self.confirms[confirm] += 1
        self._news.set()

    @property
    def unconfirmed(self) -> int:
        return self.sent - sum(self.confirms.values())

    def send(self, publishing: Publishing) -> None:
        self.sent += 1
        self.transport.publish(publishing, self._on_confirm)

    async def publish(self, publishings: Iterator[Publishing], most: int = 2_000) -> None:
        """Publish them all, at most `most` of them unconfirmed at a time."""
        for publishing in publishings:
            self.send(publishing)
            if self.unconfirmed >= most:
                await self.until(lambda: self.unconfirmed < most / 2)
        await self.until(lambda: not self.unconfirmed)

    async def until(self, claim: Callable[[], bool]) -> None:
        await asyncio.sleep(0)
        async with asyncio.timeout(LIMIT):
            while not claim():
                self._news.clear()
                await self._news.wait()

    async def answered(self, vendor_key: str) -> None:
        """Await the answer to a request sent now: all that was sent before is dispatched then."""
        name = f"sentinel {vendor_key} {len(self.sentinels)}"
        properties = Properties(
            headers={"ocpp-station-id": "CP"},
            correlation_id=name,
            reply_to=self.transport.reply_queue,
        )
        self.send(Publishing(vendor_key, valid(random.Random(0)), properties, NAMES.requests))
        await self.until(lambda: name in self.sentinels)


async def test_every_hostile_request_is_settled_and_memory_stays_flat(amqp_url: str) -> None:
    rng = random.Random(20_201)
    started = time.monotonic()
    with WorkerProcess(
        "tests.integration.load_vendors:routers", amqp_url, expired="drop", log_level="info"
    ) as worker:
        flood = Flood(amqp_url)
        await flood.start()
        reply_to = flood.transport.reply_queue
        assert reply_to is not None
        resident = []
        for _ in range(COUNT // BATCH):
            await flood.publish(requests(rng, BATCH, reply_to))
            await flood.answered("hostile")
            resident.append(worker.resident)
        assert await asyncio.to_thread(worker.stop) == 0
        counts = worker.counts
        await flood.until(lambda: flood.replies == counts["replied"])
        await flood.transport.close()
    took = time.monotonic() - started
    queues = (NAMES.vendor_queue("hostile"), NAMES.unknown_vendor)
    assert await ready(amqp_url, *queues) == dict.fromkeys(queues, 0)
    assert flood.confirms == {
        Confirm.CONFIRMED: COUNT + COUNT // BATCH,
        **dict.fromkeys(set(Confirm) - {Confirm.CONFIRMED}, 0),
    }
    assert counts["received"] == COUNT + COUNT // BATCH
    assert counts["returned_to_queue"] == 0
    settled = ("replied", "unasked", "late", "dropped", "forbidden")
    assert sum(counts[what] for what in settled) == counts["received"]
    # What is broken and waits for no answer is kept, and nothing else failed.
    assert await ready(amqp_url, NAMES.dead) == {NAMES.dead: counts["failed"]}
    assert max(resident[1:]) - resident[0] < GROWTH, resident
    assert took < LIMIT
