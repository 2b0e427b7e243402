"""A program: imports modules in the order given, has a worker answer, and says what runs.

``python -m tests.unit.compiled.answering [--msgspec Moved|Reordered] MODULE…`` writes one object
of JSON: the answer, and form, reason and file of each module that was compiled.
"""

import argparse
import asyncio
import importlib
import json
import sys
from typing import Any

from tests.unit.compiled import other_msgspec


async def answer() -> Any:
    """Of a worker on the broker in memory, to a request of the client."""
    from bridge import Call, Router
    from bridge.client.client import Client
    from bridge.dialects.names import Names
    from bridge.idempotency.memory import MemoryStore
    from bridge.ocpp import DataTransferRequest
    from bridge.testing.memory_broker import MemoryBroker, declare_topology
    from bridge.testing.memory_transport import MemoryTransport
    from bridge.worker.worker import Worker

    router = Router("com.acme")

    @router.on("Echo")
    async def echo(call: Call, data: dict[str, int]) -> Any:
        await asyncio.sleep(0)
        return {"station": call.station_id, "data": data}

    broker = MemoryBroker()
    declare_topology(broker, Names(), ["com.acme"])
    worker = Worker([router], MemoryTransport(broker), store=MemoryStore())
    running = asyncio.create_task(worker.run())
    async with Client(transport=MemoryTransport(broker)) as client:
        response = await client.data_transfer(
            "CP1", DataTransferRequest("com.acme", "Echo", {"a": 1})
        )
    worker.stop()
    await running
    return response.data


def frame() -> str:
    """What the codec makes of a publishing."""
    from bridge.rabbitmq.frames.writing import encode_publish
    from bridge.transport import Properties, Publishing

    return encode_publish(1, Publishing("key", b"body", Properties(type="t"))).hex()


def main() -> None:
    """See the first lines of this file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--msgspec")
    parser.add_argument("modules", nargs="+")
    options = parser.parse_args()
    if options.msgspec:
        other_msgspec.install(options.msgspec)
    for module in options.modules:
        importlib.import_module(module)

    from bridge.compiled.switch import running

    said = {
        "answer": asyncio.run(answer()),
        "frame": frame(),
        "running": {
            name: (form, reason, sys.modules[name].__file__)
            for name, (form, reason) in running().items()
        },
    }
    sys.stdout.write(f"\n{json.dumps(said)}")  # below what the worker logs


if __name__ == "__main__":
    main()
