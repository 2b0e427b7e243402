"""A broker to work with: the one that is given, or one of our own."""

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Protocol

from bridge.dialects.partitions import PLUGIN
from bridge.testing.rabbitmq.docker import DOCKER_IMAGE, MANAGEMENT_IMAGE, DockerBroker
from bridge.testing.rabbitmq.errors import BrokerUnavailable
from bridge.testing.rabbitmq.node import MANAGEMENT, PrivateBroker
from bridge.testing.rabbitmq.server import Log, find_server, has_plugin, install_server


class Broker(Protocol):
    """What `obtain_broker` gives: something with a URL."""

    @property
    def url(self) -> str:
        """The AMQP URL, with user and password."""
        ...

    @property
    def management_url(self) -> str:
        """The URL of the management API; empty if there is none, or none that is known of."""
        ...


class GivenBroker:
    """A broker that somebody else runs; nothing is started or stopped."""

    management_url = ""

    def __init__(self, url: str) -> None:
        self.url = url

    def __repr__(self) -> str:  # whatever a password holds, it ends before the last @
        return f"<GivenBroker {re.sub('//.*@', '//', self.url, flags=re.DOTALL)}>"


@contextlib.contextmanager
def obtain_broker(log: Log = print, *, management: bool = False) -> Iterator[Broker]:
    """A RabbitMQ for the `with` block, by the first of these ways that works.

    1. The broker at `DTBRIDGE_AMQP_URL`, if that is set.
    2. A private node of the server that is installed.
    3. A private node of the server, installed now.
    4. Docker.

    Args:
        log: takes a line for whoever waits.
        management: with the management API, if the server has that plugin.

    Raises:
        BrokerUnavailable: none works. The text says what to do.

    """
    url = os.environ.get("DTBRIDGE_AMQP_URL")
    if url:
        yield GivenBroker(url)
        return
    with _own_broker(log, management=management) as broker:
        yield broker


def _own_broker(log: Log, *, management: bool) -> PrivateBroker | DockerBroker:
    server = find_server()
    if server is None:
        try:
            server = install_server(log)
        except BrokerUnavailable:
            if not DockerBroker.usable():
                raise
            image = MANAGEMENT_IMAGE if management else DOCKER_IMAGE
            log(f"Starting RabbitMQ in Docker ({image}) …")
            return DockerBroker(image, management=management)
    log(f"Starting a private RabbitMQ ({server}) …")
    if management and not has_plugin(server, MANAGEMENT):
        log(f"This server comes without the plugin {MANAGEMENT}.")
        management = False
    return PrivateBroker(server=server, plugins=[PLUGIN, *([MANAGEMENT] if management else [])])
