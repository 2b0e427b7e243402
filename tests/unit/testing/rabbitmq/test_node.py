"""A node, as far as it needs no server; the rest is in tests/integration/test_private_broker.py."""

from pathlib import Path

import pytest

from bridge.testing.rabbitmq import BrokerUnavailable, PrivateBroker


def test_a_private_broker_without_a_server_says_so(nothing_installed: Path) -> None:
    with pytest.raises(BrokerUnavailable, match="RabbitMQ is not installed"):
        PrivateBroker()
