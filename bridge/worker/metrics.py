"""The metrics of a worker, for a registry of prometheus_client. ``docs/metrics.md`` lists them.

>>> registry = worker_registry(worker)                # all there is to say of a process
>>> REGISTRY.register(WorkerCollector(worker))        # beside a program's own metrics
"""

from typing import Final

from prometheus_client import CollectorRegistry

from bridge.telemetry.measures import Tally
from bridge.telemetry.metrics import (
    Collector,
    Family,
    Samples,
    fill_sessions,
    registry,
    session_families,
)
from bridge.telemetry.outcomes import KINDS, Counted
from bridge.worker.worker import Worker

PREFIX: Final = "dtbridge"

_FROM_THE_START: Final = frozenset(KINDS[kind] for kind in (Counted.ACCEPTED, Counted.FAILED))
"""Outcomes that each handler has from the start, at 0: a rate needs a beginning. Others come with
their first request, so that a thousand handlers are not seventeen thousand series."""


class WorkerCollector(Collector):
    """What a worker has counted. Register it once for each registry, of one worker a process."""

    families = (
        Family(
            "dtbridge_requests_total",
            "counter",
            "Deliveries of requests that were settled, by what became of them.",
            ("vendor", "message", "outcome"),
        ),
        Family(
            "dtbridge_handler_seconds",
            "histogram",
            "How long handlers took, those included that failed or ran out of time.",
            ("vendor", "message"),
        ),
        Family(
            "dtbridge_answer_seconds",
            "histogram",
            "From a delivery to its answer: waiting, store, handler.",
            ("vendor",),
        ),
        Family(
            "dtbridge_queue_lag_seconds",
            "histogram",
            "From the AMQP timestamp of a message, if it has one, to its first delivery.",
            ("vendor",),
        ),
        Family("dtbridge_deliveries_total", "counter", "Deliveries that came.", ("vendor",)),
        Family(
            "dtbridge_redeliveries_total",
            "counter",
            "Deliveries that the broker had delivered before.",
            ("vendor",),
        ),
        Family(
            "dtbridge_requests_in_hand",
            "gauge",
            "Deliveries that are not settled: running, waiting, or pausing before another try.",
            ("vendor",),
        ),
        Family(
            "dtbridge_requests_running",
            "gauge",
            "Requests begun and not settled.",
            ("vendor",),
        ),
        Family(
            "dtbridge_requests_waiting",
            "gauge",
            "Requests that wait until a handler of their vendor has finished.",
            ("vendor",),
        ),
        Family(
            "dtbridge_concurrency_limit",
            "gauge",
            "Handlers of the vendor that run at a time at most.",
            ("vendor",),
        ),
        Family(
            "dtbridge_partitions_info",
            "gauge",
            "1; of vendors with several queues. The label is their number, with -ordered if they"
            " keep the order.",
            ("vendor", "label"),
        ),
        Family(
            "dtbridge_dead_letters_total",
            "counter",
            "Requests that were kept as dead letters, by reason.",
            ("vendor", "reason"),
        ),
        Family(
            "dtbridge_answers_unsent_total",
            "counter",
            "Answers not sent: forbidden (reply_to), impossible (the broker never takes it) or"
            " unwritable.",
            ("vendor", "cause"),
        ),
        Family(
            "dtbridge_unasked_total",
            "counter",
            "Requests handled for which nobody waited: they had no reply_to.",
        ),
        Family(
            "dtbridge_store_errors_total",
            "counter",
            "Times that the store of replies failed. The request was handled all the same.",
        ),
        Family(
            "dtbridge_payload_bytes_in_hand",
            "gauge",
            "Bytes of payloads above 16 kB in hand. Smaller ones are bounded by their number.",
        ),
        Family(
            "dtbridge_payloads_waiting",
            "gauge",
            "Deliveries of large payloads that wait for room, without their bodies.",
        ),
        Family(
            "dtbridge_retries_held",
            "gauge",
            "Requests held between two tries, taken from the delay queues.",
        ),
        Family(
            "dtbridge_threads_stuck",
            "gauge",
            "Threads still at work for a request that has its outcome.",
            ("vendor",),
        ),
        Family(
            "dtbridge_handlers_stuck_total",
            "counter",
            "Plain def handlers that were at work when their time was over.",
        ),
        Family(
            "dtbridge_event_loop_lag_seconds",
            "histogram",
            "How late the event loop was for a timer, looked at once a second.",
        ),
        *session_families(PREFIX),
    )

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def fill(self, samples: Samples) -> None:
        worker = self._worker
        for tally in worker.tallies.values():
            _fill_tally(samples, tally, _FROM_THE_START)
        for intake, dispatcher in worker.chains:
            ledger = intake.ledger
            vendor = ledger.vendor
            _fill_tally(samples, ledger.tally, frozenset())
            samples.histogram("dtbridge_answer_seconds", ledger.answers, vendor)
            if ledger.lag.count:
                samples.histogram("dtbridge_queue_lag_seconds", ledger.lag, vendor)
            samples.number("dtbridge_deliveries_total", ledger.received, vendor)
            samples.number("dtbridge_redeliveries_total", ledger.redelivered, vendor)
            samples.number("dtbridge_requests_in_hand", intake.in_hand, vendor)
            samples.number("dtbridge_requests_running", intake.running, vendor)
            samples.number("dtbridge_requests_waiting", intake.waiting, vendor)
            samples.number("dtbridge_concurrency_limit", intake.concurrency, vendor)
            samples.numbers("dtbridge_dead_letters_total", ledger.dead, vendor)
            samples.numbers("dtbridge_answers_unsent_total", ledger.unsent, vendor)
            samples.number("dtbridge_threads_stuck", dispatcher.stuck, vendor)
        for vendor, spread in worker.partitions.items():
            samples.number("dtbridge_partitions_info", 1, vendor, spread.label)
        counts = worker.counts
        samples.number("dtbridge_unasked_total", counts.unasked)
        samples.number("dtbridge_store_errors_total", counts.store_errors)
        samples.number("dtbridge_payload_bytes_in_hand", worker.room.used)
        samples.number("dtbridge_payloads_waiting", worker.room.waiting)
        samples.number("dtbridge_retries_held", worker.retries_held)
        samples.number("dtbridge_handlers_stuck_total", counts.stuck)
        samples.histogram("dtbridge_event_loop_lag_seconds", worker.clock.lag)
        fill_sessions(
            samples,
            PREFIX,
            worker.sessions,
            state=worker.state.value,
            returned=worker.returned,
            refused=worker.refused,
        )


def _fill_tally(samples: Samples, tally: Tally, always: frozenset[str]) -> None:
    """`always`: the outcomes that have a sample though there were none."""
    for outcome, count in tally.counts.items():
        if count or outcome in always:
            samples.number("dtbridge_requests_total", count, *tally.labels, outcome)
    if tally.seconds.count:
        samples.histogram("dtbridge_handler_seconds", tally.seconds, *tally.labels)


def worker_registry(worker: Worker) -> CollectorRegistry:
    """A registry of a worker, of what runs (``dtbridge_build_info``) and of its process."""
    return registry(WorkerCollector(worker))
