"""What an operator's command does when the broker does not pass on its hint."""

from typing import Any, cast

import aiormq

from bridge.dialects.names import Names
from bridge.rabbitmq.changing import Changes
from bridge.rabbitmq.switching import Switch


class RefusingBroker:
    """It unbinds what it is told to, and refuses whatever is published."""

    def __init__(self) -> None:
        self.unbound: list[str] = []
        self.connection = self

    async def unbind(self, queue: str, _binding: object) -> None:
        self.unbound.append(queue)

    async def channel(self, *, confirms: bool) -> "RefusingBroker":
        assert confirms
        return self

    async def basic_publish(self, *_: Any, **__: Any) -> None:
        raise aiormq.exceptions.DeliveryError(None, aiormq.spec.Basic.Nack(1))

    async def close(self) -> None:
        """As a channel is closed."""


async def test_a_refused_hint_does_not_undo_what_was_done() -> None:
    broker = RefusingBroker()
    await Switch(cast(Changes, broker), Names()).resume("v")
    assert broker.unbound == ["datatransfer-paused"]
