"""Rows for people, made of what workers and the broker say. Pure."""

import enum
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from bridge.dialects.names import Names
from bridge.dialects.partitions import of_label, own_queue
from bridge.top.samples import (
    Buckets,
    Change,
    Reading,
    buckets,
    buckets_by,
    change,
    quantile,
    together,
)
from bridge.top.scraping import Answer

OTHER: Final = "other"
"""The label of requests whose vendor no router names."""
FAILED: Final = frozenset({"failed", "timed_out", "retries_exhausted", "overloaded", "broken"})
"""Outcomes that somebody has to look at."""
NOT_HANDLED: Final = frozenset({"retried", "put_off"})
"""Outcomes after which the request comes again: it is not counted twice."""
SLOW: Final = 1.0
"""Seconds of a handler from which on it is named: stations wait for 20 to 30."""
STATES: Final = ("consuming", "blocked", "draining", "connecting", "stopped")


class Sort(enum.StrEnum):
    """What vendors are sorted by; the most first."""

    RATE = "rate"
    P99 = "p99"
    BACKLOG = "backlog"
    WAITING = "waiting"
    FAILURES = "failures"
    DEAD = "dead"
    VENDOR = "vendor"
    """By name."""


class QueueDepth(msgspec.Struct, frozen=True):
    """What the broker says of a queue."""

    ready: int = 0
    consumers: int = 0
    in_hand: int | None = None
    """Given to workers and not settled; None: AMQP alone does not tell."""
    oldest: float | None = None
    """Seconds since the timestamp of the oldest message; None: it has none."""
    rate: float | None = None
    """Settled a second, as the broker counts."""


class BrokerCounts(msgspec.Struct, frozen=True):
    """What the broker says of the bridge's queues."""

    queues: dict[str, QueueDepth] = {}
    source: str = ""
    """``management`` or ``amqp``; empty if neither could be asked."""
    error: str = ""
    """Why not, or why only the lesser of the two."""


def by_vendor(queues: Mapping[str, QueueDepth]) -> dict[str, QueueDepth]:
    """The partitions of a vendor as one, under the name of its own queue."""
    together: dict[str, QueueDepth] = {}
    for name, depth in queues.items():
        own = own_queue(name)
        together[own] = _both(together[own], depth) if own in together else depth
    return together


def _both(one: QueueDepth, other: QueueDepth) -> QueueDepth:
    """Workers consume all the partitions of a vendor, so its consumers are not added."""
    return QueueDepth(
        ready=one.ready + other.ready,
        consumers=max(one.consumers, other.consumers),
        in_hand=_added(one.in_hand, other.in_hand),
        oldest=max((each for each in (one.oldest, other.oldest) if each is not None), default=None),
        rate=_added(one.rate, other.rate),
    )


_Number = TypeVar("_Number", int, float)


def _added(one: _Number | None, other: _Number | None) -> _Number | None:
    return other if one is None else one if other is None else one + other


class VendorRow(msgspec.Struct, frozen=True, kw_only=True):
    """A vendor, in the whole fleet. Durations are seconds; None: nothing has come."""

    vendor: str
    rate: float | None = None
    """Requests settled a second; None: not known yet."""
    failures: float | None = None
    """Of those, the ones that failed."""
    outcomes: dict[str, float] = {}
    """A second, by outcome."""
    handler_p50: float | None = None
    handler_p99: float | None = None
    answer_p50: float | None = None
    answer_p99: float | None = None
    """From a delivery to its answer, waiting included."""
    lag_p99: float | None = None
    """From the timestamp of a message to its first delivery."""
    in_hand: int = 0
    running: int = 0
    waiting: int = 0
    concurrency: int = 0
    backlog: int | None = None
    """Ready in the queue, for any worker to take; None: not known."""
    consumers: int | None = None
    oldest: float | None = None
    dead: int = 0
    """Dead letters since the workers were started."""
    dead_by: dict[str, int] = {}
    why: str = ""
    """What stands out, in words."""


class WorkerRow(msgspec.Struct, frozen=True, kw_only=True):
    """A process of the fleet."""

    name: str
    kind: str = "worker"
    """``worker``, ``gateway`` or ``supervisor``."""
    state: str = ""
    """Of its session with the broker."""
    error: str = ""
    """Why it says nothing."""
    version: str = ""
    compiled: str = ""
    up: float | None = None
    """Seconds since it was started."""
    rate: float | None = None
    processor: float | None = None
    """Part of one processor."""
    memory: int | None = None
    """Bytes."""
    loop_lag_p99: float | None = None
    confirm_p99: float | None = None
    sessions_lost: int = 0
    blocked: float = 0.0
    """Seconds in all in which the broker took no publishings."""
    in_hand: int = 0
    stations: int | None = None
    """Of a gateway."""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is shown at a time."""

    seconds: float | None
    """What rates and quantiles are of; None: there was no earlier reading."""
    vendors: tuple[VendorRow, ...]
    workers: tuple[WorkerRow, ...]
    dead_letters: int | None
    """In the queue; None: not known."""
    unknown_vendor: int | None
    """Requests that wait there to be answered UnknownVendorId."""
    broker: str
    broker_error: str


_Of = TypeVar("_Of")

_Process = tuple[str, str]
"""The name of an address, and the process behind it."""


class _Fleet:
    """All readings of now, and what has changed since the ones before."""

    def __init__(self, before: Mapping[str, Answer], after: Mapping[str, Answer]) -> None:
        self.now: dict[_Process, Reading] = _readings(after)
        earlier = _readings(before)
        self.changes: dict[_Process, Change] = {
            process: change(earlier[process], reading)
            for process, reading in self.now.items()
            if process in earlier and reading.at > earlier[process].at
        }

    def rates(self, name: str, *by: str) -> dict[tuple[str, ...], float]:
        """Growth of a counter a second, by the values of these labels."""
        found: dict[tuple[str, ...], float] = {}
        for each in self.changes.values():
            for labels, value in each.values.get(name, {}).items():
                told = dict(labels)
                key = tuple(told.get(label, "") for label in by)
                found[key] = found.get(key, 0.0) + value / each.seconds
        return found

    def sums(self, name: str, *by: str) -> dict[tuple[str, ...], float]:
        """The values of now, by the values of these labels."""
        found: dict[tuple[str, ...], float] = {}
        for reading in self.now.values():
            for labels, value in reading.values.get(name, {}).items():
                told = dict(labels)
                key = tuple(told.get(label, "") for label in by)
                found[key] = found.get(key, 0.0) + value
        return found

    def busy(self, vendor: str) -> tuple[int, int]:
        """Processes in which all handlers of a vendor are busy and requests wait; and all that
        handle it.
        """
        busy = handling = 0
        for reading in self.now.values():
            limit = reading.sum_of("dtbridge_concurrency_limit", vendor=vendor)
            running = reading.sum_of("dtbridge_requests_running", vendor=vendor)
            handling += limit > 0
            busy += running >= limit > 0 and bool(
                reading.sum_of("dtbridge_requests_waiting", vendor=vendor)
            )
        return busy, handling


def _readings(answers: Mapping[str, Answer]) -> dict[_Process, Reading]:
    return {
        (name, process): reading
        for name, answer in answers.items()
        for process, reading in answer.readings.items()
    }


def make_view(
    before: Mapping[str, Answer],
    after: Mapping[str, Answer],
    broker: BrokerCounts,
    names: Names,
    sort: Sort = Sort.RATE,
    wall: float | None = None,
) -> View:
    """Compare two scrapes of a fleet. `wall`: the time of day, in seconds of Unix time."""
    fleet = _Fleet(before, after)
    vendors = _vendors(fleet, broker, names)
    dead = broker.queues.get(names.dead)
    unknown = broker.queues.get(names.unknown_vendor)
    longest = max((each.seconds for each in fleet.changes.values()), default=None)
    return View(
        seconds=longest,
        vendors=tuple(sorted(vendors, key=lambda row: _key(row, sort))),
        workers=tuple(_workers(fleet, after, time.time() if wall is None else wall)),
        dead_letters=None if dead is None else dead.ready,
        unknown_vendor=None if unknown is None else unknown.ready,
        broker=broker.source,
        broker_error=broker.error,
    )


def vendors_of(answers: Mapping[str, Answer]) -> list[str]:
    """The vendors that the fleet's workers name."""
    fleet = _Fleet({}, answers)
    return sorted(vendor for (vendor,) in fleet.sums("dtbridge_deliveries_total", "vendor"))


def queues_of(answers: Mapping[str, Answer], names: Names) -> list[str]:
    """The queues of requests that the fleet's workers consume."""
    fleet = _Fleet({}, answers)
    found = [names.unknown_vendor, *map(names.vendor_queue, vendors_of(answers))]
    for vendor, label in fleet.sums("dtbridge_partitions_info", "vendor", "label"):
        spread = of_label(label)
        found += () if spread is None else spread.queues(names.vendor_queue(vendor))
    return found


def _key(row: VendorRow, sort: Sort) -> tuple[float, str]:
    most = {
        Sort.RATE: row.rate,
        Sort.P99: row.answer_p99,
        Sort.BACKLOG: row.backlog,
        Sort.WAITING: row.waiting,
        Sort.FAILURES: row.failures,
        Sort.DEAD: row.dead,
        Sort.VENDOR: 0.0,
    }[sort]
    return -(most or 0.0), row.vendor


# ---- vendors ----


def _vendors(fleet: _Fleet, broker: BrokerCounts, names: Names) -> list[VendorRow]:
    rates = _by_vendor(fleet.rates("dtbridge_requests_total", "vendor", "outcome"))
    changes = list(fleet.changes.values())
    by_message = _by_vendor(buckets_by(changes, "dtbridge_handler_seconds", "vendor", "message"))
    answers = buckets_by(changes, "dtbridge_answer_seconds", "vendor")
    lags = buckets_by(changes, "dtbridge_queue_lag_seconds", "vendor")
    gauges = {
        name: fleet.sums(f"dtbridge_{name}", "vendor")
        for name in (
            "requests_in_hand",
            "requests_running",
            "requests_waiting",
            "concurrency_limit",
            "deliveries_total",
        )
    }
    dead = _by_vendor(fleet.sums("dtbridge_dead_letters_total", "vendor", "reason"))
    rows = []
    for vendor in sorted({key[0] for key in gauges["deliveries_total"]}):
        queue = names.unknown_vendor if vendor == OTHER else names.vendor_queue(vendor)
        depth = broker.queues.get(queue)
        outcomes = {outcome: rate for outcome, rate in rates.get(vendor, {}).items() if rate}
        handlers = by_message.get(vendor, {})
        handled = together(handlers.values())
        answered = answers.get((vendor,), {})
        dead_by = {why: int(count) for why, count in dead.get(vendor, {}).items() if count}
        row = VendorRow(
            vendor=vendor,
            rate=_sum(outcomes, without=NOT_HANDLED) if changes else None,
            failures=_sum(outcomes, only=FAILED) if changes else None,
            outcomes=outcomes,
            handler_p50=quantile(handled, 0.5),
            handler_p99=quantile(handled, 0.99),
            answer_p50=quantile(answered, 0.5),
            answer_p99=quantile(answered, 0.99),
            lag_p99=quantile(lags.get((vendor,), {}), 0.99),
            in_hand=int(gauges["requests_in_hand"].get((vendor,), 0)),
            running=int(gauges["requests_running"].get((vendor,), 0)),
            waiting=int(gauges["requests_waiting"].get((vendor,), 0)),
            concurrency=int(gauges["concurrency_limit"].get((vendor,), 0)),
            backlog=None if depth is None else depth.ready,
            consumers=None if depth is None else depth.consumers,
            oldest=None if depth is None else depth.oldest,
            dead=sum(dead_by.values()),
            dead_by=dead_by,
        )
        rows.append(msgspec.structs.replace(row, why=_why(row, handlers, fleet.busy(vendor))))
    return rows + _queues_alone(broker, names, {row.vendor for row in rows})


def _by_vendor(found: Mapping[tuple[str, ...], _Of]) -> dict[str, dict[str, _Of]]:
    """What is known by vendor and one thing more."""
    grouped: dict[str, dict[str, _Of]] = {}
    for (vendor, rest), value in found.items():
        grouped.setdefault(vendor, {})[rest] = value
    return grouped


def _queues_alone(broker: BrokerCounts, names: Names, known: set[str]) -> list[VendorRow]:
    """Queues of vendors that no worker here names."""
    own = {names.dead, names.unknown_vendor} | {
        names.unknown_vendor if vendor == OTHER else names.vendor_queue(vendor) for vendor in known
    }
    prefix = f"{names.prefix}."
    rows = []
    for queue, depth in sorted(broker.queues.items()):
        rest = queue.removeprefix(prefix)
        if queue in own or rest == queue or rest.startswith(("retry.", "replies.", "dead.")):
            continue
        rows.append(
            VendorRow(
                vendor=f"({rest})",
                rate=depth.rate,
                in_hand=depth.in_hand or 0,
                backlog=depth.ready,
                consumers=depth.consumers,
                oldest=depth.oldest,
                why="nobody takes from its queue" if depth.ready and not depth.consumers else "",
            )
        )
    return rows


def _sum(
    outcomes: Mapping[str, float],
    only: frozenset[str] | None = None,
    without: frozenset[str] = frozenset(),
) -> float:
    return sum(
        rate
        for outcome, rate in outcomes.items()
        if outcome not in without and (only is None or outcome in only)
    )


def _why(row: VendorRow, handlers: Mapping[str, Buckets], busy: tuple[int, int]) -> str:
    """What stands out about a vendor: busy handlers, a slow one, failures.

    `busy`: processes whose handlers are all at work, and all that handle the vendor.
    """
    told = []
    if row.consumers == 0 and row.backlog:
        told.append("nobody takes from its queue")
    slowest = max(
        ((quantile(found, 0.99) or 0.0, message) for message, found in handlers.items()),
        default=(0.0, ""),
    )
    if busy[0]:
        where = "" if busy[0] == busy[1] else f" in {busy[0]} of {busy[1]} processes"
        told.append(f"all handlers are busy{where}, and {row.waiting:,} requests wait")
    if slowest[0] >= SLOW or (busy[0] and slowest[0] > 0):
        told.append(f"{slowest[1] or '(no messageId)'} takes {duration(slowest[0])} (p99)")
    failing = [
        f"{rate:.1f}/s {outcome.replace('_', ' ')}"
        for outcome, rate in sorted(row.outcomes.items(), key=lambda each: -each[1])
        if outcome in FAILED
    ]
    if failing:
        told.append(", ".join(failing))
    elif row.outcomes.get("retried"):
        told.append(f"{row.outcomes['retried']:.1f}/s tried again")
    return "; ".join(told)


# ---- processes ----


def _workers(fleet: _Fleet, answers: Mapping[str, Answer], wall: float) -> Iterable[WorkerRow]:
    for name, answer in sorted(answers.items()):
        if answer.error:
            yield WorkerRow(name=name, error=answer.error)
        for process, reading in sorted(answer.readings.items()):
            yield _process(fleet, (name, process), reading, wall)


def _process(fleet: _Fleet, process: _Process, reading: Reading, wall: float) -> WorkerRow:
    name = process[0] if not process[1] else f"{process[0]} {process[1]}"
    done = fleet.changes.get(process)
    changes: Sequence[Change] = [] if done is None else [done]
    started = reading.sum_of("dtbridge_start_time_seconds") or reading.sum_of(
        "process_start_time_seconds"
    )
    kind = _kind(reading)
    prefix = {"gateway": "dtbridge_link"}.get(kind, "dtbridge")
    return WorkerRow(
        name=name,
        kind=kind,
        state=reading.label_of(f"{prefix}_session_state", "state"),
        version=reading.label_of("dtbridge_build_info", "version"),
        compiled=reading.label_of("dtbridge_build_info", "compiled"),
        up=max(0.0, wall - started) if started else None,
        rate=None if done is None else done.rate(f"{prefix}_requests_total"),
        processor=(
            done.rate("process_cpu_seconds_total")
            if done is not None and "process_cpu_seconds_total" in reading.values
            else None
        ),
        memory=int(reading.sum_of("process_resident_memory_bytes")) or None,
        loop_lag_p99=quantile(buckets(changes, "dtbridge_event_loop_lag_seconds"), 0.99),
        confirm_p99=quantile(buckets(changes, f"{prefix}_confirm_seconds"), 0.99),
        sessions_lost=int(reading.sum_of(f"{prefix}_sessions_lost_total")),
        blocked=reading.sum_of(f"{prefix}_blocked_seconds_total"),
        in_hand=int(reading.sum_of(f"{prefix}_requests_in_hand")),
        stations=int(reading.sum_of("dtbridge_link_stations")) if kind == "gateway" else None,
    )


def _kind(reading: Reading) -> str:
    if "dtbridge_deliveries_total" in reading.values:
        return "worker"
    return "gateway" if "dtbridge_link_stations" in reading.values else "supervisor"


# ---- words ----


def duration(seconds: float) -> str:
    """Seconds in a few signs: ``0.4ms``, ``35ms``, ``2.1s``, ``3m``, ``2h``, ``4d``."""
    if seconds < 0.01:
        return f"{seconds * 1000:.1f}ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 10:
        return f"{seconds:.1f}s"
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)}{unit}"
    return f"{seconds:.0f}s"


def number(value: float) -> str:
    """A count or rate in five signs at most: ``0``, ``3.2``, ``412``, ``9.9k``, ``120k``."""
    if value == 0:
        return "0"
    if value < 9.95:
        return f"{value:.1f}" if value != int(value) else f"{int(value)}"
    for limit, unit in ((1_000, ""), (1_000_000, "k"), (1_000_000_000, "M")):
        if value < 0.9995 * limit:
            shown = value * 1_000 / limit
            return f"{shown:.1f}{unit}" if unit and shown < 9.95 else f"{shown:.0f}{unit}"
    return f"{value / 1e9:.0f}G"
