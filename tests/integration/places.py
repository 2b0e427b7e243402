"""Where a test has queues of its own on the node with the management API."""

import secrets
from typing import Final

from yarl import URL

from bridge.rabbitmq.management import Management
from bridge.testing.rabbitmq import PrivateBroker

COUNTS_WITHIN: Final = 1.5
"""Seconds in which the managed node's quorum queues tell their counts."""


class ManagedPlace:
    """A virtual host of that node."""

    def __init__(self, broker: PrivateBroker) -> None:
        self.broker = broker
        self.vhost = f"test-{secrets.token_hex(6)}"
        self.url = broker.add_vhost(self.vhost)

    @property
    def management(self) -> Management:
        return Management(URL(self.broker.management_url))
