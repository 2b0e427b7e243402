"""What is well, what is not, and why: the answers to probes, as values.

A check is a function that says how one thing stands. It is called from the threads of a listener
(:mod:`bridge.telemetry.http`), not on the event loop, so it only looks at what is known already.
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from bridge.telemetry.pulse import Pulse

STALLED: Final = 5.0
"""Seconds without a turn of the event loop after which a process is not live. A restart loses what
its handlers have done so far, so it must not come for a hiccup."""
STALE: Final = 2.0
"""Seconds without a turn of the event loop after which a process is not ready: what is known of its
broker is as old."""


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """How something stands."""

    ok: bool
    reason: str = ""
    """One clause for people: why it is not, or what it is."""
    checks: dict[str, "Finding"] = {}
    """What it is made of."""


Check = Callable[[], Finding]


class Health(msgspec.Struct, frozen=True):
    """The answers to both probes. They are asked for from any thread."""

    live: Check
    """Whether a process is to be left alone. If not, only a restart can help."""
    ready: Check
    """Whether it does its work."""


def all_of(checks: Mapping[str, Check]) -> Finding:
    """The findings of some checks as one: well, if all are. One that raises has not found so."""
    return together({name: _made(check) for name, check in checks.items()})


def together(findings: dict[str, Finding]) -> Finding:
    """Some findings as one. Its reason is that of the first which is not well."""
    for name, finding in findings.items():
        if not finding.ok:
            return Finding(False, f"{name}: {finding.reason}", findings)
    return Finding(True, "", findings)


def _made(check: Check) -> Finding:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - a probe has an answer, whatever is amiss
        return Finding(False, f"it cannot be told: {type(error).__name__}")


def loop_check(pulse: Pulse, bound: float) -> Check:
    """Whether an event loop has turned within the last `bound` seconds."""

    def check() -> Finding:
        silent = pulse.silent_for
        if silent > bound:
            return Finding(False, f"it has not turned for {silent:.1f} s: something blocks it")
        return Finding(True, "it turns")

    return check
