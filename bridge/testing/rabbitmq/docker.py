"""RabbitMQ in a container."""

import contextlib
import secrets
import shutil
from typing import Self

from bridge.testing.rabbitmq.errors import BrokerUnavailable
from bridge.testing.rabbitmq.ports import speaks_amqp
from bridge.testing.rabbitmq.process import run, wait_until

DOCKER_IMAGE = "rabbitmq:4"
MANAGEMENT_IMAGE = "rabbitmq:4-management"
"""The same with the plugin rabbitmq_management enabled."""
START_TIMEOUT = 120.0
"""Seconds a container may take until it answers its first AMQP handshake."""


class DockerBroker:
    """RabbitMQ in a container, for machines where the server cannot be installed.

    The container is removed at the end of the `with` block.

    Args:
        image: the image to run.
        start_timeout: seconds until the first AMQP handshake.
        management: whether the image has the management API, to be published as well.

    """

    def __init__(
        self,
        image: str = DOCKER_IMAGE,
        start_timeout: float = START_TIMEOUT,
        *,
        management: bool = False,
    ) -> None:
        self.image = image
        self.start_timeout = start_timeout
        self.name = f"dtbridge-{secrets.token_hex(4)}"
        self.port = 0
        self.management_port = 0
        self._management = management

    @property
    def url(self) -> str:
        """The AMQP URL of the default virtual host."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    @property
    def management_url(self) -> str:
        """The URL of the management API; empty without it."""
        return f"http://guest:guest@127.0.0.1:{self.management_port}/" if self._management else ""

    @staticmethod
    def usable() -> bool:
        """Whether there is a docker command with an engine behind it."""
        if shutil.which("docker") is None:
            return False
        try:
            _docker("info")
        except BrokerUnavailable:
            return False
        return True

    def __enter__(self) -> Self:
        published = ["--publish", "127.0.0.1::5672"]
        if self._management:
            published += ["--publish", "127.0.0.1::15672"]
        _docker("run", "--rm", "--detach", "--name", self.name, *published, self.image)
        try:
            self.port = self._published(5672)
            if self._management:
                self.management_port = self._published(15672)
            wait_until(
                lambda: speaks_amqp("127.0.0.1", self.port), None, self.start_timeout, self._tail
            )
        except BaseException:
            self.close()
            raise
        return self

    def _published(self, port: int) -> int:
        return int(_docker("port", self.name, f"{port}/tcp").split()[0].rpartition(":")[2])

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the container."""
        with contextlib.suppress(BrokerUnavailable):  # it may have ended by itself
            _docker("rm", "--force", self.name)

    def _tail(self) -> str:
        return _docker("logs", "--tail", "30", self.name)


def _docker(*arguments: str) -> str:
    """What a docker command prints.

    Raises:
        BrokerUnavailable: it failed. The text is what it complained of.

    """
    done = run(["docker", *arguments])
    if done.returncode:
        raise BrokerUnavailable(f"docker {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout
