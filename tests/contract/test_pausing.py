"""The suite for transports, over the twin in memory and over RabbitMQ."""

from bridge.testing.conformance import PausingSuite


class TestPausing(PausingSuite):
    """By the fixture `side` of this folder."""
