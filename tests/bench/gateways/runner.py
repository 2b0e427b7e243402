"""Runs the scenarios: the gateways take turns on one private broker, before one worker."""

import asyncio
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import msgspec

from bridge.testing.rabbitmq import PrivateBroker
from tests.bench.build import StationPrograms
from tests.bench.gateways.scenarios import Fleet, Pace
from tests.bench.gateways.subjects import Cast, Place
from tests.bench.processes import Load, Process, ProcessFailed, family, usage
from tests.bench.runner import declare
from tests.bench.subjects import Job, bridge
from tests.bench.tables import Entry, Measurement, Row, Scenario, Table, summarise

VENDOR = "com.acme"
VHOST = "gateways"
BOUND = (
    f'X = rabbit_misc:r(<<"{VHOST}">>, exchange, <<"datatransfer.stations">>), '
    "length(rabbit_binding:list_for_source(X))"
)
"""How many stations are bound, in Erlang."""
WORKER = Job()
"""The worker behind all gateways: the one of the headline of `make bench`."""

CONNECT_SECONDS = 300.0
"""How long all stations may take to connect, the gateway's start included."""
BINDINGS_SECONDS = 300.0
"""How long the broker may take to bind the stations of a gateway, or to forget them."""
SETTLE_SECONDS = 1.0
"""Seconds between the last binding and the count: what is left to do then is done."""
LONGEST_SECONDS = 600.0
"""Bound of a fleet that is told when to end."""


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


class Stations(Load):
    """A fleet: fleet.c, or tls_stations.py. What a gateway refuses is a number of it, no fault."""

    faults: ClassVar[tuple[str, ...]] = ("duplicate", "foreign")


class Watched(msgspec.Struct):
    """The processes whose processor time is taken, in this order."""

    broker: int
    gateway: list[int]
    worker: list[int]

    @property
    def pids(self) -> list[int]:
        """All of them."""
        return [self.broker, *self.gateway, *self.worker]

    def line(self) -> str:
        """What the load generators read."""
        return " ".join(str(pid) for pid in self.pids)


class Bench(msgspec.Struct):
    """One run of the benchmark, on one broker with TLS: its certificate serves the gateways too."""

    broker: PrivateBroker
    programs: StationPrograms
    cast: Cast
    pace: Pace
    log: Callable[[str], None]

    def run(self, scenarios: Sequence[Scenario[Fleet]]) -> Iterator[Table[Fleet]]:
        """Run all rounds of the scenarios, before one worker."""
        url = self.broker.add_vhost(VHOST)
        asyncio.run(declare(url, WORKER))
        with Process(bridge(sys.executable).command(url, WORKER), WORKER.environment) as worker:
            for scenario in scenarios:
                table = Table(scenario, [Row(entry) for entry in scenario.entries])
                for number in range(1, self.pace.rounds + 1):
                    for row in table.rows:
                        if row.failure is None:
                            round_ = f"round {number} of {self.pace.rounds}"
                            self.log(f"{scenario.name}: {row.entry.label} ({round_})")
                            self._run_entry(row, url, worker)
                summarise(table)
                yield table

    def _run_entry(self, row: Row[Fleet], url: str, worker: Process) -> None:
        try:
            self._await_bindings(0)  # the one before may have left some
            row.rounds.append(self._measure(row.entry, url, worker))
        except ProcessFailed as failure:
            row.failure = str(failure)

    def _measure(self, entry: Entry[Fleet], url: str, worker: Process) -> Measurement:
        fleet = entry.job
        place = Place(free_port(), url, fleet.stations)
        if fleet.kind == "tls":
            folder = self.broker.folder
            place = msgspec.structs.replace(
                place, certificate=folder / "host.pem", key=folder / "host.key"
            )
        with self._gateway(entry.subject, place) as gateway:
            if fleet.kind in ("idle", "tls"):
                return self._measure_memory(entry.subject, fleet, place, gateway)
            if fleet.kind == "down":
                return self._measure_down(entry.subject, fleet, place, gateway, worker)
            return self._measure_up(entry.subject, fleet, place, gateway, worker)

    # ---- the kinds of measurement ----

    def _measure_up(
        self, subject: str, fleet: Fleet, place: Place, gateway: Process, worker: Process
    ) -> Measurement:
        """Stations ask, steadily or through a storm."""
        options: dict[str, float] = {"outstanding": self.pace.outstanding}
        mode = "ask"
        if fleet.kind == "storm":
            mode = "storm"
            options = {
                "moving": fleet.moving,
                "within": self.pace.within,
                "rate": self.pace.rate,
            }
        with self._stations(mode, place, fleet.stations, **options) as stations:
            watched = self._begin(subject, fleet, stations, gateway, worker)
            result = stations.result(LONGEST_SECONDS)
        measured = measurement(result, watched)
        measured.resident_mib = usage(gateway.pid).resident_kib / 1024
        if not self.cast.subjects[subject].has_csms:
            measured.worker_cpu_us = None
        if fleet.kind == "storm":
            return in_storm(measured, result, fleet)
        return measured

    def _measure_down(
        self, subject: str, fleet: Fleet, place: Place, gateway: Process, worker: Process
    ) -> Measurement:
        """A CSMS asks the stations; the worker has nothing to do."""
        with self._stations("answer", place, fleet.stations, seconds=LONGEST_SECONDS) as stations:
            watched = self._begin(subject, fleet, stations, gateway, worker)
            with self._csms(place.url, fleet.stations) as csms:
                csms.await_event("ready")
                csms.tell(f"{watched.line()} {stations.pid}")
                result = csms.result()
            stations.tell("end")
            stations.result(LONGEST_SECONDS)
        result["load_cpu_s"] += result["watched_cpu_s"].pop()
        measured = measurement(result, watched)
        measured.worker_cpu_us = None
        measured.resident_mib = usage(gateway.pid).resident_kib / 1024
        return measured

    def _measure_memory(
        self, subject: str, fleet: Fleet, place: Place, gateway: Process
    ) -> Measurement:
        """Stations are connected, and say nothing."""
        with self._silent(place, 1) as first:  # what is loaded and opened once
            first.await_event("connected", CONNECT_SECONDS)
        self._await_bindings(0)
        before = usage(gateway.pid).resident_kib
        with self._silent(place, fleet.stations) as stations:
            stations.await_event("connected", CONNECT_SECONDS)
            stations.tell("")
            self._await_stations(subject, fleet.stations)
            after = usage(gateway.pid).resident_kib
            stations.tell("end")
            connected = json_of(stations.next_line(CONNECT_SECONDS))["connected"]
        if connected != fleet.stations:
            raise stations.failure(f"held {connected} of {fleet.stations} stations")
        return Measurement(resident_mib=after / 1024, station_kib=(after - before) / fleet.stations)

    # ---- their parts ----

    @contextmanager
    def _gateway(self, name: str, place: Place) -> Iterator[Process]:
        with Process(self.cast.subjects[name].command(place)) as gateway:
            try:
                yield gateway
            except ProcessFailed as failure:
                if not gateway.running:  # the stations complained, but this is why
                    raise gateway.failure("ended") from failure
                raise

    def _await_stations(self, subject: str, count: int) -> None:
        """Wait until the CSMS can reach all stations, where it can."""
        if self.cast.subjects[subject].has_csms:
            self._await_bindings(count)
        time.sleep(SETTLE_SECONDS)

    def _await_bindings(self, count: int) -> None:
        """Wait until so many stations are bound. Raises ProcessFailed if they never are."""
        deadline = time.monotonic() + BINDINGS_SECONDS
        while (bound := int(self.broker.eval(BOUND))) != count:
            if time.monotonic() > deadline:
                raise ProcessFailed(f"{bound:,} stations are bound where {count:,} were due")
            time.sleep(0.1)

    def _begin(
        self, subject: str, fleet: Fleet, stations: Stations, gateway: Process, worker: Process
    ) -> Watched:
        """Wait until all stations are connected and bound, and say whom to watch."""
        stations.await_event("connected", CONNECT_SECONDS)
        self._await_stations(subject, fleet.stations)
        watched = Watched(self.broker.pid, family_of(gateway), family_of(worker))
        stations.tell(watched.line())
        return watched

    def _stations(self, mode: str, place: Place, count: int, **options: float) -> Stations:
        return Stations(
            [
                *self.programs.fleet,
                mode,
                *_options(port=place.port, stations=count),
                *_options(**{"seconds": self.pace.seconds, "warmup": self.pace.warmup, **options}),
            ]
        )

    def _csms(self, url: str, stations: int) -> Load:
        pace = self.pace
        return Load(
            [
                *self.programs.load,
                "run",
                *("--url", url, "--vendor", VENDOR),
                *_options(stations=stations, outstanding=pace.outstanding),
                *_options(seconds=pace.seconds, warmup=pace.warmup),
            ]
        )

    def _silent(self, place: Place, count: int) -> Stations:
        if place.certificate is None:
            return self._stations("idle", place, count, seconds=LONGEST_SECONDS)
        module = "tests.bench.gateways.tls_stations"
        options = _options(port=place.port, stations=count)
        return Stations([sys.executable, "-m", module, *options])


def _options(**options: float) -> list[str]:
    return [text for name, value in options.items() for text in (f"--{name}", str(value))]


def family_of(process: Process) -> list[int]:
    """A process and its children."""
    return list(family(process.pid))


def json_of(line: bytes) -> dict[str, Any]:
    """A result that has no accounting."""
    result: dict[str, Any] = msgspec.json.decode(line)
    return result


def measurement(result: dict[str, Any], watched: Watched) -> Measurement:
    """What a load generator counted of the processes that it watched."""
    round_trips = max(1, result["round_trips"])
    broker, *others = result["watched_cpu_s"]
    gateway, worker = others[: len(watched.gateway)], others[len(watched.gateway) :]
    ours = broker + sum(others) + result["load_cpu_s"]
    cores_seconds = result["seconds"] * len(os.sched_getaffinity(0))
    return Measurement(
        rate=result["rate"],
        cpu_us=sum(gateway) * 1e6 / round_trips,
        broker_cpu_us=broker * 1e6 / round_trips,
        worker_cpu_us=sum(worker) * 1e6 / round_trips,
        load_cpu_us=result["load_cpu_s"] * 1e6 / round_trips,
        others_share=max(0.0, result["busy_cpu_s"] - ours) / cores_seconds,
        p50_us=result["p50_us"],
        p99_us=result["p99_us"],
        missing=result["missing"],
        refused=result["refused"],
        lost=result.get("lost", 0),
    )


def in_storm(measured: Measurement, result: dict[str, Any], fleet: Fleet) -> Measurement:
    """The same of a storm: its processor time is that of each station that comes back, what the
    others ask meanwhile included.
    """
    cpu = measured.cpu_us or 0.0
    measured.cpu_us = cpu * result["round_trips"] / fleet.moving
    measured.rate = measured.worker_cpu_us = measured.resident_mib = None
    measured.calm_p50_us, measured.calm_p99_us = result["calm_p50_us"], result["calm_p99_us"]
    measured.last_served_s = result["last_served_s"]
    measured.refused_handshakes = result["failed"]
    measured.missing += fleet.moving - result["served"]
    return measured
