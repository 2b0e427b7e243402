"""The consumers of one session: started, stopped when a vendor is paused, and started again."""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import aiormq

from bridge.rabbitmq.connection import never_called
from bridge.rabbitmq.consuming import ConsumeLane
from bridge.transport import Subscription, TopologyError


class Consumer:
    """A queue that is consumed, or is to be."""

    def __init__(
        self,
        channel: aiormq.abc.AbstractChannel,
        lane: ConsumeLane,
        queue: str,
        subscription: Subscription,
    ) -> None:
        self.channel = channel
        self.lane = lane
        self.queue = queue
        self.subscription = subscription
        self.tag = ""
        """Empty: it is stopped."""


class Consumers:
    """All of a session."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._all: list[Consumer] = []
        self.steps = 0
        """Grows when a consumer is about to be started or stopped, and again when it is: odd in
        between."""
        self._by_key: defaultdict[str, list[Consumer]] = defaultdict(list)

    def add(
        self,
        channel: aiormq.abc.AbstractChannel,
        lane: ConsumeLane,
        queue: str,
        subscription: Subscription,
    ) -> Consumer:
        """A consumer that has yet to be started. `lane`: where the deliveries of `channel` go."""
        consumer = Consumer(channel, lane, queue, subscription)
        if subscription.in_order:  # it ends with its channel, and is never cancelled
            return consumer
        self._all.append(consumer)
        if subscription.pause_key:
            self._by_key[subscription.pause_key].append(consumer)
        return consumer

    def of(self, pause_key: str) -> Sequence[Consumer]:
        """Those with this key."""
        return self._by_key.get(pause_key, ())

    async def start(self, consumer: Consumer) -> None:
        """Consume. The prefetch of the channel must be that of the subscription.

        Raises :class:`~bridge.transport.TopologyError` if the broker refuses it.
        """
        self.steps += 1
        tag = f"dtbridge-{next(self._numbers)}"
        subscription = consumer.subscription
        consumer.lane.subscribe(tag, subscription)
        more: Any = {"x-priority": subscription.priority} if subscription.priority else None
        try:
            await consumer.channel.basic_consume(
                consumer.queue,
                never_called,
                no_ack=subscription.no_ack,
                arguments=more,
                consumer_tag=tag,
            )
        except aiormq.exceptions.AMQPChannelError as error:
            raise TopologyError(
                f"queue {consumer.queue!r} cannot be consumed: {error.args[0]}"
            ) from error
        consumer.tag = tag
        self.steps += 1

    async def resume(self, consumer: Consumer) -> None:
        """Start one that was stopped, or was never started. Raises as :meth:`start`."""
        if not consumer.tag:
            # RabbitMQ gives a consumer the prefetch that its channel has at that moment.
            await consumer.channel.basic_qos(prefetch_count=consumer.subscription.prefetch)
            await self.start(consumer)

    async def pause(self, consumer: Consumer) -> None:
        """Have the broker deliver no more to it. What it has delivered can still be settled."""
        if consumer.tag:
            self.steps += 1
            tag, consumer.tag = consumer.tag, ""
            await consumer.channel.basic_cancel(tag)
            consumer.lane.unsubscribe(tag)  # what was on its way has come before the answer
            self.steps += 1

    async def stop_requests(self, ended: asyncio.Future[str]) -> None:
        """Stop all but those of replies, which are wanted to the end.

        The broker deletes private queues with their last consumer, and so their bindings.
        """
        for consumer in self._all:
            if ended.done():
                return
            wanted = not consumer.subscription.queue and not consumer.subscription.exchange
            if consumer.tag and not wanted:
                await consumer.channel.basic_cancel(consumer.tag)
