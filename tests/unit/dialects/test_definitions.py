"""A topology as RabbitMQ's own definitions."""

from bridge.dialects import WebOcpp
from bridge.dialects.definitions import definitions
from bridge.dialects.native import Native
from bridge.dialects.topology import worker_topology


def test_everything_is_in_it_with_its_virtual_host() -> None:
    topology = worker_topology(Native(), ["acme"])
    made = definitions(topology, "v")
    assert {each["vhost"] for part in made.values() for each in part} == {"v"}
    assert [each["name"] for each in made["queues"]] == [each.name for each in topology.queues]
    assert [each["name"] for each in made["exchanges"]] == [
        each.name for each in topology.exchanges
    ]
    assert {
        "source": "datatransfer",
        "vhost": "v",
        "destination": "datatransfer.acme",
        "destination_type": "queue",
        "routing_key": "acme",
        "arguments": {},
    } in made["bindings"]


def test_the_brokers_own_exchanges_are_left_out() -> None:
    made = definitions(worker_topology(WebOcpp()), "/")
    assert "amq.topic" not in [each["name"] for each in made["exchanges"]]
    assert "amq.topic" in [each["source"] for each in made["bindings"]]
