"""What ``dtbridge topology migrate`` says before it begins, and when it has ended."""

from collections.abc import Iterable, Sequence
from typing import Final

from bridge.cli.changes import counted
from bridge.cli.tables import printable
from bridge.rabbitmq.difference import Finding, is_quorum_already, losses
from bridge.rabbitmq.migrating import Outcome
from bridge.rabbitmq.waiting import Expected

NAMED: Final = 20
"""Names in one sentence."""
WAITS_SHOWN: Final = 10
"""Queues whose waits are told, the longest first."""
LONG: Final = 10.0
"""Seconds from which on a wait is worth advice: stations give up after 20 to 30."""


def some(names: Iterable[str]) -> str:
    """Names as they can be printed, the first :data:`NAMED` of them."""
    shown = list(map(printable, names))
    more = f" and {len(shown) - NAMED:,} more" if len(shown) > NAMED else ""
    return ", ".join(shown[:NAMED]) + more


def unknown_vendors(unknown: Sequence[str], handled: Sequence[str]) -> str:
    """The sentence about vendors that no router given is for."""
    known = f"they are for {some(handled)}" if handled else "there is none"
    return f"no router given is for the vendor {some(map(repr, unknown))}: {known}"


def weakening(findings: Iterable[Finding]) -> str:
    """A sentence about the queues that would get weaker; empty if none would."""
    weaker = [each for each in findings if losses(each.changes)]
    if not weaker:
        return ""
    lost = dict.fromkeys(loss for each in weaker for loss in losses(each.changes))
    told = (
        f"this takes {', '.join(lost)} from {counted(len(weaker), 'queue')} "
        f"({some(each.name for each in weaker)}), which is done with --weaken only"
    )
    if any(is_quorum_already(each.changes) for each in weaker):
        told += (
            "; what is quorum already needs no migration: start workers with --queue-type quorum, "
            "or with --topology verify while some are quorum and some classic"
        )
    return told


def waits(queues: Iterable[Expected], patience: float) -> list[str]:
    """How long requests will wait, and what to do about it, in lines.

    `patience`: seconds after which a queue is given up whose workers do not settle.
    """
    known = sorted(queues, key=lambda each: (each.seconds is not None, -(each.seconds or 0.0)))
    busy = [each for each in known if each.in_hand]
    lines = [f"  {_wait(each, patience)}" for each in busy[:WAITS_SHOWN]]
    if not lines:
        return []
    if len(busy) > WAITS_SHOWN:
        lines.append(f"  and {counted(len(busy) - WAITS_SHOWN, 'queue')} whose wait is shorter")
    longest = [each.seconds for each in busy]
    if any(each is None or each >= LONG for each in longest):
        lines.append(
            "Stations wait 20 to 30 s. It costs least when little is in hand; --patience well "
            "below that has a queue given up before its stations give up."
        )
    return ["Requests that come meanwhile wait:", *lines]


def _wait(each: Expected, patience: float) -> str:
    name = printable(each.queue)
    settling, seconds = each.settling, each.seconds
    if settling is None or seconds is None:
        return (
            f"{name}: until it is given up ({patience:g} s): {each.in_hand:,} in hand, and none "
            "of them has been settled lately"
        )
    hand = f"{each.in_hand:,} in hand, {each.rate:,.1f} settled a second"
    if seconds >= LONG:
        hand += "; do it when less is in hand"
    return f"{name}: some {seconds:,.0f} s ({hand})"


def ending(outcome: Outcome) -> str:
    """What has become of it, in one line."""
    told = f"Migrated: {len(outcome.migrated):,}."
    if outcome.given_up:
        told += f" Left as they were: {len(outcome.given_up):,}."
    if outcome.waited is None and not outcome.found:
        return told
    told += f" Requests waited {outcome.waited or 0.0:.1f} s at most"
    if outcome.found:
        told += f"; {counted(outcome.found, 'request')} that an interrupted run had left beside"
        told += " longer"
        if outcome.found_age is not None:
            told += f", up to {outcome.found_age:,.0f} s"
    return told + "."


def given_up(outcome: Outcome) -> str:
    """The sentence about queues that were not migrated."""
    count = len(outcome.given_up)
    left = "1 queue is as it was" if count == 1 else f"{count:,} queues are as they were"
    told = "; ".join(
        f"{printable(name)}: {why}" for name, why in list(outcome.given_up.items())[:NAMED]
    )
    more = f"; and {count - NAMED:,} more" if count > NAMED else ""
    return f"{left}: {told}{more}"


def about_partitions(outcome: Outcome) -> list[str]:
    """What requests of vendors with another number of partitions wait for, in lines."""
    lines = []
    if outcome.held:
        lines.append(
            f"New partitions were held for {outcome.held:.1f} s, for the old ones to be drained."
        )
    if outcome.waiting:
        lines.append(
            f"Requests wait, because nobody consumes the new partitions of {some(outcome.waiting)} "
            "yet: start workers with the new number."
        )
    return lines


def still_consumed(outcome: Outcome) -> str:
    """The sentence about partitions that cannot be deleted yet."""
    count = len(outcome.still_consumed)
    left = "1 old partition is" if count == 1 else f"{count:,} old partitions are"
    return (
        f"{left} empty, and workers that were started with that number still consume "
        f"{'it' if count == 1 else 'them'}: {some(outcome.still_consumed)}; when they are stopped, "
        f"run this again, which deletes {'it' if count == 1 else 'them'}"
    )
