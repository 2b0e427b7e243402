"""What a client's scrape says of its requests."""

import asyncio
from collections.abc import Awaitable

import pytest
from prometheus_client import CollectorRegistry

from bridge import Call, CallError, Router, StationOffline, Worker
from bridge.client.client import Client, NoAnswer, NotAccepted
from bridge.client.metrics import ClientCollector
from bridge.dialects.native import Native
from bridge.dialects.topology import worker_topology
from bridge.ocpp import DataTransferRequest
from bridge.testing import MemoryBroker, MemoryTransport


def outcomes(client: Client) -> dict[tuple[str, str], float]:
    """Requests by direction and outcome, without zeros."""
    return {
        (sample.labels["direction"], sample.labels["outcome"]): sample.value
        for metric in ClientCollector(client).collect()
        for sample in metric.samples
        if sample.name == "dtbridge_client_requests_total" and sample.value
    }


async def fails(asked: Awaitable[object], error: type[BaseException]) -> None:
    with pytest.raises(error):
        await asked


async def test_every_request_of_a_client_is_counted_once_by_its_end() -> None:
    router = Router("v")

    @router.on("Accepts")
    async def accepts(call: Call) -> None: ...

    @router.on("Breaks")
    async def breaks(call: Call) -> None:
        raise ValueError

    @router.on("Hangs")
    async def hangs(call: Call) -> None:
        await asyncio.Event().wait()

    broker = MemoryBroker()
    broker.declare(worker_topology(Native(), ["v"]))
    worker = Worker([router], MemoryTransport(broker))
    running = asyncio.create_task(worker.run())
    async with Client(transport=MemoryTransport(broker), timeout=10) as client:

        def asked(message_id: str, *, timeout: float | None = None) -> Awaitable[object]:
            return client.data_transfer(
                "CP1", DataTransferRequest("v", message_id), timeout=timeout
            )

        await asked("Accepts")
        await fails(asked("Breaks"), CallError)
        await fails(asked("Hangs", timeout=0.01), NoAnswer)
        await fails(client.send_to_station("CP1", DataTransferRequest("v")), StationOffline)
        cancelled = asyncio.ensure_future(asked("Hangs"))
        await asyncio.sleep(0)
        cancelled.cancel()
        await fails(cancelled, asyncio.CancelledError)
        assert outcomes(client) == {
            ("to_csms", "response"): 1,
            ("to_csms", "call_error"): 1,
            ("to_csms", "no_answer"): 1,
            ("to_csms", "cancelled"): 1,
            ("to_station", "offline"): 1,
        }
        registry = CollectorRegistry()
        registry.register(ClientCollector(client))
        direction = {"direction": "to_csms"}
        value = registry.get_sample_value
        assert value("dtbridge_client_answer_seconds_count", direction) == 2
        assert value("dtbridge_client_session_state", {"state": "consuming"}) == 1
        assert value("dtbridge_client_requests_outstanding") == 0
        assert value("dtbridge_client_publishings_failed_total", {"cause": "returned"}) == 1
    worker.stop()
    await running


async def test_a_request_that_the_broker_does_not_take_is_counted_so() -> None:
    broker = MemoryBroker()
    broker.declare(worker_topology(Native()))
    broker.delete_queue("datatransfer.unknown-vendor")
    async with Client(transport=MemoryTransport(broker), timeout=10) as client:
        await fails(client.data_transfer("CP1", DataTransferRequest("v")), NotAccepted)
        assert outcomes(client) == {("to_csms", "not_accepted"): 1}
