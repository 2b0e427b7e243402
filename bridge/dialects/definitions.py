"""A topology as RabbitMQ's own definitions: what `rabbitmqctl import_definitions` takes.

https://www.rabbitmq.com/docs/definitions
"""

from typing import Any

from bridge.dialects.topology import Topology


def definitions(topology: Topology, vhost: str) -> dict[str, Any]:
    """Exchanges, queues and bindings, to be imported into a virtual host that exists.

    The broker's own exchanges are left out: every virtual host has them.
    """
    return {
        "queues": [
            {
                "name": queue.name,
                "vhost": vhost,
                "durable": True,
                "auto_delete": False,
                "arguments": queue.arguments,
            }
            for queue in topology.queues
        ],
        "exchanges": [
            {
                "name": exchange.name,
                "vhost": vhost,
                "type": exchange.kind,
                "durable": exchange.durable,
                "auto_delete": False,
                "internal": False,
                "arguments": exchange.arguments,
            }
            for exchange in topology.exchanges
            if not exchange.predeclared
        ],
        "bindings": [
            {
                "source": binding.exchange,
                "vhost": vhost,
                "destination": binding.queue,
                "destination_type": "queue",
                "routing_key": binding.routing_key,
                "arguments": binding.arguments or {},
            }
            for binding in topology.bindings
        ]
        + [
            {
                "source": binding.exchange,
                "vhost": vhost,
                "destination": binding.to,
                "destination_type": "exchange",
                "routing_key": binding.routing_key,
                "arguments": binding.arguments or {},
            }
            for binding in topology.ways
        ],
    }
