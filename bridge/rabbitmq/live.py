"""What is declared at a broker: by the management API, or as far as AMQP tells."""

import asyncio
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Final

from bridge.dialects.topology import Exchange, Part, Purpose, Queue, Topology
from bridge.rabbitmq.changing import Changes
from bridge.rabbitmq.declaring import refusals
from bridge.rabbitmq.difference import (
    APPLY,
    Change,
    Difference,
    Finding,
    Live,
    Mark,
    binding_of,
    exchange_differs,
    queue_differs,
)
from bridge.rabbitmq.management import LiveBinding, LiveConnection, LiveConsumer, Management
from bridge.telemetry.lines import escaped
from bridge.transport import TopologyError

AT_ONCE: Final = 4
"""Requests to the management API at a time."""
NAMED: Final = 10
"""Consumers of a queue that are named."""


async def read_live(management: Management, vhost: str, topology: Topology, prefix: str) -> Live:
    """What there is of a topology, and what else is there that begins with `prefix`.

    The bindings of gateways' exchanges are not read: there may be one for each station.
    Raises :class:`~bridge.rabbitmq.management.ManagementError`.
    """
    queues = {queue.name: queue for queue in await management.queues(vhost, prefix)}
    for queue in topology.queues:
        if not queue.name.startswith(prefix):  # a dialect's dead letters are those of all
            found_queue = await management.queue(vhost, queue.name)
            if found_queue is not None:
                queues[queue.name] = found_queue
    exchanges = {each.name: each for each in await management.exchanges(vhost, prefix)}
    for wanted in topology.exchanges:
        if wanted.name not in exchanges:
            found = await management.exchange(vhost, wanted.name)
            if found is not None:
                exchanges[found.name] = found
    own = [
        each.name
        for each in topology.exchanges
        if each.name.startswith(prefix) and each.purpose is not Purpose.STATIONS
    ]
    foreign = {each.queue for each in topology.bindings if each.exchange not in own}
    asked = [
        partial(management.bindings_of_exchange, vhost, name) for name in own if name in exchanges
    ]
    asked += [
        partial(management.bindings_of_queue, vhost, name) for name in foreign & queues.keys()
    ]
    found_bindings = [each for found in await _few_at_a_time(asked) for each in found]
    bindings = [each for each in found_bindings if each.destination_type == "queue"]
    ways = [each for each in found_bindings if each.destination_type == "exchange"]
    others = {each.destination for each in bindings} - queues.keys()
    for name in others:  # bound to the bridge's exchanges, under a name of their own
        found_queue = await management.queue(vhost, name)
        if found_queue is not None:
            queues[name] = found_queue
    return Live(
        exchanges,
        queues,
        frozenset(map(binding_of, bindings)),
        frozenset(map(binding_of, ways)),
        await consumers_of(management, vhost, queues),
    )


async def _few_at_a_time(
    asked: Sequence[Callable[[], Awaitable[list[LiveBinding]]]],
) -> list[list[LiveBinding]]:
    found: list[list[LiveBinding]] = []
    for first in range(0, len(asked), AT_ONCE):
        found += await asyncio.gather(*(get() for get in asked[first : first + AT_ONCE]))
    return found


async def consumers_of(
    management: Management, vhost: str, queues: Iterable[str]
) -> dict[str, list[str]]:
    """Who consumes each of the queues, by the names that their connections gave themselves.

    The broker learns of a consumer first, and seconds later of its connection: without that, a
    consumer is left out.
    """
    wanted = set(queues)
    consumers = [each for each in await management.consumers(vhost) if each.queue.name in wanted]
    if not consumers:
        return {}
    connections = {each.name: each for each in await management.connections(vhost)}
    found: dict[str, list[str]] = defaultdict(list)
    for consumer in consumers:
        names, name = found[consumer.queue.name], _name_of(consumer, connections)
        if name and len(names) < NAMED:
            names.append(name)
    return dict(found)


def _name_of(consumer: LiveConsumer, connections: dict[str, LiveConnection]) -> str:
    """Empty: it is not known yet."""
    details = consumer.channel_details
    connection = connections.get(details.connection_name)
    name = connection.user_provided_name if connection else ""
    return escaped(name or details.connection_name)[:200]


# ---- without the management API ----

_INEQUIVALENT: Final = re.compile(
    r"inequivalent arg '([^']+)' for .*: received (.+?) but current is (.+)"
)
_VALUE: Final = re.compile(r"the value '(.*)' of type '.*'|'(.*)'")


_UNSEEN: Final = (
    "Without the management API, bindings, retired queues and all but the first argument that "
    "differs cannot be seen."
)


async def ask(changes: Changes, topology: Topology) -> Difference:
    """The difference as far as AMQP tells: what is missing, and what differs in what first.

    To declare a thing that is there changes nothing, and a broker that objects says why. It needs
    the permission to configure.
    """
    connection = changes.connection.connection
    parts: list[Part] = [*topology.exchanges, *topology.queues]
    absent = await refusals(connection, parts, passive=True)
    findings = [_missing(part, error) for part, error in absent]
    names = [part for part, _ in absent]
    there = [
        part
        for part in parts
        if part not in names and not (isinstance(part, Exchange) and part.predeclared)
    ]
    findings += [
        _differs(part, error) for part, error in await refusals(connection, there, passive=False)
    ]
    return Difference(
        tuple(findings),
        len(parts) - len(findings),
        (_UNSEEN,),
    )


def _missing(part: Part, error: TopologyError) -> Finding:
    kind, name = _kind_and_name(part)
    if "NOT_FOUND" in str(error):
        return Finding(mark=Mark.MISSING, kind=kind, name=name, todo=APPLY)
    return Finding(mark=Mark.UNKNOWN, kind=kind, name=name, todo=f"{error}.")


def _differs(part: Part, error: TopologyError) -> Finding:
    kind, name = _kind_and_name(part)
    change = change_of(str(error))
    if change is None:
        return Finding(mark=Mark.UNKNOWN, kind=kind, name=name, todo=f"{error}.")
    if isinstance(part, Queue):
        return queue_differs(name, [change])
    return exchange_differs(name, [change])


def change_of(words: str) -> Change | None:
    """What a broker objects to in a declaration; None: its words are not understood."""
    told = _INEQUIVALENT.search(words)
    return None if told is None else Change(told[1], _value(told[3]), _value(told[2]))


def _kind_and_name(part: Part) -> tuple[str, str]:
    return ("queue" if isinstance(part, Queue) else "exchange"), getattr(part, "name", "")


def _value(text: str) -> str | None:
    """What is in the broker's words for a value."""
    if text == "none":
        return None
    found = _VALUE.fullmatch(text)
    return text if found is None else found[1] or found[2]
