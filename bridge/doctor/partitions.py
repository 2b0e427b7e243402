"""Vendors with several queues: what the broker needs for them, and whether all say one number."""

from collections.abc import Iterator
from typing import Final

from bridge.dialects.partitions import KIND, MARKER, PLUGIN, label_of, own_queue
from bridge.doctor.facts import Surroundings
from bridge.doctor.findings import Check, Finding, fail, ok, some, unknown, warn


def _planned(known: Surroundings) -> list[str]:
    """The exchanges of partitions."""
    return [each.name for each in known.plan.exchanges if each.kind == KIND]


def check_plugin(known: Surroundings) -> Iterator[Finding]:
    if not _planned(known):
        if known.vendors is not None and known.vendors.partitions:
            yield fail(
                "partitions",
                f"{some(list(known.vendors.partitions))}: partitions and order are for the native "
                "dialect",
                "take partitions= and ordered= from these routers: the worker refuses them",
            )
        return
    types = known.management.overview.exchange_types if known.management is not None else ()
    if not types:
        yield unknown(
            "partitions",
            f"whether the plugin {PLUGIN} is enabled is not known without the management API",
        )
    elif any(each.name == KIND and each.enabled for each in types):
        yield ok("partitions", f"the plugin {PLUGIN} is enabled")
    else:
        yield fail(
            "partitions",
            f"the plugin {PLUGIN} is not enabled: vendors with partitions cannot be served",
            f"on each node: rabbitmq-plugins enable {PLUGIN}",
        )


def check_numbers(known: Surroundings) -> Iterator[Finding]:
    """Queues of another number of partitions than the routers say."""
    if known.management is None or known.vendors is None or known.vendors.error:
        return
    planned = {queue.name: queue for queue in known.plan.queues}
    live = known.management.queues
    other = [
        name
        for name, queue in planned.items()
        if name in live and not label_of(name)
        if queue.arguments.get(MARKER) != live[name].arguments.get(MARKER)
    ]
    if other:
        yield fail(
            "partitions",
            f"the vendors of {some(other)} have another number of partitions than their routers "
            "say: a worker with --topology declare will not start",
            "dtbridge topology migrate changes the number without losing a request",
        )
    left = [
        name
        for name in live
        if label_of(name) and name not in planned and own_queue(name) in planned
    ]
    if left and not other:
        waiting = sum(live[name].messages for name in left)
        yield warn(
            "partitions",
            f"{some(left)} are of another number of partitions ({waiting:,} requests are in them)",
            "stop workers of that number, and run dtbridge topology migrate",
        )


CHECKS: Final[tuple[Check[Surroundings], ...]] = (check_plugin, check_numbers)
