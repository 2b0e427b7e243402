"""Fixtures of the tests on a real RabbitMQ."""

from collections.abc import Iterator

import pytest

from bridge.testing.rabbitmq import PrivateBroker
from tests.integration.partitions import Place
from tests.integration.places import COUNTS_WITHIN


@pytest.fixture
def place(managed_broker: PrivateBroker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr("bridge.rabbitmq.repartitioning.TICK", COUNTS_WITHIN)
    place = Place(managed_broker)
    yield place
    managed_broker.delete_vhost(place.vhost)
