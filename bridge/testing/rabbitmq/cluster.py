"""Three private nodes as one cluster."""

from pathlib import Path
from types import TracebackType
from typing import Self

from bridge.testing.rabbitmq.home import Home
from bridge.testing.rabbitmq.node import PrivateBroker
from bridge.testing.rabbitmq.server import find_server, root_of


class PrivateCluster:
    """Several RabbitMQ nodes on loopback, joined into one cluster.

    Args:
        size: how many nodes.
        server: the rabbitmq-server script; by default the one `find_server` finds.

    """

    def __init__(self, size: int = 3, *, server: Path | None = None) -> None:
        server = server or find_server()
        self._home = Home(root_of(server) if server else None)
        self.nodes: list[PrivateBroker] = []
        try:
            self.nodes += (
                PrivateBroker(name=f"node{number}", server=server, _home=self._home)
                for number in range(1, size + 1)
            )
        except BaseException:
            self._home.close()
            raise

    @property
    def urls(self) -> list[str]:
        """One AMQP URL for each node."""
        return [node.url for node in self.nodes]

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def _start(self) -> None:
        """All at once, then one after another into the cluster of the first."""
        for node in self.nodes:
            node._launch()  # noqa: SLF001 - the same module
        for node in self.nodes:
            node._wait_ready()  # noqa: SLF001
        first, *others = self.nodes
        for node in others:
            node.ctl("stop_app")
            node.ctl("join_cluster", first.node)
            node.ctl("start_app")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every node and remove what they wrote."""
        for node in self.nodes:
            node.close()
        self._home.close()
