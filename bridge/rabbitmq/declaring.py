"""Exchanges, queues and bindings: declared or looked for at a broker."""

from collections.abc import Mapping
from typing import Any, Final

import aio_pika
import aiormq

from bridge.dialects.names import Names
from bridge.transport import Binding, TopologyError


class _Declaring:
    """A channel for declarations; a broker that refuses one closes it, with a reason worth telling."""

    def __init__(self, connection: aio_pika.abc.AbstractConnection) -> None:
        self._channel = connection.channel(publisher_confirms=False)

    async def __aenter__(self) -> aiormq.abc.AbstractChannel:
        await self._channel.initialize()
        return await self._channel.get_underlay_channel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        if kind is None:
            await self._channel.close()


_REFUSALS: Final = (
    aiormq.exceptions.ChannelNotFoundEntity,
    aiormq.exceptions.ChannelPreconditionFailed,
    aiormq.exceptions.ChannelAccessRefused,
    aiormq.exceptions.ChannelLockedResource,
)


async def _gateway_exchanges(
    channel: aiormq.abc.AbstractChannel, names: Names, *, passive: bool
) -> None:
    await _exchange(channel, names.unrouted, "fanout", passive=passive)
    await _exchange(
        channel, names.requests, "direct", {"alternate-exchange": names.unrouted}, passive=passive
    )
    await _exchange(channel, names.stations, "direct", passive=passive)


async def _exchange(
    channel: aiormq.abc.AbstractChannel,
    name: str,
    kind: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    durable: bool = True,
    passive: bool,
) -> None:
    try:
        await channel.exchange_declare(
            name,
            exchange_type=kind,
            durable=durable,
            passive=passive,
            arguments=dict(arguments or {}),
        )
    except _REFUSALS as error:
        raise TopologyError(f"exchange {name!r}: {_reason(error)}") from error


async def _queue(
    channel: aiormq.abc.AbstractChannel,
    name: str,
    arguments: Mapping[str, Any],
    binding: Binding,
    *,
    passive: bool,
) -> None:
    try:
        await channel.queue_declare(name, durable=True, passive=passive, arguments=dict(arguments))
    except _REFUSALS as error:
        raise TopologyError(f"queue {name!r}: {_reason(error)}") from error
    if not passive:
        await bind(channel, name, binding)


async def bind(channel: aiormq.abc.AbstractChannel, queue: str, binding: Binding) -> None:
    """Raises :class:`TopologyError`."""
    try:
        await channel.queue_bind(
            queue, binding.exchange, binding.routing_key, arguments=binding.arguments
        )
    except _REFUSALS as error:
        raise TopologyError(
            f"queue {queue!r} and exchange {binding.exchange!r}: {_reason(error)}"
        ) from error


def _reason(error: BaseException) -> str:
    return str(error.args[0] if error.args else error).strip()
