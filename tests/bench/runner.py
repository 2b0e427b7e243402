"""Runs the scenarios: the workers take turns on one private broker, for several rounds."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import aio_pika
import msgspec
from aio_pika import ExchangeType
from pamqp.common import FieldTable

from bridge.testing.rabbitmq import PrivateBroker
from tests.bench.messages import queue_name
from tests.bench.processes import Load, Process, ProcessFailed, Usage, family, usage
from tests.bench.scenarios import Pace
from tests.bench.subjects import Cast, Job
from tests.bench.tables import Entry, Measurement, Row, Scenario, Table, summarise

OUTSTANDING = 200
FIXED_RATE = 3_000
"""Requests per second to the other vendors while one hangs.

It is well below what a worker can do, so that waits show."""
HANGING = 1_000
"""Requests to the vendor that hangs; more than its prefetch."""
FILL_SECONDS = 600.0
DRAIN_SECONDS = 900.0


class Bench(msgspec.Struct):
    """One run of the benchmark on one broker."""

    broker: PrivateBroker
    load_command: list[str]
    cast: Cast
    pace: Pace
    log: Callable[[str], None]
    virtual_hosts: dict[tuple[str, int], str] = {}
    """Names of the shared ones, by queue type and number of vendor queues."""

    def run(self, scenario: Scenario[Job], chosen: set[str]) -> Table[Job]:
        """Run all rounds of a scenario with the chosen subjects that are there."""
        entries = [
            entry
            for entry in scenario.entries
            if entry.subject in self.cast.subjects and entry.subject in chosen
        ]
        table = Table(scenario, [Row(entry) for entry in entries])
        rounds = 1 if any(entry.job.backlog for entry in entries) else self.pace.rounds
        for number in range(1, rounds + 1):
            for row in table.rows:
                if row.failure is None:
                    self.log(f"{scenario.name}: {row.entry.label} (round {number} of {rounds})")
                    self._run_entry(row, headline=scenario.name == "headline")
        summarise(table)
        return table

    def _run_entry(self, row: Row[Job], *, headline: bool) -> None:
        try:
            row.rounds.append(self._measure(row.entry, headline=headline))
        except ProcessFailed as failure:
            row.failure = str(failure)

    def _measure(self, entry: Entry[Job], *, headline: bool) -> Measurement:
        if entry.job.backlog:
            return self._measure_backlog(entry)
        if entry.job.first_vendor_hangs is not None:
            return self._measure_other_vendors(entry)
        return self._measure_steady_load(
            entry, self.pace.seconds if headline else self.pace.side_seconds
        )

    # ---- the three kinds of measurement ----

    def _measure_steady_load(self, entry: Entry[Job], seconds: float) -> Measurement:
        """Measure at one request outstanding, then at 200."""
        job = entry.job
        vhost = self._shared_virtual_host(job)
        with self._worker(entry, vhost) as worker:
            lone_seconds = min(self.pace.lone_seconds, seconds)
            lone = self._steady(worker, vhost, job, seconds=lone_seconds, outstanding=1)
            measured = self._steady(worker, vhost, job, seconds=seconds, outstanding=OUTSTANDING)
        measured.lone_p50_us, measured.lone_p99_us = lone.p50_us, lone.p99_us
        return measured

    def _measure_other_vendors(self, entry: Entry[Job]) -> Measurement:
        """Measure the other vendors at a steady rate while the first hangs, or has no requests."""
        job = entry.job
        with self._own_virtual_host(job) as vhost, self._worker(entry, vhost) as worker:
            if not job.first_vendor_hangs:
                return self._steady(worker, vhost, job, seconds=self.pace.seconds, rate=FIXED_RATE)
            with self._load("fill", vhost, job, count=HANGING, vendors=job.vendor_ids[:1]) as fill:
                fill.await_event("sent")
                return self._steady(worker, vhost, job, seconds=self.pace.seconds, rate=FIXED_RATE)

    def _measure_backlog(self, entry: Entry[Job]) -> Measurement:
        """Measure a worker that finds a full queue against one that has answered one request."""
        job = entry.job
        with self._own_virtual_host(job) as vhost:
            with self._worker(entry, vhost) as worker:
                self._steady(worker, vhost, job, seconds=0, outstanding=1)
                idle = usage(worker.pid)
            with self._load("fill", vhost, job, count=job.backlog) as fill:
                fill.await_event("sent", FILL_SECONDS)
                asyncio.run(
                    _await_depth(
                        self.broker.url + vhost, queue_name(job.vendor_ids[0]), job.backlog
                    )
                )
                self.log(f"  {job.backlog:,} requests are waiting")
                with self._worker(entry, vhost) as worker:
                    result = fill.result(DRAIN_SECONDS)
                    drained = usage(worker.pid)
        return Measurement(
            rate=result["round_trips"] / result["seconds"],
            cpu_us=(drained.cpu_seconds - idle.cpu_seconds) * 1e6 / result["round_trips"],
            resident_mib=drained.resident_kib / 1024,
            peak_mib=drained.peak_kib / 1024,
            growth_mib=(drained.peak_kib - idle.resident_kib) / 1024,
            missing=result["missing"],
        )

    # ---- their parts ----

    @contextmanager
    def _worker(self, entry: Entry[Job], vhost: str) -> Iterator[Process]:
        url = self.broker.url + vhost
        if entry.job.tls:
            url = f"{self.broker.tls_url}{vhost}?cafile={self.broker.ca_file}"
        command = self.cast.subjects[entry.subject].command(url, entry.job)
        with Process(command, entry.job.environment) as worker:
            try:
                yield worker
            except ProcessFailed as failure:
                if not worker.running:  # the load generator complained, but this is why
                    raise worker.failure("ended") from failure
                raise

    def _load(
        self, mode: str, vhost: str, job: Job, *, vendors: list[str] | None = None, **options: float
    ) -> Load:
        options = {"size": job.size, "deadline-ms": job.deadline_ms, **options}
        given = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        addressed = [text for vendor in vendors or job.vendor_ids for text in ("--vendor", vendor)]
        return Load(
            [*self.load_command, mode, "--url", self.broker.url + vhost, *given, *addressed]
        )

    def _steady(
        self, worker: Process, vhost: str, job: Job, *, seconds: float, **pace: float
    ) -> Measurement:
        """Count round trips in the middle of a steady load.

        The load generator takes the processor times when the count begins and when it ends.
        """
        vendors = job.vendor_ids if job.first_vendor_hangs is None else job.vendor_ids[1:]
        warmup = self.pace.warmup if seconds else 0
        with self._load(
            "run", vhost, job, vendors=vendors, seconds=seconds, warmup=warmup, **pace
        ) as load:
            load.await_event("ready")
            load.tell(" ".join(str(pid) for pid in (self.broker.pid, *family(worker.pid))))
            result = load.result()
        return _measurement(result, usage(worker.pid))

    def _shared_virtual_host(self, job: Job) -> str:
        """A virtual host for all entries with the same queues: the load leaves nothing in them."""
        key = (job.queue_type, job.vendors)
        if key not in self.virtual_hosts:
            self.virtual_hosts[key] = name = f"{job.queue_type}-{job.vendors}"
            self._make_virtual_host(name, job)
        return self.virtual_hosts[key]

    @contextmanager
    def _own_virtual_host(self, job: Job) -> Iterator[str]:
        name = f"own-{time.monotonic_ns()}"
        self._make_virtual_host(name, job)
        try:
            yield name
        finally:
            self.broker.delete_vhost(name)

    def _make_virtual_host(self, name: str, job: Job) -> None:
        self.broker.add_vhost(name)
        asyncio.run(declare(self.broker.url + name, job))


def _measurement(result: dict[str, Any], worker: Usage) -> Measurement:
    answered = max(1, result["round_trips"])
    broker_cpu, *worker_cpu = result["watched_cpu_s"]
    ours = broker_cpu + sum(worker_cpu) + result["load_cpu_s"]
    cores_seconds = result["seconds"] * len(os.sched_getaffinity(0))
    return Measurement(
        rate=result["rate"],
        cpu_us=sum(worker_cpu) * 1e6 / answered,
        broker_cpu_us=broker_cpu * 1e6 / answered,
        load_cpu_us=result["load_cpu_s"] * 1e6 / answered,
        others_share=max(0.0, result["busy_cpu_s"] - ours) / cores_seconds if cores_seconds else 0,
        p50_us=result["p50_us"],
        p99_us=result["p99_us"],
        resident_mib=worker.resident_kib / 1024,
        peak_mib=worker.peak_kib / 1024,
        missing=result["missing"],
    )


async def declare(url: str, job: Job) -> None:
    """Declare every exchange and queue of the wire contract, the same for all subjects."""
    arguments: FieldTable = {"x-queue-type": job.queue_type}
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        unrouted = await channel.declare_exchange(
            "datatransfer.unrouted", ExchangeType.FANOUT, durable=True
        )
        dead = await channel.declare_exchange(
            "datatransfer.dead", ExchangeType.FANOUT, durable=True
        )
        requests = await channel.declare_exchange(
            "datatransfer",
            ExchangeType.DIRECT,
            durable=True,
            arguments={"alternate-exchange": unrouted.name},
        )
        await channel.declare_exchange("datatransfer.events", ExchangeType.TOPIC, durable=True)
        for exchange, name in (
            (unrouted, "datatransfer.unknown-vendor"),
            (dead, "datatransfer.dead"),
        ):
            queue = await channel.declare_queue(
                name, durable=True, arguments={"x-queue-type": "classic"}
            )
            await queue.bind(exchange)
        for vendor in job.vendor_ids:
            queue = await channel.declare_queue(
                queue_name(vendor), durable=True, arguments=arguments
            )
            await queue.bind(requests, vendor)


async def _await_depth(url: str, name: str, depth: int) -> None:
    """Wait until the queue holds that many messages. Raises ProcessFailed if it never does."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        deadline = time.monotonic() + FILL_SECONDS
        while time.monotonic() < deadline:
            queue = await channel.declare_queue(name, passive=True)
            if (queue.declaration_result.message_count or 0) >= depth:
                return
            await asyncio.sleep(0.2)
    raise ProcessFailed(f"{name} does not hold {depth:,} messages")
