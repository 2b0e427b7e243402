"""Exchanges and queues: whether they are there, what policies do to them, and a user's rights."""

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from bridge.dialects.topology import (
    DELIVERY_LIMIT,
    Exchange,
    Mode,
    Purpose,
    Queue,
    QueueType,
    delivery_limit,
)
from bridge.doctor.facts import Surroundings
from bridge.doctor.findings import (
    Check,
    Finding,
    fail,
    ok,
    queues,
    some,
    spoken,
    unknown,
    warn,
)
from bridge.rabbitmq.management import LiveQueue
from bridge.rabbitmq.probing import PartSeen, Right

LIMITS_SINCE: Final = (4, 0, 0)
"""From here on a quorum queue has a delivery limit, 20, although nobody set one."""


def _looked(known: Surroundings) -> bool:
    return known.broker.host is not None and not known.broker_error


def _seen(known: Surroundings, part: Exchange | Queue) -> PartSeen | None:
    return known.broker.part(part.name, is_queue=isinstance(part, Queue))


def _parts(known: Surroundings) -> tuple[Exchange | Queue, ...]:
    """But for those of pauses, which have a check of their own."""
    parts: list[Exchange | Queue] = [*known.plan.exchanges, *known.plan.queues]
    return tuple(part for part in parts if part.purpose is not Purpose.CONTROL)


def _kind(part: Exchange | Queue) -> str:
    return "queue" if isinstance(part, Queue) else "exchange"


def check_present(known: Surroundings) -> Iterator[Finding]:
    if not _looked(known):
        return
    missing, hidden = [], []
    for part in _parts(known):
        seen = _seen(known, part)
        if seen is not None and seen.there is Right.REFUSED:
            missing.append(f"{_kind(part)} {part.name}")
        elif seen is not None and seen.there is Right.UNKNOWN:
            hidden.append(f"{_kind(part)} {part.name}")
    if missing:
        sentence = f"not there: {some(missing)}"
        if known.mode is Mode.DECLARE:
            yield warn(
                "topology",
                sentence,
                "start a worker, which makes them (dtbridge run), or dtbridge topology apply",
            )
        else:
            yield fail(
                "topology",
                sentence,
                "have a user who may configure make them: dtbridge topology apply",
            )
    if hidden:
        yield unknown("topology", f"this user may not look at {some(hidden)}")
    if not missing and not hidden:
        yield ok(
            "topology",
            f"{sum(isinstance(part, Exchange) for part in _parts(known))} exchanges and "
            f"{sum(isinstance(part, Queue) for part in _parts(known))} queues are there",
        )


def _live(known: Surroundings, name: str) -> LiveQueue | None:
    return known.management.queues.get(name) if known.management is not None else None


def check_delivery_limits(known: Surroundings) -> Iterator[Finding]:
    """Arguments, policies and operator policies together: the smaller number counts."""
    if known.management is None:
        if _looked(known):
            yield unknown(
                "delivery-limit",
                "whether a policy changes the delivery limits or bounds of queues is not known "
                "without the management API",
            )
        return
    problems: dict[_Problem, list[str]] = {}
    fine = 0
    for queue in known.plan.queues:
        live = _live(known, queue.name)
        if live is None:
            continue
        found = list(_policies(queue, live, known))
        fine += not found
        for problem in found:
            problems.setdefault(problem, []).append(queue.name)
    for problem, names in problems.items():
        sentence = f"{problem.before} {queues(names)}{problem.after}"
        yield problem.found(problem.check, sentence, problem.advice)
    if fine and not problems:
        yield ok("delivery-limit", f"no policy is in the way of {fine} queues")


class _Problem(msgspec.Struct, frozen=True):
    """The same for all queues that have it: their names stand between `before` and `after`."""

    found: Callable[[str, str, str], Finding]
    check: str
    before: str
    after: str
    advice: str


def _policies(queue: Queue, live: LiveQueue, known: Surroundings) -> Iterator[_Problem]:
    """Of the queue as it is, whatever the options say that it should be."""
    set_by = live.operator_policy or live.policy or "a policy"
    definition = live.effective_policy_definition
    limit = None if queue.purpose is Purpose.CONTROL else _limit_of(live, known)
    wanted_limit = delivery_limit(queue.purpose)
    holds = queue.purpose is not Purpose.REQUESTS
    if live.type == QueueType.QUORUM.value:
        if limit is None and not holds:
            yield _Problem(
                fail,
                "delivery-limit",
                "no delivery limit on",
                ": a request that kills its worker comes back for ever",
                f"set delivery-limit {wanted_limit} by a policy, or dtbridge topology migrate",
            )
        elif limit is not None and limit < wanted_limit:
            by = f" by {set_by!r}" if definition.get("delivery-limit") == limit else ""
            yield _Problem(
                fail if holds else warn,
                "delivery-limit",
                f"the delivery limit {limit:,}{by} is on",
                ": what is looked at, or held and given back, more often than that is lost"
                if holds
                else ": each worker that dies counts against all requests that it had in hand",
                f"exempt them from {set_by!r}, or set delivery-limit {wanted_limit:,}"
                if by
                else f"have dtbridge topology migrate set {wanted_limit:,}",
            )
    elif not holds and "message-ttl" not in definition and "x-message-ttl" not in live.arguments:
        yield _Problem(
            warn,
            "delivery-limit",
            f"no delivery limit on {live.type}",
            ": a request that kills its worker comes back for ever",
            "use quorum queues (--queue-type quorum; dtbridge topology migrate)",
        )
    expires = definition.get("expires")
    if expires is not None:
        unused = spoken(expires) if isinstance(expires, int) else str(expires)
        yield _Problem(
            fail,
            "policies",
            f"{set_by!r} deletes",
            f" with everything in it when it has been unused for {unused}",
            f"exempt the bridge's queues from {set_by!r}",
        )
    ttl, wanted = definition.get("message-ttl"), queue.arguments.get("x-message-ttl")
    if queue.purpose is Purpose.CONTROL:
        return  # it is there for its bindings
    if isinstance(ttl, int) and (wanted is None or ttl < wanted):
        yield _Problem(
            warn,
            "policies",
            f"{set_by!r} has messages expire in",
            f" after {spoken(ttl)}" + (f", and not {spoken(wanted)}" if wanted is not None else ""),
            f"exempt them from {set_by!r}, unless that is what you want",
        )


def _limit_of(live: LiveQueue, known: Surroundings) -> int | None:
    limits = [
        limit
        for limit in (
            live.arguments.get("x-delivery-limit"),
            live.effective_policy_definition.get("delivery-limit"),
        )
        if isinstance(limit, int) and limit >= 0
    ]
    if not limits and known.version is not None and known.version >= LIMITS_SINCE:
        return DELIVERY_LIMIT
    return min(limits, default=None)


def check_replicas(known: Surroundings) -> Iterator[Finding]:
    if known.management is None:
        return
    for queue in known.plan.queues:
        live = _live(known, queue.name)
        if live is None:
            continue
        away = sorted(set(live.members) - set(live.online))
        if live.members and away:
            lost = 2 * len(live.online) <= len(live.members)
            yield (fail if lost else warn)(
                "replicas",
                f"{len(away)} of {len(live.members)} replicas of queue {live.name} are not online "
                f"({some(away)})" + (": it takes and gives nothing" if lost else ""),
                "start those nodes, or rabbitmq-queues shrink and grow",
            )
        elif live.state in {"down", "minority", "crashed", "stopped"}:
            yield fail(
                "replicas",
                f"queue {live.name} is {live.state}",
                "look at the log of its node" + (f", {live.node}" if live.node else ""),
            )


def check_rights(known: Surroundings) -> Iterator[Finding]:
    """What a worker needs: ``docs/contract.md``, Rights."""
    if not _looked(known):
        return
    refused: dict[str, list[str]] = {"configure": [], "write": [], "read": []}
    tried = 0
    for part in _parts(known):
        seen = _seen(known, part)
        if seen is None or seen.there is not Right.GRANTED:
            continue
        wanted = {}
        if isinstance(part, Queue) and (
            part.purpose is not Purpose.DEAD or known.mode is Mode.DECLARE
        ):
            # Dead letters are for others. But who binds a queue must be able to read its exchange,
            # which has the same name.
            wanted["read"] = seen.read
        if isinstance(part, Exchange) and part.purpose in _PUBLISHED:
            wanted["write"] = seen.write
        if known.mode is Mode.DECLARE:
            wanted["configure"] = seen.configure
        for right, found in wanted.items():
            tried += found is not Right.UNKNOWN
            if found is Right.REFUSED:
                refused[right].append(part.name)
    if known.broker.default_exchange is Right.REFUSED:
        refused["write"].append("amq.default")
    advices = {
        "configure": "grant it, or run workers with --topology verify (docs/contract.md, Rights)",
        "write": "grant it: without it no answer, try or dead letter can be published "
        "(docs/contract.md, Rights)",
        "read": "grant it: without it a worker is given nothing (docs/contract.md, Rights)",
    }
    for right, names in refused.items():
        if names:
            yield fail("rights", f"this user may not {right} {some(names)}", advices[right])
    if not any(refused.values()):
        if tried:
            yield ok("rights", "this user may do what a worker needs")
        else:
            yield unknown("rights", "nothing is there yet to try this user's rights on")


_PUBLISHED: Final = (Purpose.REQUESTS, Purpose.RETRY, Purpose.DEAD)
"""Exchanges that workers publish to, or name as another's alternate."""

CHECKS: Final[tuple[Check[Surroundings], ...]] = (
    check_present,
    check_delivery_limits,
    check_replicas,
    check_rights,
)
