"""What a worker's scrape says, whatever stations send."""

import asyncio
import gc
import sys
import threading
from collections.abc import Iterator

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from bridge import Call, Router, Worker, WorkerCollector
from bridge.testing import MemoryBroker, MemoryTransport
from bridge.transport import Properties, Verdict
from bridge.worker.metrics import worker_registry
from tests.support import UNTIL_SETTLED, Kept, payload

Series = tuple[str, tuple[tuple[str, str], ...]]


def scraped(worker: Worker) -> dict[Series, float]:
    """Every sample by name and labels, as Prometheus reads them. It refuses doubles, so do we."""
    found: dict[Series, float] = {}
    for family in text_string_to_metric_families(generate_latest(worker_registry(worker)).decode()):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found, f"{key} twice"
            found[key] = sample.value
    return found


def value(worker: Worker, name: str, **labels: str) -> float | None:
    return scraped(worker).get((name, tuple(sorted(labels.items()))))


def a_worker(*routers: Router) -> Worker:
    return Worker(routers, MemoryTransport(MemoryBroker()))


def delivery(
    vendor_id: str = "v", message_id: str = "m", station_id: str = "CP001", number: int = 1
) -> Kept:
    properties = Properties(
        headers={"ocpp-station-id": station_id},
        correlation_id="c",
        reply_to="amq.gen-1",
        message_id=str(number),
    )
    return Kept("datatransfer", "v", False, properties, payload(vendor_id, message_id))


async def answered(worker: Worker, source: Kept, intake: int = 0) -> None:
    worker.intakes[intake].on_delivery(source)
    async with asyncio.timeout(UNTIL_SETTLED):
        await source.settled.wait()


@pytest.fixture
def router() -> Router:
    router = Router("Com.Acme")

    @router.on("SetTariff")
    async def set_tariff(call: Call) -> None: ...

    return router


def test_every_handler_is_there_before_its_first_request(router: Router) -> None:
    worker = a_worker(router)
    labels = {"vendor": "Com.Acme", "message": "SetTariff"}
    for outcome in ("accepted", "failed"):
        assert value(worker, "dtbridge_requests_total", **labels, outcome=outcome) == 0
    assert value(worker, "dtbridge_requests_total", **labels, outcome="rejected") is None
    assert value(worker, "dtbridge_session_state", state="connecting") == 1
    assert value(worker, "dtbridge_session_state", state="consuming") == 0
    assert value(worker, "dtbridge_concurrency_limit", vendor="Com.Acme") == 200


async def test_a_request_is_counted_under_the_routers_spelling(router: Router) -> None:
    worker = a_worker(router)
    for spelling in ("Com.Acme", "COM.ACME", "com.acme"):
        await answered(worker, delivery(spelling, "settariff"))
    labels = {"vendor": "Com.Acme", "message": "SetTariff"}
    assert value(worker, "dtbridge_requests_total", **labels, outcome="accepted") == 3
    assert value(worker, "dtbridge_handler_seconds_count", **labels) == 3
    assert value(worker, "dtbridge_answer_seconds_count", vendor="Com.Acme") == 3
    assert value(worker, "dtbridge_deliveries_total", vendor="Com.Acme") == 3


@pytest.mark.parametrize("name", ["other", "a\nb", 'say "hi" \\', "EN+ 🔌"])
async def test_a_router_may_have_any_name(name: str) -> None:
    """One that is called as the rest is counted with the rest."""
    router = Router(name)
    router.on("other")(_accepts)
    router.default(_accepts)
    worker = a_worker(router)
    await answered(worker, delivery(name, "other"))
    await answered(worker, delivery("nobody's"), intake=1)
    requests = [number for (what, _), number in scraped(worker).items() if "requests_total" in what]
    assert sum(requests) == 2


async def _accepts(call: Call) -> None: ...


async def test_requests_in_hand_are_seen_while_they_run() -> None:
    router = Router("v", concurrency=2)
    go_on = asyncio.Event()

    @router.default
    async def waits(call: Call) -> None:
        await go_on.wait()

    worker = a_worker(router)
    sources = [delivery(number=number) for number in range(5)]
    for source in sources:
        worker.intakes[0].on_delivery(source)
    shown = {
        name: value(worker, f"dtbridge_requests_{name}", vendor="v")
        for name in ("running", "waiting", "in_hand")
    }
    assert shown == {"running": 2, "waiting": 3, "in_hand": 5}
    go_on.set()
    for source in sources:
        await asyncio.wait_for(source.settled.wait(), UNTIL_SETTLED)
    assert value(worker, "dtbridge_requests_in_hand", vendor="v") == 0
    assert all(source.verdict is Verdict.ACK for source in sources)


async def test_requests_that_wait_for_a_thread_are_waiting() -> None:
    router = Router("v", threads=2)
    go_on = threading.Event()

    @router.default
    def hangs(call: Call) -> None:
        go_on.wait(UNTIL_SETTLED)

    worker = a_worker(router)
    sources = [delivery(number=number) for number in range(5)]
    for source in sources:
        worker.intakes[0].on_delivery(source)
    shown = {
        name: value(worker, f"dtbridge_{name}", vendor="v")
        for name in (
            "requests_running", "requests_waiting", "requests_in_hand", "concurrency_limit",
            "threads_limit", "threads_busy", "thread_requests_waiting",
        )
    }  # fmt: skip
    assert list(shown.values()) == [2, 3, 5, 2, 2, 2, 3]
    go_on.set()
    for source in sources:
        await asyncio.wait_for(source.settled.wait(), UNTIL_SETTLED)
    assert value(worker, "dtbridge_thread_wait_seconds_count", vendor="v") == 5
    assert value(worker, "dtbridge_requests_waiting", vendor="v") == 0


def test_threads_are_of_those_who_use_them(router: Router) -> None:
    worker = a_worker(router)
    assert value(worker, "dtbridge_threads_limit", vendor="Com.Acme") is None
    router.on("Plain")(lambda call: None)
    worker = a_worker(router)
    assert value(worker, "dtbridge_threads_limit", vendor="Com.Acme") == 8
    assert value(worker, "dtbridge_concurrency_limit", vendor="Com.Acme") == 200
    labels = {"vendor": "Com.Acme", "message": "SetTariff"}
    assert value(worker, "dtbridge_loop_blocked_total", **labels) == 0
    assert value(worker, "dtbridge_loop_blocked_total", vendor="Com.Acme", message="Plain") is None


async def test_a_worker_is_scraped_from_another_thread_while_it_counts(router: Router) -> None:
    router.default(_accepts)
    worker = a_worker(router)
    failures: list[BaseException] = []
    ended = threading.Event()

    def scrape() -> None:
        try:
            while not ended.is_set():
                scraped(worker)
        except BaseException as error:  # noqa: BLE001 - the test is told
            failures.append(error)

    thread = threading.Thread(target=scrape)
    thread.start()
    for number in range(3_000):
        await answered(worker, delivery("Com.Acme", f"m{number}", number=number), number % 2)
    ended.set()
    thread.join()
    assert not failures


def hostile(first: int, last: int) -> Iterator[Kept]:
    """Requests of which no two have the same vendor, message or station."""
    for number in range(first, last):
        yield delivery(f"vendor {number}", f"message {number}", f"station {number}", number)
        yield delivery("Com.Acme", f"message {number}", f"station {number}", number)


async def test_a_hundred_thousand_names_of_stations_make_no_label_and_no_growth(
    router: Router,
) -> None:
    worker = a_worker(router)
    await _take(worker, 0, 10_000)  # caches of a fixed size are full by then
    before, blocks = set(scraped(worker)), _blocks()
    await _take(worker, 10_000, 100_000)
    assert set(scraped(worker)) == before
    assert _blocks() - blocks < 60_000
    labels = {"vendor": "other", "message": "other"}
    assert value(worker, "dtbridge_requests_total", **labels, outcome="unknown_vendor") == 100_000
    labels = {"vendor": "Com.Acme", "message": "other"}
    assert value(worker, "dtbridge_requests_total", **labels, outcome="unknown_message") == 100_000
    assert not [labels for _, labels in before if any("station" in text for _, text in labels)]


async def _take(worker: Worker, first: int, last: int) -> None:
    known, unknown = worker.intakes
    for number, source in enumerate(hostile(first, last)):
        (known if number % 2 else unknown).on_delivery(source)
        assert source.verdict is Verdict.ACK


def _blocks() -> int:
    gc.collect()
    return sys.getallocatedblocks()


def test_one_worker_is_registered_once(router: Router) -> None:
    registry = worker_registry(a_worker(router))
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registry.register(WorkerCollector(a_worker(router)))
