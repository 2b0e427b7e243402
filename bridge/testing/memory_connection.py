"""One connection to the broker in memory: consumers, deliveries and publishings."""

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Sequence

from bridge.testing.memory_broker import MemoryBroker, MemoryQueue, Message
from bridge.transport import Confirm, Delivery, Publishing, Subscription, TopologyError, Verdict


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
            self._answer(verdict, reply)
        else:
            self.consumer.connection.publish(
                copy, lambda confirm: self._copied(confirm, verdict, reply)
            )

    def _copied(self, confirm: Confirm, verdict: Verdict, reply: Publishing | None) -> None:
        """A copy must arrive. If it did not, the request is nowhere but here."""
        if confirm is Confirm.CONFIRMED:
            self._answer(verdict, reply)
        else:
            self.consumer.finish(self, Verdict.REQUEUE)

    def _answer(self, verdict: Verdict, reply: Publishing | None) -> None:
        if reply is None:
            self.consumer.finish(self, verdict)
        else:
            self.consumer.connection.publish(reply, lambda confirm: self._replied(confirm, verdict))

    def _replied(self, confirm: Confirm, verdict: Verdict) -> None:
        """A refusal is a reason to handle the request again. A reply queue that is gone is not."""
        safe = confirm in {Confirm.CONFIRMED, Confirm.RETURNED}
        self.consumer.finish(self, verdict if safe else Verdict.REQUEUE)


class MemoryConsumer:
    """One subscription, for the life of one connection."""

    def __init__(
        self, connection: "MemoryConnection", queue: MemoryQueue, subscription: Subscription
    ) -> None:
        self.connection = connection
        self.queue = queue
        self.unsettled: dict[MemoryDelivery, None] = {}
        self.left = 0
        """Of those, what goes back when the connection ends, and waits for nothing."""
        self.in_order = subscription.in_order
        self._subscription = subscription

    @property
    def has_room(self) -> bool:
        """Whether the prefetch allows another message. A prefetch of 0 is no bound."""
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

    def cancelled(self, reason: str) -> None:
        """The queue is gone, and the connection ends."""
        self.connection.end(reason)

    def _hand_over(self, delivery: MemoryDelivery) -> None:
        if self.connection.alive:
            self._subscription.on_delivery(delivery)

    def finish(self, delivery: MemoryDelivery, verdict: Verdict) -> None:
        if not self.connection.alive:
            return
        if verdict is Verdict.LEAVE:
            self.left += 1
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
        """Return what is unsettled when the connection ends."""
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
        on_refuse: Callable[[], None],
    ) -> None:
        """Consume. Raises TopologyError if a queue or an exchange is missing that must be there."""
        subscriptions = [
            each for each in subscriptions if not each.waits or each.queue in broker.queues
        ]
        for subscription in subscriptions:
            _check(broker, subscription)
        self.alive = True
        self.changed = asyncio.Event()
        """Set when a delivery is settled, and when the connection ends."""
        self.reply_queue: str | None = None
        self._bound: tuple[str, str] | None = None
        """The private queue that is bound by keys, and the exchange that it is bound to."""
        self._broker = broker
        self._on_end = on_end
        self._on_return = on_return
        self._on_refuse = on_refuse
        self._unconfirmed: dict[int, Callable[[Confirm], None]] = {}
        self._numbers = itertools.count(1)
        broker.connections.append(self)
        self._consumers = [self._consume(subscription) for subscription in subscriptions]

    def _consume(self, subscription: Subscription) -> MemoryConsumer:
        queue = self._broker.declare_queue(subscription.queue, max_length=subscription.max_length)
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
        return sum(len(consumer.unsettled) - consumer.left for consumer in self._consumers)

    def publish(self, publishing: Publishing, on_confirm: Callable[[Confirm], None]) -> None:
        if not self.alive:
            on_confirm(Confirm.LOST)
            return
        number = next(self._numbers)
        self._unconfirmed[number] = on_confirm
        asyncio.get_running_loop().call_soon(self._send, number, publishing)

    def emit(self, publishing: Publishing) -> None:
        """Publish without a confirm. If the exchange is gone, so is the message."""
        if self.alive:
            with contextlib.suppress(KeyError):
                self._broker.publish(publishing)

    def _send(self, number: int, publishing: Publishing) -> None:
        if not self.alive:
            return  # reported as lost when it ended
        try:
            confirm = self._broker.publish(publishing)
        except KeyError as error:
            # No queue took it, and none would the next time.
            self._unconfirmed.pop(number)(Confirm.RETURNED)
            self.end(f"the broker closed the publishing channel: 404 no exchange {error}")
            return
        if confirm is Confirm.RETURNED:
            self._on_return()
        elif confirm is Confirm.REFUSED:
            self._on_refuse()
        self._unconfirmed.pop(number)(confirm)

    def bind(self, routing_key: str, *, bound: bool = True) -> None:
        """Bind the private queue that takes keys, or unbind it. While draining there is none."""
        if self._bound is not None and self._bound[0] in self._broker.queues:
            (self._broker.bind if bound else self._broker.unbind)(*self._bound, routing_key)

    def stop_requests(self) -> None:
        """Consume nothing but replies from now on.

        The queue that is bound by keys goes at once, as queues do with their last consumer.
        """
        self._cancel(
            lambda consumer: not consumer.in_order and consumer.queue.name != self.reply_queue
        )
        self._delete_bound_queue()

    def _delete_bound_queue(self) -> None:
        if self._bound is not None and self._bound[0] in self._broker.queues:
            self._broker.delete_queue(self._bound[0])

    def _cancel(self, which: Callable[["MemoryConsumer"], bool]) -> None:
        for consumer in filter(which, self._consumers):
            if consumer in consumer.queue.consumers:
                consumer.queue.consumers.remove(consumer)

    def end(self, reason: str) -> None:
        """Void every delivery, report open publishings as lost, and give back what is unsettled."""
        if not self.alive:
            return
        self.alive = False
        self._broker.connections.remove(self)
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


def _check(broker: MemoryBroker, subscription: Subscription) -> None:
    """Raises TopologyError if what a subscription needs is not there."""
    if subscription.queue and subscription.queue not in broker.queues:
        raise TopologyError(
            f"queue {subscription.queue!r} cannot be consumed: there is no such queue"
        )
    exchanges = {binding.exchange for binding in subscription.bindings}
    if subscription.exchange:
        exchanges.add(subscription.exchange)
    for exchange in exchanges - broker.exchanges.keys():
        raise TopologyError(f"exchange {exchange!r} cannot be bound to: there is no such exchange")
