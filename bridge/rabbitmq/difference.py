"""The difference between a topology and what is there. Pure: values in, values out."""

import enum
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from bridge.dialects.names import vendor_of_key
from bridge.dialects.partitions import MARKER, exchange_label, label_of, own_queue
from bridge.dialects.topology import (
    Exchange,
    ExchangeBinding,
    Purpose,
    Queue,
    QueueBinding,
    Topology,
)
from bridge.rabbitmq.management import LiveBinding, LiveExchange, LiveQueue

ASIDE: Final = ":migrating"
"""How the names end of what a migration makes. No vendor's queue can be named so: a key has no
colon."""

POLICY_CAN: Final = {
    "x-delivery-limit": "delivery-limit",
    "x-dead-letter-exchange": "dead-letter-exchange",
    "x-dead-letter-strategy": "dead-letter-strategy",
    "x-max-length": "max-length",
    "x-message-ttl": "message-ttl",
    "x-overflow": "overflow",
}
"""Arguments that a policy can set on a queue that lacks them, and their names there. What stands in
a queue's arguments, a policy cannot loosen (https://www.rabbitmq.com/docs/policies)."""

LOST: Final = {
    "x-queue-type": "the copies on other nodes",
    "x-delivery-limit": "the delivery limit",
    "x-dead-letter-strategy": "dead-lettering that is sure",
    "x-dead-letter-exchange": "where it dead-letters to",
    "x-max-length": "the bound of its length",
    "x-max-length-bytes": "the bound of its bytes",
    "x-message-ttl": "the time to live of its messages",
    "x-single-active-consumer": "the single active consumer",
}
"""What a queue gives up that loses an argument; of the type: one that is quorum."""

APPLY: Final = "`dtbridge topology apply` creates what is missing."
MIGRATE: Final = "`dtbridge topology migrate` changes that without losing a message."
WEAKEN: Final = (
    "`dtbridge topology migrate` changes that if it is told to weaken queues: what is lost is"
)
QUORUM_ALREADY: Final = (
    "It is quorum already: start with queue type quorum, this command too, or workers in topology "
    "mode verify while some are quorum and some classic."
)
LEFT_OVER: Final = (
    "Of another number of partitions: `dtbridge topology migrate` moves what is left in it, and "
    "deletes it when nobody consumes it."
)


class Mark(enum.StrEnum):
    """What a finding is about."""

    MISSING = "missing"
    DIFFERENT = "different"
    RETIRED = "retired"
    """A vendor's queue that no router given handles, and no worker consumes."""
    UNKNOWN = "unknown"
    """The bridge's names, and nothing that it knows."""


class Change(msgspec.Struct, frozen=True):
    """A property or argument that is not what it must be. None: there is none."""

    name: str
    live: Any
    wanted: Any


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One difference."""

    mark: Mark
    kind: str
    """``exchange``, ``queue`` or ``binding``."""
    name: str
    """Of a binding: ``EXCHANGE -> QUEUE``, with the key between."""
    changes: tuple[Change, ...] = ()
    todo: str = ""
    """What to do: a sentence."""
    bound_to: tuple[str, ...] = ()
    messages: int | None = None
    """Ready and in hand."""
    consumers: tuple[str, ...] = ()
    """Who consumes a queue."""
    partitions_of: str = ""
    """The vendor's own queue, if it is about the number of that vendor's partitions."""


class Live(msgspec.Struct, frozen=True):
    """What is there, as far as it is of interest."""

    exchanges: Mapping[str, LiveExchange]
    queues: Mapping[str, LiveQueue]
    bindings: frozenset[tuple[str, str, str, str]]
    """Of queues: exchange, key, arguments (:func:`table`) and queue."""
    ways: frozenset[tuple[str, str, str, str]] = frozenset()
    """Likewise, of exchanges that are bound to exchanges."""
    consumers: Mapping[str, Sequence[str]] = {}
    """Who consumes a queue, by its name."""


class Difference(msgspec.Struct, frozen=True):
    """All findings, and how many parts are as they must be."""

    findings: tuple[Finding, ...]
    fine: int
    unseen: tuple[str, ...] = ()
    """Sentences about what could not be seen."""
    paused: tuple[str, ...] = ()
    """Vendors that are paused."""

    def of(self, *marks: Mark) -> list[Finding]:
        return [finding for finding in self.findings if finding.mark in marks]


def table(arguments: Mapping[str, Any] | None) -> str:
    """Arguments as text that is the same for the same ones."""
    return msgspec.json.encode(dict(sorted((arguments or {}).items()))).decode()


def binding_of(live: LiveBinding) -> tuple[str, str, str, str]:
    """A live binding as :attr:`Live.bindings` has it."""
    return live.source, live.routing_key, table(live.arguments), live.destination


def compare(
    topology: Topology,
    live: Live,
    *,
    prefix: str,
    requests: str | None,
    known: frozenset[str] = frozenset(),
) -> Difference:
    """What `topology` wants and `live` does not have, has otherwise, or has besides.

    `prefix`: how the bridge's names begin. `requests`: the exchange that vendors' queues are bound
    to; None: vendors have no queues. `known`: names that are right although this topology does not
    have them.
    """
    findings: list[Finding] = []
    fine = 0
    for part in topology.parts:
        match part:
            case Exchange():
                found = compare_exchange(part, live.exchanges.get(part.name))
            case Queue():
                found = compare_queue(part, live.queues.get(part.name))
            case QueueBinding() | ExchangeBinding():
                found = _compare_binding(part, live, requests)
        if found is None:
            fine += 1
        else:
            findings.append(found)
    findings += _besides(topology, live, prefix, requests, known)
    return Difference(tuple(findings), fine, paused=tuple(_paused(topology, live)))


def _paused(topology: Topology, live: Live) -> Iterator[str]:
    names = {part.name for part in topology.control}
    for exchange, key, _, queue in sorted(live.bindings):
        if exchange == queue and exchange in names:
            yield vendor_of_key(key)


def compare_exchange(wanted: Exchange, live: LiveExchange | None) -> Finding | None:
    """None: it is as it must be."""
    if live is None:
        return Finding(mark=Mark.MISSING, kind="exchange", name=wanted.name, todo=APPLY)
    changes = [] if live.type == wanted.kind else [Change("type", live.type, wanted.kind)]
    if not wanted.predeclared:
        for name, want, is_ in (
            ("durable", wanted.durable, live.durable),
            ("auto_delete", False, live.auto_delete),
            ("internal", False, live.internal),
        ):
            if is_ != want:
                changes.append(Change(name, is_, want))
        changes += changed(live.arguments, wanted.arguments)
    return exchange_differs(wanted.name, changes) if changes else None


def exchange_differs(name: str, changes: Sequence[Change]) -> Finding:
    return Finding(
        mark=Mark.DIFFERENT,
        kind="exchange",
        name=name,
        changes=tuple(changes),
        todo="An exchange cannot be changed: while gateways and workers are stopped, delete it and "
        "run `dtbridge topology apply`.",
    )


def compare_queue(wanted: Queue, live: LiveQueue | None) -> Finding | None:
    """None: it is as it must be."""
    if live is None:
        return Finding(mark=Mark.MISSING, kind="queue", name=wanted.name, todo=APPLY)
    changes = [
        Change(name, is_, want)
        for name, want, is_ in (
            ("durable", True, live.durable),
            ("auto_delete", False, live.auto_delete),
            ("exclusive", False, live.exclusive),
        )
        if is_ != want
    ]
    changes += changed(live.arguments, wanted.arguments)
    if not changes:
        return None
    return queue_differs(wanted.name, changes, live)


def queue_differs(name: str, changes: Sequence[Change], live: LiveQueue | None = None) -> Finding:
    marked = any(change.name == MARKER for change in changes)
    return Finding(
        mark=Mark.DIFFERENT,
        kind="queue",
        name=name,
        partitions_of=name if marked and not label_of(name) else "",
        changes=tuple(changes),
        todo=_what_to_do(changes, live),
        messages=None if live is None else live.messages,
    )


def losses(changes: Sequence[Change]) -> list[str]:
    """What a queue would give up by these changes: replication, limits, bounds."""
    lost = {
        each.name
        for each in changes
        if each.live is not None
        and (each.wanted is None or (each.name, each.live) == ("x-queue-type", "quorum"))
    }
    return [told for name, told in LOST.items() if name in lost]


def is_quorum_already(changes: Sequence[Change]) -> bool:
    """Whether what differs is a quorum queue where a classic one is wanted."""
    return any((each.name, each.live) == ("x-queue-type", "quorum") for each in changes)


def _what_to_do(changes: Sequence[Change], live: LiveQueue | None) -> str:
    if lost := losses(changes):
        told = f"{WEAKEN} {', '.join(lost)}."
        return f"{QUORUM_ALREADY} {told}" if is_quorum_already(changes) else told
    by_policy = {POLICY_CAN[each.name]: each.wanted for each in changes if _policy_can(each)}
    if len(by_policy) < len(changes):
        return MIGRATE
    definition = {} if live is None else live.effective_policy_definition
    if all(definition.get(name) == value for name, value in by_policy.items()):
        policy = "" if live is None else live.policy or live.operator_policy or ""
        return f"The policy {policy} sets the same: workers in mode verify take that. " + MIGRATE
    names = ", ".join(sorted(by_policy))
    return f"{MIGRATE} A policy can set {names} as well, for workers in mode verify."


def _policy_can(change: Change) -> bool:
    return change.name in POLICY_CAN and change.live is None and change.wanted is not None


def changed(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[Change]:
    """Arguments that are not what they must be."""
    return [
        Change(name, live.get(name), wanted.get(name))
        for name in sorted(live.keys() | wanted.keys())
        if live.get(name) != wanted.get(name)
    ]


def binding_name(binding: QueueBinding | ExchangeBinding) -> str:
    """As :attr:`Finding.name` has it."""
    arrow = f"-[{binding.routing_key}]->" if binding.routing_key else "->"
    return f"{binding.exchange} {arrow} {_end_of(binding)}"


def _end_of(binding: QueueBinding | ExchangeBinding) -> str:
    return binding.queue if isinstance(binding, QueueBinding) else binding.to


def _compare_binding(
    wanted: QueueBinding | ExchangeBinding, live: Live, requests: str | None
) -> Finding | None:
    end = _end_of(wanted)
    key = wanted.exchange, wanted.routing_key, table(wanted.arguments), end
    others = _other_ways(wanted, live) if wanted.exchange == requests else ()
    if others:
        return Finding(
            mark=Mark.DIFFERENT,
            kind="binding",
            name=binding_name(wanted),
            todo=MIGRATE,
            bound_to=others,
            partitions_of=wanted.guard,
        )
    if isinstance(wanted, QueueBinding):
        there = key in live.bindings or f"{end}{ASIDE}" in live.exchanges
    else:
        there = key in live.ways
    if there:
        return None  # in a migration, it leads there in two steps
    return Finding(mark=Mark.MISSING, kind="binding", name=binding_name(wanted), todo=APPLY)


def _other_ways(wanted: QueueBinding | ExchangeBinding, live: Live) -> tuple[str, ...]:
    """Where else the vendor's requests go: with this binding as well they would come twice."""
    own, mine = wanted.guard, (_end_of(wanted), f"{wanted.guard}{ASIDE}")
    return tuple(
        sorted(
            end
            for exchange, key, _, end in live.bindings | live.ways
            if (exchange, key) == (wanted.exchange, wanted.routing_key)
            and end not in mine
            and (end == own or exchange_label(end.removesuffix(ASIDE))[0] == own)
        )
    )


def _besides(
    topology: Topology, live: Live, prefix: str, requests: str | None, known: frozenset[str]
) -> Iterator[Finding]:
    ours = known | {part.name for part in topology.exchanges}
    ours |= {part.name for part in topology.queues}
    handled = {each.routing_key for each in topology.bindings if each.exchange == requests}
    dead = next((each.name for each in topology.exchanges if each.purpose is Purpose.DEAD), "")
    for name, queue in sorted(live.queues.items()):
        if name in ours or name.startswith(f"{prefix}.replies."):
            continue
        if name.endswith(ASIDE):
            yield _under_way(name, queue)
            continue
        if queue.exclusive:
            continue  # of a connection that looks on
        if label_of(name) and own_queue(name) in ours:
            yield _left_over("queue", name, queue, live.consumers.get(name, ()))
            continue
        bound = sorted(each for each in live.bindings if each[3] == name)
        keys = {key for exchange, key, _, _ in bound if exchange == requests}
        vendors = requests is not None and name.startswith(f"{prefix}.") and not keys & handled
        retired = vendors and (keys or queue.arguments.get("x-dead-letter-exchange") == dead)
        consumers = tuple(live.consumers.get(name, ()))
        # The count of a queue is seconds old. The list of consumers is not, but it may still have
        # one whose channel has ended, and which has no name.
        consumed = queue.consumers > 0 and bool(consumers)
        yield Finding(
            mark=Mark.RETIRED if retired and not consumed else Mark.UNKNOWN,
            kind="queue",
            name=name,
            todo=_besides_todo(retired=bool(retired), consumed=consumed),
            bound_to=tuple(
                f"{exchange} by {key}" if key else exchange for exchange, key, _, _ in bound
            ),
            messages=queue.messages,
            consumers=consumers,
        )
    pruned = {(own_queue(name), label_of(name)) for name in live.queues}
    for name in sorted(live.exchanges.keys() - ours):
        own, label = exchange_label(name.removesuffix(ASIDE))
        if own in ours:
            yield _left_over("exchange", name)
        elif not name.removesuffix("-rest").endswith(ASIDE) and (own, label) not in pruned:
            yield Finding(mark=Mark.UNKNOWN, kind="exchange", name=name)


def _left_over(
    kind: str, name: str, queue: LiveQueue | None = None, consumers: Sequence[str] = ()
) -> Finding:
    return Finding(
        mark=Mark.DIFFERENT,
        kind=kind,
        name=name,
        todo=LEFT_OVER,
        messages=None if queue is None else queue.messages,
        consumers=tuple(consumers),
        partitions_of=own_queue(name) if queue else exchange_label(name.removesuffix(ASIDE))[0],
    )


def _under_way(name: str, queue: LiveQueue) -> Finding:
    return Finding(
        mark=Mark.DIFFERENT,
        kind="queue",
        name=name,
        todo="A migration is under way or was interrupted: `dtbridge topology migrate` goes on "
        "with it.",
        messages=queue.messages,
    )


def _besides_todo(*, retired: bool, consumed: bool) -> str:
    if retired and consumed:
        return "No router given handles it, but workers consume it: name their routers as well."
    if retired:
        return "No router given handles it, and its stations get silence: it can be pruned."
    return ""
