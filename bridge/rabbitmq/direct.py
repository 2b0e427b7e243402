"""Answers to direct reply-to, to names that nobody has been answered at before.

No check of such a name can tell a forged one from a sound one: only the broker can, and it ends the
connection that publishes to one which it cannot make out (541 INTERNAL_ERROR). So the first answer
to each name goes alone, on a connection whose end is nobody's loss.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Final

from yarl import URL

from bridge.rabbitmq.careful import TOO_LARGE, Careful, Open
from bridge.rabbitmq.connection import CONNECT_TIMEOUT, Connection, open_connection
from bridge.rabbitmq.delivery import Confirmable
from bridge.rabbitmq.publishing import PublishLane
from bridge.transport import Confirm, Publishing

DIRECT: Final = "amq.rabbitmq.reply-to."
"""How the names of direct reply-to begin."""
NAMES_KEPT: Final = 4_096
"""Names remembered, of at most 255 bytes each."""
FORGOTTEN_AFTER: Final = 60.0
"""Seconds for which a name is not tried again that the broker could not make out."""


class DirectReplies(Careful):
    """The first answer to each name. Nobody listens at a forged one, so its answer is returned."""

    WAITS_AT_MOST = 5.0
    """Whoever floods the bridge with forged names must not have it keep thousands of requests."""

    def __init__(self, open_lane: Open, end: Callable[[str], None]) -> None:
        super().__init__(open_lane, end)
        self._sound: set[str] = set()
        self._forged: dict[str, float] = {}
        """When each was refused, by the loop's clock."""

    def takes(self, publishing: Publishing, waiting: Confirmable) -> bool:
        """As :meth:`Careful.takes`."""
        if publishing.routing_key in self._sound:
            return False
        if not self._is_known(publishing, waiting):
            self.add(publishing, waiting)
        return True

    def _is_known(self, publishing: Publishing, waiting: Confirmable) -> bool:
        refused_at = self._forged.get(publishing.routing_key, -math.inf)
        if asyncio.get_running_loop().time() - refused_at > FORGOTTEN_AFTER:
            return False
        waiting.confirmed(Confirm.RETURNED)
        return True

    def _taken(self, publishing: Publishing) -> None:
        if len(self._sound) >= NAMES_KEPT:
            self._sound.clear()
        self._sound.add(publishing.routing_key)

    def _refused(self, publishing: Publishing, waiting: Confirmable, text: str) -> None:
        if TOO_LARGE.search(text) is not None:
            waiting.impossible(text)
            return
        if len(self._forged) >= NAMES_KEPT:
            self._forged.clear()
        self._forged[publishing.routing_key] = asyncio.get_running_loop().time()
        waiting.confirmed(Confirm.RETURNED)


class DirectConnection:
    """A connection with one lane. It is the listener of its connection."""

    def __init__(
        self, on_end: Callable[[str], None], on_blocked: Callable[[str | None], None]
    ) -> None:
        """`on_end`: called with the reason when it has ended. `on_blocked`: as a listener's."""
        self.on_ended = on_end
        self.on_blocked = on_blocked
        self._connection: Connection | None = None

    async def open(
        self, url: URL, name: str, on_returned: Callable[[], None]
    ) -> tuple[Connection, PublishLane]:
        """Connect and open the lane. Raises what the libraries raise."""
        connection = await open_connection(url, name, self, CONNECT_TIMEOUT)
        try:
            channel = await connection.channel(confirms=True)
        except BaseException:
            connection.abort()
            raise
        lane = PublishLane(
            channel.number,
            connection.outbox,
            connection.encoder,
            on_end=self.on_ended,
            on_returned=on_returned,
            on_refused=lambda: None,
        )
        connection.protocol.register(channel.number, lane)
        self._connection = connection
        return connection, lane

    def on_paused(self) -> None:
        """One publishing at a time does not fill the socket."""

    def before_turn(self) -> None:
        if self._connection is not None:
            self._connection.outbox.due = True

    def after_turn(self) -> None:
        if self._connection is not None:
            self._connection.outbox.flush()
