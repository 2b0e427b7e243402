"""What operators set at the broker and the store fits what the bridge declares and does."""

import asyncio
import base64
import contextlib
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aio_pika
import aio_pika.abc
import aio_pika.exceptions
import pytest
import redis
import redis.asyncio
import redis.exceptions
from yarl import URL

from bridge.client.client import Client
from bridge.client.errors import NotAccepted
from bridge.idempotency.redis import RedisStore
from bridge.idempotency.store import Running
from bridge.rabbitmq.management import Management
from bridge.request.outcome import Reply
from bridge.testing.rabbitmq import PrivateBroker
from deploy import make_secrets
from tests.acceptance.command import dtbridge
from tests.deployments import of_kind
from tests.integration.support import (
    NAMES,
    PATIENCE,
    ROOT,
    WorkerProcess,
    delete_users,
    import_definitions,
    request,
)
from tests.redis_server import RedisServer

POLICIES = Path(make_secrets.__file__).parent / "rabbitmq" / "policies.json"


def policies(vhost: str, **changed: int) -> dict[str, Any]:
    """Those of deploy/rabbitmq, for another virtual host and with other numbers."""
    found: dict[str, Any] = json.loads(POLICIES.read_text())
    for each in found["parameters"]:
        each["vhost"] = vhost
        limits = each["value"]["definition"]
        limits |= {name: value for name, value in changed.items() if name in limits}
    return found


# ---- policies ----


@pytest.fixture
def url(managed_broker: PrivateBroker) -> Iterator[str]:
    """A virtual host with the policies."""
    name = "operated"
    url = managed_broker.add_vhost(name)
    import_definitions(managed_broker, policies(name))
    yield url
    managed_broker.delete_vhost(name)


async def test_policies_bound_what_may_grow_and_are_in_nobodys_way(
    managed_broker: PrivateBroker, url: str
) -> None:
    """Whoever declares queues finds them as they must be, and `doctor` has no complaint."""
    target = "tests.integration.echo_vendor:router"
    settings = {"DTBRIDGE_AMQP_URL": url, "DTBRIDGE_MANAGEMENT": managed_broker.management_url}
    async with WorkerProcess(target, url), Client(url, timeout=PATIENCE) as client:
        assert (await client.data_transfer("CP1", request("echo", "m", [1]))).data == ["CP1", 1]
        bounded = await bounds(Management(URL(managed_broker.management_url)))
        for command in ("doctor", "topology verify"):
            done = await asyncio.to_thread(dtbridge, *command.split(), target, settings=settings)
            assert done.returncode == 0, done.stdout + done.stderr
            assert "polic" not in done.stdout.replace("no policy is in the way", "")
    assert bounded[NAMES.vendor_queue("echo")] == "datatransfer-requests"
    assert bounded[NAMES.unknown_vendor] == "datatransfer-requests"
    assert bounded[NAMES.retry(1)] == "datatransfer-retries"
    assert bounded[NAMES.dead] is None  # it bounds itself
    assert bounded["private"] == "private-queues"


async def bounds(api: Management) -> dict[str, str | None]:
    """The operator policy of each queue; of private ones as `private`. The API is seconds late."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = {queue.name: queue.operator_policy for queue in await api.queues("operated")}
            private = {found[name] for name in found if name.startswith("amq.gen-")}
            if found.get(NAMES.vendor_queue("echo")) and private and None not in private:
                [found["private"]] = private
                return found
            await asyncio.sleep(0.2)


async def test_a_vendor_whose_workers_are_gone_is_refused_at_its_bound(
    breakable_broker: PrivateBroker,
) -> None:
    """And the disk is not filled, which would stop all the others."""
    url = breakable_broker.add_vhost("bounded")
    import_definitions(breakable_broker, policies("bounded", **{"max-length": 3}))
    async with WorkerProcess("tests.integration.echo_vendor:router", url):
        pass
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        exchange = await channel.get_exchange(NAMES.requests)
        await until_refused(exchange)
    async with Client(url, timeout=PATIENCE) as client:
        with pytest.raises(NotAccepted, match="its queue is full"):
            await client.data_transfer("CP1", request("echo", "m", [1]))


async def until_refused(exchange: aio_pika.abc.AbstractExchange) -> None:
    """A quorum queue that is full says so to publishers a little later."""
    with contextlib.suppress(aio_pika.exceptions.DeliveryError):
        for _ in range(1_000):
            await exchange.publish(aio_pika.Message(b""), "echo")
        pytest.fail("it takes a thousand")


# ---- KEDA's calls ----


def fetched(trigger: dict[str, Any], url: str, vhost: str) -> list[dict[str, Any]]:
    """The queues that KEDA's scaler `rabbitmq` adds up: its calls of the management API.

    As its source has them (kedacore/keda, pkg/scalers/rabbitmq_scaler.go): the first page is all
    that it reads, and it fails if there are others.
    """
    settings = trigger["metadata"]
    queue = urllib.parse.quote_plus(settings["queueName"])
    path = f"/api/queues/{vhost}"
    if settings.get("useRegex") == "true":
        size = settings.get("pageSize", "100")
        path += f"?page=1&use_regex=true&pagination=false&name={queue}&page_size={size}"
        page = get(url, path)
        assert page["page_count"] == 1
        items: list[dict[str, Any]] = page["items"]
        return items
    return [get(url, f"{path}/{queue}")]


def get(url: str, path: str, method: str = "GET") -> Any:
    parts = urllib.parse.urlsplit(url)
    login = base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode()
    asked = urllib.request.Request(
        f"http://{parts.hostname}:{parts.port}{path}",
        headers={"Authorization": f"Basic {login}"},
        method=method,
    )
    with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:
        return json.load(answer)


@pytest.fixture
def scaler(managed_broker: PrivateBroker) -> Iterator[str]:
    """The management API's URL, for the user that KEDA has."""
    vhost = "scaled"
    managed_broker.add_vhost(vhost)
    passwords = {make_secrets.SCALER: "scaler-password"}
    definitions = make_secrets.definitions(passwords, vhost)
    definitions["permissions"] = [
        each for each in definitions["permissions"] if each["user"] in passwords
    ]
    import_definitions(managed_broker, definitions)
    port = urllib.parse.urlsplit(managed_broker.management_url).port
    yield f"http://{make_secrets.SCALER}:scaler-password@127.0.0.1:{port}"
    delete_users(managed_broker, make_secrets.SCALER)
    managed_broker.delete_vhost(vhost)


async def test_keda_counts_what_waits_and_what_is_in_hand_of_its_own_vendors(
    managed_broker: PrivateBroker, scaler: str
) -> None:
    url = managed_broker.url.rpartition("/")[0] + "/scaled"
    targets = ["examples.acme:router", "examples.volta:routers"]
    async with WorkerProcess(" ".join(targets), url):
        pass  # the queues are there now, and nobody takes anything from them
    wait = {"com.acme": 3, "com.volta.charging": 2, "com.volta.service": 4, "nobody": 5}
    wanted = {"worker-acme": 3, "worker-volta": 6}
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        exchange = await channel.get_exchange(NAMES.requests)
        for vendor, count in wait.items():
            for _ in range(count):
                await exchange.publish(aio_pika.Message(b""), vendor)
        queue = await channel.get_queue(NAMES.vendor_queue("com.acme"))
        await queue.get()  # it is in hand now
        for each in of_kind("autoscaled", "ScaledObject"):
            for trigger in each["spec"]["triggers"]:
                await counted(trigger, scaler, wanted[each["metadata"]["name"]])


async def counted(trigger: dict[str, Any], scaler: str, messages: int) -> None:
    """The API's counts are some seconds old."""
    async with asyncio.timeout(PATIENCE):
        while True:
            queues = await asyncio.to_thread(fetched, trigger, scaler, "scaled")
            if sum(queue.get("messages", 0) for queue in queues) == messages:
                return
            await asyncio.sleep(0.2)


def test_keda_can_do_nothing_else(scaler: str) -> None:
    for path, method in (
        ("/api/queues/scaled/new", "PUT"),
        ("/api/users", "GET"),
        ("/api/definitions", "GET"),
    ):
        with pytest.raises(urllib.error.HTTPError, match=r"HTTP Error 40[013]"):
            get(scaler, path, method)


# ---- the store ----


async def test_a_worker_needs_no_more_rights_in_redis_than_it_has(tmp_path: Path) -> None:
    """With the configuration of compose.yaml, and the users that are made for it."""
    with store(tmp_path) as (url, server):
        async with RedisStore(url, lease=0.3) as kept:
            assert await kept.begin("a") is None
            assert await kept.begin("a") is Running.HERE
            await asyncio.sleep(0.6)  # two leases, which are renewed meanwhile
            assert await kept.begin("a") is Running.HERE
            await kept.finish("a", Reply(b"{}"))
            assert await kept.begin("a") == Reply(b"{}")
            assert await kept.begin("b") is None
            await kept.forget("b")
            await kept.ping(PATIENCE)
        async with RedisStore(server.url) as stranger:
            with pytest.raises(redis.AuthenticationError):
                await stranger.begin("a")
        client = redis.asyncio.Redis.from_url(url)
        async with client:
            for forbidden in (client.get("other"), client.keys("*"), client.config_get("save")):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    await forbidden


async def test_the_stores_url_can_stand_in_a_file(amqp_url: str, tmp_path: Path) -> None:
    with store(tmp_path):
        file = tmp_path / "worker" / "redis-url"
        target = "tests.integration.echo_vendor:router"
        async with (
            WorkerProcess(target, amqp_url, idempotency=f"@{file}", http="127.0.0.1:0") as worker,
            Client(amqp_url, timeout=PATIENCE) as client,
        ):
            await client.data_transfer("CP1", request("echo", "m", [1]))
        assert worker.counts["store_errors"] == 0
        done = await asyncio.to_thread(
            dtbridge, "doctor", "--amqp-url", amqp_url, "--idempotency", f"@{file}",
            settings={"DTBRIDGE_MANAGEMENT": "http://127.0.0.1:1"},
        )  # fmt: skip
        assert "the Redis of --idempotency" not in done.stdout
        assert done.returncode == 0, done.stdout


@contextlib.contextmanager
def store(folder: Path) -> Iterator[tuple[str, RedisServer]]:
    """A Redis as compose.yaml has it, and the worker's URL of it."""
    server = RedisServer(ROOT / "deploy" / "redis" / "redis.conf", folder / "redis" / "users.acl")
    make_secrets.make(folder, "rabbitmq:5672", f"127.0.0.1:{server.port}")
    with server:
        yield (folder / "worker" / "redis-url").read_text().strip(), server
