"""The suite for transports, over the twin in memory and over RabbitMQ."""

from bridge.testing.conformance import EmittingSuite


class TestEmitting(EmittingSuite):
    """By the fixture `side` of this folder."""
