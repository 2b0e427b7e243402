"""Findings about vendors with several queues."""

from typing import Any

import pytest

from bridge.dialects.native import Native
from bridge.dialects.partitions import Partitions
from bridge.dialects.topology import Topology, worker_topology
from bridge.doctor import partitions
from bridge.doctor.facts import Vendors
from bridge.doctor.findings import Level
from bridge.rabbitmq.management import ExchangeType, LiveQueue, Overview
from tests.unit.doctor.surroundings import a_management, a_plan, findings, live, told, worst

SPREAD = {"acme": Partitions(2)}
PLAN = worker_topology(Native(), ["acme"], partitions=SPREAD)
VENDORS = Vendors({"acme": 2}, partitions=SPREAD)
TYPES = (ExchangeType("direct"), ExchangeType("x-consistent-hash"))


def known(live_plan: Topology = PLAN, *others: LiveQueue, types: Any = TYPES) -> dict[str, Any]:
    queues = live(live_plan) | {each.name: each for each in others}
    overview = Overview("4.1.3", exchange_types=types)
    management = a_management(live_plan, queues=queues, overview=overview)
    return {"plan": PLAN, "vendors": VENDORS, "management": management}


def test_nobody_needs_the_plugin_without_partitions() -> None:
    assert findings(partitions.check_plugin) == []


def test_the_plugin_is_enabled() -> None:
    [(level, sentence)] = told(partitions.check_plugin, **known())
    assert level is Level.OK
    assert "rabbitmq_consistent_hash_exchange" in sentence


@pytest.mark.parametrize(
    "types", [TYPES[:1], (*TYPES[:1], ExchangeType("x-consistent-hash", enabled=False))]
)
def test_the_plugin_is_not_enabled(types: Any) -> None:
    found = worst(partitions.check_plugin, **known(types=types))
    assert found.level is Level.FAIL
    assert "rabbitmq-plugins enable rabbitmq_consistent_hash_exchange" in found.advice


def test_without_the_management_api_it_is_not_known() -> None:
    found = worst(partitions.check_plugin, **known() | {"management": None})
    assert found.level is Level.UNKNOWN


def test_a_dialect_that_has_no_partitions() -> None:
    found = worst(partitions.check_plugin, vendors=VENDORS, unknown_vendor="")
    assert found.level is Level.FAIL
    assert "native dialect" in found.sentence


def test_one_number_is_no_finding() -> None:
    assert findings(partitions.check_numbers, **known()) == []


def test_another_number_at_the_broker_breaks() -> None:
    found = worst(partitions.check_numbers, **known(a_plan()))
    assert found.level is Level.FAIL
    assert "datatransfer.acme have another number of partitions" in found.sentence
    assert "dtbridge topology migrate" in found.advice


def test_what_is_left_of_another_number() -> None:
    left = LiveQueue("datatransfer.acme:4.3", messages=7)
    found = worst(partitions.check_numbers, **known(PLAN, left))
    assert found.level is Level.WARN
    assert "datatransfer.acme:4.3" in found.sentence
    assert "7 requests" in found.sentence
