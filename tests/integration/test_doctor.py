"""`dtbridge doctor` on a real RabbitMQ: what it finds out, and that it leaves no trace."""

import asyncio
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime

import aio_pika
import pytest
from yarl import URL

from bridge import Call, Router
from bridge.dialects.names import Names
from bridge.dialects.native import Native
from bridge.dialects.topology import Mode, QueueType, Topology, worker_topology
from bridge.doctor.certificates import see_certificates
from bridge.doctor.facts import Surroundings, Vendors
from bridge.doctor.findings import Finding, Level, examine
from bridge.doctor.looking import CHECKS, look_around
from bridge.doctor.store import see_store
from bridge.rabbitmq.declaring import ensure
from bridge.rabbitmq.management import management_urls
from bridge.rabbitmq.probing import BrokerSeen, Right, ahead_of, look
from bridge.rabbitmq.urls import parse_urls
from bridge.testing.rabbitmq import PrivateBroker, free_ports
from tests.integration.support import add_user, working
from tests.redis_server import RedisMissingError, RedisServer

NAMES = Names()
PLAN = worker_topology(Native(NAMES), ["acme"])
NAME = "doctor of the tests"


@pytest.fixture(scope="module")
def managed_broker() -> Iterator[PrivateBroker]:
    """A node with the management API and TLS."""
    plugins = ["rabbitmq_management"]
    settings = {"collect_statistics_interval": 1000}
    with PrivateBroker(name="doctor", plugins=plugins, tls=True, config=settings) as broker:
        yield broker


def a_router() -> tuple[Router, list[str]]:
    router = Router("acme")
    handled: list[str] = []

    @router.default
    async def handle(call: Call) -> None:
        handled.append(call.station_id)

    return router, handled


async def look_at(url: str, plan: Topology = PLAN) -> BrokerSeen:
    return await look(parse_urls([url]), plan, NAME, 10.0)


async def declare(url: str, plan: Topology = PLAN) -> None:
    async with await aio_pika.connect(url) as connection:
        await ensure(connection, plan)


async def diagnose(
    url: str, management: str = "http://127.0.0.1:1/", vendors: Vendors | None = None
) -> tuple[Surroundings, list[Finding]]:
    urls = parse_urls([url])
    known = await look_around(
        urls,
        management_urls([management], urls),
        dialect=Native(NAMES),
        vendors=vendors or Vendors({"acme": 1}),
        mode=Mode.DECLARE,
        queue_type=QueueType.QUORUM,
        redis_url=None,
        store_kind="memory",
        connect_timeout=10.0,
    )
    return known, list(examine(CHECKS, known))


# ---- over AMQP ----


async def test_a_look_finds_everything_in_its_place_and_leaves_no_trace(amqp_url: str) -> None:
    router, handled = a_router()
    async with working(amqp_url, router) as at_work:
        for _ in range(2):
            found = await look_at(amqp_url)
            assert {part.there for part in found.parts} == {Right.GRANTED}
            assert {part.differs for part in found.parts} == {""}
            assert {part.configure for part in found.parts} == {Right.GRANTED}
            assert {part.write for part in found.parts if not part.is_queue} == {Right.GRANTED}
            assert {part.read for part in found.parts if part.is_queue} == {Right.GRANTED}
            assert found.default_exchange is Right.GRANTED
            assert found.blocked == ""
            assert found.clock.ahead == 0.0
            queue = found.part("datatransfer.acme", is_queue=True)
            assert queue is not None
            assert (queue.messages, queue.consumers) == (0, 1)
        assert at_work.worker.counts.received == 0
        assert handled == []
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await (await connection.channel()).get_underlay_channel()
        for each in PLAN.queues:
            told = await channel.queue_declare(each.name, passive=True)
            assert (told.message_count, told.consumer_count) == (0, 0), each.name


async def test_what_is_not_there_is_seen_and_not_made(amqp_url: str) -> None:
    for _ in range(2):
        found = await look_at(amqp_url)
        assert {part.there for part in found.parts} == {Right.REFUSED}
        assert all("no " in part.why for part in found.parts)
    assert found.host is not None
    assert found.host.version.count(".") >= 2


async def test_a_queue_that_is_another_is_told_by_the_brokers_words(amqp_url: str) -> None:
    await declare(amqp_url, worker_topology(Native(NAMES), ["acme"], queue_type=QueueType.CLASSIC))
    found = await look_at(amqp_url)
    queue = found.part("datatransfer.acme", is_queue=True)
    assert queue is not None
    assert "inequivalent arg" in queue.differs
    assert queue.other_type
    exchange = found.part("datatransfer", is_queue=False)
    assert exchange is not None
    assert exchange.differs == ""
    _, findings = await diagnose(amqp_url)
    [told] = [each for each in findings if each.check == "arguments"]
    assert "are classic, and the options say quorum" in told.sentence


@pytest.mark.parametrize(
    ("patterns", "configure", "write", "read"),
    [
        ((".*", ".*", ".*"), Right.GRANTED, Right.GRANTED, Right.GRANTED),
        (("^$", ".*", ".*"), Right.REFUSED, Right.GRANTED, Right.GRANTED),
        (("^$", "^$", ".*"), Right.REFUSED, Right.REFUSED, Right.GRANTED),
        (("^$", ".*", "^$"), Right.REFUSED, Right.GRANTED, Right.REFUSED),
    ],
)
async def test_rights_are_found_out_without_using_them(
    managed_broker: PrivateBroker,
    patterns: tuple[str, str, str],
    configure: Right,
    write: Right,
    read: Right,
) -> None:
    name = f"rights-{secrets.token_hex(4)}"
    url = managed_broker.add_vhost(name)
    await declare(url)
    add_user(managed_broker, name, "secret", name, patterns)
    found = await look_at(url.replace("guest:guest", f"{name}:secret"))
    for part in found.parts:
        assert part.configure is configure, part
        assert (part.read if part.is_queue else part.write) is (read if part.is_queue else write)
    assert found.default_exchange is write
    assert (found.clock.ahead is None) == (configure is Right.REFUSED)
    managed_broker.delete_vhost(name)


async def test_each_host_is_tried(amqp_url: str) -> None:
    [port] = free_ports(1)
    urls = parse_urls(
        [f"amqp://127.0.0.1:{port}", amqp_url.replace("guest:guest", "guest:wrong"), amqp_url]
    )
    found = await look(urls, PLAN, NAME, 10.0)
    assert [host.telling for host in found.hosts] == [2, 4, 0]
    assert found.hosts[1].error == "it refused the user name or password"
    assert found.host is found.hosts[2]


async def test_a_broker_that_takes_no_publishings_does_not_hold_it_up(
    breakable_broker: PrivateBroker,
) -> None:
    url = breakable_broker.add_vhost("doctor")
    await declare(url)
    breakable_broker.eval("vm_memory_monitor:set_vm_memory_high_watermark(0.0000001)")
    try:
        async with asyncio.timeout(60):
            known, findings = await diagnose(url)
    finally:
        breakable_broker.eval("vm_memory_monitor:set_vm_memory_high_watermark(0.4)")
        breakable_broker.delete_vhost("doctor")
    assert known.broker.blocked
    assert any(
        finding.level is Level.FAIL and "takes no publishings" in finding.sentence
        for finding in findings
    )


@pytest.mark.parametrize(
    ("told", "began", "ended", "ahead"),
    [
        (100.0, 100.2, 100.4, 0.0),  # it tells whole seconds: 100.3 is 100 there
        (100.0, 101.0, 101.1, 0.0),
        (100.0, 103.0, 103.1, -2.0),
        (105.0, 103.0, 103.1, 1.9),
    ],
)
def test_a_clock_that_tells_whole_seconds(
    told: float, began: float, ended: float, ahead: float
) -> None:
    assert ahead_of(told, began, ended) == pytest.approx(ahead)


# ---- with the management API ----


async def test_a_worker_at_work_has_nothing_that_breaks(managed_broker: PrivateBroker) -> None:
    name = f"well-{secrets.token_hex(4)}"
    url = managed_broker.add_vhost(name)
    router, _ = a_router()
    async with working(url, router):
        known, findings = await diagnose(url, managed_broker.management_url)
    assert [each for each in findings if each.level is Level.FAIL] == []
    assert known.management is not None
    assert known.management.nodes is not None
    assert {"datatransfer.acme", "datatransfer.dead"} <= known.management.queues.keys()
    by_check = {each.check: each for each in findings}
    for check in ("rights", "topology", "arguments", "alarms", "consumers", "management"):
        assert by_check[check].level is Level.OK, by_check[check]
    managed_broker.delete_vhost(name)


async def test_a_policy_that_would_lose_dead_letters_is_found(
    managed_broker: PrivateBroker,
) -> None:
    name = f"policy-{secrets.token_hex(4)}"
    url = managed_broker.add_vhost(name)
    await declare(url)
    managed_broker.ctl(
        "set_operator_policy", "-p", name, "limits", ".*", '{"delivery-limit": 7}',
        "--apply-to", "queues",
    )  # fmt: skip
    async with asyncio.timeout(30):
        found: list[Finding] = []
        # The API's view of policies follows in its own time, queue by queue.
        while {each.level for each in found} != {Level.FAIL, Level.WARN}:
            await asyncio.sleep(0.5)
            _, findings = await diagnose(url, managed_broker.management_url)
            found = [each for each in findings if "delivery limit 7" in each.sentence]
    assert any("datatransfer.dead" in each.sentence for each in found)
    managed_broker.delete_vhost(name)


async def test_events_that_nobody_listens_to_are_not_taken_for_lost_requests(
    managed_broker: PrivateBroker,
) -> None:
    name = f"events-{secrets.token_hex(4)}"
    url = managed_broker.add_vhost(name)
    async with await aio_pika.connect(url) as connection:
        await ensure(connection, worker_topology(Native(NAMES), ["acme"], events=True))
        channel = await connection.channel()
        events = await channel.get_exchange(NAMES.events)
        listener = await channel.declare_queue(exclusive=True)
        await listener.bind(events, "heard")
        for key in ["heard"] * 3 + ["unheard"] * 5:
            await events.publish(aio_pika.Message(b""), key, mandatory=False)
        async with asyncio.timeout(30):
            while True:  # the broker counts in its own time
                known, findings = await diagnose(url, managed_broker.management_url)
                assert known.management is not None
                if known.management.unheard == 5:
                    break
                await asyncio.sleep(0.5)
        dropped = known.management.overview.message_stats.drop_unroutable
    told = [each for each in findings if each.check == "unroutable"]
    assert bool(told) is (dropped > 5), (dropped, told)
    managed_broker.delete_vhost(name)


async def test_the_brokers_certificate_and_that_of_its_authority_are_read(
    managed_broker: PrivateBroker,
) -> None:
    url = URL(managed_broker.tls_url).update_query(cafile=str(managed_broker.ca_file))
    found = see_certificates(url, datetime.now(UTC))
    assert [round(each.days or 0) for each in found] == [30, 30]  # openssl's default


# ---- the store ----


async def test_a_redis_is_looked_at() -> None:
    try:
        server = RedisServer()
    except RedisMissingError:
        pytest.skip("there is no Redis on this machine")
    with server:
        found = await see_store(server.url)
        assert found.error == ""
        assert found.version.count(".") == 2
        assert (found.role, found.policy, found.limit) == ("master", "noeviction", 0)
        assert 0 < found.seconds < 2
        server.pause()
        try:
            assert (await see_store(server.url)).error
        finally:
            server.resume()
        server.kill()
        assert "onnect" in (await see_store(server.url)).error
