"""The queues that a worker consumes for a vendor, and how much of each it may have in hand."""

from bridge.dialects.partitions import Partitions
from bridge.transport import Subscription
from bridge.worker.intake import Intake


def subscriptions(intake: Intake, spread: Partitions, priority: int) -> list[Subscription]:
    """To the vendor's queue, or to its partitions as well; all of them lead to one intake.

    What the intake may have in hand is shared out among the partitions, at least one each.
    `priority`: as :attr:`~bridge.transport.Subscription.priority`.
    """
    share = max(1, intake.prefetch // spread.count)
    routed = spread.queues(intake.queue)
    return [
        Subscription(
            queue,
            share,
            intake.on_delivery,
            intake.on_impossible,
            in_order=spread.ordered and queue in routed,
            priority=priority,
        )
        for queue in spread.consumed(intake.queue)
    ]
