"""Pauses a vendor, ends that, and says what is paused: an operator's side of what workers follow
(:mod:`bridge.rabbitmq.pausing`).

One step decides: the binding. Whoever is killed before it has changed nothing; whoever is killed
after it has not told the workers, which find out by themselves within seconds. Two operators who
say the same make one binding, and of two who say the opposite the last one counts.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Final

import aiormq

from bridge.dialects.names import Names
from bridge.dialects.topology import control_parts
from bridge.rabbitmq.changing import Changes, Seen
from bridge.rabbitmq.connection import Connection
from bridge.rabbitmq.declaring import refusals
from bridge.rabbitmq.losses import explain
from bridge.transport import Binding, TopologyError

HINT_WITHIN: Final = 2.0
"""Seconds for the broker to take a hint. One that has an alarm does not; then nothing is handled
anyway."""
LOOK_EVERY: Final = 0.1
"""Seconds between two looks at how many consumers there are."""


class Switch:
    """What an operator does, on a connection that is open."""

    def __init__(self, changes: Changes, names: Names) -> None:
        self._changes = changes
        self._names = names

    async def pause(self, key: str) -> None:
        """Pause the vendor with this key, and tell the workers.

        Raises :class:`~bridge.transport.TopologyError` for what the broker refuses; then nothing is
        paused.
        """
        binding = Binding(self._names.paused, key)
        try:
            await self._changes.bind(self._names.paused, binding)
        except TopologyError as error:
            if not isinstance(error.__cause__, aiormq.exceptions.ChannelNotFoundEntity):
                raise
            parts = control_parts(self._names)
            for _, refused in await refusals(
                self._changes.connection.connection, parts, passive=False
            ):
                raise refused from error
            await self._changes.bind(self._names.paused, binding)
        await self._hint(key)

    async def resume(self, key: str) -> None:
        """Take back :meth:`pause`, which may be done already. Raises likewise."""
        await self._changes.unbind(self._names.paused, Binding(self._names.paused, key))
        await self._hint(key)

    async def _hint(self, key: str) -> None:
        """Without one, workers look all the same, some seconds later.

        The broker may refuse it, where the queue of a worker was on a node that has died.
        """
        refused = aiormq.exceptions.AMQPChannelError, aiormq.exceptions.DeliveryError
        with contextlib.suppress(asyncio.TimeoutError, *refused):
            async with asyncio.timeout(HINT_WITHIN):
                channel = await self._changes.connection.channel(confirms=True)
                await channel.basic_publish(b"", exchange=self._names.control, routing_key=key)
                await channel.close()

    async def are_paused(self, keys: Iterable[str]) -> set[str]:
        """As :func:`are_paused`."""
        return await are_paused(self._changes.connection, self._names.paused, keys)

    async def until_consumed(self, queue: str, *, consumed: bool, seconds: float) -> Seen | None:
        """Wait until a queue has consumers, or has none, for so many seconds at most.

        Returns what it has then; None: there is no such queue.
        """
        seen = await self._changes.look(queue)
        with contextlib.suppress(asyncio.TimeoutError):
            async with asyncio.timeout(seconds):
                while seen is not None and bool(seen.consumers) is not consumed:
                    await asyncio.sleep(LOOK_EVERY)
                    seen = await self._changes.look(queue)
        return seen


async def are_paused(connection: Connection, exchange: str, keys: Iterable[str]) -> set[str]:
    """Those of the keys that are paused: by `exchange`, whose name is :attr:`Names.paused`.

    Raises :class:`~bridge.transport.TopologyError` if one may not ask.
    """
    found = set()
    channel = await connection.channel(confirms=True)
    try:
        for key in keys:
            answer = await channel.basic_publish(
                b"", exchange=exchange, routing_key=key, mandatory=True
            )
            if isinstance(answer, aiormq.spec.Basic.Ack):  # and not what was returned
                found.add(key)
    except aiormq.exceptions.ChannelNotFoundEntity:
        return set()
    except aiormq.exceptions.AMQPChannelError as error:
        raise TopologyError(explain(error)) from error
    await channel.close()
    return found
