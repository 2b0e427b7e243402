"""Exchanges and queues that are there: whether they are what the bridge would declare."""

from collections.abc import Iterator, Sequence
from typing import Final

from bridge.dialects.topology import Exchange, Mode, Queue, QueueType, type_of
from bridge.doctor.facts import Surroundings
from bridge.doctor.findings import Check, Finding, fail, ok, queues, some, unknown, warn
from bridge.rabbitmq.difference import Change, compare_queue
from bridge.rabbitmq.live import change_of
from bridge.rabbitmq.probing import PartSeen, Right

TOLD: Final = 3
"""Arguments that are told of one queue."""

Changes = tuple[Change, ...]


def check_as_planned(known: Surroundings) -> Iterator[Finding]:
    """Those that differ in the same way are one finding."""
    if known.broker.host is None or known.broker_error:
        return
    differing: dict[tuple[str, ...], list[str]] = {}
    turned: dict[QueueType, list[str]] = {}
    fine = 0
    parts: tuple[Exchange | Queue, ...] = (*known.plan.exchanges, *known.plan.queues)
    for part in parts:
        is_queue = isinstance(part, Queue)
        seen = known.broker.part(part.name, is_queue=is_queue)
        if seen is None or seen.there is not Right.GRANTED:
            continue
        changes = _changes(known, part, seen)
        if isinstance(part, Queue) and _is_turned(changes):
            turned.setdefault(type_of(part), []).append(part.name)
        elif changes:
            key = ("queue" if is_queue else "exchange", *map(_told, changes[:TOLD]))
            differing.setdefault(key, []).append(part.name)
        elif changes is not None:
            fine += 1
    for wanted, names in turned.items():
        yield _of_other_type(known, wanted, names)
    for (kind, *told), names in differing.items():
        yield _differs(known, kind, told, names)
    if differing or turned:
        return
    if fine:
        yield ok("arguments", f"{fine} exchanges and queues are as planned")
    elif any(part.configure is Right.REFUSED for part in known.broker.parts):
        yield unknown(
            "arguments",
            "without the permission to configure or the management API, arguments of "
            "exchanges and queues are not known",
        )


def _changes(known: Surroundings, part: Exchange | Queue, seen: PartSeen) -> Changes | None:
    """What is not as it would be declared: all of it by the API, the first of it by AMQP.

    None: it is not known.
    """
    management = known.management
    live = management.queues.get(part.name) if management and isinstance(part, Queue) else None
    if live is not None and isinstance(part, Queue):
        found = compare_queue(part, live)
        if found is None:
            return ()
        classic = Change("x-queue-type", None, QueueType.CLASSIC.value)  # the broker's default
        return tuple(each for each in found.changes if each != classic)
    if seen.other_type and isinstance(part, Queue):
        wanted = type_of(part)
        return (Change("x-queue-type", _other(wanted).value, wanted.value),)
    if seen.differs:
        return (change_of(seen.differs) or Change(seen.differs, "", ""),)
    return () if seen.configure is Right.GRANTED else None


def _is_turned(changes: Changes | None) -> bool:
    return any(each.name == "x-queue-type" and each.live is not None for each in changes or ())


def _other(queue_type: QueueType) -> QueueType:
    return QueueType.CLASSIC if queue_type is QueueType.QUORUM else QueueType.QUORUM


def _told(change: Change) -> str:
    if change.live == change.wanted == "":
        return change.name  # the broker's words
    live = "not set" if change.live is None else change.live
    return f"{change.name} is {live} and not {'unset' if change.wanted is None else change.wanted}"


def _of_other_type(known: Surroundings, wanted: QueueType, names: Sequence[str]) -> Finding:
    other = _other(wanted)
    how = (
        f"start workers with --queue-type {other}, or with --topology verify while some are quorum "
        "and some classic, and say the same here"
    )
    if wanted is QueueType.QUORUM:
        how = f"have dtbridge topology migrate make that so; until then, {how}"
    are = "is" if len(names) == 1 else "are"
    sentence = f"{queues(names)} {are} {other}, and the options say {wanted}"
    if known.mode is Mode.DECLARE:
        return fail(
            "arguments", f"{sentence}: a worker with --topology declare will not start", how
        )
    if wanted is QueueType.CLASSIC:
        return ok("arguments", f"{sentence}; --topology {known.mode} takes that")
    return warn("arguments", sentence, how)


def _differs(known: Surroundings, kind: str, told: Sequence[str], names: Sequence[str]) -> Finding:
    what = queues(names) if kind == "queue" else f"exchange {some(names)}"
    sentence = f"not what the bridge would declare: {what}: {', '.join(told)}"
    if kind == "exchange":
        return fail(
            "arguments", sentence, "see dtbridge topology plan: it cannot be changed in use"
        )
    if known.mode is Mode.DECLARE:
        advice = "a worker with --topology declare will not start: dtbridge topology migrate, or "
        return fail("arguments", sentence, advice + "--topology verify")
    return warn("arguments", sentence, "have dtbridge topology migrate change it")


CHECKS: Final[tuple[Check[Surroundings], ...]] = (check_as_planned,)
