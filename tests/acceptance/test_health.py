"""What probes are told of real processes, while what they depend on breaks."""

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bridge.cli.probe import ask, parse_address, probe
from bridge.client.client import Client
from bridge.testing.rabbitmq import PrivateBroker
from tests.acceptance.command import MODULE, SCRIPT, dtbridge
from tests.integration.support import (
    NAMES,
    PATIENCE,
    BridgeProcess,
    GatewayProcess,
    WorkerProcess,
    request,
)
from tests.redis_server import RedisServer

VENDOR = "tests.acceptance.blocking_vendors:router"
QUEUE = NAMES.vendor_queue("blocking")
PROMPTLY = 2.0
"""Seconds in which a probe must see what has happened."""
LOOK = 0.02
"""Seconds between two looks."""
HICCUP = 0.1
"""Seconds for a look on an idle machine. What it takes beyond that is the machine's."""


class Probes:
    """Asks a process, and measures how soon it answers differently."""

    def __init__(self, process: BridgeProcess) -> None:
        self.address = str(process.until("serving http")["address"])

    def report(self, page: str) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.get(page))
        return report

    def get(self, page: str) -> bytes:
        where = parse_address(self.address)
        return ask(lambda left: socket.create_connection(where, left), page, PATIENCE)[1]

    def is_ok(self, page: str) -> bool:
        return probe(self.address, page, PATIENCE).ok

    async def until(self, page: str, *, ok: bool, within: float = PATIENCE) -> dict[str, Any]:
        """Ask until a page is as it should be, and return it.

        `within`: seconds from now, of a machine that has time for it: if the looks themselves take
        long, that counts less.
        """
        began = before = time.monotonic()
        stolen = 0.0
        while True:
            report = await asyncio.to_thread(self.report, page)
            now = time.monotonic()
            stolen += max(0.0, now - before - HICCUP)
            before = now
            if report["ok"] is ok:
                assert now - began - stolen <= within, f"{now - began:.2f} s: {report}"
                return report
            assert now - began < PATIENCE, report
            await asyncio.sleep(LOOK)

    async def not_ready(self) -> dict[str, Any]:
        """It is to be not ready any more, promptly; it lives."""
        report = await self.until("/readyz", ok=False, within=PROMPTLY)
        assert await asyncio.to_thread(self.is_ok, "/livez")
        return report

    async def ready(self) -> None:
        await self.until("/readyz", ok=True)


def worker(url: str, **settings: Any) -> WorkerProcess:
    return WorkerProcess(VENDOR, url, http="127.0.0.1:0", **settings)


# ---- the broker ----


async def test_a_broker_that_is_gone_and_comes_back(breakable_broker: PrivateBroker) -> None:
    url = breakable_broker.add_vhost("health-gone")
    async with worker(url) as process, GatewayProcess(url, http="127.0.0.1:0") as gateway:
        both = Probes(process), Probes(gateway)
        for probes in both:
            await probes.ready()
        await asyncio.to_thread(breakable_broker.kill)
        for probes in both:
            report = await probes.not_ready()
            assert report["reason"].startswith("connected: connecting: ")
            assert not report["checks"]["consuming"]["ok"]
        await asyncio.to_thread(breakable_broker.start)
        for probes in both:
            await probes.ready()


async def test_a_broker_that_hangs_with_its_connections_open(
    breakable_broker: PrivateBroker,
) -> None:
    url = breakable_broker.add_vhost("health-hangs")
    async with worker(url) as process:
        probes = Probes(process)
        await probes.ready()
        await asyncio.to_thread(breakable_broker.pause)
        try:
            report = await probes.not_ready()
        finally:
            await asyncio.to_thread(breakable_broker.resume)
        assert report["reason"] == "answering: it does not answer within 1 s"
        assert report["checks"]["connected"]["ok"]
        await probes.ready()


async def test_a_connection_that_is_blocked_and_released(
    breakable_broker: PrivateBroker,
) -> None:
    url = breakable_broker.add_vhost("health-blocked")
    alarm = "{resource_limit, memory, node()}"
    async with worker(url) as process, Client(url, timeout=PATIENCE) as client:
        probes = Probes(process)
        await probes.ready()
        asked = asyncio.create_task(client.data_transfer("CP", request("blocking", "wait", 3)))
        await asyncio.to_thread(process.until, "the handler waits")
        await asyncio.to_thread(breakable_broker.eval, f"rabbit_alarm:set_alarm({{{alarm}, []}})")
        # The broker blocks a connection when it next publishes, and so ours when it answers.
        await asyncio.to_thread(process.until, "blocked")
        report = await probes.not_ready()
        assert report["reason"].startswith("publishing: blocked: the broker blocks publishing")
        assert report["checks"]["consuming"]["ok"]
        await asyncio.to_thread(breakable_broker.eval, f"rabbit_alarm:clear_alarm({alarm})")
        await probes.ready()
        await asked


@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
async def test_a_queue_that_is_deleted_and_made_again(amqp_url: str, queue_type: str) -> None:
    async with worker(amqp_url, queue_type=queue_type):
        pass  # the queues are there now
    async with (
        worker(amqp_url, topology="verify", queue_type=queue_type) as process,
        await aio_pika.connect(amqp_url) as connection,
        connection.channel() as channel,
    ):
        probes = Probes(process)
        await probes.ready()
        await channel.queue_delete(QUEUE)
        report = await probes.not_ready()
        assert not report["checks"]["consuming"]["ok"]
        await asyncio.to_thread(process.until, "broker unreachable")
        report = await asyncio.to_thread(probes.report, "/readyz")
        async with worker(amqp_url, queue_type=queue_type):
            pass  # and again
        await probes.ready()


# ---- the store ----


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.mark.parametrize(
    ("broken", "mended"),
    [(RedisServer.kill, RedisServer.start), (RedisServer.pause, RedisServer.resume)],
)
async def test_a_store_that_cannot_be_reached(
    amqp_url: str,
    redis: RedisServer,
    broken: Callable[[RedisServer], None],
    mended: Callable[[RedisServer], None],
) -> None:
    async with worker(amqp_url, idempotency=redis.url) as process:
        probes = Probes(process)
        await probes.ready()
        await asyncio.to_thread(broken, redis)
        try:
            report = await probes.not_ready()
        finally:
            await asyncio.to_thread(mended, redis)
        assert report["reason"].startswith("store: ")
        assert report["checks"]["consuming"]["ok"]
        await probes.ready()


# ---- the process itself ----


async def test_who_drains_is_alive_and_not_ready(amqp_url: str) -> None:
    async with worker(amqp_url) as process, Client(amqp_url, timeout=PATIENCE) as client:
        probes = Probes(process)
        await probes.ready()
        asked = asyncio.create_task(client.data_transfer("CP", request("blocking", "wait", 4)))
        await asyncio.to_thread(process.until, "the handler waits")
        process.signal(signal.SIGTERM)
        report = await probes.not_ready()
        assert report["reason"].startswith("consuming: draining: ")
        assert (await asked).data == "done"
        assert await asyncio.to_thread(process.wait) == 0
    assert "Connection refused" in probe(probes.address, "/livez").line
    assert all("event" in line for line in process.log)  # nothing but the log is written
    assert {line["level"] for line in process.log} == {"info"}


async def test_a_loop_that_is_blocked_is_seen_while_it_is_and_named(amqp_url: str) -> None:
    """And the answer that the handler gives at last is the answer."""
    async with worker(amqp_url) as process, Client(amqp_url, timeout=PATIENCE) as client:
        probes = Probes(process)
        await probes.ready()
        asked = asyncio.create_task(client.data_transfer("CP", request("blocking", "block", 9)))
        await asyncio.to_thread(process.until, "the handler blocks")
        line = await asyncio.to_thread(process.until, "the event loop is blocked")
        assert not any(each.get("event") == "the handler returns" for each in process.log)
        assert line["handler"] == "tests.acceptance.blocking_vendors.blocks_the_loop"
        assert (line["vendor"], line["message"], line["station"]) == ("blocking", "block", "CP")
        assert "time.sleep(seconds)" in line["stack"]
        assert line["level"] == "warning"
        report = await probes.until("/livez", ok=False, within=5.0 + PROMPTLY)
        assert report["reason"].startswith("event loop: it has not turned for 5.")
        assert not await asyncio.to_thread(probes.is_ok, "/readyz")
        assert (await asked).data == "done"
        await probes.until("/livez", ok=True, within=PROMPTLY)
        await probes.ready()
    told = [line["event"] for line in process.log]
    assert told.count("the event loop is blocked") == 1
    assert "the event loop was held up" not in told


async def test_where_nobody_asks_nobody_listens(amqp_url: str) -> None:
    with WorkerProcess(VENDOR, amqp_url) as process:
        pass
    assert all(line["event"] != "serving http" for line in process.log)


# ---- several processes ----


def metrics(probes: Probes) -> dict[tuple[str, str], float]:
    """Value by name and process."""
    return {
        (sample.name, sample.labels.get("process", "")): sample.value
        for family in text_string_to_metric_families(probes.get("/metrics").decode())
        for sample in family.samples
    }


async def test_one_endpoint_speaks_for_all_processes(
    amqp_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    async with worker(amqp_url, processes=2) as process:
        probes = Probes(process)
        await probes.ready()
        shown = await asyncio.to_thread(metrics, probes)
        for name in ("1", "2", "supervisor"):
            assert shown["process_cpu_seconds_total", name] > 0
        child = children_of(process.process.pid)[0]
        os.kill(child, signal.SIGSTOP)
        try:
            for page in ("/livez", "/readyz"):
                report = await probes.until(page, ok=False, within=PROMPTLY)
                assert report["reason"].endswith("it does not answer within 1 s")
            shown = await asyncio.to_thread(metrics, probes)
            up = [shown["dtbridge_process_up", name] for name in "12"]
            assert sorted(up) == [0.0, 1.0]
        finally:
            os.kill(child, signal.SIGCONT)
        await probes.until("/livez", ok=True)
        os.kill(child, signal.SIGKILL)
        await asyncio.to_thread(process.until, "worker died")
        await probes.until("/livez", ok=False, within=PROMPTLY)
        await probes.ready()
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())
    assert sum(line.get("event") == "serving http" for line in process.log) == 1


async def test_gateways_on_one_port_are_ready_while_one_of_them_is_started_again(
    amqp_url: str,
) -> None:
    async with GatewayProcess(amqp_url, processes=2, http="127.0.0.1:0") as process:
        probes = Probes(process)
        await probes.ready()
        shown = await asyncio.to_thread(metrics, probes)
        assert [shown["dtbridge_gateway_connected_total", name] for name in "12"] == [0.0, 0.0]
        hangs, dies = children_of(process.process.pid)
        os.kill(dies, signal.SIGKILL)
        await probes.until("/livez", ok=False, within=PROMPTLY)
        assert await asyncio.to_thread(probes.is_ok, "/readyz")
        await probes.until("/livez", ok=True)
        os.kill(hangs, signal.SIGSTOP)  # the kernel goes on giving it connections
        try:
            report = await probes.until("/readyz", ok=False, within=PROMPTLY)
            assert report["reason"].endswith("it does not answer within 1 s")
        finally:
            os.kill(hangs, signal.SIGCONT)
        await probes.ready()


def children_of(pid: int) -> list[int]:
    """The children of a process, as the kernel lists them."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(number) for number in listed.split()]


# ---- dtbridge health ----


@pytest.mark.parametrize("command", [SCRIPT, MODULE])
async def test_the_command_asks_and_tells_by_its_exit_code(
    breakable_broker: PrivateBroker, command: list[str]
) -> None:
    url = breakable_broker.add_vhost("health-command")

    async def asked(*arguments: str, **settings: str) -> tuple[int, str, str]:
        done = await asyncio.to_thread(
            dtbridge, "health", *arguments, settings=settings, command=command
        )
        return done.returncode, done.stdout, done.stderr

    async with worker(url) as process:
        probes = Probes(process)
        await probes.ready()
        at = probes.address
        assert await asked(at) == (0, "ready\n", "")
        assert await asked("--live", f"http://{at}/") == (0, "live\n", "")
        assert await asked("--ready", DTBRIDGE_HTTP=at) == (0, "ready\n", "")
        assert await asked("--http", at, "--timeout", "5") == (0, "ready\n", "")
        await asyncio.to_thread(breakable_broker.kill)
        await probes.not_ready()
        code, told, _ = await asked(at)
        assert code == 1
        assert told.startswith("not ready: connected: connecting: ")
        assert await asked("--live", at) == (0, "live\n", "")
        await asyncio.to_thread(breakable_broker.start)
        await probes.ready()
    code, told, _ = await asked(at)
    assert (code, told) == (1, f"http://{at}/readyz: Connection refused\n")
