"""Private queues bound by many keys: a station gateway's, with one key per station.

A gateway of 100,000 stations binds 100,000 keys, and binds them all again after each lost
connection. If each waited for the broker's answer to the one before, the network would set the
pace; and a general client library, which does wait, spends longer on each than the broker. So
:class:`BindLane` is a channel of its own that keeps many Queue.Bind and Queue.Unbind on their way.
It is on the consuming connection, because an exclusive queue belongs to its connection alone. The
broker works off one channel in order, so the last word on a key is the last one sent.

:class:`Bindings` outlives the connections: it knows which keys are wanted, and whom to tell.

**Why several queues.** RabbitMQ deletes a queue with all its bindings in one transaction, and
meanwhile nobody can bind anything. Transactions that conflict are tried again, and a large one may
be tried for minutes. Measured on RabbitMQ 3.10: when a connection dies whose one queue has 10,000
bindings, another connection that takes over 5,000 of these keys waits 7 seconds; with 100,000
bindings in one queue it waited 9 minutes. Spread over 64 queues, the 10,000 take 1.2 seconds.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final
from zlib import crc32

import aiormq
import msgspec

from bridge.rabbitmq.frames.ids import (
    QUEUE_BIND,
    QUEUE_BIND_OK,
    QUEUE_UNBIND,
    QUEUE_UNBIND_OK,
    ProtocolError,
)
from bridge.rabbitmq.frames.writing import encode_method, short_string
from bridge.rabbitmq.outbox import Outbox
from bridge.transport import TopologyError

IN_FLIGHT: Final = 500
"""Methods that the broker has not answered. More would not make it faster: it takes them one by
one, 0.1 ms each. And an acknowledgement written after them waits no longer than they take."""

PRIVATE_BYTES: Final = 64 * 1024 * 1024
"""Bytes that wait in a private queue with a bound, at most."""

_OKS: Final = frozenset({QUEUE_BIND_OK, QUEUE_UNBIND_OK})
_NOT_NOWAIT: Final = b"\0"
_NO_ARGUMENTS: Final = b"\0\0\0\0"


async def private_queue(channel: aiormq.abc.AbstractChannel, max_length: int) -> str:
    """A queue of this connection alone, which is gone with it. Returns the broker's name for it.

    `max_length`: messages that wait in it at most, and :data:`PRIVATE_BYTES` then; 0: no bound.
    Raises :class:`~bridge.transport.TopologyError` if the user may have none.
    """
    bound: dict[str, Any] = {"x-max-length": max_length, "x-max-length-bytes": PRIVATE_BYTES}
    try:
        declared = await channel.queue_declare(
            "", exclusive=True, auto_delete=True, arguments=bound if max_length else None
        )
    except aiormq.exceptions.ChannelAccessRefused as error:
        raise TopologyError(f"a queue of its own: {error.args[0]}") from error
    return str(declared.queue)


def encode_bind(channel: int, queue: bytes, exchange: bytes, key: bytes) -> bytes:
    """Queue.Bind as a frame. Queue, exchange and key are given as AMQP short strings."""
    arguments = b"".join((queue, exchange, key, _NOT_NOWAIT, _NO_ARGUMENTS))
    return encode_method(channel, QUEUE_BIND, arguments)


def encode_unbind(channel: int, queue: bytes, exchange: bytes, key: bytes) -> bytes:
    """Queue.Unbind, likewise. It has no "no wait"."""
    return encode_method(channel, QUEUE_UNBIND, b"".join((queue, exchange, key, _NO_ARGUMENTS)))


class Change(msgspec.Struct, frozen=True, gc=False):
    """One change that is asked of the broker."""

    bound: bool
    """Whether to bind or to unbind."""
    key: bytes
    """The routing key, as a short string."""
    on_done: Callable[[], None] | None
    """Called when the broker has done it."""


class BindLane:
    """A channel that binds and unbinds, and does nothing else.

    It is the sink of its channel's frames (:class:`~bridge.rabbitmq.frames.reading.ContentSink`).
    """

    def __init__(
        self,
        channel: int,
        outbox: Outbox,
        exchange: str,
        queues: Sequence[str],
        *,
        on_end: Callable[[str], None],
    ) -> None:
        """`outbox`: the connection's. `queues`: they share the keys of `exchange`.

        `on_end` is called with the reason when the broker closes the channel.
        """
        self._channel = channel
        self._outbox = outbox
        self._on_end = on_end
        self._exchange = short_string(exchange)
        self._queues = [short_string(queue) for queue in queues]
        self._unsent: deque[Change] = deque()
        self._sent: deque[Change] = deque()
        """Those without an answer. The answers come in the same order."""
        self._quiet = asyncio.Event()
        """Set while none is on its way."""
        self._quiet.set()

    def ask(self, changes: Iterable[Change]) -> None:
        """Make these changes, after all that were asked before."""
        self._unsent.extend(changes)
        self._send()

    def _send(self) -> None:
        while self._unsent and len(self._sent) < IN_FLIGHT:
            change = self._unsent.popleft()
            encode = encode_bind if change.bound else encode_unbind
            # The same key always has the same queue: its checksum names it.
            queue = self._queues[crc32(change.key) % len(self._queues)]
            self._outbox.add(encode(self._channel, queue, self._exchange, change.key))
            self._sent.append(change)
            self._quiet.clear()

    def on_other(self, method: int, arguments: bytes) -> bool:
        """Take Queue.BindOk and Queue.UnbindOk: the broker has made the next change."""
        if method not in _OKS or arguments:
            return False
        if not self._sent:
            raise ProtocolError("an answer to a binding that nobody asked for")
        change = self._sent.popleft()
        if change.on_done is not None:
            change.on_done()
        self._send()
        if not self._sent:
            self._quiet.set()
        return True

    async def stop(self) -> None:
        """Send no more. Wait for the answers to what is on its way, or for the connection's end."""
        unsent, self._unsent = self._unsent, deque()
        for change in unsent:
            if change.on_done is not None:
                change.on_done()
        await self._quiet.wait()

    def close(self) -> list[Change]:
        """The connection is gone. Returns the changes without an answer."""
        left = [*self._sent, *self._unsent]
        self._sent.clear()
        self._unsent.clear()
        self._quiet.set()
        return left

    def on_channel_close(self, reply_code: int, reply_text: str) -> None:
        self._on_end(f"the broker closed the binding channel: {reply_code} {reply_text}")

    def on_deliver(self, *_: object) -> None:
        raise ProtocolError("a delivery on a channel that only binds")

    def on_confirm(self, *_: object) -> None:
        raise ProtocolError("a confirm on a channel that only binds")

    def on_return(self, *_: object) -> None:
        raise ProtocolError("Basic.Return on a channel that only binds")

    def on_cancel(self, consumer_tag: bytes) -> None:
        raise ProtocolError("Basic.Cancel on a channel that only binds")


class Bindings:
    """The keys that are to be bound, from one connection to the next."""

    def __init__(self) -> None:
        self._wanted: dict[bytes, Callable[[], None] | None] = {}
        """With whom to tell when the key is bound, unless that has been done."""
        self._lane: BindLane | None = None
        self._stopped = False

    def __len__(self) -> int:
        """Keys wanted."""
        return len(self._wanted)

    def bind(self, routing_key: str, on_done: Callable[[], None]) -> None:
        """As :meth:`~bridge.transport.Transport.bind`."""
        key = short_string(routing_key)
        self._tell(key)  # who has asked before need not wait for what is asked anew
        self._wanted[key] = on_done
        if self._stopped:
            self._tell(key)
        elif self._lane is not None:
            self._lane.ask([Change(True, key, partial(self._tell, key, on_done))])

    def unbind(self, routing_key: str, on_done: Callable[[], None]) -> None:
        """As :meth:`~bridge.transport.Transport.unbind`."""
        key = short_string(routing_key)
        self._tell(key)
        self._wanted.pop(key, None)
        if self._stopped or self._lane is None:
            on_done()
        else:
            self._lane.ask([Change(False, key, on_done)])

    def _tell(self, key: bytes, waiting: Callable[[], None] | None = None) -> None:
        """Tell who waits for this key, once. `waiting`: only if it is still they."""
        on_done = self._wanted.get(key)
        if on_done is not None and (waiting is None or waiting is on_done):
            self._wanted[key] = None
            on_done()

    def restore(self, lane: BindLane, on_restored: Callable[[], None]) -> None:
        """Bind every key on a new connection; what is asked from now on is asked of it too.

        `on_restored` is called when all are bound, unless this connection is lost first.
        """
        self._lane = lane
        waiting = [(key, on_done) for key, on_done in self._wanted.items() if on_done is not None]

        def restored() -> None:
            for key, on_done in waiting:
                self._tell(key, on_done)
            on_restored()

        changes = [Change(True, key, None) for key in self._wanted]
        if not changes:
            restored()
            return
        changes[-1] = Change(True, changes[-1].key, restored)
        lane.ask(changes)

    def lost(self) -> None:
        """The connection is gone, and its queues with it: nothing is bound."""
        lane, self._lane = self._lane, None
        for change in () if lane is None else lane.close():
            if not change.bound and change.on_done is not None:
                change.on_done()

    async def stop(self) -> None:
        """The queues are about to go: bind no more, and tell everybody who waits."""
        self._stopped = True
        lane = self._lane
        if lane is None:
            for key in tuple(self._wanted):
                self._tell(key)
        else:
            await lane.stop()
