"""Private queues bound by many keys: a station gateway's, which holds one key per station.

A gateway of 100,000 stations binds 100,000 keys, and all of them again after each lost connection. Waiting for the broker's
answer to each before the next is sent would make that a matter of the network; a general client library does, and spends
longer on each than the broker. So :class:`BindLane` is a channel of its own on the consuming connection (an exclusive queue
is its connection's alone) that keeps many Queue.Bind and Queue.Unbind on their way. The broker works one channel off in
order, so the last word on a key is the last one sent.

:class:`Bindings` outlives the connections: it knows which keys are wanted, and whom to tell.

**Why several queues.** RabbitMQ deletes a queue with all its bindings in one transaction, and meanwhile nobody can bind
anything; transactions that meet are tried again, and a large one can be for minutes. Measured on RabbitMQ 3.10: a connection
dies whose one queue has 10,000 bindings, and another one that is to take over 5,000 of these keys waits 7 seconds for
it; with 100,000 in one queue it waited 9 minutes. Spread over 64 queues, 1.2 seconds for the 10,000.
"""

import asyncio
import struct
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final
from zlib import crc32

import msgspec

from bridge.rabbitmq.frames.ids import FrameError
from bridge.rabbitmq.frames.reading import ContentReader
from bridge.rabbitmq.frames.writing import encode_method, short_string
from bridge.rabbitmq.outbox import Outbox

IN_FLIGHT: Final = 500
"""Methods that the broker has not answered. More do not make it faster (it takes them one by one, 0.1 ms each), and an
acknowledgement written after them waits for the socket no longer than these take."""

_BIND: Final = 50 << 16 | 20
_UNBIND: Final = 50 << 16 | 50
_OKS: Final = frozenset({50 << 16 | 21, 50 << 16 | 51})
"""Queue.BindOk and Queue.UnbindOk (AMQP 0-9-1 §1.7.2)."""

_METHOD_ID = struct.Struct(">I").unpack_from
_PACK_METHOD = struct.Struct(">IH").pack
"""Class and method, and the short integer that once was the ticket."""
_NOT_NOWAIT: Final = b"\0"
_NO_ARGUMENTS: Final = b"\0\0\0\0"


def encode_bind(channel: int, queue: bytes, exchange: bytes, key: bytes) -> bytes:
    """Queue.Bind of three short strings, as a frame."""
    return encode_method(
        channel,
        b"".join((_PACK_METHOD(_BIND, 0), queue, exchange, key, _NOT_NOWAIT, _NO_ARGUMENTS)),
    )


def encode_unbind(channel: int, queue: bytes, exchange: bytes, key: bytes) -> bytes:
    """Queue.Unbind, likewise. It has no "no wait"."""
    return encode_method(
        channel, b"".join((_PACK_METHOD(_UNBIND, 0), queue, exchange, key, _NO_ARGUMENTS))
    )


class Change(msgspec.Struct, frozen=True, gc=False):
    """What is asked of the broker."""

    bound: bool
    """Queue.Bind, or Queue.Unbind."""
    key: bytes
    """The routing key, as a short string."""
    on_done: Callable[[], None]
    """Called when the broker has done it."""


class BindLane:
    """A channel that binds and unbinds, and does nothing else."""

    def __init__(self, channel: int, outbox: Outbox, exchange: str, queues: Sequence[str]) -> None:
        self._channel = channel
        self._outbox = outbox
        self._exchange = short_string(exchange)
        self._queues = [short_string(queue) for queue in queues]
        self._unsent: deque[Change] = deque()
        self._sent: deque[Change] = deque()
        """Without their answers, which come in the same order."""
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.on_end: Callable[[str], None] = _ignore

    def ask(self, changes: Iterable[Change]) -> None:
        """Make these changes, after all that were asked before."""
        self._unsent.extend(changes)
        self._send()

    def _send(self) -> None:
        while self._unsent and len(self._sent) < IN_FLIGHT:
            change = self._unsent.popleft()
            encode = encode_bind if change.bound else encode_unbind
            # The same key always has the same queue: that of its sum.
            queue = self._queues[crc32(change.key) % len(self._queues)]
            self._outbox.add(encode(self._channel, queue, self._exchange, change.key))
            self._sent.append(change)
            self._quiet.clear()

    def on_ok(self) -> None:
        """The broker has made the next change."""
        if not self._sent:
            raise FrameError("an answer to a binding that nobody asked for")
        self._sent.popleft().on_done()
        self._send()
        if not self._sent:
            self._quiet.set()

    async def stop(self) -> None:
        """Send no more, and wait until the broker has answered what is on its way, or the connection has ended."""
        unsent, self._unsent = self._unsent, deque()
        for change in unsent:
            change.on_done()
        await self._quiet.wait()

    def close(self) -> list[Change]:
        """The connection is gone. Returns what has no answer."""
        left = [*self._sent, *self._unsent]
        self._sent.clear()
        self._unsent.clear()
        self._quiet.set()
        return left

    def on_channel_close(self, reply_code: int, reply_text: str) -> None:
        self.on_end(f"the broker closed the binding channel: {reply_code} {reply_text}")

    def on_deliver(self, *_: object) -> None:
        raise FrameError("a delivery on a channel that only binds")

    def on_confirm(self, *_: object) -> None:
        raise FrameError("a confirm on a channel that only binds")

    def on_return(self, *_: object) -> None:
        raise FrameError("Basic.Return on a channel that only binds")

    def on_cancel(self, consumer_tag: bytes) -> None:
        raise FrameError("Basic.Cancel on a channel that only binds")


class BindReader(ContentReader):
    """The reader of such a channel."""

    __slots__ = ("_lane",)

    def __init__(self, lane: BindLane, channel: int) -> None:
        super().__init__(lane, channel)
        self._lane = lane

    def on_method(self, data: bytes, at: int, stop: int, limit: int) -> int:
        if stop - at == 4 and _METHOD_ID(data, at)[0] in _OKS:
            self._lane.on_ok()
            return stop
        return super().on_method(data, at, stop, limit)


class Bindings:
    """The keys that are wanted, from one connection to the next."""

    def __init__(self) -> None:
        self._wanted: dict[bytes, None] = {}
        self._waiting: list[Callable[[], None]] = []
        """Whom to tell when the next connection has bound all that is wanted."""
        self._lane: BindLane | None = None
        self._stopped = False

    def __len__(self) -> int:
        """Keys wanted."""
        return len(self._wanted)

    def bind(self, routing_key: str, on_done: Callable[[], None]) -> None:
        """As :meth:`~bridge.transport.Transport.bind`."""
        key = short_string(routing_key)
        self._wanted[key] = None
        if self._stopped:
            on_done()
        elif self._lane is None:
            self._waiting.append(on_done)
        else:
            self._lane.ask([Change(True, key, on_done)])

    def unbind(self, routing_key: str, on_done: Callable[[], None]) -> None:
        """As :meth:`~bridge.transport.Transport.unbind`."""
        key = short_string(routing_key)
        self._wanted.pop(key, None)
        if self._stopped or self._lane is None:
            on_done()
        else:
            self._lane.ask([Change(False, key, on_done)])

    def restore(self, lane: BindLane, on_restored: Callable[[], None]) -> None:
        """Bind everything that is wanted on a new connection; `on_restored` may be called long after it has been lost.

        What is asked from now on, is asked of that connection.
        """
        self._lane = lane
        waiting, self._waiting = self._waiting, []

        def restored() -> None:
            for tell in (*waiting, on_restored):
                tell()

        changes = [Change(True, key, _nothing) for key in self._wanted]
        if not changes:
            restored()
            return
        changes[-1] = Change(True, changes[-1].key, restored)
        lane.ask(changes)

    def lost(self) -> None:
        """The connection is gone, and its queues with it: nothing is bound."""
        lane, self._lane = self._lane, None
        for change in () if lane is None else lane.close():
            if not change.bound:
                change.on_done()
            elif change.on_done is not _nothing:
                self._waiting.append(change.on_done)

    async def stop(self) -> None:
        """The queues are about to go: bind no more. Whoever waits is told."""
        self._stopped = True
        waiting, self._waiting = self._waiting, []
        for tell in waiting:
            tell()
        if self._lane is not None:
            await self._lane.stop()


def _nothing() -> None: ...


def _ignore(_: str) -> None: ...
