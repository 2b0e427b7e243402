"""RabbitMQ's twin in memory, for tests of whole workers, clients and gateways.

:class:`MemoryBroker` keeps the promises of :mod:`bridge.transport`, and one suite of tests runs
over it and over RabbitMQ. It models exchanges (direct, fanout, topic, headers and x-consistent-hash
by header, with an alternate exchange, bound to each other), queues, single active consumers,
private queues bound by keys, prefetch, redelivery, dead-lettering, expiry,
returns and refusals. It leaves out what needs a server: disks, clusters, flow control, direct
reply-to, and the length limits of queues that are not private.

Everything happens on the event loop and, as with a real broker, later than the call that asked for
it. Nothing ever sleeps.
"""

import asyncio
import itertools
import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol
from zlib import crc32

import msgspec

from bridge.dialects.partitions import HASH_HEADER, KIND
from bridge.dialects.topology import Exchange, ExchangeBinding, Queue, QueueBinding, Topology
from bridge.transport import Binding, Confirm, Properties, Publishing


class Message(msgspec.Struct, eq=False):
    """A message in a queue."""

    exchange: str
    routing_key: str
    properties: Properties
    body: bytes
    returns: int = 0
    """How often it came back to its queue after a delivery."""
    expired: bool = False
    """Its time is over. As in RabbitMQ, it leaves the queue when it has come to the head."""


class Consumer(Protocol):
    """Whoever takes messages from a queue."""

    @property
    def has_room(self) -> bool:
        """Whether the prefetch allows another message."""

    def take(self, message: Message) -> None:
        """Be given a message."""

    def cancelled(self, reason: str) -> None:
        """The queue is gone."""


class Connection(Protocol):
    """A connection to the broker."""

    def end(self, reason: str) -> None: ...

    def look(self, pause_key: str) -> None:
        """See whether that key is paused."""


class MemoryQueue:
    """Messages in order: the ready ones here, the unsettled ones with their consumers."""

    def __init__(
        self,
        broker: "MemoryBroker",
        name: str,
        dead_letter_exchange: str | None,
        delivery_limit: int | None,
        message_ttl: float | None,
        max_length: int = 0,
        single_active: bool = False,
    ) -> None:
        self.name = name
        self.full = False
        """Set it, and the queue refuses every publishing (overflow reject-publish)."""
        self.ready: deque[Message] = deque()
        self.consumers: list[Consumer] = []
        self._broker = broker
        self._dead_letter_exchange = dead_letter_exchange
        self._delivery_limit = delivery_limit
        self._message_ttl = message_ttl
        self._max_length = max_length
        self._single_active = single_active

    def put(self, message: Message) -> None:
        """Deliver to a consumer that has room, or keep. Only what is kept can expire."""
        expiration = message.properties.expiration
        lives = [self._message_ttl] if self._message_ttl is not None else []
        if expiration is not None:
            lives.append(int(expiration) / 1000)
        if lives:
            # A timer of 0 ms fires in the next turn of the loop: consumers come first.
            asyncio.get_running_loop().call_later(min(lives), self._expire, message)
        self.ready.append(message)
        self.hand_out()
        if self._max_length and len(self.ready) > self._max_length:
            self.ready.popleft()

    def _expire(self, message: Message) -> None:
        message.expired = True
        self.hand_out()

    def hand_out(self) -> None:
        """Give ready messages to the consumers in turn, as far as their prefetch allows."""
        while self.ready:
            if self.ready[0].expired:
                self._dead_letter(self.ready.popleft(), "expired")
                continue
            may = self.consumers[:1] if self._single_active else self.consumers
            consumer = next((consumer for consumer in may if consumer.has_room), None)
            if consumer is None:
                return
            if not self._single_active:
                self.consumers.remove(consumer)
                self.consumers.append(consumer)
            consumer.take(self.ready.popleft())

    def put_back(self, messages: Sequence[Message]) -> None:
        """Return delivered messages to the head, in their order.

        A message that came back more often than the delivery limit allows is dead-lettered.
        """
        for message in reversed(messages):
            message.returns += 1
            if self._delivery_limit is not None and message.returns > self._delivery_limit:
                self._dead_letter(message, "delivery_limit")
            else:
                self.ready.appendleft(message)
        self.hand_out()

    def reject(self, message: Message) -> None:
        self._dead_letter(message, "rejected")

    def _dead_letter(self, message: Message, reason: str) -> None:
        """Publish to the dead-letter exchange, with the reason.

        Without the expiration, or the message would expire there as well.
        """
        exchange = self._dead_letter_exchange
        if exchange is None or (exchange and exchange not in self._broker.exchanges):
            return
        headers = dict(message.properties.headers or {})
        headers["x-death"] = _deaths(message, self.name, reason)
        headers.setdefault("x-first-death-reason", reason)
        headers.setdefault("x-first-death-queue", self.name)
        headers.setdefault("x-first-death-exchange", message.exchange)
        properties = msgspec.structs.replace(message.properties, headers=headers, expiration=None)
        dead = Publishing(message.routing_key, message.body, properties, exchange)
        self._broker.publish(dead)

    def __repr__(self) -> str:
        return (
            f"<MemoryQueue {self.name!r} ready={len(self.ready)} consumers={len(self.consumers)}>"
        )


def _deaths(message: Message, queue: str, reason: str) -> list[dict[str, Any]]:
    """The header `x-death`: the newest first, and each queue and reason once, with its count."""
    before = (message.properties.headers or {}).get("x-death")
    deaths = [*before] if isinstance(before, list) else []
    same = [each for each in deaths if (each["queue"], each["reason"]) == (queue, reason)]
    newest: dict[str, Any] = {
        "count": 1 + sum(each["count"] for each in same),
        "reason": reason,
        "queue": queue,
        "time": datetime.fromtimestamp(int(time.time()), UTC),
        "exchange": message.exchange,
        "routing-keys": [message.routing_key],
    }
    if message.properties.expiration is not None:
        newest["original-expiration"] = message.properties.expiration
    return [newest, *(each for each in deaths if each not in same)]


class MemoryExchange(msgspec.Struct):
    """Finds the queues of a publishing."""

    kind: str
    alternate: str | None
    bindings: dict[str, list[tuple[Binding, MemoryQueue]]]
    """By routing key: a direct exchange may have many."""
    to: list[tuple[Binding, str]] = []
    """Exchanges that are bound to this one, which is a direct one."""
    hash_header: str = ""
    """Of an exchange that hashes."""

    def exchanges(self, routing_key: str) -> list[str]:
        """The exchanges that a publishing goes to."""
        return [name for binding, name in self.to if binding.routing_key == routing_key]

    def queues(self, routing_key: str, headers: Mapping[str, Any]) -> list[MemoryQueue]:
        """The queues that a publishing goes to, each once however many of its bindings match."""
        if self.kind == "direct":
            found = self.bindings.get(routing_key, [])
        elif self.kind == KIND:
            bound = [*itertools.chain.from_iterable(self.bindings.values())]
            place = crc32(str(headers.get(self.hash_header)).encode("utf-8", "surrogatepass"))
            found = [bound[place % len(bound)]] if bound else []
        else:
            matches = _MATCHES[self.kind]
            everything = itertools.chain.from_iterable(self.bindings.values())
            found = [bound for bound in everything if matches(bound[0], routing_key, headers)]
        return [*{queue.name: queue for _, queue in found}.values()]

    def bind(self, binding: Binding, queue: MemoryQueue) -> None:
        """Bind a queue. Bound twice is bound once."""
        bound = self.bindings.setdefault(binding.routing_key, [])
        if (binding, queue) not in bound:
            bound.append((binding, queue))

    def unbind(self, binding: Binding, queue: MemoryQueue) -> None:
        """Take back :meth:`bind`, if there is anything to take back."""
        self._keep(binding.routing_key, lambda bound: bound != (binding, queue))

    def forget(self, queue: MemoryQueue) -> None:
        """Take back all of a queue's bindings."""
        for routing_key in tuple(self.bindings):
            self._keep(routing_key, lambda bound: bound[1] is not queue)

    def _keep(self, routing_key: str, which: Callable[[tuple[Binding, MemoryQueue]], bool]) -> None:
        if kept := [*filter(which, self.bindings.pop(routing_key, ()))]:
            self.bindings[routing_key] = kept


def _is_topic(binding: Binding, routing_key: str, _: Mapping[str, Any]) -> bool:
    """Words between dots. ``*`` is one word, ``#`` any number of them (AMQP 0-9-1 §3.1.3.3)."""
    words = (
        r"\.[^.]*" if word == "*" else r"(\.[^.]*)*" if word == "#" else re.escape(f".{word}")
        for word in binding.routing_key.split(".")
    )
    return re.fullmatch("".join(words), f".{routing_key}") is not None


def _has_headers(binding: Binding, _: str, headers: Mapping[str, Any]) -> bool:
    """All headers of the binding, or any of them, in the same type (AMQP 0-9-1 §3.1.3.4)."""
    arguments = binding.arguments or {}
    wanted = {name: value for name, value in arguments.items() if not name.startswith("x-")}
    matches = (
        name in headers and type(headers[name]) is type(value) and headers[name] == value
        for name, value in wanted.items()
    )
    return any(matches) if arguments.get("x-match") == "any" else all(matches)


_MATCHES: Final[dict[str, Callable[[Binding, str, Mapping[str, Any]], bool]]] = {
    "fanout": lambda *_: True,
    "topic": _is_topic,
    "headers": _has_headers,
}
_KINDS: Final = ("direct", *_MATCHES, KIND)


def _binding(exchange: str, routing_key: str, arguments: Mapping[str, Any] | None) -> Binding:
    return Binding(exchange, routing_key, None if arguments is None else dict(arguments))


class MemoryBroker:
    """Exchanges, queues and the connections to them."""

    def __init__(self) -> None:
        self.queues: dict[str, MemoryQueue] = {}
        self.exchanges: dict[str, MemoryExchange] = {}
        self.connections: list[Connection] = []
        self.paused: set[str] = set()
        """Keys of the vendors that are paused: see :meth:`pause`."""
        self._numbers = itertools.count(1)

    def declare(self, topology: Topology) -> None:
        """Make what a topology says, whatever its mode."""
        for part in topology.parts:
            match part:
                case Exchange(name, kind):
                    alternate = part.arguments.get("alternate-exchange")
                    header = part.arguments.get(HASH_HEADER, "")
                    self.declare_exchange(name, kind, alternate=alternate, hash_header=header)
                case Queue(name):
                    ttl = part.arguments.get("x-message-ttl")
                    self.declare_queue(
                        name,
                        dead_letter_exchange=part.arguments.get("x-dead-letter-exchange"),
                        delivery_limit=part.arguments.get("x-delivery-limit"),
                        message_ttl=None if ttl is None else ttl / 1000,
                        single_active=part.arguments.get("x-single-active-consumer", False),
                    )
                case QueueBinding():
                    self.bind(part.queue, part.exchange, part.routing_key, part.arguments)
                case ExchangeBinding():
                    self.bind_exchange(part.to, part.exchange, part.routing_key)

    def declare_exchange(
        self,
        name: str,
        kind: str = "direct",
        *,
        alternate: str | None = None,
        hash_header: str = "",
    ) -> None:
        """Make an exchange, if there is none of that name.

        `kind`: direct, fanout, topic, headers or x-consistent-hash. `alternate`: the exchange that
        takes what this one cannot route. `hash_header`: what an exchange hashes. Raises ValueError
        for another kind.
        """
        if kind not in _KINDS:
            raise ValueError(f"an exchange in memory is {', '.join(_KINDS)}, not {kind}")
        self.exchanges.setdefault(name, MemoryExchange(kind, alternate, {}, [], hash_header))

    def declare_queue(
        self,
        name: str = "",
        *,
        dead_letter_exchange: str | None = None,
        delivery_limit: int | None = None,
        message_ttl: float | None = None,
        max_length: int = 0,
        single_active: bool = False,
    ) -> MemoryQueue:
        """Make a queue, if there is none of that name, and return it.

        `name`: if empty, the broker makes one. `dead_letter_exchange`: where rejected and expired
        messages go; None: nowhere. `delivery_limit`: times a message may come back; None: any
        number. `message_ttl`: seconds that a message stays; None: its own expiration says.
        `max_length`: messages that wait at most; the oldest go. 0: no bound. `single_active`: one
        consumer at a time is given messages.
        """
        name = name or f"amq.gen-{next(self._numbers)}"
        queue = MemoryQueue(
            self,
            name,
            dead_letter_exchange,
            delivery_limit,
            message_ttl,
            max_length,
            single_active,
        )
        return self.queues.setdefault(name, queue)

    def delete_queue(self, name: str) -> None:
        """Delete a queue and its messages. Connections that consume from it end.

        Sessions with RabbitMQ do the same. Raises KeyError if there is no such queue.
        """
        queue = self.queues.pop(name)
        for exchange in self.exchanges.values():
            exchange.forget(queue)
        for consumer in tuple(queue.consumers):
            consumer.cancelled(
                f"the broker cancelled the consumer of {name!r}: the queue was deleted or moved"
            )

    def bind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Bind a queue to an exchange.

        `arguments`: for a headers exchange, the headers that a message must have, and ``x-match``
        (all or any). Raises KeyError if there is no such queue or exchange.
        """
        self.exchanges[exchange].bind(
            _binding(exchange, routing_key, arguments), self.queues[queue]
        )

    def bind_exchange(self, to: str, exchange: str, routing_key: str) -> None:
        """Have an exchange get what is published with that key to a direct exchange.

        Raises KeyError if there is no such exchange.
        """
        if to not in self.exchanges:
            raise KeyError(to)
        bound = _binding(exchange, routing_key, None), to
        if bound not in self.exchanges[exchange].to:
            self.exchanges[exchange].to.append(bound)

    def unbind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Take back :meth:`bind`, if there is anything to take back."""
        if queue in self.queues:
            self.exchanges[exchange].unbind(
                _binding(exchange, routing_key, arguments), self.queues[queue]
            )

    def publish(self, publishing: Publishing) -> Confirm:
        """Route a message and say what became of it.

        Raises KeyError if there is no such exchange.
        """
        queues = self._route(
            publishing.exchange, publishing.routing_key, publishing.properties.headers or {}
        )
        if not queues:
            return Confirm.RETURNED if publishing.mandatory else Confirm.CONFIRMED
        if any(queue.full for queue in queues):
            return Confirm.REFUSED
        properties = _own_properties(publishing)
        for queue in queues:
            queue.put(
                Message(
                    publishing.exchange, publishing.routing_key, properties, bytes(publishing.body)
                )
            )
        return Confirm.CONFIRMED

    def _route(
        self, exchange: str, routing_key: str, headers: Mapping[str, Any]
    ) -> list[MemoryQueue]:
        if not exchange:
            queue = self.queues.get(routing_key)
            return [] if queue is None else [queue]
        found = self.exchanges[exchange]
        queues = found.queues(routing_key, headers)
        for name in found.exchanges(routing_key):
            queues += self._route(name, routing_key, headers)
        if not queues and found.alternate is not None:
            return self._route(found.alternate, routing_key, headers)
        return queues

    def pause(self, key: str, *, paused: bool = True) -> None:
        """Pause a vendor, or end that, as ``dtbridge pause`` does.

        `key`: its :func:`~bridge.dialects.names.vendor_key`.
        """
        (self.paused.add if paused else self.paused.discard)(key)
        for connection in tuple(self.connections):
            asyncio.get_running_loop().call_soon(connection.look, key)

    def resume(self, key: str) -> None:
        """Take back :meth:`pause`."""
        self.pause(key, paused=False)

    def cut(self, reason: str = "the connection was cut") -> None:
        """End every connection.

        What is unsettled goes back to its queue. Transports connect again.
        """
        for connection in tuple(self.connections):
            connection.end(reason)


def _own_properties(publishing: Publishing) -> Properties:
    """The properties of a message, with those that the publishing has in their place."""
    own = {"correlation_id": publishing.correlation_id, "expiration": publishing.expiration}
    given = {name: value for name, value in own.items() if value is not None}
    return (
        msgspec.structs.replace(publishing.properties, **given) if given else publishing.properties
    )
