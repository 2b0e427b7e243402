"""The dead-letter queue on a real RabbitMQ: looking changes nothing, and a replay loses nothing.

With quorum and classic queues.
"""

import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import aio_pika
import aiormq
import pytest

from bridge import Call, Router
from bridge.dead_letters.destinations import Destinations
from bridge.dead_letters.filter import Filter
from bridge.dead_letters.letter import DeadLetter, read
from bridge.dead_letters.queue import (
    choice,
    find,
    newest,
    open_dead_queue,
    purge,
    resolve,
)
from bridge.dead_letters.replay import IN_FLIGHT, Replay, Replayed, replay
from bridge.dialects.names import Names
from bridge.dialects.native import Native
from bridge.dialects.topology import QueueType, worker_topology
from bridge.rabbitmq.browser import WINDOW, Browser
from bridge.rabbitmq.declaring import ensure
from bridge.rabbitmq.transport import RabbitTransport
from bridge.rabbitmq.urls import parse_urls
from bridge.testing.rabbitmq import free_ports
from bridge.transport import (
    BrokerUnreachable,
    Confirm,
    Delivery,
    Properties,
    Publishing,
    Subscription,
    TopologyError,
    TransportError,
)
from tests.integration.support import ROOT, clean_environment, working

NAMES = Names()
PATIENCE = 20.0


class Place:
    """A virtual host with the bridge's topology, and a plain AMQP client in it."""

    def __init__(self, url: str, channel: aiormq.abc.AbstractChannel) -> None:
        self.url = url
        self.urls = parse_urls([url])
        self.channel = channel

    async def put(
        self, body: bytes, headers: dict[str, Any], *, key: str = "acme", **properties: Any
    ) -> None:
        """A message in the dead-letter queue, as a worker publishes it."""
        basic = aiormq.spec.Basic.Properties(headers=headers, delivery_mode=2, **properties)
        await self.channel.basic_publish(
            body, exchange=NAMES.dead, routing_key=key, properties=basic
        )

    async def fill(self, count: int, **headers: Any) -> None:
        """Dead letters numbered in station and message id."""
        for first in range(0, count, 250):
            numbers = range(first, min(first + 250, count))
            await asyncio.gather(
                *(self.put(*a_dead_letter(n, **headers), message_id=str(n)) for n in numbers)
            )

    async def count(self, queue: str) -> int:
        return int((await self.channel.queue_declare(queue, passive=True)).message_count or 0)

    async def take(self, queue: str, count: int) -> list[aiormq.abc.DeliveredMessage]:
        """So many messages, without a trace."""
        inbox: asyncio.Queue[aiormq.abc.DeliveredMessage] = asyncio.Queue()
        consumer = await self.channel.basic_consume(queue, inbox.put, no_ack=True)
        async with asyncio.timeout(PATIENCE):
            taken = [await inbox.get() for _ in range(count)]
        await self.channel.basic_cancel(str(consumer.consumer_tag))
        return taken


def a_dead_letter(number: int, **headers: Any) -> tuple[bytes, dict[str, Any]]:
    story = {
        "ocpp-station-id": f"CP{number}",
        "dtbridge-reason": "failed",
        "dtbridge-vendor": "acme",
        "dtbridge-message": "even" if number % 2 == 0 else "odd",
        "dtbridge-failed-at": 1_700_000_000_000 + number,
        "dtbridge-exchange": NAMES.requests,
        "dtbridge-routing-key": "acme",
    }
    return b'{"vendorId":"acme","data":%d}' % number, story | headers


@pytest.fixture(params=list(QueueType))
async def place(request: pytest.FixtureRequest, amqp_url: str) -> AsyncIterator[Place]:
    async with await aio_pika.connect(amqp_url) as connection:
        plan = worker_topology(Native(NAMES), ["acme"], queue_type=request.param)
        await ensure(connection, plan)
        channel = await (await connection.channel()).get_underlay_channel()
        yield Place(amqp_url, channel)


def everyone(letter: DeadLetter) -> bool:
    return True


def ignore(seen: int) -> None: ...


async def stations(place: Place) -> list[str]:
    async with open_dead_queue(place.urls, NAMES.dead) as queue:
        return [letter.station async for _, letter in find(queue, everyone, ignore)]


FROM_ELSEWHERE = Destinations(NAMES, frozenset({"elsewhere", "gone"}))


async def replayed_with(
    place: Place,
    wanted: Filter | None = None,
    limit: int | None = None,
    allowed: Destinations | None = None,
) -> Replayed:
    async with open_dead_queue(place.urls, NAMES.dead) as queue:
        return await replay(queue, choice((wanted or Filter()).takes), ignore, limit, allowed)


# ---- looking ----


async def test_looking_leaves_everything_where_it_was(place: Place) -> None:
    count = 2 * WINDOW + 100
    await place.fill(count)
    expected = [f"CP{number}" for number in range(count)]
    for _ in range(3):
        assert await stations(place) == expected
        assert await place.count(NAMES.dead) == count


async def test_looking_more_often_than_rabbitmqs_delivery_limit_loses_nothing(place: Place) -> None:
    """RabbitMQ 4 drops a message after 20 redeliveries, where the queue does not say otherwise."""
    await place.fill(3)
    for _ in range(30):
        assert await stations(place) == ["CP0", "CP1", "CP2"]


async def test_looking_ends_while_more_arrives(place: Place) -> None:
    await place.fill(50)
    seen = []
    async with open_dead_queue(place.urls, NAMES.dead) as queue:
        async for _, letter in find(queue, everyone, ignore):
            seen.append(letter.station)
            await place.put(*a_dead_letter(1000 + len(seen)))
    assert seen == [f"CP{number}" for number in range(50)]
    assert await place.count(NAMES.dead) == 100


async def test_looking_ends_when_somebody_else_takes_what_is_left(place: Place) -> None:
    await place.fill(WINDOW + 50)
    async with open_dead_queue(place.urls, NAMES.dead) as queue:
        found = find(queue, everyone, ignore)
        await anext(found)
        await place.take(NAMES.dead, 50)  # the first consumer has room for no more than WINDOW
        # It ends; how much of its window had arrived by then is the broker's affair.
        assert 0 < len([letter async for _, letter in found]) <= WINDOW - 1


async def test_an_empty_queue_is_read_at_once(place: Place) -> None:
    assert await stations(place) == []


async def test_headers_that_the_amqp_library_cannot_read_are_read_and_replayed(
    place: Place,
) -> None:
    """aiormq gives up the channel at a header's name that is not UTF-8."""
    body, headers = a_dead_letter(0, **{"n\udcff": "\udcfe"})
    transport = RabbitTransport(place.urls)
    await transport.start([], lambda *_: None)
    confirm: asyncio.Future[Confirm] = asyncio.get_running_loop().create_future()
    transport.publish(
        Publishing("acme", body, Properties(headers=headers), NAMES.dead), confirm.set_result
    )
    assert await confirm is Confirm.CONFIRMED
    assert await stations(place) == ["CP0"]
    assert (await replayed_with(place)).replayed == 1
    arrived: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()
    await transport.close()
    transport = RabbitTransport(place.urls)
    await transport.start(
        [Subscription(NAMES.vendor_queue("acme"), 1, arrived.set_result)], lambda *_: None
    )
    async with asyncio.timeout(PATIENCE):
        found = (await arrived).properties.headers
    await transport.close()
    assert found is not None
    assert (found["n\udcff"], found["dtbridge-replayed"]) == (b"\xfe", 1)


async def test_a_missing_queue_is_an_error_that_names_it(place: Place) -> None:
    with pytest.raises(TopologyError, match=r"'other\.dead' cannot be read.*no queue"):
        async with open_dead_queue(place.urls, "other.dead"):
            pass


async def test_the_hosts_are_tried_in_turn(place: Place) -> None:
    [port] = free_ports(1)
    nobody = parse_urls([f"amqp://guest:guest@127.0.0.1:{port}/"])
    with pytest.raises(
        BrokerUnreachable, match=f"no broker at amqp://guest:\\*\\*\\*@127.0.0.1:{port}/"
    ):
        async with open_dead_queue(nobody, NAMES.dead):
            pass
    async with open_dead_queue([*nobody, *place.urls], NAMES.dead) as queue:
        assert queue.count == 0


async def test_a_lost_connection_is_an_error_and_loses_nothing(place: Place) -> None:
    await place.fill(20)

    async def read_and_cut() -> None:
        async with open_dead_queue(place.urls, NAMES.dead) as queue:
            async for _ in find(queue, everyone, ignore):
                queue._session._consuming.protocol.abort("cut by the test")

    with pytest.raises(TransportError, match=r"the connection ended .*still there"):
        await read_and_cut()
    assert await stations(place) == [f"CP{number}" for number in range(20)]


async def test_the_newest_come_first_and_all_are_counted(place: Place) -> None:
    await place.fill(WINDOW + 20)
    async with open_dead_queue(place.urls, NAMES.dead) as queue:
        found = await newest(queue, choice(Filter(message="odd").takes), ignore, 3)
    assert [letter.station for letter in found.letters] == [
        f"CP{WINDOW + number}" for number in (19, 17, 15)
    ]
    assert found.count == WINDOW // 2 + 10


async def test_ids_are_found_by_how_they_begin(place: Place) -> None:
    await place.fill(17)  # of 17, two begin alike
    async with open_dead_queue(place.urls, NAMES.dead) as queue:
        ids = [letter.id async for _, letter in find(queue, everyone, ignore)]
    first = {digit: frozenset(each for each in ids if each[0] == digit) for digit in "0123456789af"}
    async with open_dead_queue(place.urls, NAMES.dead) as queue:
        found = await resolve(queue, [*first, ids[3], ids[4][:9], "0" * 12], ignore)
    assert found == first | {
        ids[3]: {ids[3]},
        ids[4][:9]: {ids[4]},
        "0" * 12: frozenset(),
    }


# ---- replay ----


async def test_a_replay_of_several_readings_tries_each_once(place: Place) -> None:
    """What a request that failed again leaves behind is not tried, or it would never end."""
    await place.fill(30)
    for number in (3, 7):
        await place.put(*a_dead_letter(100 + number, **{"dtbridge-exchange": "gone"}))
    await place.put(*a_dead_letter(200, **{"dtbridge-reason": "expired"}))
    await place.fill(30)
    run = Replay(everyone, FROM_ELSEWHERE, limit=None, include_expired=False, rate=None, hold=0.0)
    readings = 0
    done = False
    while not done:
        async with open_dead_queue(place.urls, NAMES.dead) as queue:
            done = await run.go_on(queue, ignore)
        await place.put(*a_dead_letter(1_000 + readings))
        readings += 1
    assert run.result == Replayed(replayed=60, unroutable=2, expired=1)
    assert readings > 10
    left = await stations(place)
    assert left[:3] == ["CP103", "CP107", "CP200"]
    assert left[3:] == [f"CP{1_000 + number}" for number in range(readings)]
    assert await place.count(NAMES.vendor_queue("acme")) == 60


async def test_a_replay_publishes_what_is_wanted_and_keeps_the_rest_in_order(place: Place) -> None:
    count = WINDOW + 2 * IN_FLIGHT
    await place.fill(count)
    assert await replayed_with(place, Filter(message="odd")) == Replayed(replayed=count // 2)
    assert await stations(place) == [f"CP{number}" for number in range(0, count, 2)]
    replayed = await place.take(NAMES.vendor_queue("acme"), count // 2)
    assert [message.body for message in replayed] == [
        a_dead_letter(number)[0] for number in range(1, count, 2)
    ]
    assert {
        (message.header.properties.headers or {})["dtbridge-replayed"] for message in replayed
    } == {1}


async def test_a_limit_takes_the_oldest(place: Place) -> None:
    await place.fill(10)
    assert (await replayed_with(place, limit=3)).replayed == 3
    assert await stations(place) == [f"CP{number}" for number in range(3, 10)]


async def test_a_dead_letter_leaves_only_when_a_queue_has_its_request(place: Place) -> None:
    """Alike in message id, correlation id and routing key: the returns must not be mixed up."""
    await place.channel.exchange_declare("elsewhere", exchange_type="direct", durable=True)
    for number in range(100):
        exchange = "elsewhere" if number % 2 else NAMES.requests
        body, headers = a_dead_letter(number, **{"dtbridge-exchange": exchange})
        await place.put(body, headers, message_id="1", correlation_id="c")
    assert await replayed_with(place, allowed=FROM_ELSEWHERE) == Replayed(
        replayed=50, unroutable=50
    )
    assert await stations(place) == [f"CP{number}" for number in range(1, 100, 2)]
    replayed = await place.take(NAMES.vendor_queue("acme"), 50)
    assert [message.body for message in replayed] == [
        a_dead_letter(number)[0] for number in range(0, 100, 2)
    ]


async def test_what_cannot_be_replayed_stays_and_holds_up_nothing_else(place: Place) -> None:
    await place.fill(2)
    await place.put(*a_dead_letter(2, **{"dtbridge-exchange": "gone"}))
    await place.put(b"{}", {"ocpp-station-id": "CP3"})
    full = "datatransfer-citrineos"
    await place.channel.queue_declare(
        full, durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
    )
    await place.channel.basic_publish(b"in the way", routing_key=full)
    await place.put(*a_dead_letter(4, **{"dtbridge-exchange": "", "dtbridge-routing-key": full}))
    await place.put(*a_dead_letter(5))
    assert await replayed_with(place, allowed=FROM_ELSEWHERE) == Replayed(
        replayed=3, unroutable=1, refused=1, impossible=1
    )
    assert await stations(place) == ["CP2", "CP3", "CP4"]


NO_EXCHANGES = ["caf\u00e9", "x" * 128, "a*b", "gone"]
"""Names that the AMQP library, or the broker, takes for none."""


@pytest.mark.parametrize("exchange", NO_EXCHANGES)
async def test_a_bad_name_of_an_exchange_holds_up_nothing_else(place: Place, exchange: str) -> None:
    await place.put(*a_dead_letter(0, **{"dtbridge-exchange": exchange}))
    await place.fill(2)
    allowed = Destinations(NAMES, frozenset({exchange}))
    assert await replayed_with(place, allowed=allowed) == Replayed(replayed=2, unroutable=1)


async def test_a_forged_story_sends_a_request_nowhere_but_to_its_own_queue(place: Place) -> None:
    """Its sender wants it published to a queue that only the person who replays may write to."""
    await place.channel.queue_declare("billing.commands", durable=True)
    there = {"queue": NAMES.vendor_queue("acme"), "exchange": "", "count": 1}
    death = there | {"reason": "expired", "routing-keys": ["billing.commands"]}
    forged: dict[str, Any] = {
        "dtbridge-reason": "failed",
        "dtbridge-exchange": "",
        "dtbridge-routing-key": "billing.commands",
    }
    told: list[dict[str, Any]] = [forged, forged | {"x-death": [death]}]
    for headers in told:
        properties = aiormq.spec.Basic.Properties(headers=headers, expiration="0")
        await place.channel.basic_publish(
            b'{"vendorId":"Acme"}', exchange=NAMES.requests, routing_key="acme",
            properties=properties,
        )  # fmt: skip
    await place.put(
        *a_dead_letter(9, **{"dtbridge-exchange": "", "dtbridge-routing-key": "billing.commands"})
    )
    async with asyncio.timeout(PATIENCE):
        while await place.count(NAMES.dead) < 3:
            await asyncio.sleep(0.01)
    result = await replayed_with(place)
    assert await place.count("billing.commands") == 0
    assert result.replayed + result.elsewhere == 3
    assert result.replayed >= 1
    assert await place.count(NAMES.vendor_queue("acme")) == result.replayed


async def test_what_the_broker_dead_lettered_is_replayed_to_its_exchange(place: Place) -> None:
    properties = aiormq.spec.Basic.Properties(
        headers={"ocpp-station-id": "CP0"}, expiration="0", reply_to="amq.gen-1", correlation_id="c"
    )
    await place.channel.basic_publish(
        b'{"vendorId":"Acme"}', exchange=NAMES.requests, routing_key="acme", properties=properties
    )
    async with asyncio.timeout(PATIENCE):
        while not await place.count(NAMES.dead):
            await asyncio.sleep(0.01)
    async with open_dead_queue(place.urls, NAMES.dead) as queue:
        [letter] = [letter async for _, letter in find(queue, everyone, ignore)]
    assert (letter.reason, letter.vendor, letter.exchange, letter.routing_key) == (
        "expired",
        "Acme",
        NAMES.requests,
        "acme",
    )
    assert (await replayed_with(place)).replayed == 1
    [message] = await place.take(NAMES.vendor_queue("acme"), 1)
    found = message.header.properties
    assert (found.reply_to, found.expiration, found.delivery_mode) == (None, None, 2)
    assert {name for name in found.headers or () if not name.startswith("x-")} == {
        "ocpp-station-id",
        "dtbridge-replayed",
    }


async def test_a_replayed_request_is_handled_and_may_die_again(amqp_url: str) -> None:
    router = Router("acme")
    handled: list[tuple[str, int]] = []
    well = asyncio.Event()

    @router.default
    async def handle(call: Call) -> None:
        handled.append((call.station_id, call.attempt))
        if not well.is_set():
            raise ValueError("not yet")

    async with working(amqp_url, router), await aio_pika.connect(amqp_url) as connection:
        channel = await (await connection.channel()).get_underlay_channel()
        place = Place(amqp_url, channel)
        properties = aiormq.spec.Basic.Properties(
            headers={"ocpp-station-id": "CP0"}, message_id="1"
        )
        body = b'{"vendorId":"acme"}'
        await channel.basic_publish(
            body, exchange=NAMES.requests, routing_key="acme", properties=properties
        )
        for replays in (0, 1):
            async with asyncio.timeout(PATIENCE):
                while not await place.count(NAMES.dead):
                    await asyncio.sleep(0.01)
            async with open_dead_queue(place.urls, NAMES.dead) as queue:
                [letter] = [letter async for _, letter in find(queue, everyone, ignore)]
            assert (letter.reason, letter.replayed) == ("failed", replays)
            assert re.fullmatch(
                r"ValueError: not yet \(\S+test_dead_letters\.py:\d+ in handle\)", letter.error
            )
            if replays:
                well.set()
            assert (await replayed_with(place)).replayed == 1
        async with asyncio.timeout(PATIENCE):
            while len(handled) < 3:
                await asyncio.sleep(0.01)
    assert handled == [("CP0", 1)] * 3


KILLED_HALF_WAY = """
import asyncio, os, signal, sys
from bridge.dead_letters.queue import open_dead_queue
from bridge.dead_letters.replay import replay
from bridge.rabbitmq import browser
from bridge.rabbitmq.urls import parse_urls

class Dying(browser.Browser):
    sent = landed = 0

    def publish(self, publishing, on_confirm):
        def land(confirm):
            on_confirm(confirm)
            self.landed += 1
            if self.landed == 700:  # acknowledged so far: on its way; after it: never will be
                asyncio.get_running_loop().call_later(0.3, os.kill, os.getpid(), signal.SIGKILL)

        self.sent += 1
        if self.sent <= 700:
            super().publish(publishing, land)

browser.Browser = Dying

async def main():
    urls = parse_urls([sys.argv[1]])
    async with open_dead_queue(urls, "datatransfer.dead") as queue:
        await replay(queue, lambda letter: True, lambda seen: None)

asyncio.run(main())
"""


async def test_a_replay_killed_half_way_loses_nothing(place: Place) -> None:
    count = 2000
    await place.fill(count)
    killed = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", KILLED_HALF_WAY, place.url],
        cwd=ROOT,
        env=clean_environment(),
        timeout=60,
    )
    assert killed.returncode == -signal.SIGKILL
    vendor_queue = NAMES.vendor_queue("acme")
    async with asyncio.timeout(PATIENCE):  # until the broker has noticed
        while await place.count(NAMES.dead) + await place.count(vendor_queue) < count:
            await asyncio.sleep(0.02)
    left = {int(station.removeprefix("CP")) for station in await stations(place)}
    replayed = await place.take(vendor_queue, await place.count(vendor_queue))
    done = {int(str(message.header.properties.message_id)) for message in replayed}
    assert left | done == set(range(count))
    assert len(done) == 700
    assert (await replayed_with(place)).replayed == len(left)
    again = await place.take(vendor_queue, len(left))
    assert {int(str(message.header.properties.message_id)) for message in again} == left
    assert await place.count(NAMES.dead) == 0


# ---- purge ----


async def test_a_purge_deletes_what_is_wanted_and_keeps_the_rest_in_order(place: Place) -> None:
    await place.fill(WINDOW + 300)
    async with open_dead_queue(place.urls, NAMES.dead) as queue:
        assert (
            await purge(queue, choice(Filter(message="even").takes), ignore) == (WINDOW + 300) // 2
        )
    assert await stations(place) == [f"CP{number}" for number in range(1, WINDOW + 300, 2)]
    async with open_dead_queue(place.urls, NAMES.dead) as queue:
        assert await purge(queue, everyone, ignore, limit=2) == 2
    assert (await stations(place))[0] == "CP5"


async def test_a_purge_that_fails_deletes_no_more(place: Place) -> None:
    await place.fill(10)

    def stop_at_five(letter: DeadLetter) -> bool:
        if letter.station == "CP5":
            raise RuntimeError("stop")
        return True

    with pytest.raises(RuntimeError, match="stop"):
        async with open_dead_queue(place.urls, NAMES.dead) as queue:
            await purge(queue, stop_at_five, ignore)
    left = await stations(place)
    assert left[-5:] == [f"CP{number}" for number in range(5, 10)]


async def test_ids_stay_the_same_however_often_a_dead_letter_is_read(place: Place) -> None:
    await place.fill(5)

    async def ids(queue: Browser) -> list[str]:
        return [read(delivery).id async for delivery in queue.deliveries()]

    async with open_dead_queue(place.urls, NAMES.dead) as queue:
        first = await ids(queue)
    async with open_dead_queue(place.urls, NAMES.dead) as queue:
        assert await ids(queue) == first
    assert len(set(first)) == 5
