"""The suite for transports, over the twin in memory and over RabbitMQ."""

from bridge.testing.conformance import BindingSuite


class TestBinding(BindingSuite):
    """By the fixture `side` of this folder."""
