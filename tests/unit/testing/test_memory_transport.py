"""A worker and a client over the broker in memory.

What transports promise is tested in tests/contract.
"""

import asyncio
from typing import Any

from bridge import Call, Router
from bridge.client.client import Client
from bridge.dialects import Native
from bridge.ocpp import DataTransferRequest
from bridge.testing import MemoryBroker, MemoryTransport, worker_topology
from bridge.worker.worker import Worker


async def test_a_worker_and_a_client_meet_on_it() -> None:
    router = Router("com.acme")

    @router.on("Echo")
    async def echo(call: Call, data: Any) -> Any:
        return {"station": call.station_id, "version": call.ocpp_version, "data": data}

    broker = MemoryBroker()
    broker.declare(worker_topology(Native(), ["com.acme"]))
    worker = Worker([router], MemoryTransport(broker))
    running = asyncio.create_task(worker.run())
    async with Client(transport=MemoryTransport(broker)) as client:
        answers = await asyncio.gather(
            *(
                client.data_transfer("CP1", DataTransferRequest("com.acme", "Echo", n))
                for n in range(50)
            )
        )
        assert [answer.data["data"] for answer in answers] == list(range(50))
        unknown = await client.data_transfer("CP1", DataTransferRequest("nobody"))
        assert unknown.status == "UnknownVendorId"
        broker.cut()
        after_the_cut = await client.data_transfer("CP1", DataTransferRequest("com.acme", "Echo"))
        assert after_the_cut.status == "Accepted"
    worker.stop()
    assert await running == 0
    assert all(not queue.ready for queue in broker.queues.values())
