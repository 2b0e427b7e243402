"""A whole worker, of whose vendors one is paused."""

import asyncio
from collections.abc import Callable

import pytest

from bridge import Call, Router, Worker
from bridge.dialects.names import vendor_key
from bridge.dialects.native import Native
from bridge.dialects.topology import worker_topology
from bridge.dialects.web_ocpp import EXCHANGE, WebOcpp
from bridge.testing import MemoryBroker, MemoryTransport
from bridge.transport import Properties, Publishing, State
from bridge.worker.metrics import worker_registry
from tests.support import UNTIL_SETTLED, payload


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(UNTIL_SETTLED):
        while not condition():
            await asyncio.sleep(0)


def request(vendor: str) -> Publishing:
    properties = Properties(headers={"ocpp-station-id": "CP001"})
    return Publishing(vendor_key(vendor), payload(vendor, "m"), properties, "datatransfer")


class Fleet:
    """A worker of the vendors com.acme and EN+."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.handled: list[str] = []
        self.routers = [Router("com.acme"), Router("EN+")]
        for router in self.routers:
            router.default(self._handle)
        self.broker.declare(worker_topology(Native(), ["com.acme", "EN+"]))
        self.worker = Worker(self.routers, MemoryTransport(self.broker))

    async def _handle(self, call: Call) -> None:
        self.handled.append(call.request.vendor_id)

    def paused(self, vendor: str) -> float | None:
        registry = worker_registry(self.worker)
        return registry.get_sample_value("dtbridge_vendor_paused", {"vendor": vendor})


async def test_the_requests_of_a_paused_vendor_wait_and_those_of_others_are_handled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fleet = Fleet()
    running = asyncio.create_task(fleet.worker.run())
    await until(lambda: fleet.worker.state is State.CONSUMING)
    fleet.broker.pause("en_2b")
    await until(lambda: fleet.paused("EN+") == 1)
    fleet.broker.publish(request("EN+"))
    fleet.broker.publish(request("com.acme"))
    await until(lambda: fleet.handled == ["com.acme"])
    assert len(fleet.broker.queues["datatransfer.en_2b"].ready) == 1
    assert (fleet.paused("com.acme"), fleet.paused("other")) == (0, 0)
    assert fleet.worker.state is State.CONSUMING
    assert "vendor paused" in caplog.text
    fleet.broker.resume("en_2b")
    await until(lambda: len(fleet.handled) == 2)
    assert fleet.paused("EN+") == 0
    fleet.worker.stop()
    assert await running == 0


async def test_a_worker_that_starts_while_a_vendor_is_paused_knows(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fleet = Fleet()
    fleet.broker.paused.add("com.acme")
    fleet.broker.publish(request("com.acme"))
    running = asyncio.create_task(fleet.worker.run())
    await until(lambda: fleet.worker.state is State.CONSUMING)
    assert fleet.paused("com.acme") == 1
    assert fleet.handled == []
    fleet.worker.stop()
    assert await running == 0


async def test_in_a_shared_queue_the_others_are_handled_as_ever() -> None:
    dialect = WebOcpp()
    broker = MemoryBroker()
    broker.declare(worker_topology(dialect))
    handled: list[str] = []
    router, other = Router("v"), Router("w")

    async def handle(call: Call) -> None:
        handled.append(call.request.vendor_id)

    router.default(handle)
    other.default(handle)
    worker = Worker([router, other], MemoryTransport(broker), dialect=dialect)
    running = asyncio.create_task(worker.run())
    await until(lambda: worker.state is State.CONSUMING)
    broker.pause("v")
    await until(lambda: worker.intakes[0].paused)
    for number, vendor in enumerate(("v", "w")):
        properties = Properties(correlation_id=str(number), reply_to="CP1", type="DataTransfer")
        frame = b'[2,"%d","DataTransfer",%b]' % (number, payload(vendor, "m"))
        broker.publish(Publishing("ocpp16.DataTransfer.req", frame, properties, EXCHANGE))
    await until(lambda: handled == ["w"])
    await until(lambda: worker.counts.put_off == 1)
    broker.resume("v")
    await until(lambda: handled == ["w", "v"])
    worker.stop()
    assert await running == 0
