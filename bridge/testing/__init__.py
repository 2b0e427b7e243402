"""Test handlers without a broker, and whole workers without RabbitMQ.

:func:`ask` puts one request to your routers and returns the answer:

>>> response = await ask(router, "com.acme", "GetTariff", {"connectorId": 1})
>>> assert response.status == "Accepted"

:class:`MemoryBroker` is RabbitMQ's twin in memory. A worker, a client or a gateway reaches it by a
:class:`MemoryTransport`, once the exchanges and queues are there:

>>> broker = MemoryBroker()
>>> broker.declare(worker_topology(Native(), ["com.acme"]))
>>> worker = Worker([router], MemoryTransport(broker))
"""

from bridge.dialects.topology import gateway_topology, worker_topology
from bridge.testing.ask import ask
from bridge.testing.memory_broker import MemoryBroker, MemoryQueue, Message
from bridge.testing.memory_transport import MemoryTransport

__all__ = [
    "MemoryBroker",
    "MemoryQueue",
    "MemoryTransport",
    "Message",
    "ask",
    "gateway_topology",
    "worker_topology",
]
