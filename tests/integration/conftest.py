"""Fixtures of the tests on a real RabbitMQ."""

from collections.abc import Iterator

import pytest

from bridge.testing.rabbitmq import PrivateBroker
from tests.integration.partitions import Place


@pytest.fixture
def place(managed_broker: PrivateBroker) -> Iterator[Place]:
    place = Place(managed_broker)
    yield place
    managed_broker.delete_vhost(place.vhost)
