"""The transport to the broker in memory."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from bridge.testing.memory_broker import MemoryBroker
from bridge.testing.memory_connection import MemoryConnection, MemoryPauses
from bridge.transport import (
    Confirm,
    Publishing,
    State,
    StateListener,
    Subscription,
    TopologyError,
)


class MemoryTransport:
    """A :class:`~bridge.transport.Transport` to a :class:`~bridge.testing.MemoryBroker`.

    Declare the topology first, with :meth:`~bridge.testing.MemoryBroker.declare`.
    """

    RECONNECT_AFTER: Final = 0.01
    """Seconds between attempts to connect again while a queue is missing."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._connection: MemoryConnection | None = None
        self._subscriptions: Sequence[Subscription] = ()
        self._on_state: StateListener = lambda *_: None
        self._state = State.CONNECTING
        self._keys: dict[str, None] = {}
        self._asked: deque[tuple[bool, Callable[[], None]]] = deque()
        """Bindings (True) and unbindings still to be made, and whom to tell then."""
        self._pauses: MemoryPauses | None = None
        self._waiting: list[Callable[[], None]] = []
        """Whom to tell when the next connection has bound all keys."""
        self.returned = 0
        """Mandatory publishings that no queue took, since the start."""
        self.refused = 0
        """Publishings that a full queue refused, since the start."""

    @property
    def state(self) -> State:
        return self._state

    @property
    def address(self) -> None:
        return None

    @property
    def reply_queue(self) -> str | None:
        return None if self._connection is None else self._connection.reply_queue

    def _enter(self, state: State, reason: str) -> None:
        self._state = state
        self._on_state(state, reason)

    def time_confirms(self, observe: Callable[[float], None]) -> None:
        """In memory they take no time."""

    def watch_pauses(self, keys: Sequence[str], on_pause: Callable[[str, bool], None]) -> None:
        self._pauses = MemoryPauses(keys, on_pause)

    def lacks(self, exchange: str) -> bool:
        return exchange not in self._broker.exchanges

    async def start(self, subscriptions: Sequence[Subscription], on_state: StateListener) -> None:
        self._subscriptions = subscriptions
        self._on_state = on_state
        self._enter(State.CONNECTING, "to the broker in memory")
        self._connect()

    def _connect(self) -> None:
        self._connection = MemoryConnection(
            self._broker,
            self._subscriptions,
            self._lost,
            self._count_return,
            self._count_refusal,
            self._pauses,
        )
        for routing_key in self._keys:
            self._connection.bind(routing_key)
        self._tell_waiting()
        requests = sum(not each.waits for each in self._subscriptions)
        self._enter(State.CONSUMING, f"from {requests} queues in memory")

    def _lost(self, reason: str) -> None:
        self._connection = None
        while self._asked:
            bound, on_done = self._asked.popleft()
            if bound:
                self._waiting.append(on_done)
            else:
                on_done()
        if self._state in {State.CONSUMING, State.CONNECTING}:
            self._enter(State.CONNECTING, reason)
            asyncio.get_running_loop().call_soon(self._connect_again)

    def _count_return(self) -> None:
        self.returned += 1

    def _count_refusal(self) -> None:
        self.refused += 1

    def _connect_again(self) -> None:
        if self._state is not State.CONNECTING:
            return
        try:
            self._connect()
        except TopologyError:
            asyncio.get_running_loop().call_later(self.RECONNECT_AFTER, self._connect_again)

    def publish(self, publishing: Publishing, on_confirm: Callable[[Confirm], None]) -> None:
        if self._connection is None:
            on_confirm(Confirm.LOST)
        else:
            self._connection.publish(publishing, on_confirm)

    def emit(self, publishing: Publishing) -> bool:
        connection = self._connection
        if connection is None or self.lacks(publishing.exchange):
            return False
        try:
            _check_key(publishing.routing_key)
            _check_key(publishing.correlation_id or "")
        except ValueError:
            return False
        asyncio.get_running_loop().call_soon(connection.emit, publishing)
        return True

    def bind(self, routing_key: str, on_done: Callable[[], None]) -> None:
        _check_key(routing_key)
        self._keys[routing_key] = None
        if self._connection is None and self._state is State.CONNECTING:
            self._waiting.append(on_done)
        else:
            self._change(routing_key, True, on_done)

    def unbind(self, routing_key: str, on_done: Callable[[], None]) -> None:
        _check_key(routing_key)
        self._keys.pop(routing_key, None)
        self._change(routing_key, False, on_done)

    def _change(self, routing_key: str, bound: bool, on_done: Callable[[], None]) -> None:
        connection = self._connection
        if connection is None or self._state in {State.DRAINING, State.STOPPED}:
            on_done()
            return

        def change() -> None:
            if connection.alive:
                connection.bind(routing_key, bound=bound)
                self._asked.popleft()[1]()

        self._asked.append((bound, on_done))
        asyncio.get_running_loop().call_soon(change)

    def _tell_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for tell in waiting:
            tell()

    async def drain(self, timeout: float) -> int:
        self._enter(State.DRAINING, f"at most {timeout:g} s")
        self._tell_waiting()
        connection = self._connection
        if connection is None:
            return 0
        connection.stop_requests()
        try:
            async with asyncio.timeout(timeout):
                while connection.unsettled and connection.alive:
                    connection.changed.clear()
                    await connection.changed.wait()
        except TimeoutError:
            pass
        return connection.unsettled

    async def close(self) -> None:
        self._enter(State.STOPPED, "closed")
        await asyncio.sleep(0)  # what was published before goes out in this turn
        if self._connection is not None:
            self._connection.end("closed")
        self._tell_waiting()


def _check_key(routing_key: str) -> None:
    """Raises ValueError for a key that AMQP cannot carry (0-9-1 §4.2.5.3: a short string).

    A correlation id is one, too.
    """
    if (size := len(routing_key.encode("utf-8", "surrogateescape"))) > 255:
        raise ValueError(f"a routing key of {size} bytes, and AMQP allows 255")
