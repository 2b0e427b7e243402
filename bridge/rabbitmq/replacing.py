"""Deletes a queue and declares it anew, with other arguments, while others consume it.

**The trap.** Consumers end with their queue, each when its channel hears of that. But a channel
that hears of it when there is a queue of the same name again consumes the new one on its own, and
then forgets that it does: what the queue delivers to it is in hand for ever, and reaches nobody.
(``rabbit_channel`` of RabbitMQ, ``handle_consuming_queue_down_or_eol``; seen on 3.10 whenever the
node was busy.) So between the old queue and the new one, an exclusive queue has the name for a
moment. No channel of another connection can consume that, so that each cancels its consumer.

That queue takes no messages: it refuses them, and who publishes tries again. It is gone with the
connection. Meanwhile a worker that comes back is refused the name, and tries again as well.

**The other trap.** A worker may be quicker still, and declare the queue as it knows it. While it
does, the queue must not be deleted: the process that dead-letters for it fails, fails again as it
is started anew, and takes with it the supervisor of all such processes. From then on the node makes
no quorum queue that dead-letters at least once, until it is started anew. (``rabbit_fifo_dlx_sup``;
seen on 3.10.) So it is given the time to get ready.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import aiormq

from bridge.dialects.topology import Queue
from bridge.rabbitmq.changing import Changes
from bridge.transport import TopologyError

HEARD_WITHIN: Final = 1.0
"""Seconds in which channels hear that a queue of theirs is gone."""
ATTEMPTS: Final = 20
"""Times that a queue is deleted and declared, if a worker has declared it first in between."""
READY_WITHIN: Final = 0.3
"""Seconds in which a queue that a worker declares is ready, and may be deleted. What it gets until
then are copies, and each that it handles is handled twice: so it is no longer than need be."""
_TAKES_NOTHING: Final[dict[str, Any]] = {"x-max-length": 0, "x-overflow": "reject-publish"}
_QUICKER: Final = (
    aiormq.exceptions.ChannelPreconditionFailed,
    aiormq.exceptions.ChannelLockedResource,
)


async def declare_first(changes: Changes, queue: Queue) -> None:
    """Declare a queue that is not there; replace it if a worker was quicker.

    Raises :class:`~bridge.transport.TopologyError`.
    """
    try:
        await changes.declare(queue)
    except TopologyError as error:
        if not isinstance(error.__cause__, _QUICKER):
            raise
        await asyncio.sleep(READY_WITHIN)
        await replace(changes, queue, only_if_empty=False)


async def replace(
    changes: Changes,
    queue: Queue,
    *,
    only_if_empty: bool,
    on_deleted: Callable[[], None] = lambda: None,
) -> None:
    """Delete the queue of that name, with what is in it, and declare `queue`.

    `only_if_empty`: as :meth:`~bridge.rabbitmq.changing.Changes.delete`. `on_deleted`: called when
    the old one is gone. Raises :class:`~bridge.transport.TopologyError`.
    """
    await changes.delete(queue.name, only_if_empty=only_if_empty)
    on_deleted()
    for left in reversed(range(ATTEMPTS)):
        try:
            await changes.declare_exclusive(queue.name, _TAKES_NOTHING)
            await asyncio.sleep(HEARD_WITHIN)
            await changes.delete(queue.name, only_if_empty=False)
            await changes.declare(queue)
        except TopologyError as error:
            if not left or not isinstance(error.__cause__, _QUICKER):
                raise
            # A worker that lost its consumer has declared it, or does so, as it knows it.
            await asyncio.sleep(READY_WITHIN)
            await changes.delete(queue.name, only_if_empty=False)
        else:
            return
