"""Runs the scenarios: the workers take turns on one private broker, for several rounds."""

import asyncio
import os
import statistics
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
from tests.bench.scenarios import Entry, Pace, Scenario
from tests.bench.subjects import Cast, Job

OUTSTANDING = 200
FIXED_RATE = 3_000
"""Requests per second to the other vendors while one hangs.

It is well below what a worker can do, so that waits show."""
HANGING = 1_000
"""Requests to the vendor that hangs; more than its prefetch."""
FILL_SECONDS = 600.0
DRAIN_SECONDS = 900.0


class Measurement(msgspec.Struct, omit_defaults=True):
    """One worker process, one round."""

    rate: float | None = None
    """Round trips per second, at 200 outstanding (a backlog: while draining)."""
    cpu_us: float | None = None
    """User and system time of the worker per round trip of the same count, in microseconds."""
    broker_cpu_us: float | None = None
    load_cpu_us: float | None = None
    others_share: float | None = None
    """The part of the machine's processors that other programs used during the count."""
    p50_us: float | None = None
    """Latency at 200 outstanding, or at the fixed rate, in microseconds."""
    p99_us: float | None = None
    lone_p50_us: float | None = None
    """Latency at one outstanding, in microseconds."""
    lone_p99_us: float | None = None
    resident_mib: float | None = None
    """Memory of the worker after the count."""
    peak_mib: float | None = None
    growth_mib: float | None = None
    """For a backlog: the peak while draining, above the memory of an idle worker."""
    missing: int = 0
    """Requests without a reply at the end of the count."""


NUMBERS = tuple(name for name in Measurement.__struct_fields__ if name != "missing")


class Row(msgspec.Struct):
    """An entry after all rounds."""

    entry: Entry
    rounds: list[Measurement] = []
    median: Measurement | None = None
    ratio: Measurement | None = None
    """The median of the rounds' ratios to the entry it is compared with."""
    failure: str | None = None


class Table(msgspec.Struct):
    """A scenario after all rounds."""

    scenario: Scenario
    rows: list[Row]

    def row(self, label: str | None) -> Row | None:
        """The row of an entry, if it was run."""
        return next((row for row in self.rows if row.entry.label == label), None)


class Bench(msgspec.Struct):
    """One run of the benchmark on one broker."""

    broker: PrivateBroker
    load_command: list[str]
    cast: Cast
    pace: Pace
    log: Callable[[str], None]
    virtual_hosts: dict[tuple[str, int], str] = {}
    """Names of the shared ones, by queue type and number of vendor queues."""

    def run(self, scenario: Scenario, chosen: set[str]) -> Table:
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

    def _run_entry(self, row: Row, *, headline: bool) -> None:
        try:
            row.rounds.append(self._measure(row.entry, headline=headline))
        except ProcessFailed as failure:
            row.failure = str(failure)

    def _measure(self, entry: Entry, *, headline: bool) -> Measurement:
        if entry.job.backlog:
            return self._measure_backlog(entry)
        if entry.job.first_vendor_hangs is not None:
            return self._measure_other_vendors(entry)
        return self._measure_steady_load(
            entry, self.pace.seconds if headline else self.pace.side_seconds
        )

    # ---- the three kinds of measurement ----

    def _measure_steady_load(self, entry: Entry, seconds: float) -> Measurement:
        """Measure at one request outstanding, then at 200."""
        job = entry.job
        vhost = self._shared_virtual_host(job)
        with self._worker(entry, vhost) as worker:
            lone_seconds = min(self.pace.lone_seconds, seconds)
            lone = self._steady(worker, vhost, job, seconds=lone_seconds, outstanding=1)
            measured = self._steady(worker, vhost, job, seconds=seconds, outstanding=OUTSTANDING)
        measured.lone_p50_us, measured.lone_p99_us = lone.p50_us, lone.p99_us
        return measured

    def _measure_other_vendors(self, entry: Entry) -> Measurement:
        """Measure the other vendors at a steady rate while the first hangs, or has no requests."""
        job = entry.job
        with self._own_virtual_host(job) as vhost, self._worker(entry, vhost) as worker:
            if not job.first_vendor_hangs:
                return self._steady(worker, vhost, job, seconds=self.pace.seconds, rate=FIXED_RATE)
            with self._load("fill", vhost, job, count=HANGING, vendors=job.vendor_ids[:1]) as fill:
                fill.await_event("sent")
                return self._steady(worker, vhost, job, seconds=self.pace.seconds, rate=FIXED_RATE)

    def _measure_backlog(self, entry: Entry) -> Measurement:
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
    def _worker(self, entry: Entry, vhost: str) -> Iterator[Process]:
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
        asyncio.run(_declare(self.broker.url + name, job))


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


async def _declare(url: str, job: Job) -> None:
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


# ---- medians and ratios ----


def _median(measurements: list[Measurement]) -> Measurement:
    median = Measurement(missing=max(measurement.missing for measurement in measurements))
    for name in NUMBERS:
        values = [
            value
            for measurement in measurements
            if (value := getattr(measurement, name)) is not None
        ]
        setattr(median, name, statistics.median(values) if values else None)
    return median


def _ratio(one: Measurement, other: Measurement) -> Measurement:
    ratio = Measurement()
    for name in NUMBERS:
        numerator, denominator = getattr(one, name), getattr(other, name)
        if numerator is not None and denominator:
            setattr(ratio, name, numerator / denominator)
    return ratio


def summarise(table: Table) -> None:
    """Fill in the medians of the rounds, and the medians of the ratios in each round."""
    for row in table.rows:
        if row.rounds:
            row.median = _median(row.rounds)
    for row in table.rows:
        row.ratio = compare(row, table.row(row.entry.against))


def compare(row: Row | None, other: Row | None) -> Measurement | None:
    """The median of the ratios of one row's rounds to another's."""
    if row is None or other is None or not row.rounds or not other.rounds:
        return None
    pairs = zip(row.rounds, other.rounds, strict=False)  # one that failed half-way has fewer
    return _median([_ratio(one, against) for one, against in pairs])
