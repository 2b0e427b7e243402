"""The suite for transports, over the twin in memory and over RabbitMQ."""

from bridge.testing.conformance import TransportSuite


class TestTransport(TransportSuite):
    """By the fixture `side` of this folder."""
