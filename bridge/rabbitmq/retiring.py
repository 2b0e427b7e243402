"""Retires a vendor's queue: nobody handles its requests any more, and their stations get silence.

The order matters. First the queue is unbound, so that new requests are answered UnknownVendorId:
they find no queue, and go to that of unknown vendors. What is still in the queue is published there
as well, each message confirmed before it is acknowledged. And only when the queue is known to be
empty for good (:mod:`bridge.rabbitmq.moving`), it is deleted.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import msgspec

from bridge.dialects.names import Names
from bridge.dialects.partitions import label_of, own_queue
from bridge.dialects.topology import Purpose
from bridge.rabbitmq.changing import Changes
from bridge.rabbitmq.live import consumers_of
from bridge.rabbitmq.management import Management
from bridge.rabbitmq.migrating import PATIENCE
from bridge.rabbitmq.moving import copy_of, moving, until_empty
from bridge.transport import Binding, Delivery, Publishing, TopologyError

TRIES: Final = 8
BETWEEN_TRIES: Final = 1.0
"""Seconds. The management API learns of a consumer within five."""


class Retired(msgspec.Struct):
    """A queue that is gone."""

    queue: str
    moved: int
    """Messages that were in it, and are answered as those of unknown vendors."""


async def retire(
    changes: Changes,
    management: Management,
    vhost: str,
    queue: str,
    *,
    names: Names,
    name: str,
    patience: float = PATIENCE,
) -> Retired:
    """Unbind a queue, have what is in it answered, and delete it.

    `names`: the bridge's. `name`: for the broker's list of connections. `patience`: seconds. Raises
    :class:`~bridge.transport.TopologyError` if somebody consumes it, or it does not become empty.
    Run again, it goes on where it was.
    """
    live = await management.queue(vhost, queue)
    seen = await changes.look(queue)
    if live is None or seen is None:
        return Retired(queue, 0)
    if seen.consumers:
        raise TopologyError(await _who_consumes(management, vhost, queue, seen.consumers))
    if await changes.look(names.unknown_vendor) is None:
        raise TopologyError(
            f"there is no queue {names.unknown_vendor!r} that would answer what is in {queue!r}: "
            "declare it first"
        )

    def elsewhere(delivery: Delivery) -> Publishing:
        return copy_of(delivery, Purpose.REQUESTS, exchange=names.unrouted)

    async def count(_: str) -> int:
        return (await management.totals(vhost, queue)).get(queue, -1)

    for bound in await management.bindings_of_queue(vhost, queue):
        await changes.unbind(
            queue, Binding(bound.source, bound.routing_key, bound.arguments or None)
        )
    since = time.monotonic()
    async with moving(changes.url, name) as mover:
        await mover.consume(queue, elsewhere)
        why = await until_empty(mover, changes, queue, count, since=since, patience=patience)
        await mover.cancel(queue)
        moved = mover.moved[queue]
    seen = await changes.look(queue)
    if seen is not None and seen.consumers and not why:
        why = await _who_consumes(management, vhost, queue, seen.consumers)
    if why:
        raise TopologyError(
            f"queue {queue!r} is unbound, and its requests are answered UnknownVendorId, but it is "
            f"not deleted: {why}"
        )
    await changes.delete(queue, only_if_empty=live.type == "classic")
    return Retired(queue, moved)


async def retire_partitions(
    changes: Changes, management: Management, vhost: str, queues: Sequence[str], *, names: Names
) -> None:
    """Unbind the exchanges of partitions, and delete them: their queues are about to be retired.

    `queues`: those queues. What is published finds no queue from then on.
    """
    exchanges = {f"{own_queue(queue)}:{label_of(queue)}" for queue in queues if label_of(queue)}
    for exchange in sorted(exchanges):
        for bound in await management.bindings_to_exchange(vhost, exchange):
            if bound.source == names.requests:
                source = Binding(bound.source, bound.routing_key, bound.arguments or None)
                await changes.unbind_exchange(exchange, source)
        await changes.delete_exchange(exchange)


async def _who_consumes(management: Management, vhost: str, queue: str, count: int) -> str:
    names: Sequence[str] = ()
    for _ in range(TRIES):
        names = (await consumers_of(management, vhost, [queue])).get(queue, ())
        if names:
            break
        await asyncio.sleep(BETWEEN_TRIES)
    told = f" ({', '.join(names)})" if names else ""
    consumers = "a consumer" if count == 1 else f"{count} consumers"
    return f"queue {queue!r} still has {consumers}{told}: stop those workers first"
