"""Test handlers without a broker, and whole workers without RabbitMQ.

:class:`TestBridge` runs a whole worker on a broker in memory, with a clock that the test moves:

>>> async with TestBridge(router) as bridge:
...     response = await bridge.data_transfer("CP001", "com.acme", "GetTariff", {"connectorId": 1})
...     assert response.status == "Accepted"

:func:`ask` puts one request to your routers and returns the answer, without a worker:

>>> response = await ask(router, "com.acme", "GetTariff", {"connectorId": 1})

:class:`MemoryBroker` is RabbitMQ's twin in memory. A worker, a client or a gateway reaches it by a
:class:`MemoryTransport`, once the exchanges and queues are there:

>>> broker = MemoryBroker()
>>> broker.declare(worker_topology(Native(), ["com.acme"]))
>>> worker = Worker([router], MemoryTransport(broker))

For pytest there are fixtures (:mod:`bridge.testing.plugin`), and for whoever writes a store, a
dialect or a transport the suites of :mod:`bridge.testing.conformance`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from bridge.dialects.topology import gateway_topology, worker_topology
    from bridge.testing.asking import ask
    from bridge.testing.asserting import assert_accepted, assert_rejected
    from bridge.testing.clock import Clock
    from bridge.testing.kit import TestBridge
    from bridge.testing.memory_broker import MemoryBroker, MemoryQueue, Message
    from bridge.testing.memory_transport import MemoryTransport
    from bridge.testing.stations import TestStation
    from bridge.testing.tries import Try

__all__ = [
    "Clock",
    "MemoryBroker",
    "MemoryQueue",
    "MemoryTransport",
    "Message",
    "TestBridge",
    "TestStation",
    "Try",
    "ask",
    "assert_accepted",
    "assert_rejected",
    "gateway_topology",
    "worker_topology",
]

_WHERE: Final = {
    "Clock": "bridge.testing.clock",
    "MemoryBroker": "bridge.testing.memory_broker",
    "MemoryQueue": "bridge.testing.memory_broker",
    "MemoryTransport": "bridge.testing.memory_transport",
    "Message": "bridge.testing.memory_broker",
    "TestBridge": "bridge.testing.kit",
    "TestStation": "bridge.testing.stations",
    "Try": "bridge.testing.tries",
    "ask": "bridge.testing.asking",
    "assert_accepted": "bridge.testing.asserting",
    "assert_rejected": "bridge.testing.asserting",
    "gateway_topology": "bridge.dialects.topology",
    "worker_topology": "bridge.dialects.topology",
}
"""All of it is imported on its first use: pytest imports this package in every run, for the
plugin."""


def __getattr__(name: str) -> Any:
    """Import a name on its first use (PEP 562)."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(_WHERE[name]), name)
    return value
