"""What a transport is tried with: a broker, a hand inside it, and a log of what it tells."""

import asyncio
from typing import Any, Final, Protocol

import msgspec

from bridge.dialects.dialect import Dialect
from bridge.dialects.names import Names
from bridge.dialects.topology import Exchange, Topology
from bridge.transport import Binding, Delivery, Properties, Publishing, State, Transport

PATIENCE: Final = 15.0
"""Seconds after which a test gives up waiting for what should happen at once."""

NAMES: Final = Names()
"""Of the exchanges and queues that a side declares."""


class Received(msgspec.Struct):
    """A message as a foreign process sees it."""

    body: bytes
    routing_key: str
    properties: Properties
    exchange: str = ""

    @property
    def headers(self) -> dict[str, Any]:
        return self.properties.headers or {}


class Side(Protocol):
    """A broker, and a hand inside it."""

    async def declare(self, *vendor_ids: str, delivery_limit: int = 20) -> None:
        """The bridge's topology."""

    async def declare_dialect(self, dialect: Dialect) -> None:
        """The same for a gateway that speaks another dialect, its exchange included."""

    async def declare_topology(self, topology: Topology) -> None: ...

    async def bind(self, queue: str, binding: Binding) -> None: ...

    async def make_queue(self, name: str, *, full: bool = False) -> None:
        """A queue such as a gateway declares. Full: it refuses every publishing."""

    async def make_room(self, name: str) -> None:
        """Let a full queue take publishings."""

    async def pause(self, key: str, *, paused: bool = True, told: bool = True) -> None:
        """Pause the vendor with this key, or end that. `told`: and tell the workers."""

    def transport(self, topology: Topology | None = None) -> Transport:
        """A transport. `topology`: what it needs; in mode declare, it is declared."""

    async def declare_exchange(self, exchange: Exchange) -> None: ...

    async def delete_exchange(self, name: str) -> None: ...

    def cut(self, transport: Transport) -> None:
        """End the transport's connection, without a word."""

    async def put(self, publishing: Publishing) -> None:
        """Publish, and return when the broker has it."""

    async def take(self, queue: str) -> Received:
        """The next message of a queue that nobody else consumes from."""

    async def left(self, queue: str) -> int:
        """Ready messages that nobody has taken."""

    async def close(self) -> None: ...


class Log:
    """What a transport tells: deliveries, states and confirms, in order."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.bodies: list[bytes] = []
        """Of the deliveries; these may have forgotten theirs once they are settled."""
        self.states: list[tuple[State, str]] = []
        self._changed = asyncio.Event()

    def on_delivery(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)
        self.bodies.append(delivery.body)
        self._changed.set()

    def on_state(self, state: State, reason: str) -> None:
        self.states.append((state, reason))
        self._changed.set()

    async def delivery(self, number: int) -> Delivery:
        """The delivery of that number, from 0, when it has come."""
        async with asyncio.timeout(PATIENCE):
            while len(self.deliveries) <= number:
                self._changed.clear()
                await self._changed.wait()
        return self.deliveries[number]

    async def state(self, state: State, times: int = 1) -> None:
        """Wait until a state has been entered so many times."""
        async with asyncio.timeout(PATIENCE):
            while [entered for entered, _ in self.states].count(state) < times:
                self._changed.clear()
                await self._changed.wait()
