"""Several private nodes, joined into one cluster."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from bridge.dialects.partitions import PLUGIN
from bridge.testing.rabbitmq.home import Home
from bridge.testing.rabbitmq.node import PrivateBroker
from bridge.testing.rabbitmq.server import find_server, root_of


class PrivateCluster:
    """Several RabbitMQ nodes on loopback, joined into one cluster.

    Args:
        size: how many nodes.
        server: the rabbitmq-server script; by default the one that `find_server` finds.
        plugins: as a `PrivateBroker` takes them.

    Raises:
        BrokerUnavailable: there is no rabbitmq-server on this machine.

    """

    def __init__(
        self,
        size: int = 3,
        *,
        server: Path | None = None,
        plugins: Sequence[str] = (PLUGIN,),
    ) -> None:
        server = server or find_server()
        self._home = Home(root_of(server) if server else None)
        self.nodes: list[PrivateBroker] = []
        try:
            self.nodes += (
                PrivateBroker(name=f"node{number}", server=server, home=self._home, plugins=plugins)
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
        """Start all at once, then join one after another to the first."""
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.wait_ready()
        first, *others = self.nodes
        for node in others:
            node.ctl("stop_app")
            node.ctl("join_cluster", first.node)
            node.ctl("start_app")

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every node and remove what they wrote."""
        for node in self.nodes:
            node.close()
        self._home.close()
