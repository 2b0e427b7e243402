"""A RabbitMQ of one's own for tests, demo and benchmark: on loopback, and gone without a trace.

`PrivateBroker` starts the `rabbitmq-server` that this machine has. It gives the node ports, a name,
a cookie, data and log folders and an epmd (Erlang's port mapper) of its own, so a RabbitMQ that
already runs here is not disturbed. `PrivateCluster` joins several such nodes.

`obtain_broker` is the same for people: it takes the broker it is given, installs the server or
falls back to Docker, and says in one sentence what is missing.

From the shell: `python -m bridge.testing.rabbitmq ensure|run`; `--help` says more.
"""

from bridge.testing.rabbitmq.cluster import PrivateCluster
from bridge.testing.rabbitmq.docker import DockerBroker
from bridge.testing.rabbitmq.errors import BrokerUnavailable
from bridge.testing.rabbitmq.node import PrivateBroker
from bridge.testing.rabbitmq.obtain import Broker, GivenBroker, obtain_broker
from bridge.testing.rabbitmq.ports import free_ports, speaks_amqp
from bridge.testing.rabbitmq.server import ensure_server, find_server, install_server

__all__ = [
    "Broker",
    "BrokerUnavailable",
    "DockerBroker",
    "GivenBroker",
    "PrivateBroker",
    "PrivateCluster",
    "ensure_server",
    "find_server",
    "free_ports",
    "install_server",
    "obtain_broker",
    "speaks_amqp",
]
