"""What lies in the queues, and who takes it."""

from collections.abc import Iterator
from typing import Final

from bridge.dialects.partitions import own_queue
from bridge.dialects.topology import DEAD_LENGTH, Purpose, Queue
from bridge.doctor.facts import Surroundings
from bridge.doctor.findings import Check, Finding, fail, ok, queues, some, warn
from bridge.rabbitmq.probing import Right

BACKLOG: Final = 1_000
"""Requests that wait in a queue from which on it is worth a word: a worker answers as many in a
tenth of a second, if its handlers do not wait."""
MANY_DEAD: Final = 0.8
"""Part of the dead letters that are kept at most."""


class _Counts:
    """Of one queue: what is ready, and its consumers."""

    def __init__(self, known: Surroundings, queue: Queue) -> None:
        live = known.management.queues.get(queue.name) if known.management is not None else None
        seen = known.broker.part(queue.name, is_queue=True)
        self.known = live is not None or (seen is not None and seen.there is Right.GRANTED)
        self.ready = self.consumers = self.in_hand = 0
        if seen is not None:
            self.ready, self.consumers = seen.messages, seen.consumers
        if live is not None:
            self.in_hand = live.messages_unacknowledged
            if seen is None or seen.there is not Right.GRANTED:
                self.ready, self.consumers = live.messages_ready, live.consumers


def check_consumers(known: Surroundings) -> Iterator[Finding]:
    if known.broker.host is None:
        return
    idle, served = [], 0
    for queue in known.plan.queues:
        counts = _Counts(known, queue)
        nobody = {Purpose.DEAD, Purpose.CONTROL}
        if not counts.known or queue.purpose in nobody or queue.name in known.paused.values():
            continue
        if counts.consumers:
            served += 1
        elif counts.ready and queue.purpose is Purpose.REQUESTS:
            yield fail(
                "consumers",
                f"nobody takes from queue {queue.name}, and {counts.ready:,} requests wait in it",
                "start a worker with the router of that vendor, or look why it is not in the state "
                "consuming (its log, /readyz)",
            )
        else:
            idle.append(queue.name)
    if idle and not served:
        yield warn("consumers", "no worker consumes", "start one: dtbridge run MODULE:NAME")
    elif idle:
        yield warn(
            "consumers",
            f"nobody takes from {some(idle)}",
            "start a worker with the routers of those vendors",
        )
    elif served:
        yield ok("consumers", f"{served} queues have consumers")


def check_backlog(known: Surroundings) -> Iterator[Finding]:
    if known.broker.host is None:
        return
    looked = False
    waiting = 0
    for queue in known.plan.request_queues:
        counts = _Counts(known, queue)
        looked = looked or counts.known
        waiting += counts.ready
        if counts.consumers and counts.ready >= BACKLOG:
            hand = f", {counts.in_hand:,} in hand" if counts.in_hand else ""
            yield warn(
                "backlog",
                f"{counts.ready:,} requests wait in queue {queue.name} ({counts.consumers} "
                f"consumers{hand})",
                "see by dtbridge top whether its handlers are slow; else start more workers",
            )
    if looked and waiting < BACKLOG:
        yield ok("backlog", f"{waiting:,} requests wait")


def check_dead_letters(known: Surroundings) -> Iterator[Finding]:
    for queue in known.plan.queues:
        if queue.purpose is not Purpose.DEAD:
            continue
        counts = _Counts(known, queue)
        if not counts.known:
            continue
        most = queue.arguments.get("x-max-length", DEAD_LENGTH)
        look = "look at them: dtbridge dead list; then dtbridge dead replay or purge"
        if counts.ready > MANY_DEAD * most:
            yield fail(
                "dead-letters",
                f"{counts.ready:,} of {most:,} dead letters at most: beyond that the oldest are "
                "lost",
                look,
            )
        elif counts.ready:
            yield warn("dead-letters", f"{counts.ready:,} dead letters", look)
        else:
            yield ok("dead-letters", "none")
        if counts.consumers:
            yield warn(
                "dead-letters",
                f"{counts.consumers} consumers take dead letters from {queue.name}",
                "somebody looks at them just now (dtbridge dead), or a program takes them away",
            )


def check_unroutable(known: Surroundings) -> Iterator[Finding]:
    """What no vendor's queue takes is answered by every worker."""
    queue = next((q for q in known.plan.queues if q.name == known.unknown_vendor), None)
    if queue is not None:
        counts = _Counts(known, queue)
        if counts.ready >= BACKLOG:
            yield warn(
                "unroutable",
                f"{counts.ready:,} requests to vendors without a queue wait in {queue.name}",
                "see whose they are (dtbridge tap), and start a worker for that vendor",
            )
    management = known.management
    if management is None:
        return
    # An event that nobody listens to is meant to be dropped.
    lost = management.overview.message_stats.drop_unroutable - management.unheard
    if lost > 0:
        besides = f", besides {management.unheard:,} events" if management.unheard else ""
        yield warn(
            "unroutable",
            f"{lost:,} publishings that no queue took were dropped on this cluster, by whichever "
            f"program{besides}",
            "have gateways publish with mandatory, and to the exchange of the contract",
        )


def check_strangers(known: Surroundings) -> Iterator[Finding]:
    """Queues of the bridge's name that no router here is for."""
    if known.management is None or known.vendors is None or known.vendors.error:
        return
    planned = {queue.name for queue in known.plan.queues}
    others = [
        queue
        for name, queue in sorted(known.management.queues.items())
        if name not in planned
        and name.startswith(f"{known.prefix}.")
        and own_queue(name) not in planned  # of another number of partitions
        and not name.startswith((f"{known.prefix}.replies.", f"{known.prefix}.dead."))
        and not queue.exclusive
        and not queue.consumers
    ]
    if others:
        waiting = sum(queue.messages_ready for queue in others)
        wait = f" ({waiting:,} requests wait)" if waiting else ""
        yield warn(
            "retired",
            f"nobody takes from {queues([queue.name for queue in others])}, and no router given "
            f"here is for {'it' if len(others) == 1 else 'them'}: stations get no answer{wait}",
            "start workers for that, or retire it: dtbridge topology plan",
        )


CHECKS: Final[tuple[Check[Surroundings], ...]] = (
    check_consumers,
    check_backlog,
    check_dead_letters,
    check_unroutable,
    check_strangers,
)
