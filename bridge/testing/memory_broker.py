"""Test handlers without a broker, and whole workers without RabbitMQ.

:func:`ask` puts one request to your routers and returns the answer:

>>> response = await ask(router, "com.acme", "GetTariff", {"connectorId": 1})
>>> assert response.status == "Accepted"

:class:`MemoryBroker` is the in-memory twin of RabbitMQ, and :class:`MemoryTransport` what a
:class:`~bridge.worker.worker.Worker` or :class:`~bridge.client.client.Client` reaches it by. It keeps the promises of
:mod:`bridge.transport`, and one suite of tests runs over it and over RabbitMQ. It models exchanges (direct, fanout, topic and
headers, with alternate exchange), queues, private ones bound by keys, prefetch, redelivery, dead-lettering, expiry, returns and refusals. It leaves out
what needs a server: disks, clusters, flow control, direct reply-to, and the age and length limits of queues.

Everything happens on the event loop, as with a real broker later than the call that asked for it, and nothing ever sleeps.
"""

import asyncio
import itertools
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from bridge.dialects.dialect import Dialect
from bridge.dialects.names import Names, vendor_key
from bridge.request.retry import DELAYS, GRACE
from bridge.transport import (
    Binding,
    Confirm,
    Delivery,
    Properties,
    Publishing,
    Subscription,
    TopologyError,
    Verdict,
)

# ---- handlers ----


# ---- the broker ----


class Message(msgspec.Struct, eq=False):
    """A message in a queue."""

    exchange: str
    routing_key: str
    properties: Properties
    body: bytes
    returns: int = 0
    """How often it came back to its queue after a delivery."""
    expired: bool = False
    """Its time is over; it leaves the queue when it has come to the head, as in RabbitMQ."""


class MemoryQueue:
    """Messages in order: ready ones here, unsettled ones with their consumer."""

    def __init__(
        self,
        broker: "MemoryBroker",
        name: str,
        dead_letter_exchange: str | None,
        delivery_limit: int | None,
        message_ttl: float | None,
    ) -> None:
        self.name = name
        self.full = False
        """Set it to have every publishing to this queue refused (overflow reject-publish)."""
        self.ready: deque[Message] = deque()
        self.consumers: list[MemoryConsumer] = []
        self._broker = broker
        self._dead_letter_exchange = dead_letter_exchange
        self._delivery_limit = delivery_limit
        self._message_ttl = message_ttl

    def put(self, message: Message) -> None:
        """Deliver at once to a consumer that has room, else keep; only what is kept can expire."""
        expiration = message.properties.expiration
        lives = [self._message_ttl] if self._message_ttl is not None else []
        if expiration is not None:
            lives.append(int(expiration) / 1000)
        if lives:
            # A timer of 0 ms fires in the next turn: the consumers have had their chance by then.
            asyncio.get_running_loop().call_later(min(lives), self._expire, message)
        self.ready.append(message)
        self.hand_out()

    def _expire(self, message: Message) -> None:
        message.expired = True
        self.hand_out()

    def hand_out(self) -> None:
        """Give ready messages to consumers in turn, as far as their prefetch goes."""
        while self.ready:
            if self.ready[0].expired:
                self._dead_letter(self.ready.popleft(), "expired")
                continue
            consumer = next((consumer for consumer in self.consumers if consumer.has_room), None)
            if consumer is None:
                return
            self.consumers.remove(consumer)
            self.consumers.append(consumer)
            consumer.take(self.ready.popleft())

    def put_back(self, messages: Sequence[Message]) -> None:
        """Return delivered messages to the head, in their order; one above the delivery limit is dead-lettered."""
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
        """To the dead-letter exchange, without its expiration (it would expire there, too) and with the reason."""
        exchange = self._dead_letter_exchange
        if exchange is None or (exchange and exchange not in self._broker.exchanges):
            return
        headers = dict(message.properties.headers or {})
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


class Exchange(msgspec.Struct):
    """Where publishings go that name it."""

    kind: str
    alternate: str | None
    bindings: dict[str, list[tuple[Binding, MemoryQueue]]]
    """By their routing keys, for a direct exchange of many."""

    def queues(self, routing_key: str, headers: Mapping[str, Any]) -> list[MemoryQueue]:
        """Each once, however many of its bindings match."""
        if self.kind == "direct":
            found = self.bindings.get(routing_key, [])
        else:
            matches = _MATCHES[self.kind]
            everything = itertools.chain.from_iterable(self.bindings.values())
            found = [bound for bound in everything if matches(bound[0], routing_key, headers)]
        return [*{queue.name: queue for _, queue in found}.values()]

    def bind(self, binding: Binding, queue: MemoryQueue) -> None:
        """Bound twice is bound once."""
        bound = self.bindings.setdefault(binding.routing_key, [])
        if (binding, queue) not in bound:
            bound.append((binding, queue))

    def unbind(self, binding: Binding, queue: MemoryQueue) -> None:
        """Take back :meth:`bind`; nothing, if there is nothing to take back."""
        self._keep(binding.routing_key, lambda bound: bound != (binding, queue))

    def forget(self, queue: MemoryQueue) -> None:
        """Take back all of a queue's bindings."""
        for routing_key in tuple(self.bindings):
            self._keep(routing_key, lambda bound: bound[1] is not queue)

    def _keep(self, routing_key: str, which: Callable[[tuple[Binding, MemoryQueue]], bool]) -> None:
        if kept := [*filter(which, self.bindings.pop(routing_key, ()))]:
            self.bindings[routing_key] = kept


def _is_topic(binding: Binding, routing_key: str, _: Mapping[str, Any]) -> bool:
    """Words between dots; ``*`` is one word, ``#`` any number of them (AMQP 0-9-1 §3.1.3.3)."""
    words = (
        r"\.[^.]*" if word == "*" else r"(\.[^.]*)*" if word == "#" else re.escape(f".{word}")
        for word in binding.routing_key.split(".")
    )
    return re.fullmatch("".join(words), f".{routing_key}") is not None


def _has_headers(binding: Binding, _: str, headers: Mapping[str, Any]) -> bool:
    """All of the binding's, or any; in the same type (AMQP 0-9-1 §3.1.3.4)."""
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
_KINDS: Final = ("direct", *_MATCHES)


def _binding(exchange: str, routing_key: str, arguments: Mapping[str, Any] | None) -> Binding:
    return Binding(exchange, routing_key, None if arguments is None else dict(arguments))


class MemoryBroker:
    """Exchanges, queues and the connections to them."""

    def __init__(self) -> None:
        self.queues: dict[str, MemoryQueue] = {}
        self.exchanges: dict[str, Exchange] = {}
        self._connections: list[MemoryConnection] = []
        self._numbers = itertools.count(1)

    def declare_exchange(
        self, name: str, kind: str = "direct", *, alternate: str | None = None
    ) -> None:
        """`kind`: direct, fanout, topic or headers. `alternate`: the exchange that takes what this one cannot route."""
        if kind not in _KINDS:
            raise ValueError(f"an exchange in memory is {', '.join(_KINDS)}, not {kind}")
        self.exchanges.setdefault(name, Exchange(kind, alternate, {}))

    def declare_queue(
        self,
        name: str = "",
        *,
        dead_letter_exchange: str | None = None,
        delivery_limit: int | None = None,
        message_ttl: float | None = None,
    ) -> MemoryQueue:
        """A queue of that name, the one that is there if it is. Empty: the broker names it. `message_ttl` in seconds."""
        name = name or f"amq.gen-{next(self._numbers)}"
        queue = MemoryQueue(self, name, dead_letter_exchange, delivery_limit, message_ttl)
        return self.queues.setdefault(name, queue)

    def delete_queue(self, name: str) -> None:
        """With its messages. Connections that consume from it end, as sessions with RabbitMQ do."""
        queue = self.queues.pop(name)
        for exchange in self.exchanges.values():
            exchange.forget(queue)
        for consumer in tuple(queue.consumers):
            consumer.connection.end(
                f"the broker cancelled the consumer of {name!r}: the queue was deleted or moved"
            )

    def bind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """`arguments`: of a headers exchange, the headers that a message must have, and ``x-match`` (all or any).

        Raises KeyError if there is no such queue or exchange.
        """
        self.exchanges[exchange].bind(
            _binding(exchange, routing_key, arguments), self.queues[queue]
        )

    def unbind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Take back :meth:`bind`; nothing, if there is nothing to take back."""
        if queue in self.queues:
            self.exchanges[exchange].unbind(
                _binding(exchange, routing_key, arguments), self.queues[queue]
            )

    def publish(self, publishing: Publishing) -> Confirm:
        """Route a message, and say what became of it. Raises KeyError if there is no such exchange."""
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
        if not queues and found.alternate is not None:
            return self._route(found.alternate, routing_key, headers)
        return queues

    def cut(self, reason: str = "the connection was cut") -> None:
        """End every connection. What is unsettled goes back to its queue; the transports connect again."""
        for connection in tuple(self._connections):
            connection.end(reason)


def _own_properties(publishing: Publishing) -> Properties:
    """With what the publishing puts in place of them."""
    own = {"correlation_id": publishing.correlation_id, "expiration": publishing.expiration}
    given = {name: value for name, value in own.items() if value is not None}
    return (
        msgspec.structs.replace(publishing.properties, **given) if given else publishing.properties
    )


def declare_topology(
    broker: MemoryBroker, names: Names, vendor_ids: Iterable[str], *, delivery_limit: int = 20
) -> None:
    """What a worker needs, as :class:`bridge.dialects.topology.Topology` declares it in RabbitMQ.

    `delivery_limit`: redeliveries before a request counts as poison and is dead-lettered.
    """
    _declare_common(broker, names)
    broker.declare_exchange(names.unrouted, "fanout")
    broker.declare_exchange(names.requests, "direct", alternate=names.unrouted)
    broker.declare_exchange(names.stations, "direct")
    broker.declare_queue(
        names.unknown_vendor, dead_letter_exchange=names.dead, delivery_limit=delivery_limit
    )
    broker.bind(names.unknown_vendor, names.unrouted)
    for vendor_id in vendor_ids:
        queue = names.vendor_queue(vendor_id)
        broker.declare_queue(queue, dead_letter_exchange=names.dead, delivery_limit=delivery_limit)
        broker.bind(queue, names.requests, vendor_key(vendor_id))


def declare_dialect(broker: MemoryBroker, dialect: Dialect, *, delivery_limit: int = 20) -> None:
    """What a worker needs for a gateway that speaks another dialect, that gateway's exchange included."""
    names = dialect.names
    _declare_common(broker, names)
    if dialect.exchange is not None:
        broker.declare_exchange(dialect.exchange.name, dialect.exchange.kind)
    for queue in dialect.queues:
        limit = delivery_limit if queue.replicated else None
        broker.declare_queue(
            queue.name,
            dead_letter_exchange=names.dead,
            delivery_limit=limit,
            message_ttl=queue.message_ttl,
        )
        binding = queue.binding
        broker.bind(queue.name, binding.exchange, binding.routing_key, binding.arguments)


def _declare_common(broker: MemoryBroker, names: Names) -> None:
    broker.declare_exchange(names.dead, "fanout")
    broker.declare_queue(names.dead)
    broker.bind(names.dead, names.dead)
    for delay in DELAYS:
        retry = names.retry(delay)
        broker.declare_exchange(retry, "fanout")
        broker.declare_queue(
            retry, dead_letter_exchange=names.after_retry, message_ttl=delay + GRACE
        )
        broker.bind(retry, retry)


# ---- the connection ----


class MemoryDelivery(Delivery, eq=False, gc=True):
    """A delivery that knows its consumer."""

    message: Message
    consumer: "MemoryConsumer"
    verdict: Verdict | None = None

    def settle(
        self, verdict: Verdict, reply: Publishing | None = None, copy: Publishing | None = None
    ) -> None:
        if self.verdict is not None:
            raise RuntimeError(
                f"a delivery is settled once, and this one was already: {self.verdict}"
            )
        self.verdict = verdict
        if copy is None:
            self._answer(reply)
        else:
            self.consumer.connection.publish(copy, lambda confirm: self._copied(confirm, reply))

    def _copied(self, confirm: Confirm, reply: Publishing | None) -> None:
        """A copy must arrive; else the request is still here alone."""
        if confirm is Confirm.CONFIRMED:
            self._answer(reply)
        else:
            self.consumer.finish(self, Verdict.REQUEUE)

    def _answer(self, reply: Publishing | None) -> None:
        assert self.verdict is not None  # noqa: S101 - settle() set it
        if reply is None:
            self.consumer.finish(self, self.verdict)
        else:
            self.consumer.connection.publish(reply, self._replied)

    def _replied(self, confirm: Confirm) -> None:
        """A reply queue that is gone is no reason to handle the request again; a refusal is."""
        safe = confirm in {Confirm.CONFIRMED, Confirm.RETURNED}
        assert self.verdict is not None  # noqa: S101 - settle() set it
        self.consumer.finish(self, self.verdict if safe else Verdict.REQUEUE)


class MemoryConsumer:
    """One subscription, for the life of one connection."""

    def __init__(
        self, connection: "MemoryConnection", queue: MemoryQueue, subscription: Subscription
    ) -> None:
        self.connection = connection
        self.queue = queue
        self.unsettled: dict[MemoryDelivery, None] = {}
        self._subscription = subscription

    @property
    def has_room(self) -> bool:
        """A prefetch of 0 is no bound."""
        prefetch = self._subscription.prefetch
        return self._subscription.no_ack or prefetch == 0 or len(self.unsettled) < prefetch

    def take(self, message: Message) -> None:
        delivery = MemoryDelivery(
            message.exchange,
            message.routing_key,
            message.returns > 0,
            message.properties,
            message.body,
            message,
            self,
        )
        if self._subscription.no_ack:
            delivery.verdict = Verdict.ACK
        else:
            self.unsettled[delivery] = None
        asyncio.get_running_loop().call_soon(self._hand_over, delivery)

    def _hand_over(self, delivery: MemoryDelivery) -> None:
        if self.connection.alive:
            self._subscription.on_delivery(delivery)

    def finish(self, delivery: MemoryDelivery, verdict: Verdict) -> None:
        if not self.connection.alive:
            return
        del self.unsettled[delivery]
        match verdict:
            case Verdict.REQUEUE:
                self.queue.put_back([delivery.message])
            case Verdict.REJECT:
                self.queue.reject(delivery.message)
        self.queue.hand_out()
        self.connection.changed.set()

    def give_back(self) -> None:
        """What is unsettled when the connection ends."""
        messages = [delivery.message for delivery in self.unsettled]
        self.unsettled.clear()
        self.queue.put_back(messages)


class MemoryConnection:
    """One connection's life."""

    def __init__(
        self,
        broker: MemoryBroker,
        subscriptions: Sequence[Subscription],
        on_end: Callable[[str], None],
        on_return: Callable[[], None],
    ) -> None:
        """Raises TopologyError if a queue or an exchange is missing that must be there."""
        subscriptions = [
            found for found in subscriptions if not found.waits or found.queue in broker.queues
        ]
        for subscription in subscriptions:
            if subscription.queue and subscription.queue not in broker.queues:
                raise TopologyError(
                    f"queue {subscription.queue!r} cannot be consumed: there is no such queue"
                )
            if subscription.exchange and subscription.exchange not in broker.exchanges:
                raise TopologyError(
                    f"exchange {subscription.exchange!r} cannot be bound to: there is no such exchange"
                )
            for exchange in {
                binding.exchange for binding in subscription.bindings
            } - broker.exchanges.keys():
                raise TopologyError(
                    f"exchange {exchange!r} cannot be bound to: there is no such exchange"
                )
        self.alive = True
        self.changed = asyncio.Event()
        """Set when a delivery has been settled, and when the connection has ended."""
        self.reply_queue: str | None = None
        self._bound: tuple[str, str] | None = None
        """The private queue that is bound by keys, and its exchange."""
        self._broker = broker
        self._on_end = on_end
        self._on_return = on_return
        self._unconfirmed: dict[int, Callable[[Confirm], None]] = {}
        self._numbers = itertools.count(1)
        broker._connections.append(self)  # noqa: SLF001 - its other half
        self._consumers = [self._consume(subscription) for subscription in subscriptions]

    def _consume(self, subscription: Subscription) -> MemoryConsumer:
        queue = self._broker.declare_queue(subscription.queue)
        if subscription.exchange:
            self._bound = queue.name, subscription.exchange
        elif not subscription.queue:
            self.reply_queue = queue.name
            for binding in subscription.bindings:
                self._broker.bind(
                    queue.name, binding.exchange, binding.routing_key, binding.arguments
                )
        consumer = MemoryConsumer(self, queue, subscription)
        queue.consumers.append(consumer)
        queue.hand_out()
        return consumer

    @property
    def unsettled(self) -> int:
        return sum(len(consumer.unsettled) for consumer in self._consumers)

    def publish(self, publishing: Publishing, on_confirm: Callable[[Confirm], None]) -> None:
        if not self.alive:
            on_confirm(Confirm.LOST)
            return
        number = next(self._numbers)
        self._unconfirmed[number] = on_confirm
        asyncio.get_running_loop().call_soon(self._send, number, publishing)

    def _send(self, number: int, publishing: Publishing) -> None:
        if not self.alive:
            return  # reported as lost when it ended
        try:
            confirm = self._broker.publish(publishing)
        except KeyError as error:
            self._unconfirmed.pop(number)(
                Confirm.RETURNED
            )  # no queue took it, and none would the next time
            self.end(f"the broker closed the publishing channel: 404 no exchange {error}")
            return
        if confirm is Confirm.RETURNED:
            self._on_return()
        self._unconfirmed.pop(number)(confirm)

    def bind(self, routing_key: str, *, bound: bool = True) -> None:
        """Bind the private queue that is for it, or take that back. Not while draining: then it is gone."""
        if self._bound is not None and self._bound[0] in self._broker.queues:
            (self._broker.bind if bound else self._broker.unbind)(*self._bound, routing_key)

    def stop_requests(self) -> None:
        """Consume nothing but replies. What is bound by keys goes at once, as a queue does without its last consumer."""
        self._cancel(lambda consumer: consumer.queue.name != self.reply_queue)
        self._delete_bound_queue()

    def _delete_bound_queue(self) -> None:
        if self._bound is not None and self._bound[0] in self._broker.queues:
            self._broker.delete_queue(self._bound[0])

    def _cancel(self, which: Callable[["MemoryConsumer"], bool]) -> None:
        for consumer in filter(which, self._consumers):
            if consumer in consumer.queue.consumers:
                consumer.queue.consumers.remove(consumer)

    def end(self, reason: str) -> None:
        """Void every delivery, report every open publishing as lost, and give back what is unsettled."""
        if not self.alive:
            return
        self.alive = False
        self._broker._connections.remove(self)  # noqa: SLF001 - its other half
        self._cancel(lambda _: True)
        self.changed.set()
        if self.reply_queue in self._broker.queues:
            self._broker.delete_queue(self.reply_queue)
        self._delete_bound_queue()
        unconfirmed, self._unconfirmed = self._unconfirmed, {}
        for on_confirm in unconfirmed.values():
            on_confirm(Confirm.LOST)
        self._on_end(reason)
        for consumer in self._consumers:
            consumer.give_back()
