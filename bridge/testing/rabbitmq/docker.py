"""RabbitMQ in a container."""

import contextlib
import secrets
import shutil
from types import TracebackType
from typing import Self

from bridge.testing.rabbitmq.home import START_TIMEOUT, speaks_amqp, wait_until
from bridge.testing.rabbitmq.server import BrokerUnavailable, run

DOCKER_IMAGE = "rabbitmq:4"


class DockerBroker:
    """RabbitMQ in a container that is removed at the end; for machines where the server cannot be installed."""

    def __init__(self, image: str = DOCKER_IMAGE, start_timeout: float = 2 * START_TIMEOUT) -> None:
        self.image = image
        self.start_timeout = start_timeout
        self.name = f"dtbridge-{secrets.token_hex(4)}"
        self.port = 0

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

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
        _docker(
            "run",
            "--rm",
            "--detach",
            "--name",
            self.name,
            "--publish",
            "127.0.0.1::5672",
            self.image,
        )
        try:
            self.port = int(_docker("port", self.name, "5672/tcp").split()[0].rpartition(":")[2])
            wait_until(
                lambda: speaks_amqp("127.0.0.1", self.port), None, self.start_timeout, self._tail
            )
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(BrokerUnavailable):  # it may have ended by itself
            _docker("rm", "--force", self.name)

    def _tail(self) -> str:
        return _docker("logs", "--tail", "30", self.name)


def _docker(*arguments: str) -> str:
    done = run(["docker", *arguments])
    if done.returncode:
        raise BrokerUnavailable(f"docker {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout
