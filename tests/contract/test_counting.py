"""Every row of the decision table is counted as one outcome, under the labels of its handler."""

import pytest
from prometheus_client import CollectorRegistry

from bridge import Call, DataTransferResponse, DataTransferStatus, Router, WorkerCollector
from bridge.idempotency.memory import MemoryStore
from bridge.ocpp import OcppVersion
from bridge.worker.worker import Settings, Worker
from tests.contract.sides import MemorySide, Side
from tests.contract.test_decision_table import (
    REPLIES,
    TABLE,
    V201,
    Row,
    acme,
    counting,
    request,
    same,
    settled,
    until,
    working,
)

ACME = "com.Acme"
OTHER = "other"

Outcomes = dict[tuple[str, str, str], int]
"""By vendor, message and outcome."""


def one(outcome: str, message: str = OTHER, vendor: str = ACME) -> Outcomes:
    return {(vendor, message, outcome): 1}


COUNTED: dict[str, Outcomes] = {
    "the handler returns a typed value": one("accepted", "SetTariff"),
    "data comes as JSON text in a string, in any version": one("accepted", "SetTariff"),
    "the handler returns nothing": one("accepted", "Nothing"),
    "a plain function": one("accepted", "Plain"),
    "a vendor's own keys, nulls and numbers stay as they are": one("accepted", "Verbatim"),
    "vendorId and messageId in another case": one("accepted", "Nothing"),
    "messageId is absent": one("accepted", "(no messageId)"),
    "messageId is null": one("accepted", "(no messageId)"),
    "messageId is empty": one("accepted", "(no messageId)"),
    "an unknown field is ignored": one("accepted", "Nothing"),
    "an unknown field is refused in strict mode": one("call_error"),
    "the handler returns a response": one("rejected", "Response"),
    "the handler returns an invalid response": one("failed", "InvalidResponse"),
    "the answer is too big": one("failed", "Big"),
    "the handler rejects": one("rejected", "Reject"),
    "the handler rejects without a reason": one("rejected", "RejectWithoutReason"),
    "the handler answers with a CALLERROR of its own": one("call_error", "Refuse"),
    "no such vendor": one("unknown_vendor", vendor=OTHER),
    "no such vendor, 255 emoji": one("unknown_vendor", vendor=OTHER),
    "no such message": one("unknown_message"),
    "data does not fit": one("rejected", "SetTariff"),
    "data is missing": one("rejected", "SetTariff"),
    "the payload is not JSON": one("call_error"),
    "a field is missing": one("call_error"),
    "a field is too long": one("call_error"),
    "a field has the wrong type": one("call_error"),
    "the payload is too big": one("call_error"),
    "a header breaks the contract": one("call_error"),
    "the handler asks for another try": {
        (ACME, "RetryOnce", "retried"): 1,
        (ACME, "RetryOnce", "accepted"): 1,
    },
    "the handler raises what its policy tries again": {
        (ACME, "ConnectOnce", "retried"): 1,
        (ACME, "ConnectOnce", "accepted"): 1,
    },
    "the handler asks for another try, and there is no deadline": {
        (ACME, "RetryOnce", "retried"): 1,
        (ACME, "RetryOnce", "accepted"): 1,
    },
    "the handler asks for another try each time": {
        (ACME, "RetryAlways", "retried"): 2,
        (ACME, "RetryAlways", "retries_exhausted"): 1,
    },
    "the same, and nobody waits": {
        (ACME, "RetryAlways", "retried"): 1,
        (ACME, "RetryAlways", "retries_exhausted"): 1,
    },
    "the handler asks for another try after the deadline": one("retries_exhausted", "RetryTooLate"),
    "the handler breaks": one("failed", "Break"),
    "the handler takes too long": one("timed_out", "Hang"),
    "a thread takes too long": one("timed_out", "HangInThread"),
    "the deadline is past before handling": one("expired"),
    "the same, to be dropped": one("dropped"),
    "the same, to be handled all the same": one("late", "Plain"),
    "the deadline is past after handling": one("late", "Outlive"),
    "a deadline beyond what an expiration can say": one("accepted", "Nothing"),
    "nobody waits": one("accepted", "Nothing"),
    "nobody waits, and the handler breaks": one("failed", "Break"),
    "nobody waits, and the payload is broken": one("broken"),
    "reply_to is not allowed": one("accepted", "Nothing"),
    "reply_to is the vendor's own queue": one("accepted", "Nothing"),
    "the reply queue is gone": one("accepted", "Nothing"),
    "the reply queue is gone, and the handler breaks": one("failed", "Break"),
}
"""What each row of the table counts, in every version: by its situation."""


def outcomes(worker: Worker) -> Outcomes:
    """What a scrape says, without zeros."""
    registry = CollectorRegistry()
    registry.register(WorkerCollector(worker))
    return {
        (sample.labels["vendor"], sample.labels["message"], sample.labels["outcome"]): int(
            sample.value
        )
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "dtbridge_requests_total" and sample.value
    }


def test_every_row_is_counted_here() -> None:
    assert {row.situation for row in TABLE} == set(COUNTED)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.situation)
async def test_a_row_counts_what_it_should(row: Row) -> None:
    side: Side = MemorySide()
    await side.declare(ACME)
    for queue in (REPLIES, "somebody-elses-queue"):
        await side.make_queue(queue)
    async with working(side, row.settings, acme) as (worker, _):
        await side.put(request(row, V201))
        await until(lambda: outcomes(worker) == COUNTED[row.situation])
        await settled(worker, 1)
        assert outcomes(worker) == COUNTED[row.situation]
        assert sample(worker, "dtbridge_dead_letters_total") == row.dead
        runs = sum(
            number for (_, message, _), number in COUNTED[row.situation].items() if message != OTHER
        )
        not_run = row.situation in {"data does not fit", "data is missing"}
        assert sample(worker, "dtbridge_handler_seconds_count") == (0 if not_run else runs)
        forbidden = row.situation.startswith("reply_to is")
        assert sample(worker, "dtbridge_answers_unsent_total") == forbidden
    assert outcomes(worker) == COUNTED[row.situation]


def sample(worker: Worker, name: str) -> float:
    """The sum of the samples of that name."""
    registry = CollectorRegistry()
    registry.register(WorkerCollector(worker))
    return sum(
        sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == name
    )


async def test_a_repetition_is_counted_as_absorbed_and_runs_nothing(side: Side) -> None:
    await side.declare(ACME)
    await side.make_queue(REPLIES)
    router, _, go_on = counting()
    go_on.set()
    async with working(side, Settings(), router, store=MemoryStore()) as (worker, _):
        for number in range(3):
            await side.put(same(number))
            await side.take(REPLIES)
        assert outcomes(worker) == one("accepted", "(default)") | {(ACME, OTHER, "absorbed"): 2}
        assert sample(worker, "dtbridge_handler_seconds_count") == 1
        assert sample(worker, "dtbridge_answer_seconds_count") == 3


async def test_those_that_waited_for_one_that_failed_are_absorbed_and_one_has_failed(
    side: Side,
) -> None:
    await side.declare(ACME)
    await side.make_queue(REPLIES)

    def breaks() -> None:
        raise ValueError

    router, _, go_on = counting(breaks)
    async with working(side, Settings(), router, store=MemoryStore()) as (worker, _):
        for number in range(3):
            await side.put(same(number))
        await until(lambda: worker.counts.received == 3)
        go_on.set()
        for _ in range(3):
            await side.take(REPLIES)
        assert outcomes(worker) == one("failed", "(default)") | {(ACME, OTHER, "absorbed"): 2}
        assert sample(worker, "dtbridge_dead_letters_total") == 1


@pytest.mark.parametrize("version", OcppVersion)
async def test_a_status_of_the_handlers_own_is_counted_as_that(version: OcppVersion) -> None:
    side: Side = MemorySide()
    await side.declare(ACME)
    await side.make_queue(REPLIES)
    router = Router(ACME)

    @router.default
    async def says(call: Call) -> DataTransferResponse:
        return DataTransferResponse(DataTransferStatus(str(call.message_id)))

    async with working(side, Settings(), router) as (worker, _):
        for status in DataTransferStatus:
            await side.put(request(Row(situation="", message_id=status), version))
            await side.take(REPLIES)
        assert {outcome for _, _, outcome in outcomes(worker)} == {
            "accepted",
            "rejected",
            "unknown_message",
            "unknown_vendor",
        }
        assert set(outcomes(worker).values()) == {1}
