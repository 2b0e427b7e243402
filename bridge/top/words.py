"""What stands out in a fleet as sentences, and numbers in a few signs. Pure."""

from typing import Final

from bridge.telemetry.blocked import OTHER
from bridge.top.samples import Change, Labels, Reading

LATE: Final = 0.25
"""Seconds by which an event loop is late from which on that is told."""
HOLDERS: Final = 3
"""Handlers that are named at most."""
_BLOCKED: Final = "dtbridge_loop_blocked_total"


def the_threads(limit: int, busy: int, waiting: int) -> str:
    """That requests wait for a thread, of so many, and what to do about it."""
    threads = f"its {limit:,} threads are all busy" if limit > 1 else "its only thread is busy"
    if busy < limit:
        threads = f"{busy:,} of its {limit:,} threads are busy, all of some processes"
    return (
        f"{threads}, and {waiting:,} {'requests wait' if waiting > 1 else 'request waits'} for one:"
        " more threads, or make its handlers async"
    )


def the_loop(lag: float | None, done: Change | None, reading: Reading) -> str:
    """That a process's event loop is held up, and by whom; empty if it is not.

    `lag`: seconds by which it was late. `done`: what happened since the reading before.
    """
    now = _holders({} if done is None else done.values.get(_BLOCKED, {}))
    late = lag is not None and lag >= LATE
    if not (now or late):
        return ""
    told = f"its event loop is up to {duration(lag)} late" if late and lag else ""
    ever = _holders(reading.values.get(_BLOCKED, {}))
    if now:
        held = f"{_named(now)} held {'it' if told else 'its event loop'}"
    elif ever:
        held = f"{_named(ever)} held it since it was started"
    else:
        held = "something holds it"
    known = next(iter(now or ever), OTHER) != OTHER
    hint = "make it a plain def" if known else "its log may say what (the event loop is blocked)"
    return f"{told + ': ' if told else ''}{held}, and all its requests waited; {hint}"


def _holders(samples: dict[Labels, float]) -> dict[tuple[str, str], int]:
    """How often each handler has held the loop, by vendor and message; the most often first."""
    counts = {
        (dict(labels).get("vendor", ""), dict(labels).get("message", "")): int(value)
        for labels, value in samples.items()
        if value
    }
    return dict(sorted(counts.items(), key=lambda each: (each[0] == OTHER, -each[1])))


def _named(holders: dict[tuple[str, str], int]) -> str:
    told = [
        f"{'something unknown' if labels == OTHER else ' '.join(labels)} ({count:,} times)"
        for labels, count in list(holders.items())[:HOLDERS]
    ]
    return ", ".join(told).replace("(1 times)", "(once)")


def duration(seconds: float) -> str:
    """Seconds in a few signs: ``0.4ms``, ``35ms``, ``2.1s``, ``3m``, ``2h``, ``4d``."""
    if seconds < 0.01:
        return f"{seconds * 1000:.1f}ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 10:
        return f"{seconds:.1f}s"
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)}{unit}"
    return f"{seconds:.0f}s"


def number(value: float) -> str:
    """A count or rate in five signs at most: ``0``, ``3.2``, ``412``, ``9.9k``, ``120k``."""
    if value == 0:
        return "0"
    if value < 9.95:
        return f"{value:.1f}" if value != int(value) else f"{int(value)}"
    for limit, unit in ((1_000, ""), (1_000_000, "k"), (1_000_000_000, "M")):
        if value < 0.9995 * limit:
            shown = value * 1_000 / limit
            return f"{shown:.1f}{unit}" if unit and shown < 9.95 else f"{shown:.0f}{unit}"
    return f"{value / 1e9:.0f}G"
