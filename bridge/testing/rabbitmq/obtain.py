"""A broker to work with: the one that is given, or one of one's own."""

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Protocol

from bridge.testing.rabbitmq.docker import DOCKER_IMAGE, DockerBroker
from bridge.testing.rabbitmq.node import PrivateBroker
from bridge.testing.rabbitmq.server import BrokerUnavailable, Log, find_server, install_server


class Broker(Protocol):
    """What a caller of `obtain_broker` gets."""

    @property
    def url(self) -> str:
        """The AMQP URL, user and password included."""
        ...


class GivenBroker:
    """A broker somebody else runs."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __repr__(self) -> str:
        return f"<GivenBroker {re.sub(r'//[^@/]*@', '//', self.url)}>"


@contextlib.contextmanager
def obtain_broker(log: Log = print) -> Iterator[Broker]:
    """A RabbitMQ by the first way that works.

    DTBRIDGE_AMQP_URL if set; else a private node of the installed server; else of one installed now; else Docker.

    Raises:
        BrokerUnavailable: none works; the text says what to do.

    """
    url = os.environ.get("DTBRIDGE_AMQP_URL")
    if url:
        yield GivenBroker(url)
        return
    with _own_broker(log) as broker:
        yield broker


def _own_broker(log: Log) -> PrivateBroker | DockerBroker:
    server = find_server()
    if server is None:
        try:
            server = install_server(log)
        except BrokerUnavailable:
            if not DockerBroker.usable():
                raise
            log(f"Starting RabbitMQ in Docker ({DOCKER_IMAGE}) …")
            return DockerBroker()
    log(f"Starting a private RabbitMQ ({server}) …")
    return PrivateBroker(server=server)
